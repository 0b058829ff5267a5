// Gradients of a chunk's matrices back to the discrete recurrence: each sequence of constants.cu in reverse.
//
// `g` holds, a head and a pass (0 causal, 1 looking ahead), the products of chunk_grad.cu:
//   G[(time | state)][(time | state)] = [dToep, dW; dV, dQ], leading dimension T + NP.
// Each sequence writes its share of (ḡ D₀, ḡ B̄, ḡ U, ḡ Z) into its own slot; discrete.cu adds the slots in order.
#include "cplx.cuh"
#include "tile.cuh"

constexpr int T = 64;
constexpr int STAGED = 256;  // numbers that sequences_backward reads at once, of each kind

struct Head {
  const c64 *d0, *u, *z;
  int pairs, rank;
};

#define EACH_PAIR(i, n) _Pragma("unroll") for (int i = 0, n = threadIdx.x & 31; i < PL; ++i, n += 32) if (n < P)

// dkern: (H, kc, T) diagonal sums of dToep; dd[k][h] += the main one. Block 64; grid (H, channels).
KERNEL kernel_gradient(double* dkern, float* dd, const float* g, int heads, int kc, int k0, int ld, i64 head_stride,
                       i64 channel_stride, int flip) {
  const int h = blockIdx.x, k = blockIdx.y, lag = threadIdx.x;
  const float* G = g + h * head_stride + k * channel_stride;
  double s = 0;
  if (flip)
    for (int t = 0; t + 1 + lag < T; ++t) s += G[t * ld + t + 1 + lag];
  else
    for (int t = lag; t < T; ++t) s += G[t * ld + t - lag];
  dkern[((i64)h * kc + k0 + k) * T + lag] = s;
  if (dd && lag == 0) dd[(i64)k * heads + h] += (float)s;
}

// ga, gb: (H, R, T, P): gradients of a_j = Ā^j U_r and b_j = Z_r D₀^j from dQ = Σ of the passes: with v = [Re b, −Im b]
// of a_j's partner, [Re, Im] ga = 2 dQ·v; with v = [Re a, Im a] of b_j's, [Re, −Im] gb = 2 dQᵀ·v. In f32, as dQ is.
// Block 256; grid (H, R, 2 · tiles of the state).
extern "C" __global__ void __launch_bounds__(256, 3) transition_gradient(c64* ga, c64* gb, const float* g0, const float* g1, const c64* cols, const c64* powers,
                           int pairs, int rank, int ld, i64 head_stride) {
  const int h = blockIdx.x, r = blockIdx.y, P = pairs, N = 2 * P, tiles = (N + TILE - 1) / TILE;
  const bool second = blockIdx.z >= tiles;
  const int k0 = blockIdx.z % tiles * TILE;
  const i64 corner = h * head_stride + (i64)T * ld + T;
  const float *G0 = g0 + corner, *G1 = g1 ? g1 + corner : nullptr;
  auto dq = [&](int m, int n) { return G0[(i64)m * ld + n] + (G1 ? G1[(i64)m * ld + n] : 0.f); };
  const i64 own = ((i64)h * rank + r) * T * P;
  const double* x = (const double*)(second ? cols + ((i64)h * (rank + 1) + 1 + r) * T * P : powers + own);
  float acc[4][4] = {};
  auto partner = [&](int l, int j) {
    const float v = (float)x[2 * ((T - 1 - j) * P + (l < P ? l : l - P)) + (l >= P)];
    return second || l < P ? v : -v;
  };
  if (second)
    tile_product<true>(acc, N, partner, [&](int l, int i) { return k0 + i < N ? dq(l, k0 + i) : 0.f; });
  else
    tile_product<true, true>(acc, N, partner, [&](int l, int i) { return k0 + i < N ? dq(k0 + i, l) : 0.f; });
  double* out = (double*)((second ? gb : ga) + own);
  EACH_CELL(i, c, j, column) {
    const int k = k0 + column;
    if (k < N) out[2 * (j * P + (k < P ? k : k - P)) + (k >= P)] = (second && k >= P ? -2.0 : 2.0) * acc[i][c];
  }
}

