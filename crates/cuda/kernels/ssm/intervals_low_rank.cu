// Sequences with intervals whose A has a low-rank part (S4): one warp a head of each sequence, in f64 (`intervals_low_rank.cuh`).
// Ā is a full matrix there, so that sequences are not cut into segments.
#include "ssm/intervals_low_rank.cuh"

// y (B, channels·H, L), state_end and state0 (B, H, 2, P), saved (B, directions, H, chunks, 2, P), u (B, H, L), intervals
// (B, L), c (kernel channels, H, P, 2), d (channels, H). The anticausal direction adds to y. Grid: H·B.
template <int PAIRS>
DEV void forward(float* y, float* state_end, float* saved, const float* u, const float* state0, const float* intervals,
                 const int* lengths, const float* c, const float* d, int channels, int L, int directions, int anticausal,
                 const Params& q) {
  __shared__ double part[STEPS][33];
  __shared__ LowRank k;
  const int h = blockIdx.x % q.heads, lane = threadIdx.x, P = q.pairs, H = q.heads;
  const i64 b = blockIdx.x / q.heads;
  const Way way = {sequence_len(lengths, b, L), anticausal};
  const int chunks = (L + STEPS - 1) / STEPS, count = way.steps();
  const Head<PAIRS> head = load_head<PAIRS>(q, h);
  const i64 row = b * H + h;
  const float *c0 = c + (i64)anticausal * channels * H * P * 2, *gaps = intervals + b * L;
  u += row * L;
  if (!anticausal)
    for (int e = 0; e < channels; ++e)
      for (int t = lane; t < L; t += 32)
        y[(b * channels * H + (i64)e * H + h) * L + t] = t < way.length ? d[(i64)e * H + h] * u[t] : 0.f;
  __syncwarp();
  c64 x[PAIRS];
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const int n = lane + 32 * m;
    x[m] = state0 && n < P ? c64{state0[row * 2 * P + n], state0[row * 2 * P + P + n]} : c64{0, 0};
  }
  if (saved) saved += ((b * directions + anticausal) * H + h) * chunks * 2 * P;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const int begin = chunk * STEPS, n_steps = min(STEPS, count - begin);
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) {
      const int n = lane + 32 * m;
      if (!saved || n >= P) continue;
      saved[(i64)chunk * 2 * P + n] = n_steps > 0 ? (float)x[m].re : 0.f;
      saved[(i64)chunk * 2 * P + P + n] = n_steps > 0 ? (float)x[m].im : 0.f;
    }
    if (n_steps <= 0) continue;
    const int at = way.input(begin + min(lane, n_steps - 1));
    const float in = u[at], gap = gaps[at];
    for (int t = 0; t < n_steps; ++t) {
      step(x, k, head, __shfl_sync(~0u, in, t), __shfl_sync(~0u, gap, t), q, h);
      for (int e = 0; e < channels; ++e) {
        double s = 0;
#pragma unroll
        for (int m = 0; m < PAIRS; ++m) {
          const int n = lane + 32 * m;
          if (n < P) s += dot(conj(load(c0, ((i64)e * H + h) * P + n)), x[m]);
        }
        if (channels == 1) {
          part[t][lane] = s;
          continue;
        }
        s = 2 * warp_sum(s);
        if (lane == 0) y[(b * channels * H + (i64)e * H + h) * L + way.output(begin + t)] += (float)s;
      }
    }
    if (channels > 1) continue;
    __syncwarp();
    if (lane < n_steps) {
      double s = 0;
      for (int j = 0; j < 32; ++j) s += part[lane][j];
      y[row * L + way.output(begin + lane)] += (float)(2 * s);
    }
    __syncwarp();
  }
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const int n = lane + 32 * m;
    if (state_end && n < P)
      state_end[row * 2 * P + n] = (float)x[m].re, state_end[row * 2 * P + P + n] = (float)x[m].im;
  }
}

