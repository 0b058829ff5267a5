// From the discrete recurrence (D₀, B̄, u, v of discretize.cu) to the matrices Toep, V, W, Q of one chunk of T = 64
// time steps (crates/ssm/src/lib.rs), in f64.
//
// Sequences of one head, each T steps of the recurrence, by one warp each:
//   columns 0…R: Ā^j B̄ and Ā^j u_r;   rows: C_k Ā^j (j = 0…T);   powers: v_r D₀^j.
// Then K̄_j = 2Re C·Ā^j B̄ and Q = Ā^T = D₀^T + Σ_j (Ā^j u_r)(v_r D₀^{T−1−j}), so nothing is squared. In real
// coordinates a column is [Re; Im] and a row [2Re, −2Im]. P = N/2 pairs, R the rank, kc kernels per head.
#include "ssm/chunk_matrices.cuh"
#include "common/tile_product.cuh"
#include "common/tile_product_f64.cuh"

constexpr int PL = 2;  // pairs per lane: N ≤ 128

#define EACH_PAIR(i, n, P) \
  _Pragma("unroll") for (int i = 0, n = threadIdx.x & 31; i < PL; ++i, n += 32) if (n < (P))

// x ← x∘D₀ + Σ_r (2Re b_r·x) a_r, `steps` times, every x written to `out`: with a = u, b = v a step is Ā x; with a = v,
// b = u it is the row x Ā. What a step reads stays in registers for the first r.
DEV void powers_of_a(c64* out, c64 (&x)[PL], const c64* d0, const c64* a, const c64* b, int P, int rank, int steps) {
  c64 d[PL] = {}, a0[PL] = {}, b0[PL] = {};
  EACH_PAIR(i, n, P) {
    d[i] = d0[n];
    if (rank > 0) a0[i] = a[n], b0[i] = conj(b[n]);
  }
  for (int j = 0; j < steps; ++j) {
    EACH_PAIR(i, n, P) out[j * P + n] = x[i];
    double s = 0;
#pragma unroll
    for (int i = 0; i < PL; ++i) s += dot(b0[i], x[i]);
    s = 2 * warp_sum(s);
    c64 y[PL];
#pragma unroll
    for (int i = 0; i < PL; ++i) y[i] = d[i] * x[i] + s * a0[i];
    for (int r = 1; r < rank; ++r) {
      s = 0;
      EACH_PAIR(i, n, P) s += dot(conj(b[r * P + n]), x[i]);
      s = 2 * warp_sum(s);
      EACH_PAIR(i, n, P) y[i] += s * a[r * P + n];
    }
#pragma unroll
    for (int i = 0; i < PL; ++i) x[i] = y[i];
  }
}

// cols (H, R+1, T, P), rows (H, kc, T+1, P), powers (H, R, T, P) as above. One warp per sequence; grid (H, 1 + 2R +
// kc).
KERNEL sequences(c64* cols, c64* rows, c64* powers, const c64* d0, const c64* u_r, const c64* v_r, const c64* b_bar,
                 const float* c, int heads, int pairs, int rank, int kc) {
  const int h = blockIdx.x, seq = blockIdx.y, P = pairs;
  d0 += (i64)h * P, u_r += (i64)h * rank * P, v_r += (i64)h * rank * P, b_bar += (i64)h * P;
  c64 x[PL] = {};
  if (seq <= rank) {
    EACH_PAIR(i, n, P) x[i] = seq ? u_r[(seq - 1) * P + n] : b_bar[n];
    powers_of_a(cols + ((i64)h * (rank + 1) + seq) * T * P, x, d0, u_r, v_r, P, rank, T);
  } else if (seq <= 2 * rank) {
    const int r = seq - rank - 1;
    EACH_PAIR(i, n, P) x[i] = v_r[r * P + n];
    powers_of_a(powers + ((i64)h * rank + r) * T * P, x, d0, u_r, v_r, P, 0, T);
  } else {
    const int k = seq - 2 * rank - 1;
    EACH_PAIR(i, n, P) x[i] = load(c, ((i64)k * heads + h) * P + n);
    powers_of_a(rows + ((i64)h * kc + k) * (T + 1) * P, x, d0, v_r, u_r, P, rank, T + 1);
  }
}

