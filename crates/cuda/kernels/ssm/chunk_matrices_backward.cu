// Gradients of a chunk's matrices back to the discrete recurrence: each sequence of chunk_matrices.cu in reverse.
//
// g holds, per head and pass (0 causal, 1 anticausal), the products of chunk_pass_backward.cu:
//   G[(time | state)][(time | state)] = [dToep, dW; dV, dQ], leading dimension T + NP.
// Each sequence writes what it adds to the gradients (ḡ D₀, ḡ B̄, ḡ u, ḡ v) as a part of its own; discretize.cu adds the
// parts in order.
#include "common/complex.cuh"
#include "common/tile_product.cuh"
#include "ssm/transition_diagonal.cuh"

constexpr int STAGED = 256;  // c64 numbers of x, and of its gradient, that sequences_backward loads at once
constexpr int M = 4;         // steps whose numbers are loaded together

// The discrete recurrence of one head.
struct HeadRecurrence {
  const c64 *d0, *u_r, *v_r;
  int pairs, rank;
};

#define EACH_PAIR(i, n) _Pragma("unroll") for (int i = 0, n = threadIdx.x & 31; i < PL; ++i, n += 32) if (n < P)

// dkern (H, kc, T): sums of dToep along its diagonals; dd[k][h] += that of the main diagonal. Block: 64 threads; grid
// (H, channels).
KERNEL kernel_gradient(double* dkern, float* dd, const float* g, int heads, int kc, int k0, int ld, i64 head_stride,
                       i64 channel_stride, int anticausal) {
  const int h = blockIdx.x, k = blockIdx.y, lag = threadIdx.x;
  const float* G = g + h * head_stride + k * channel_stride;
  double s = 0;
  if (anticausal)
    for (int t = 0; t + 1 + lag < T; ++t) s += G[t * ld + t + 1 + lag];
  else
    for (int t = lag; t < T; ++t) s += G[t * ld + t - lag];
  dkern[((i64)h * kc + k0 + k) * T + lag] = s;
  if (dd && lag == 0) dd[(i64)k * heads + h] += (float)s;
}

// ga, gb (H, R, T, P): gradients of a_j = Ā^j u_r and of b_j = v_r D₀^j, from dQ, summed over the passes. As Q contains
// a_j b_{T−1−j}: [Re, Im] of ga_j is 2 dQ·[Re, −Im] of b_{T−1−j}, and [Re, −Im] of gb_j is 2 dQᵀ·[Re, Im] of a_{T−1−j}.
// In f32, as dQ is. Block: 256 threads; grid (H, R, 2 · tiles of the state).
template <class Part>
DEV void gradient_of_transition(float2* ga, float2* gb, const float* g0, const float* g1, const Part* cols, const Part* powers, i64 cols_of_head,
                             int pairs, int rank, int ld, i64 head_stride) {
  const int h = blockIdx.x, r = blockIdx.y, P = pairs, N = 2 * P, tiles = (N + TILE - 1) / TILE;
  const bool second = blockIdx.z >= tiles;
  const int k0 = blockIdx.z % tiles * TILE;
  const i64 corner = h * head_stride + (i64)T * ld + T;
  const float *G0 = g0 + corner, *G1 = g1 ? g1 + corner : nullptr;
  auto dq = [&](int m, int n) { return G0[(i64)m * ld + n] + (G1 ? G1[(i64)m * ld + n] : 0.f); };
  const i64 own = ((i64)h * rank + r) * T * P;
  const Part* x = second ? cols + h * cols_of_head + 2 * (i64)r * T * P : powers + 2 * own;
  float acc[4][4] = {};
  auto partner = [&](int l, int j) {
    const float v = (float)x[2 * ((T - 1 - j) * P + (l < P ? l : l - P)) + (l >= P)];
    return second || l < P ? v : -v;
  };
  if (second)
    tile_product<true>(acc, N, partner, [&](int l, int i) { return k0 + i < N ? dq(l, k0 + i) : 0.f; });
  else
    tile_product<true, true>(acc, N, partner, [&](int l, int i) { return k0 + i < N ? dq(k0 + i, l) : 0.f; });
  float* out = (float*)((second ? gb : ga) + own);
  EACH_CELL(i, c, j, column) {
    const int k = k0 + column;
    if (k < N) out[2 * (j * P + (k < P ? k : k - P)) + (k >= P)] = (second && k >= P ? -2.f : 2.f) * acc[i][c];
  }
}
extern "C" __global__ void __launch_bounds__(256, 4) transition_gradient(float2* ga, float2* gb, const float* g0, const float* g1, const c64* cols,
                                                                         const c64* powers, int pairs, int rank, int ld, i64 head_stride) {
  const i64 column = 2 * (i64)T * pairs;
  gradient_of_transition(ga, gb, g0, g1, (const double*)cols + column, (const double*)powers, (rank + 1) * column, pairs, rank, ld, head_stride);
}
// Of rank one, from Ā^j u and v D₀^j in f32 (H, T, P).
extern "C" __global__ void __launch_bounds__(256, 4) transition_gradient_of_f32(float2* ga, float2* gb, const float* g0, const float* g1,
                                                                                const float* u_powers, const float* v_powers, int pairs, int ld,
                                                                                i64 head_stride) {
  gradient_of_transition(ga, gb, g0, g1, u_powers, v_powers, 2 * (i64)T * pairs, pairs, 1, ld, head_stride);
}