// Going back through x′ = x∘D₀ + Σ_r (2Re b_r·x) a_r. What each step reads and adds to stays in registers for the
// first of the rank. PL: pairs a lane.
template <int PL>
struct Retreat {
  const c64 *a, *b;
  c64 *sa, *sb;  // shares of a and b (slots, R × P)
  int P, rank;
  c64 d0[PL], a0[PL], b0[PL], ga0[PL], gb0[PL], gd[PL];

  __device__ Retreat(const Head& h, const c64* a, const c64* b, c64* sa, c64* sb)
      : a(a), b(b), sa(sa), sb(sb), P(h.pairs), rank(h.rank) {
#pragma unroll
    for (int i = 0; i < PL; ++i) d0[i] = a0[i] = b0[i] = ga0[i] = gb0[i] = gd[i] = {0, 0};
    EACH_PAIR(i, n) {
      d0[i] = conj(h.d0[n]);
      if (rank > 0) a0[i] = a[n], b0[i] = conj(b[n]);
    }
  }

  // In: g = ḡx′ and the conjugate of that step's x; out: g = ḡx.
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

// Steps `top` … 0, the last of which has nothing to go back through. `read` gives the conjugate of a step's x and its
// own share of the gradient.
template <int PL, class Read>
DEV void go_back(Retreat<PL>& back, c64 (&g)[PL], int top, c64* staged, Read read) {
  const int P = back.P, batch = STAGED / P;
  c64 *xs = staged, *shares = staged + STAGED;
  for (int j = top; j >= 0;) {
    const int low = max(j - batch + 1, 0);
#pragma unroll 4
    for (int k = j; k >= low; --k)
      EACH_PAIR(i, n) read(k, n, xs[(j - k) * P + n], shares[(j - k) * P + n]);
    __syncwarp();
    for (int k = j; k >= low; --k) {
      c64 x[PL] = {};
      EACH_PAIR(i, n) x[i] = xs[(j - k) * P + n];
      if (k < top) back.step(x, g);
      EACH_PAIR(i, n) g[i] += shares[(j - k) * P + n];
    }
    __syncwarp();
    j = low - 1;
  }
}

// Block: one warp; grid (H, 1 + 2R + kc); shared: 2·STAGED c64; `slot`: (H, slots, (2 + 2R)·P), slots 0 … 2R + kc written here.
// Channels below `ch0` belong to pass 0 (g0), the others to pass 1 (g1). dc (kc, H, P, 2) accumulates.
template <int PL>
DEV void sequences_backward(c64* slot, float* dc, const double* dkern, const c64* ga, const c64* gb, const float* g0,
                            const float* g1, const c64* cols, const c64* rows, const c64* powers, const c64* d0,
                            const c64* u, const c64* z, int heads, int pairs, int rank, int kc, int ch0, int ld,
                            i64 head_stride, i64 channel_stride, int slots) {
  const int h = blockIdx.x, seq = blockIdx.y, P = pairs, R = rank;
  const Head q = {d0 + (i64)h * P, u + (i64)h * R * P, z + (i64)h * R * P, P, R};
  c64* mine = slot + ((i64)h * slots + seq) * (2 + 2 * R) * P;
  c64 *sd = mine, *sb = mine + P, *su = mine + 2 * P, *sz = mine + (2 + R) * P;
  for (int e = threadIdx.x; e < (2 + 2 * R) * P; e += 32) mine[e] = {0, 0};
  __syncwarp();
  c64 g[PL] = {}, gd[PL] = {};
  // A column x ← Ā x, or a row x ← x Ā.
  const bool column = seq <= R;
  Retreat<PL> back(q, column ? q.u : q.z, column ? q.z : q.u, column ? su : sz, column ? sz : su);
  const float* G0 = g0 + h * head_stride;
  const float* G1 = g1 ? g1 + h * head_stride : nullptr;
  // What a batch of steps reads, the x and their shares of the gradient, is brought to shared memory at once.
  extern __shared__ c64 staged[];
  if (seq <= R) {
    const c64* from = cols + ((i64)h * (R + 1) + seq) * T * P;
    go_back(back, g, T - 1, staged, [&](int j, int n, c64& to_x, c64& to_share) {
      to_x = conj(from[j * P + n]);
      if (seq) {
        to_share = ga[(((i64)h * R + seq - 1) * T + j) * P + n];
        return;
      }
      // dV[n][t]: V[:, t] = v_{T−1−t}, or v_t looking ahead; and K̄_j = 2Re C·v_j.
      const float* a = G0 + (i64)(T + n) * ld + (T - 1 - j);
      c64 sum = {a[0], a[(i64)P * ld]};
      if (G1) {
        const float* b = G1 + (i64)(T + n) * ld + j;
        sum += c64{b[0], b[(i64)P * ld]};
      }
      for (int k = 0; k < kc; ++k)
        sum += (2 * dkern[((i64)h * kc + k) * T + j]) * conj(rows[((i64)h * kc + k) * (T + 1) * P + n]);
      to_share = sum;
    });
    back.finish();
    EACH_PAIR(i, n) {
      if (seq) su[(seq - 1) * P + n] += g[i];
      else sb[n] = g[i];
    }
  } else if (seq <= 2 * R) {
    const int r = seq - R - 1;
    const i64 at = ((i64)h * R + r) * T * P;
    EACH_PAIR(i, n) {
      c64 y = {0, 0};
      const c64 d = conj(q.d0[n]);
      for (int j = T - 1; j >= 0; j -= 4) {
        c64 x[4], share[4];  // four steps are read at once
#pragma unroll
        for (int k = 0; k < 4; ++k) x[k] = conj(powers[at + (j - k) * P + n]), share[k] = gb[at + (j - k) * P + n];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          gd[i] += y * x[k];  // y is zero at the last power
          y = y * d + share[k];
        }
      }
      sz[r * P + n] = y;
    }
  } else {
    const int k = seq - 2 * R - 1;
    const c64* from = rows + ((i64)h * kc + k) * (T + 1) * P;
    const bool ahead = k >= ch0;
    const float* W = ahead ? G1 + (k - ch0) * channel_stride : G0 + k * channel_stride;
    go_back(back, g, T, staged, [&](int j, int n, c64& to_x, c64& to_share) {
      const int t = ahead ? T - 1 - j : j - 1;  // the row of W that is C Ā^j
      to_x = conj(from[j * P + n]);
      const float* w = W + t * ld + T + n;
      to_share = t >= 0 && t < T ? c64{2.0 * w[0], -2.0 * w[P]} : c64{0, 0};
    });
    back.finish();
    const c64* v = cols + (i64)h * (R + 1) * T * P;
    EACH_PAIR(i, n) {
#pragma unroll 4
      for (int j = 0; j < T; ++j) g[i] += (2 * dkern[((i64)h * kc + k) * T + j]) * conj(v[j * P + n]);
      float* o = dc + 2 * (((i64)k * heads + h) * P + n);
      o[0] += (float)g[i].re, o[1] += (float)g[i].im;
    }
  }
  EACH_PAIR(i, n) sd[n] = gd[i] + back.gd[i];
  if (seq == 0) {
    // D₀^T on the diagonal of Q.
    EACH_PAIR(i, n) {
      c64 p = {1, 0};
      for (int k = 0; k < T - 1; ++k) p = p * q.d0[n];
      auto dq = [&](int m, int l) {
        const i64 at = (i64)(T + m) * ld + T + l;
        return (double)G0[at] + (G1 ? (double)G1[at] : 0.0);
      };
      const c64 gdelta = {dq(n, n) + dq(P + n, P + n), dq(P + n, n) - dq(n, P + n)};
      sd[n] += (double)T * (gdelta * conj(p));
    }
  }
}

// Up to 32 pairs and up to 64; so few registers that all sequences of a layer run at once.
#define SEQUENCES_BACKWARD(name, PL, blocks)                                                                          \
  extern "C" __global__ void __launch_bounds__(32, blocks) name(                                                      \
      c64* slot, float* dc, const double* dkern, const c64* ga, const c64* gb, const float* g0, const float* g1,     \
      const c64* cols, const c64* rows, const c64* powers, const c64* d0, const c64* u, const c64* z, int heads,     \
      int pairs, int rank, int kc, int ch0, int ld, i64 head_stride, i64 channel_stride, int slots) { \
    sequences_backward<PL>(slot, dc, dkern, ga, gb, g0, g1, cols, rows, powers, d0, u, z, heads, pairs, rank, kc, ch0, ld, head_stride, channel_stride, slots);  \
  }
SEQUENCES_BACKWARD(sequences_backward_32, 1, 20)
SEQUENCES_BACKWARD(sequences_backward_64, 2, 12)