// kern (H, kc, T): K̄_j for j < T. Block: 256 threads, four per j; grid (H, kc).
KERNEL short_kernel(double* kern, const c64* cols, const c64* rows, int pairs, int rank, int kc) {
  const int h = blockIdx.x, k = blockIdx.y, j = threadIdx.x / 4, part = threadIdx.x % 4;
  const c64* col = cols + ((i64)h * (rank + 1) * T + j) * pairs;
  const c64* c = rows + ((i64)h * kc + k) * (T + 1) * pairs;
  double s = 0;
  for (int n = part; n < pairs; n += 4) s += dot(conj(c[n]), col[n]);
  s += __shfl_xor_sync(~0u, s, 1);
  s += __shfl_xor_sync(~0u, s, 2);
  if (part == 0) kern[((i64)h * kc + k) * T + j] = 2 * s;
}

// x^64.
DEV c64 power64(c64 x) {
  for (int k = 0; k < 6; ++k) x = x * x;
  return x;
}

// q (H, NP, NP), Q over the coordinates [Re; Im], zero beyond N. In these the sum of the outer products a_j b_{T−1−j}
// is a product of real matrices: [Re a; Im a] · [2 Re b, −2 Im b]. Block: 256 threads; grid (H, tiles).
KERNEL transition(double* q, const c64* cols, const c64* powers, const c64* d0, int pairs, int rank, int np) {
  const int h = blockIdx.x, P = pairs, tiles = (np + TILE - 1) / TILE;
  const int m0 = blockIdx.y / tiles * TILE, n0 = blockIdx.y % tiles * TILE;
  const double* a = (const double*)(cols + ((i64)h * (rank + 1) + 1) * T * P);
  const double* b = (const double*)(powers + (i64)h * rank * T * P);
  auto part = [&](const double* x, int at, int n) { return x[2 * (at * P + (n < P ? n : n - P)) + (n >= P)]; };
  double acc[4][4] = {};
  tile_product(
      acc, rank * T, [&](int k, int i) { return m0 + i < 2 * P ? part(a, k, m0 + i) : 0.0; },
      [&](int k, int i) {
        const int n = n0 + i, back = k / T * T + T - 1 - k % T;
        return n < 2 * P ? (n < P ? 2.0 : -2.0) * part(b, back, n) : 0.0;
      });
  double* Q = q + (i64)h * np * np;
  EACH_CELL(i, j, r, c) {
    const int m = m0 + r, n = n0 + c;
    if (m >= np || n >= np) continue;
    double x = acc[i][j];
    if (m < 2 * P && n < 2 * P && m % P == n % P) {
      const c64 d = power64(d0[(i64)h * P + m % P]);
      x += (m < P) == (n < P) ? d.re : m < P ? -d.im : d.im;
    }
    Q[m * np + n] = x;
  }
}

// dst = src·src for each head's matrix (H, np, np). Block: 256 threads; grid (H, tiles).
KERNEL square(double* dst, const double* src, int np) {
  const int tiles = (np + TILE - 1) / TILE, m0 = blockIdx.y / tiles * TILE, n0 = blockIdx.y % tiles * TILE;
  const double* s = src + (i64)blockIdx.x * np * np;
  double* d = dst + (i64)blockIdx.x * np * np;
  double acc[4][4] = {};
  tile_product(
      acc, np, [&](int k, int i) { return m0 + i < np ? s[(m0 + i) * np + k] : 0.0; },
      [&](int k, int i) { return n0 + i < np ? s[k * np + n0 + i] : 0.0; });
  EACH_CELL(i, j, r, c) {
    if (m0 + r < np && n0 + c < np) d[(m0 + r) * np + n0 + c] = acc[i][j];
  }
}