// One step of x′ = x∘D₀ + Σ_r (2Re b_r·x) a_r in reverse. What it reads and adds to stays in registers for the first r.
// PL: pairs per lane.
template <int PL>
struct ReverseStep {
  const c64 *a, *b;
  c64 *sa, *sb;  // gradients of a and b in this sequence's part, R × P each
  int P, rank;
  c64 d0[PL], a0[PL], b0[PL], ga0[PL], gb0[PL], gd[PL];

  __device__ ReverseStep(const HeadRecurrence& h, const c64* a, const c64* b, c64* sa, c64* sb)
      : a(a), b(b), sa(sa), sb(sb), P(h.pairs), rank(h.rank) {
#pragma unroll
    for (int i = 0; i < PL; ++i) d0[i] = a0[i] = b0[i] = ga0[i] = gb0[i] = gd[i] = {0, 0};
    EACH_PAIR(i, n) {
      d0[i] = conj(h.d0[n]);
      if (rank > 0) a0[i] = a[n], b0[i] = conj(b[n]);
    }
  }

  // On entry g is the gradient of x′ and x the conjugate of that step's x; on return g is the gradient of x.
  __device__ void step(const c64 (&x)[PL], c64 (&g)[PL]) {
    c64 y[PL];
    double rho = 0, d = 0;
#pragma unroll
    for (int i = 0; i < PL; ++i) rho += dot(b0[i], conj(x[i])), d += dot(g[i], a0[i]);
    rho = 2 * warp_sum(rho), d = 2 * warp_sum(d);
#pragma unroll
    for (int i = 0; i < PL; ++i) {
      gd[i] += g[i] * x[i];
      ga0[i] += rho * g[i];
      gb0[i] += d * x[i];
      y[i] = g[i] * d0[i] + d * b0[i];
    }
    for (int r = 1; r < rank; ++r) {
      rho = d = 0;
      EACH_PAIR(i, n) rho += dot(b[r * P + n], x[i]), d += dot(g[i], a[r * P + n]);
      rho = 2 * warp_sum(rho), d = 2 * warp_sum(d);
      EACH_PAIR(i, n) {
        sa[r * P + n] += rho * g[i];
        sb[r * P + n] += d * x[i];
        y[i] += d * conj(b[r * P + n]);
      }
    }
#pragma unroll
    for (int i = 0; i < PL; ++i) g[i] = y[i];
  }

  __device__ void finish() {
    if (rank > 0) EACH_PAIR(i, n) sa[n] += ga0[i], sb[n] += gb0[i];
  }
};

// Goes through steps top … 0 in reverse (step 0 has none before it) by the first of two warps, while the second loads
// the next batch of steps to shared memory. read(j, n, x, share): for M steps from j down, the conjugates of x and the
// gradients that x receives directly; rest(n): for each pair, what the second warp computes when all is loaded. Returns
// where in shared memory that is.
template <int PL, class Read, class Rest>
DEV const c64* reverse_sequence(ReverseStep<PL>& back, c64 (&g)[PL], int top, c64* staged, Read read, Rest rest) {
  const int P = back.P, batch = STAGED / P, batches = top / batch + 1;
  const bool loads = threadIdx.x >= 32;
  auto buffer = [&](int b) { return staged + (b & 1) * 2 * STAGED; };
  auto load = [&](int b) {
    c64 *xs = buffer(b), *shares = xs + STAGED;
    const int high = top - b * batch, low = max(high - batch + 1, 0);
    for (int k = high; k >= low; k -= M) EACH_PAIR(i, n) {
      c64 x[M], share[M];
      read(k, n, x, share);
#pragma unroll
      for (int m = 0; m < M; ++m)
        if (k - m >= low) xs[(high - k + m) * P + n] = x[m], shares[(high - k + m) * P + n] = share[m];
    }
  };
  if (loads) load(0);
  __syncthreads();
  for (int b = 0; b < batches; ++b) {
    if (!loads) {
      const c64 *xs = buffer(b), *shares = xs + STAGED;
      const int high = top - b * batch, low = max(high - batch + 1, 0);
      for (int k = high; k >= low; --k) {
        c64 x[PL] = {};
        EACH_PAIR(i, n) x[i] = xs[(high - k) * P + n];
        if (k < top) back.step(x, g);
        EACH_PAIR(i, n) g[i] += shares[(high - k) * P + n];
      }
    } else if (b + 1 < batches) {
      load(b + 1);
    } else {
      EACH_PAIR(i, n) buffer(b + 1)[n] = rest(n);
    }
    __syncthreads();
  }
  return buffer(batches);
}