// du (B, H, L; may be null), dstate0; the sums of each group of sequences, every `groups`-th from one on: parts
// (H, groups·directions, (5 + 2R)·P) f64 for Δ, Λ, B and P; dc (groups, kernel channels, H, P) zeros before, dd (groups,
// channels, H). The anticausal direction adds to du and runs after the causal one. Grid: H·groups; dynamic shared memory:
// (STEPS + R)·32·PAIRS c64.
template <int PAIRS>
DEV void backward(float* du, float* dstate0, double* parts, c64* dc, double* dd, const float* dy, const float* dstate_end,
                  const float* saved, const float* u, const float* intervals, const int* lengths, const float* c,
                  const float* d, int channels, int L, int directions, int anticausal, i64 B, i64 groups, const Params& q) {
  extern __shared__ char memory[];
  __shared__ double part[STEPS][33];
  __shared__ LowRank k;
  c64 *before = (c64*)memory, *dp = before + STEPS * 32 * PAIRS;  // the state before each step
  const int h = blockIdx.x % q.heads, lane = threadIdx.x, P = q.pairs, H = q.heads, R = q.rank;
  const i64 group = blockIdx.x / q.heads;
  const int chunks = (L + STEPS - 1) / STEPS;
  const Head<PAIRS> head = load_head<PAIRS>(q, h);
  const float* c0 = c + (i64)anticausal * channels * H * P * 2;
  const i64 kernel_channel0 = (group * directions + anticausal) * channels;
  HeadGradients<PAIRS> sums;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    sums.lambda[m] = sums.b[m] = {0, 0}, sums.dt[m] = 0;
    for (int r = 0; r < R; ++r) dp[r * 32 * PAIRS + lane + 32 * m] = {0, 0};
  }
  if (!anticausal)
    for (int e = lane; e < channels; e += 32) dd[(group * channels + e) * H + h] = 0;
  __syncwarp();
  for (i64 b = group; b < B; b += groups) {
    const Way way = {sequence_len(lengths, b, L), anticausal};
    const int count = way.steps();
    const i64 row = b * H + h;
    const float *gaps = intervals + b * L, *u_row = u + row * L, *dy_row = dy + b * channels * H * L;
    float* du_row = du ? du + row * L : nullptr;
    if (!anticausal) {
      for (int e = 0; e < channels; ++e) {
        const float* dye = dy_row + ((i64)e * H + h) * L;
        double s = 0;
        for (int t = lane; t < way.length; t += 32) s += (double)dye[t] * u_row[t];
        s = warp_sum(s);
        if (lane == 0) dd[(group * channels + e) * H + h] += s;
      }
      if (du_row)
        for (int t = lane; t < L; t += 32) {
          double s = 0;
          for (int e = 0; e < channels && t < way.length; ++e)
            s += (double)d[(i64)e * H + h] * dy_row[((i64)e * H + h) * L + t];
          du_row[t] = (float)s;
        }
    }
    c64 g[PAIRS], x[PAIRS];
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) {
      const int n = lane + 32 * m;
      g[m] = dstate_end && n < P ? c64{dstate_end[row * 2 * P + n], dstate_end[row * 2 * P + P + n]} : c64{0, 0};
    }
    const float* states = saved + ((b * directions + anticausal) * H + h) * chunks * 2 * P;
    for (int chunk = (count + STEPS - 1) / STEPS - 1; chunk >= 0; --chunk) {
      const int begin = chunk * STEPS, n_steps = min(STEPS, count - begin);
      const int slot = begin + min(lane, n_steps - 1), at = way.input(slot);
      const float in = u_row[at], gap = gaps[at];
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) {
        const int n = lane + 32 * m;
        x[m] = n < P ? c64{states[(i64)chunk * 2 * P + n], states[(i64)chunk * 2 * P + P + n]} : c64{0, 0};
      }
      // Each lane reads what it has written itself.
      for (int t = 0; t < n_steps; ++t) {
#pragma unroll
        for (int m = 0; m < PAIRS; ++m) before[t * 32 * PAIRS + lane + 32 * m] = x[m];
        step(x, k, head, __shfl_sync(~0u, in, t), __shfl_sync(~0u, gap, t), q, h);
      }
      for (int e = 0; e < channels; ++e) {
        const float dye = dy_row[((i64)e * H + h) * L + way.output(slot)];
        c64 s[PAIRS];
#pragma unroll
        for (int m = 0; m < PAIRS; ++m) s[m] = {0, 0};
        for (int t = 0; t < n_steps; ++t) {
          const double o = 2.0 * __shfl_sync(~0u, dye, t);
#pragma unroll
          for (int m = 0; m < PAIRS; ++m)
            s[m] += o * conj(t + 1 < n_steps ? before[(t + 1) * 32 * PAIRS + lane + 32 * m] : x[m]);
        }
#pragma unroll
        for (int m = 0; m < PAIRS; ++m) {
          const int n = lane + 32 * m;
          if (n < P) dc[((kernel_channel0 + e) * H + h) * P + n] += s[m];
        }
      }
      for (int t = n_steps - 1; t >= 0; --t) {
        for (int e = 0; e < channels; ++e) {
          const double o = 2.0 * dy_row[((i64)e * H + h) * L + way.output(begin + t)];
#pragma unroll
          for (int m = 0; m < PAIRS; ++m) {
            const int n = lane + 32 * m;
            if (n < P) g[m] += o * conj(load(c0, ((i64)e * H + h) * P + n));
          }
        }
#pragma unroll
        for (int m = 0; m < PAIRS; ++m) x[m] = before[t * 32 * PAIRS + lane + 32 * m];
        part[t][lane] = step_backward(g, sums, dp, k, x, head, __shfl_sync(~0u, in, t), __shfl_sync(~0u, gap, t), q, h);
      }
      __syncwarp();
      if (du_row && lane < n_steps) {
        double s = 0;
        for (int j = 0; j < 32; ++j) s += part[lane][j];
        du_row[at] += (float)s;
      }
      __syncwarp();
    }
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) {
      const int n = lane + 32 * m;
      if (dstate0 && n < P)
        dstate0[row * 2 * P + n] = (float)g[m].re, dstate0[row * 2 * P + P + n] = (float)g[m].im;
    }
  }
  double* to = parts + (((i64)h * groups + group) * directions + anticausal) * (5 + 2 * R) * P;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const int n = lane + 32 * m;
    if (n >= P) continue;
    to[n] = sums.dt[m], to[P + n] = sums.lambda[m].re, to[2 * P + n] = sums.lambda[m].im;
    to[3 * P + n] = sums.b[m].re, to[4 * P + n] = sums.b[m].im;
    for (int r = 0; r < R; ++r) {
      const c64 p = dp[r * 32 * PAIRS + n];
      to[(5 + 2 * r) * P + n] = p.re, to[(6 + 2 * r) * P + n] = p.im;
    }
  }
}