// Ā^(T·2^squarings) − 1 of every head, as segment_scan.cu multiplies by it: `ahead`, transposed, for the pass, and
// `back`, not transposed, for its adjoint (may be null). q (H, np, np), np ≤ 64. Block: 256 threads; grid H; shared
// memory: 64·POWER doubles.
constexpr int POWER = TILE + 4;
KERNEL segment_power(float* ahead, float* back, const double* q, int np, int squarings) {
  extern __shared__ double m[];
  const i64 at = (i64)blockIdx.x * np * np;
  for (int e = threadIdx.x; e < TILE * TILE; e += 256) {
    const int i = e / TILE, j = e % TILE;
    m[i * POWER + j] = i < np && j < np ? q[at + i * np + j] : 0.0;
  }
  __syncthreads();
  for (int k = 0; k < squarings; ++k) {
    double acc[4][4] = {};
    for (int k0 = 0; k0 < np; k0 += 16)
      sixteen_terms(acc, k0, [&](int k, int i) { return m[i * POWER + k]; }, [&](int k, int j) { return m[k * POWER + j]; });
    __syncthreads();
    EACH_PRODUCT(i, j, r, c) m[r * POWER + c] = acc[i][j];
    __syncthreads();
  }
  for (int e = threadIdx.x; e < np * np; e += 256) {
    const int i = e / np, j = e % np;
    ahead[at + e] = (float)(m[j * POWER + i] - (i == j));
    if (back) back[at + e] = (float)(m[i * POWER + j] - (i == j));
  }
}

// dst = src − 1 for each head's matrix (H, np, np), transposed or not; n elements in all.
KERNEL minus_identity(float* dst, const double* src, int np, i64 n, int transposed) {
  for (i64 i = index(); i < n; i += stride()) {
    const i64 base = i / (np * np) * (np * np);
    const int e = (int)(i - base), r = e / np, c = e % np;
    dst[i] = (float)(src[base + (transposed ? c * np + r : e)] - (r == c));
  }
}

// ---- fragments --------------------------------------------------------------------------------------------------
// A chunk pass reads its matrices M (inner × outer) as fragments, the operands B of mma (mma.cuh), four values per
// thread:
//   frag[kt2][nt][lane][i] = M[inner(kt2, lane % 4, i)][outer(nt, lane / 4)].
// `pack` writes the fragments of each head in the order toep (channels), w, v, q: forward has one w per channel and one
// v, the adjoint (x ↔ y, v ↔ w, all transposed) one w and one v per channel. Block: 256 threads; grid (H, blocks per
// head).
KERNEL pack(float4* out, const double* kern, const double* q, const c64* cols, const c64* rows, const float* d,
            int heads, int pairs, int rank, int kc, int k0, int channels, int np, int anticausal, int backward) {
  Chunk c = {kern, q, cols, rows, d, (int)blockIdx.x, heads, pairs, rank, kc, k0, np, anticausal};
  const int tt = (T / 16) * (T / 8) * 32, st = (np / 16) * (T / 8) * 32, ts = (T / 16) * (np / 8) * 32,
            ss = (np / 16) * (np / 8) * 32;
  const int nw = backward ? 1 : channels, nv = backward ? channels : 1;
  const int total = channels * tt + nw * st + nv * ts + ss;
  float4* o = out + (i64)blockIdx.x * total;
  const double* Q = q + (i64)c.h * np * np;
  for (int e = blockIdx.y * blockDim.x + threadIdx.x; e < total; e += gridDim.y * blockDim.x) {
    int r = e, kind, k = 0;
    if (r < channels * tt) kind = 0, k = r / tt, r %= tt;
    else if ((r -= channels * tt) < nw * st) kind = 1, k = r / st, r %= st;
    else if ((r -= nw * st) < nv * ts) kind = 2, k = r / ts, r %= ts;
    else r -= nv * ts, kind = 3;
    const int lane = r & 31, g = lane >> 2, t = lane & 3;
    const int nts = (kind < 2 ? T : np) / 8, nt = (r >> 5) % nts, kt2 = (r >> 5) / nts;
    float f[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int in = (kind & 1) ? state_inner(kt2, t, i) : time_inner(kt2, t, i);
      const int to = kind < 2 ? time_outer(nt, g) : state_outer(nt, g);
      double x;
      if (kind == 0) x = backward ? c.toep(k, in, to) : c.toep(k, to, in);
      else if (kind == 1) x = backward ? c.v(in, to) : c.w(k, to, in);
      else if (kind == 2) x = backward ? c.w(k, in, to) : c.v(to, in);
      else x = backward ? Q[in * np + to] : Q[to * np + in];
      f[i] = (float)x;
    }
    o[e] = make_float4(f[0], f[1], f[2], f[3]);
  }
}