// One sequence per block of two warps; grid (H, 1 + 2R + kc); shared memory: 4·STAGED c64. gradient_parts (H,
// gradient_part_count, (2 + 2R)·P): parts 0 … 2R + kc are written here. Kernels below `ch0` belong to pass 0 (g0), the
// others to pass 1 (g1). dc (kc, H, P, 2) accumulates.
template <int PL>
DEV void sequences_backward(c64* gradient_parts, float* dc, const double* dkern, const float2* ga, const float2* gb, const float* g0,
                            const float* g1, const c64* cols, const c64* rows, const c64* powers, const c64* d0,
                            const c64* u_r, const c64* v_r, int heads, int pairs, int rank, int kc, int ch0, int ld,
                            i64 head_stride, i64 channel_stride, int gradient_part_count) {
  const int h = blockIdx.x, seq = blockIdx.y, P = pairs, R = rank;
  const HeadRecurrence q = {d0 + (i64)h * P, u_r + (i64)h * R * P, v_r + (i64)h * R * P, P, R};
  c64* mine = gradient_parts + ((i64)h * gradient_part_count + seq) * (2 + 2 * R) * P;
  c64 *sd = mine, *sb = mine + P, *su = mine + 2 * P, *sv = mine + (2 + R) * P;
  const bool first = threadIdx.x < 32;
  if (first)
    for (int e = threadIdx.x; e < (2 + 2 * R) * P; e += 32) mine[e] = {0, 0};
  __syncwarp();
  c64 g[PL] = {}, gd[PL] = {};
  // Whether the sequence is a column, x ← Ā x, or a row, x ← x Ā.
  const bool column = seq <= R;
  ReverseStep<PL> back(q, column ? q.u_r : q.v_r, column ? q.v_r : q.u_r, column ? su : sv, column ? sv : su);
  const float* G0 = g0 + h * head_stride;
  const float* G1 = g1 ? g1 + h * head_stride : nullptr;
  extern __shared__ c64 staged[];
  if (seq <= R) {
    const c64* from = cols + ((i64)h * (R + 1) + seq) * T * P;
    auto columns = [&](int j, int n, c64 (&x)[M]) {
#pragma unroll
      for (int m = 0; m < M; ++m) x[m] = conj(from[max(j - m, 0) * P + n]);
    };
    // Sequence Ā^j u_r: its gradient is ga.
    auto by_transition = [&](int j, int n, c64 (&x)[M], c64 (&share)[M]) {
      columns(j, n, x);
      const float2* own = ga + ((i64)h * R + seq - 1) * T * P;
#pragma unroll
      for (int m = 0; m < M; ++m) share[m] = load((const float*)own, max(j - m, 0) * P + n);
    };
    // Sequence Ā^j B̄: its gradient comes from dV, as V[:, t] = Ā^{T−1−t} B̄ (Ā^t B̄ where anticausal), and from K̄_j =
    // 2Re C·Ā^j B̄.
    auto by_input = [&](int j, int n, c64 (&x)[M], c64 (&share)[M]) {
      columns(j, n, x);
      const float* a = G0 + (i64)(T + n) * ld + T - 1;
#pragma unroll
      for (int m = 0; m < M; ++m) {
        const int t = max(j - m, 0);
        share[m] = {a[-t], a[(i64)P * ld - t]};
      }
      if (G1) {
        const float* b = G1 + (i64)(T + n) * ld;
#pragma unroll
        for (int m = 0; m < M; ++m) {
          const int t = max(j - m, 0);
          share[m] += c64{b[t], b[(i64)P * ld + t]};
        }
      }
      for (int k = 0; k < kc; ++k) {
        const c64 c = conj(rows[((i64)h * kc + k) * (T + 1) * P + n]);
        const double* lag = dkern + ((i64)h * kc + k) * T;
#pragma unroll
        for (int m = 0; m < M; ++m) share[m] += (2 * lag[max(j - m, 0)]) * c;
      }
    };
    auto diagonal = [&](int n) { return seq ? c64{0, 0} : gradient_of_diagonal(q.d0[n], G0, G1, ld, P, n); };
    const c64* more = seq ? reverse_sequence(back, g, T - 1, staged, by_transition, diagonal)
                          : reverse_sequence(back, g, T - 1, staged, by_input, diagonal);
    if (!first) return;
    back.finish();
    EACH_PAIR(i, n) {
      if (seq) su[(seq - 1) * P + n] += g[i];
      else sb[n] = g[i];
      gd[i] = more[n];
    }
  } else if (seq <= 2 * R) {
    if (!first) return;
    const int r = seq - R - 1;
    const i64 at = ((i64)h * R + r) * T * P;
    EACH_PAIR(i, n) {
      c64 y = {0, 0};
      const c64 d = conj(q.d0[n]);
      for (int j = T - 1; j >= 0; j -= 8) {
        c64 x[8], share[8];  // eight steps are read at once
#pragma unroll
        for (int k = 0; k < 8; ++k) x[k] = conj(powers[at + (j - k) * P + n]), share[k] = load((const float*)gb, at + (j - k) * P + n);
#pragma unroll
        for (int k = 0; k < 8; ++k) {
          gd[i] += y * x[k];  // y is zero at the last power
          y = y * d + share[k];
        }
      }
      sv[r * P + n] = y;
    }
  } else {
    const int k = seq - 2 * R - 1;
    const c64* from = rows + ((i64)h * kc + k) * (T + 1) * P;
    const bool anticausal = k >= ch0;
    const float* W = anticausal ? G1 + (k - ch0) * channel_stride : G0 + k * channel_stride;
    auto read = [&](int j, int n, c64 (&x)[M], c64 (&share)[M]) {
#pragma unroll
      for (int m = 0; m < M; ++m) {
        const int i = max(j - m, 0), t = anticausal ? T - 1 - i : i - 1;  // the row of W that is C Ā^i
        x[m] = conj(from[i * P + n]);
        const bool there = t >= 0 && t < T;
        const float* w = W + (there ? t : 0) * ld + T + n;
        share[m] = there ? c64{2.0 * w[0], -2.0 * w[P]} : c64{0, 0};
      }
    };
    // K̄_j = 2Re C·Ā^j B̄.
    auto by_kernel = [&](int n) {
      const c64* v = cols + (i64)h * (R + 1) * T * P;
      c64 sum = {0, 0};
#pragma unroll 8
      for (int j = 0; j < T; ++j) sum += (2 * dkern[((i64)h * kc + k) * T + j]) * conj(v[j * P + n]);
      return sum;
    };
    const c64* more = reverse_sequence(back, g, T, staged, read, by_kernel);
    if (!first) return;
    back.finish();
    EACH_PAIR(i, n) {
      const c64 sum = g[i] + more[n];
      float* o = dc + 2 * (((i64)k * heads + h) * P + n);
      o[0] += (float)sum.re, o[1] += (float)sum.im;
    }
  }
  EACH_PAIR(i, n) sd[n] = gd[i] + back.gd[i];
}

// Kernels for up to 32 and up to 64 pairs, with so few registers that all sequences of a layer run at once.
#define SEQUENCES_BACKWARD(name, PL, blocks)                                                                          \
  extern "C" __global__ void __launch_bounds__(64, blocks) name(                                                      \
      c64* gradient_parts, float* dc, const double* dkern, const float2* ga, const float2* gb, const float* g0, const float* g1,     \
      const c64* cols, const c64* rows, const c64* powers, const c64* d0, const c64* u_r, const c64* v_r, int heads,     \
      int pairs, int rank, int kc, int ch0, int ld, i64 head_stride, i64 channel_stride, int gradient_part_count) { \
    sequences_backward<PL>(gradient_parts, dc, dkern, ga, gb, g0, g1, cols, rows, powers, d0, u_r, v_r, heads, pairs, rank, kc, ch0, ld, head_stride, channel_stride, gradient_part_count);  \
  }
SEQUENCES_BACKWARD(sequences_backward_32, 1, 10)
SEQUENCES_BACKWARD(sequences_backward_64, 2, 6)
