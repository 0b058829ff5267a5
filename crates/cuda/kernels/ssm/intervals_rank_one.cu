// Sequences with intervals whose A = diag(Λ) − PP* with one P (S4): `intervals_low_rank.cu` has any number of them, and this
// must equal it. One warp a head of each sequence, in f64.
//
// With f = τ/(1 − Λτ/2) and y⁰ = x + f(Λx + Bu), the state that the diagonal part alone would give, Woodbury's identity becomes
//
//   x′ = y⁰ − fPc,   c = Re Σ P̄(x + y⁰) / M,   M = 1 + Re Σ f|P|²
//
// so that one sum over the pairs stands between a state and the next. All that comes from the intervals alone is computed for
// GROUP steps together, and so are outputs.
#include "ssm/intervals.cuh"

// Warps of a block, which are alone with their items: fewer of them where each takes more shared memory.
__device__ constexpr int warps_of(int pairs) { return 4 / pairs; }

// 1/x for x within 1e±300, without branches: the approximation has 20 bits, and each iteration doubles them.
DEV double reciprocal(double x) {
  double r;
  asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(r) : "d"(x));
  r = fma(fma(-x, r, 1.0), r, r);
  return fma(fma(-x, r, 1.0), r, r);
}

// z + ab, z + ab̄
DEV c64 plus_product(c64 z, c64 a, c64 b) {
  return {fma(-a.im, b.im, fma(a.re, b.re, z.re)), fma(a.im, b.re, fma(a.re, b.im, z.im))};
}
DEV c64 plus_conj_product(c64 z, c64 a, c64 b) {
  return {fma(a.im, b.im, fma(a.re, b.re, z.re)), fma(a.im, b.re, fma(-a.re, b.im, z.im))};
}
DEV c64 plus_scaled(c64 z, double s, c64 a) { return {fma(s, a.re, z.re), fma(s, a.im, z.im)}; }

// The constants of a head that a lane has; c of the first channel.
template <int PAIRS>
struct Head {
  c64 lambda[PAIRS], b[PAIRS], p[PAIRS];
  c32 c[PAIRS];
  double dt[PAIRS];
};

template <int PAIRS>
DEV Head<PAIRS> load_head(const Params& q, const float* c0, int h, int lane) {
  Head<PAIRS> k;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const int n = lane + 32 * m;
    const bool there = n < q.pairs;
    k.lambda[m] = there ? lambda(q, h, n) : c64{-1, 0};
    k.b[m] = there ? input(q, h, n) : c64{0, 0};
    k.p[m] = there ? lowrank(q, 0, h, n) : c64{0, 0};
    k.c[m] = there ? load32(c0, (i64)h * q.pairs + n) : c32{0, 0};
    k.dt[m] = there ? step_size(q, h, n) : 0.0;
  }
  return k;
}

// f of a step.
DEV c64 factor(c64 l, double tau) {
  const double re = fma(-0.5 * tau, l.re, 1.0), im = 0.5 * tau * l.im;
  const double scale = tau * reciprocal(fma(re, re, im * im));
  return {re * scale, im * scale};
}

// f of GROUP steps, and their 1/M, in every lane.
template <int PAIRS>
DEV void factors(c64 (&f)[PAIRS][GROUP], double (&inverse)[GROUP], const Head<PAIRS>& k, const float2* steps, int lane) {
  double s[GROUP];
#pragma unroll
  for (int j = 0; j < GROUP; ++j) {
    s[j] = 0;
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) {
      f[m][j] = factor(k.lambda[m], k.dt[m] * steps[j].y);
      s[j] = fma(f[m][j].re, dot(k.p[m], k.p[m]), s[j]);
    }
  }
  const double mine = reciprocal(1.0 + transposed_sum(s, lane));
#pragma unroll
  for (int j = 0; j < GROUP; ++j) inverse[j] = __shfl_sync(~0u, mine, j);
}

// x ← the state after a step; gives c.
template <int PAIRS>
DEV double advance(c64 (&x)[PAIRS], const c64 (&f)[PAIRS][GROUP], int j, double inverse, double in, const Head<PAIRS>& k) {
  c64 y0[PAIRS];
  double s = 0;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    y0[m] = plus_product(x[m], f[m][j], plus_product({in * k.b[m].re, in * k.b[m].im}, k.lambda[m], x[m]));
    s += dot(x[m] + y0[m], k.p[m]);
  }
  const double c = inverse * warp_sum(s);
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) x[m] = plus_scaled(y0[m], -c, f[m][j] * k.p[m]);
  return c;
}