#define LOW_RANK(PAIRS)                                                                                                    \
  KERNEL intervals_forward_low_rank_##PAIRS(float* y, float* state_end, float* saved, const float* u, const float* state0, \
                                            const float* intervals, const int* lengths, const float* c, const float* d,    \
                                            int channels, int L, int directions, int anticausal, i64 B, PARAMS) {          \
    PARAMS_HERE;                                                                                                           \
    forward<PAIRS>(y, state_end, saved, u, state0, intervals, lengths, c, d, channels, L, directions, anticausal, q);      \
  }                                                                                                                        \
  KERNEL intervals_backward_low_rank_##PAIRS(float* du, float* dstate0, double* parts, c64* dc, double* dd,                \
                                             const float* dy, const float* dstate_end, const float* saved, const float* u, \
                                             const float* intervals, const int* lengths, const float* c, const float* d,   \
                                             int channels, int L, int directions, int anticausal, i64 B, i64 groups,       \
                                             PARAMS) {                                                                     \
    PARAMS_HERE;                                                                                                           \
    backward<PAIRS>(du, dstate0, parts, dc, dd, dy, dstate_end, saved, u, intervals, lengths, c, d, channels, L,           \
                    directions, anticausal, B, groups, q);                                                                 \
  }
LOW_RANK(1)
LOW_RANK(2)