// As `forward` of `intervals_low_rank.cu`.
template <int PAIRS>
DEV void forward(float* y, float* state_end, float* saved, const float* u, const float* state0, const float* intervals,
                 const int* lengths, const float* c, const float* d, int channels, int L, int directions, int anticausal,
                 i64 B, const Params& q) {
  constexpr int WARPS = 4;
  __shared__ float2 shared[WARPS][STEPS];
  const int lane = threadIdx.x & 31, H = q.heads, P = q.pairs, chunks = (L + STEPS - 1) / STEPS;
  const i64 row = (i64)blockIdx.x * WARPS + threadIdx.x / 32, b = row / H;
  if (b >= B) return;
  float2* steps = shared[threadIdx.x / 32];
  const int h = (int)(row % H);
  const Way way = {sequence_len(lengths, b, L), anticausal};
  c += (i64)anticausal * channels * H * P * 2;
  const Head<PAIRS> k = load_head<PAIRS>(q, c, h, lane);
  u += row * L, intervals += b * L, y += (b * channels * H + h) * L;
  if (saved) saved += ((b * directions + anticausal) * H + h) * chunks * 2 * P;
  c64 x[PAIRS];
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) x[m] = load_state(state0, row, P, lane + 32 * m);
  const float d0 = d[h];
  float2 next = load_step(u, intervals, way, lane);
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const int begin = chunk * STEPS, time_of_lane = begin + lane;
    const bool any = begin < way.steps();
    if (saved) {
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) store_state(saved, chunk, P, lane + 32 * m, any ? x[m] : c64{0, 0});
    }
    if (!any) {
      if (!anticausal && time_of_lane < L)
        for (int i = 0; i < channels; ++i) y[(i64)i * H * L + time_of_lane] = 0.f;
      continue;
    }
    __syncwarp();
    steps[lane] = next;
    const float in = next.x;
    __syncwarp();
    next = load_step(u, intervals, way, begin + STEPS + lane);
    // Where the lane's output goes; beyond a sequence's length it is 0.
    const bool mine = time_of_lane < way.steps(), there = anticausal ? mine : time_of_lane < L;
    const int at = anticausal ? way.output(time_of_lane) : time_of_lane;
    const auto store = [&](float* to, float sum, float dk) {
      *to = anticausal ? *to + sum : mine ? fmaf(dk, in, sum) : 0.f;
    };
    float out = 0;
#pragma unroll 1
    for (int t = 0; t < STEPS; t += GROUP) {
      c64 f[PAIRS][GROUP];
      double inverse[GROUP];
      c32 states[PAIRS][GROUP];
      factors(f, inverse, k, steps + t, lane);
#pragma unroll
      for (int j = 0; j < GROUP; ++j) {
        advance(x, f, j, inverse[j], steps[t + j].x, k);
#pragma unroll
        for (int m = 0; m < PAIRS; ++m) states[m][j] = narrow(x[m]);
      }
      const bool of_lane = lane / GROUP == t / GROUP;
      const float sum = output<PAIRS>(states, k.c, lane);
      if (of_lane) out = sum;
      for (int i = 1; i < channels; ++i) {
        c32 ci[PAIRS];
#pragma unroll
        for (int m = 0; m < PAIRS; ++m) {
          const int n = lane + 32 * m;
          ci[m] = n < P ? load32(c, ((i64)i * H + h) * P + n) : c32{0, 0};
        }
        const float sum = output<PAIRS>(states, ci, lane);
        if (of_lane && there) store(y + (i64)i * H * L + at, sum, d[(i64)i * H + h]);
      }
    }
    if (there) store(y + at, out, d0);
  }
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) store_state(state_end, row, P, lane + 32 * m, x[m]);
}

// What a warp of `backward` has in shared memory: a lane's own column of `states`.
template <int PAIRS>
struct Scratch {
  float2 steps[STEPS];            // input and interval
  c32 states[PAIRS][STEPS][32];   // before each step
  double sums[PAIRS][9][32];      // of a lane's modes, over all steps: Δ, Λ, B, P, C
};

// The gradient of the first channel's output at the lane's step, 0 beyond the last.
DEV float load_output(const float* dy, const Way& way, int j) { return j < way.steps() ? dy[way.output(j)] : 0.f; }

// As `backward` of `intervals_low_rank.cu`; the block's dynamic shared memory is a Scratch a warp. The gradient of the state is
// carried in f64; products that only sum up gradients of parameters are taken in f32, over STEPS steps. With m = −Re Σ ḡfP / M
// in the place of c, the transpose is dy⁰ = g + mP, dw = dy⁰f̄, g ← dy⁰ + mP + Λ̄dw, where
//
//   df = dy⁰w̄ − cgP̄ − mc|P|²,   dP = m(x + y⁰) − cf̄g − 2mc Re(f)P,   dΛ = dw·x̄ + df·conj(f²/2),   dB = u·dw
//
// and dΔ = interval·Re(df·conj(f/τ)²).
template <int PAIRS>
DEV void backward(float* du, float* dstate0, double* parts, c64* dc, double* dd, const float* dy, const float* dstate_end,
                  const float* saved, const float* u, const float* intervals, const int* lengths, const float* c,
                  const float* d, int channels, int L, int directions, int anticausal, i64 B, i64 groups, const Params& q) {
  extern __shared__ char memory[];
  constexpr int WARPS = warps_of(PAIRS);
  const int lane = threadIdx.x & 31, H = q.heads, P = q.pairs, chunks = (L + STEPS - 1) / STEPS;
  const i64 index = (i64)blockIdx.x * WARPS + threadIdx.x / 32, group = index / H;
  if (group >= groups) return;
  Scratch<PAIRS>& s = ((Scratch<PAIRS>*)memory)[threadIdx.x / 32];
  const int h = (int)(index % H);
  c += (i64)anticausal * channels * H * P * 2;
  dc += ((group * directions + anticausal) * channels * H + h) * P;
  const Head<PAIRS> k = load_head<PAIRS>(q, c, h, lane);
  c += (i64)h * P * 2;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m)
    for (int i = 0; i < 9; ++i) s.sums[m][i][lane] = 0;
  double sum_d = 0;
  for (i64 b = group; b < B; b += groups) {
    const Way way = {sequence_len(lengths, b, L), anticausal};
    const i64 row = b * H + h;
    const float *gaps = intervals + b * L, *u_row = u + row * L, *dy_row = dy + (b * channels * H + h) * L;
    const float* before = saved + ((b * directions + anticausal) * H + h) * chunks * 2 * P;
    c64 g[PAIRS];
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) g[m] = load_state(dstate_end, row, P, lane + 32 * m);
    for (int chunk = chunks - 1; chunk >= 0; --chunk) {
      const int begin = chunk * STEPS, step = begin + lane;
      const bool mine = step < way.steps();
      if (begin >= way.steps()) {
        if (du && !anticausal && step < L) du[row * L + step] = 0;
        continue;
      }
      const float2 now = load_step(u_row, gaps, way, step);
      const float out = load_output(dy_row, way, step), per_interval = now.y > 1e-30f ? 1.f / now.y : 0.f;
      float direct = 0;
      if (!anticausal) {
        direct = d[h] * out, sum_d += (double)out * now.x;
        for (int i = 1; mine && i < channels; ++i)
          direct = fmaf(d[(i64)i * H + h], dy_row[(i64)i * H * L + step], direct);
      }
      __syncwarp();
      s.steps[lane] = now;
      __syncwarp();
      c64 x[PAIRS];
      c32 sum_c[PAIRS];
      double c_of_lane = 0;
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) x[m] = load_state(before, chunk, P, lane + 32 * m), sum_c[m] = {0, 0};
#pragma unroll 1
      for (int t = 0; t < STEPS; t += GROUP) {
        c64 f[PAIRS][GROUP];
        double inverse[GROUP];
        factors(f, inverse, k, s.steps + t, lane);
#pragma unroll
        for (int j = 0; j < GROUP; ++j) {
#pragma unroll
          for (int m = 0; m < PAIRS; ++m) s.states[m][t + j][lane] = narrow(x[m]);
          const double cj = advance(x, f, j, inverse[j], s.steps[t + j].x, k);
          if (lane == t + j) c_of_lane = cj;
          const float o = 2.f * __shfl_sync(~0u, out, t + j);
#pragma unroll
          for (int m = 0; m < PAIRS; ++m) {
            const c32 after = narrow(x[m]);
            sum_c[m].re = fmaf(o, after.re, sum_c[m].re), sum_c[m].im = fmaf(-o, after.im, sum_c[m].im);
          }
        }
      }
      for (int i = 1; i < channels; ++i) {
        const float dyi = load_output(dy_row + (i64)i * H * L, way, step);
#pragma unroll
        for (int m = 0; m < PAIRS; ++m) {
          c32 sum = {0, 0};
          for (int t = 0; t < STEPS; ++t) {
            const float o = 2.f * __shfl_sync(~0u, dyi, t);
            const c32 after = t + 1 < STEPS ? s.states[m][t + 1][lane] : narrow(x[m]);
            sum.re = fmaf(o, after.re, sum.re), sum.im = fmaf(-o, after.im, sum.im);
          }
          const int n = lane + 32 * m;
          if (n < P) dc[(i64)i * H * P + n] += widen(sum);
        }
      }
      float du_of_lane = 0;
      float sum_dt[PAIRS];
      c32 sum_lambda[PAIRS], sum_b[PAIRS], sum_p[PAIRS];
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) sum_dt[m] = 0, sum_lambda[m] = sum_b[m] = sum_p[m] = {0, 0};
#pragma unroll 1
      for (int t = STEPS - GROUP; t >= 0; t -= GROUP) {
        c64 f[PAIRS][GROUP];
        double inverse[GROUP];
        float parts_of_du[GROUP];
        factors(f, inverse, k, s.steps + t, lane);
#pragma unroll
        for (int j = GROUP - 1; j >= 0; --j) {
          const float in = s.steps[t + j].x, o = 2.f * __shfl_sync(~0u, out, t + j);
          const float by_interval = __shfl_sync(~0u, per_interval, t + j), cj = (float)__shfl_sync(~0u, c_of_lane, t + j);
          double dot_g = 0;
#pragma unroll
          for (int m = 0; m < PAIRS; ++m) {
            g[m] += c64{(double)(o * k.c[m].re), (double)(-o * k.c[m].im)};
            dot_g += dot(g[m], f[m][j] * k.p[m]);
          }
          for (int i = 1; i < channels; ++i) {
            const float oi = begin + t + j < way.steps() ? 2.f * dy_row[(i64)i * H * L + way.output(begin + t + j)] : 0.f;
#pragma unroll
            for (int m = 0; m < PAIRS; ++m) {
              const int n = lane + 32 * m;
              const c32 ci = n < P ? load32(c, (i64)i * H * P + n) : c32{0, 0};
              const c64 more = {(double)(oi * ci.re), (double)(-oi * ci.im)};
              g[m] += more;
              dot_g += dot(more, f[m][j] * k.p[m]);
            }
          }
          const double mj = -inverse[j] * warp_sum(dot_g);
          const float ms = (float)mj;
          parts_of_du[j] = 0;
#pragma unroll
          for (int m = 0; m < PAIRS; ++m) {
            const c64 dy0 = plus_scaled(g[m], mj, k.p[m]), dw = plus_conj_product({0, 0}, dy0, f[m][j]);
            const c32 gs = narrow(g[m]), dws = narrow(dw), fs = narrow(f[m][j]), p = narrow(k.p[m]);
            const c32 dy0s = plus_scaled(gs, ms, p), bs = narrow(k.b[m]), xs = s.states[m][t + j][lane];
            g[m] = plus_conj_product(plus_scaled(dy0, mj, k.p[m]), dw, k.lambda[m]);
            const c32 w = plus_product({in * bs.re, in * bs.im}, narrow(k.lambda[m]), xs);
            c32 df = plus_conj_product({-ms * cj * fmaf(p.re, p.re, p.im * p.im), 0}, dy0s, w);
            df = plus_conj_product(df, gs, {-cj * p.re, -cj * p.im});
            const c32 h = plus_conj_product({0, 0}, df, plus_product({0, 0}, fs, fs));
            sum_dt[m] = fmaf(by_interval, h.re, sum_dt[m]);
            sum_lambda[m] = plus_conj_product(plus_scaled(sum_lambda[m], 0.5f, h), dws, xs);
            sum_b[m] = plus_scaled(sum_b[m], in, dws);
            const c32 x_and_y0 = plus_product({2.f * xs.re, 2.f * xs.im}, fs, w);
            sum_p[m] = plus_scaled(plus_scaled(sum_p[m], ms, x_and_y0), -2.f * ms * cj * fs.re, p);
            sum_p[m] = plus_scaled(sum_p[m], -cj, plus_conj_product({0, 0}, gs, fs));
            parts_of_du[j] = fmaf(dws.re, bs.re, fmaf(dws.im, bs.im, parts_of_du[j]));
          }
        }
        const float sum = transposed_sum(parts_of_du, lane);
        if (lane / GROUP == t / GROUP) du_of_lane = sum;
      }
      if (du && (anticausal ? mine : step < L)) {
        float* to = du + row * L + (anticausal ? way.input(step) : step);
        *to = (anticausal ? *to : direct) + du_of_lane;
      }
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) {
        const float terms[9] = {sum_dt[m],   sum_lambda[m].re, sum_lambda[m].im, sum_b[m].re, sum_b[m].im,
                                sum_p[m].re, sum_p[m].im,      sum_c[m].re,      sum_c[m].im};
#pragma unroll
        for (int i = 0; i < 9; ++i) s.sums[m][i][lane] += terms[i];
      }
    }
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) store_state(dstate0, row, P, lane + 32 * m, g[m]);
  }
  if (!anticausal) {
    sum_d = warp_sum(sum_d);
    if (lane == 0) dd[group * channels * H + h] = sum_d;
    for (int i = 1; i < channels; ++i) {
      double sum = 0;
      for (i64 b = group; b < B; b += groups) {
        const float *u_row = u + (b * H + h) * L, *dy_row = dy + ((b * channels + i) * H + h) * L;
        for (int t = lane; t < sequence_len(lengths, b, L); t += 32) sum += (double)dy_row[t] * u_row[t];
      }
      sum = warp_sum(sum);
      if (lane == 0) dd[(group * channels + i) * H + h] = sum;
    }
  }
  double* to = parts + (((i64)h * groups + group) * directions + anticausal) * 7 * P;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const int n = lane + 32 * m;
    if (n >= P) continue;
    to[n] = s.sums[m][0][lane] / (k.dt[m] * k.dt[m]);
#pragma unroll
    for (int i = 1; i < 7; ++i) to[i * P + n] = s.sums[m][i][lane];
    dc[n] = {s.sums[m][7][lane], s.sums[m][8][lane]};
  }
}

#define RANK_ONE(PAIRS)                                                                                                   \
  extern "C" __global__ void __launch_bounds__(128, 4) intervals_forward_rank_one_##PAIRS(                                \
      float* y, float* state_end, float* saved, const float* u, const float* state0, const float* intervals,              \
      const int* lengths, const float* c, const float* d, int channels, int L, int directions, int anticausal, i64 B,     \
      PARAMS) {                                                                                                           \
    PARAMS_HERE;                                                                                                          \
    forward<PAIRS>(y, state_end, saved, u, state0, intervals, lengths, c, d, channels, L, directions, anticausal, B, q);  \
  }                                                                                                                       \
  extern "C" __global__ void __launch_bounds__(32 * warps_of(PAIRS), 4) intervals_backward_rank_one_##PAIRS(              \
      float* du, float* dstate0, double* parts, c64* dc, double* dd, const float* dy, const float* dstate_end,            \
      const float* saved, const float* u, const float* intervals, const int* lengths, const float* c, const float* d,     \
      int channels, int L, int directions, int anticausal, i64 B, i64 groups, PARAMS) {                                   \
    PARAMS_HERE;                                                                                                          \
    backward<PAIRS>(du, dstate0, parts, dc, dd, dy, dstate_end, saved, u, intervals, lengths, c, d, channels, L,          \
                    directions, anticausal, B, groups, q);                                                                \
  }
RANK_ONE(1)
RANK_ONE(2)
