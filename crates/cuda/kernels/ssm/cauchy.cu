// Algorithm 1, forward, up to the spectrum: Ā, C̃ = C(I − Ā^{L′}), the records of the pairs, and K̂ at the nodes (see
// cauchy.cuh). Heads from h0 on, `group` of them at a time; arrays of a group begin at its first head.
#include "ssm/cauchy.cuh"

// a (group, np, np): Ā over the coordinates [Re; Im], zero beyond N. d0 (group, P), u and v (group, R, P) as
// discretize.cu gives them: Ā x = D₀∘x + Σ_r u_r (2 Re v_r·x).
KERNEL cauchy_a_bar(double* a, const c64* d0, const c64* u, const c64* v, int pairs, int rank, int np, i64 total) {
  for (i64 e = index(); e < total; e += stride()) {
    const i64 h = quotient(e, (i64)np * np);
    const int at = (int)(e - h * np * np), i = at / np, j = at % np, P = pairs, m = i % P, n = j % P;
    double x = 0;
    if (i < 2 * P && j < 2 * P) {
      if (m == n) {
        const c64 d = d0[h * P + n];
        x = (i < P) == (j < P) ? d.re : i < P ? -d.im : d.im;
      }
      for (int r = 0; r < rank; ++r) {
        const c64 w = u[(h * rank + r) * P + m], z = v[(h * rank + r) * P + n];
        x += (i < P ? w.re : w.im) * (j < P ? 2 * z.re : -2 * z.im);
      }
    }
    a[e] = x;
  }
}

// c_tilde (group, kc, P). c (kc, H, P) in f32, power (group, np, np): Ā^{L′}. Block: any number of threads; grid (group,
// kc).
KERNEL cauchy_c_tilde(c64* c_tilde, const float* c, const double* power, int heads, int h0, int pairs, int np) {
  const int h = blockIdx.x, k = blockIdx.y, P = pairs;
  const double* a = power + (i64)h * np * np;
  const i64 from = ((i64)k * heads + h0 + h) * P;
  for (int n = threadIdx.x; n < P; n += blockDim.x) {
    double re = 0, im = 0;  // of the row [2 Re C, −2 Im C] times Ā^{L′}
    for (int i = 0; i < P; ++i) {
      const c64 x = load(c, from + i);
      re += x.re * a[i * np + n] - x.im * a[(P + i) * np + n];
      im += x.re * a[i * np + P + n] - x.im * a[(P + i) * np + P + n];
    }
    const c64 x = load(c, from + n);
    c_tilde[((i64)h * gridDim.y + k) * P + n] = {x.re - re, x.im + im};
  }
}

// The same for a diagonal A: C̃ = C(1 − D₀^{L′}), L′ = 2^lg.
KERNEL cauchy_c_tilde_diagonal(c64* c_tilde, const float* c, const c64* d0, int heads, int h0, int pairs, int lg) {
  const int h = blockIdx.x, k = blockIdx.y, P = pairs;
  for (int n = threadIdx.x; n < P; n += blockDim.x) {
    c64 x = d0[(i64)h * P + n];
    for (int i = 0; i < lg; ++i) x = x * x;
    c_tilde[((i64)h * gridDim.y + k) * P + n] = load(c, ((i64)k * heads + h0 + h) * P + n) * (c64{1, 0} - x);
  }
}

// Least |Λ|ΔL, that of any pair beside a rank of 1, and most |Λ|Δ, as in crates/cpu/src/ssm/cauchy: beyond them few digits of
// I − Ā^L are left.
constexpr double LEAST = 1e-6, LEAST_OF_A_PAIR = 1e-8, MOST = 1e8;

// The record of a pair n of head h and kernel k.
template <int R>
DEV void write_record(double* record, const Params& q, c64 c_tilde, int h, int n, bool refused) {
  typedef Record<R> Of;
  const double half = 0.5 * step_size(q, h, n);
  const c64 x = half * lambda(q, h, n), b = input(q, h, n);
  c64 p[R + 1];
#pragma unroll(Of::UNROLL_ROWS)
  for (int r = 0; r < R; ++r) p[r] = r < q.rank ? lowrank(q, r, h, n) : c64{0, 0};
  // The host does not know the parameters: the kernel of a layer that is refused is not finite.
  record[0] = refused ? __longlong_as_double(0x7ff8000000000000ll) : dot(x, x);
  record[1] = -2 * x.re;
  auto numerator = [&](int k, c64 z) {
    z = half * z;
    record[2 + 2 * k] = -dot(z, x), record[3 + 2 * k] = z.re;
  };
  numerator(0, c_tilde * b);
#pragma unroll(Of::UNROLL_ROWS)
  for (int r = 0; r < R; ++r) {
    numerator(1 + r, c_tilde * p[r]);
    numerator(1 + R + r, conj(p[r]) * b);
#pragma unroll(Of::UNROLL_ROWS)
    for (int s = 0; s < R; ++s) numerator(1 + 2 * R + r * R + s, conj(p[r]) * p[s]);
  }
  auto put = [&](int at, c64 z) { record[at] = z.re, record[at + 1] = z.im; };
  put(Of::X, x), put(Of::H, {half, 0}), put(Of::B, b), put(Of::C, c_tilde);
#pragma unroll(Of::UNROLL_ROWS)
  for (int r = 0; r < R; ++r) put(Of::P + 2 * r, p[r]);
}

// records (group, kc, P, Record<R>::SIZE) of the padded rank R. c_tilde (group, kc, P); len: L. Block: one warp; grid
// (group, kc).
KERNEL cauchy_records(double* records, const c64* c_tilde, i64 len, int h0, PARAMS) {
  PARAMS_HERE;
  const int h = h0 + blockIdx.x, P = q.pairs, R = padded_rank(q.rank), lane = threadIdx.x;
  double least = 1e300, most = 0;
  for (int n = lane; n < P; n += 32) {
    const c64 l = lambda(q, h, n);
    const double x = sqrt(dot(l, l)) * step_size(q, h, n);
    least = fmin(least, x), most = fmax(most, x);
  }
  for (int k = 16; k; k >>= 1) {
    least = fmin(least, __shfl_xor_sync(~0u, least, k));
    most = fmax(most, __shfl_xor_sync(~0u, most, k));
  }
  // A mode of a diagonal A is alone; those of a low-rank form are of the size of all, but for one pair beside a rank of 1.
  const bool still = R == 1 && !(least * (double)len >= LEAST_OF_A_PAIR);
  const bool refused = still || !((R == 0 ? least : most) * (double)len >= LEAST && most <= MOST);
  const i64 row = (i64)blockIdx.x * gridDim.y + blockIdx.y;
  for (int n = lane; n < P; n += 32) {
    const c64 c = c_tilde[row * P + n];
    const i64 at = row * P + n;
    if (R == 0) write_record<0>(records + at * Record<0>::SIZE, q, c, h, n, refused);
    else if (R == 1) write_record<1>(records + at * Record<1>::SIZE, q, c, h, n, refused);
    else if (R == 2) write_record<2>(records + at * Record<2>::SIZE, q, c, h, n, refused);
    else write_record<MAXR>(records + at * Record<MAXR>::SIZE, q, c, h, n, refused);
  }
}

// K̂ e^{−iθ/2} of one node from its sums and the record of the nearest pair.
template <int R>
DEV c64 response(const SumsOfNode<R>& sums, const double* nearest, Node at) {
  if constexpr (R == 0) return sums.rho(0, at);
  else return Unknowns<R>(nearest, sums, at).response(sums, at);
}

// The inverse transform of a real sequence of L′ = 2M samples is one of M complex points,
//   Z_j = K̂_j + conj(K̂_{M−j}) + i e^{iθ_j} (K̂_j − conj(K̂_{M−j})),  z_l = L′ (K̄_{2l} + i K̄_{2l+1}).
// A thread has the nodes j and M − j, and writes Z at both, in the order [k₁][k₂] of fft.cuh:
// j = k₁ + n₁·k₂. z (group, kc, M). Block: 128 threads; grid (blocks of threads, group·kc); shared memory: the records of
// a head's kernel where they fit, then P float2.
template <int R>
DEV void spectrum(double2* z, const double* records, int pairs, int lg, int n1, int n2) {
  typedef Record<R> Of;
  extern __shared__ double memory[];
  const int P = pairs, M = 1 << (lg - 1), thread = blockIdx.x * blockDim.x + threadIdx.x;
  const double* global = records + (i64)blockIdx.y * P * Of::SIZE;
  float2* pole = (float2*)(memory + (Of::SHARED ? P * Of::SIZE : 0));
  if constexpr (Of::SHARED)
    for (int i = threadIdx.x; i < P * Of::SIZE; i += blockDim.x) memory[i] = global[i];
  const double* record = Of::SHARED ? memory : global;
  for (int n = threadIdx.x; n < P; n += blockDim.x) pole[n] = rough(complex_at(global + n * Of::SIZE + Of::X));
  __syncthreads();
  // Rows 1 … n₁/2 − 1 of the spectrum whole, with their partners; then half of row n₁/2, then half of row 0.
  int k1 = 0, k2 = thread;
  if (n1 > 1) {
    const int whole = (n1 / 2 - 1) * n2, rest = thread - whole;
    if (rest < 0) k1 = 1 + thread / n2, k2 = thread % n2;
    else if (rest < n2 / 2) k1 = n1 / 2, k2 = rest;
    else k1 = 0, k2 = rest - n2 / 2;
  }
  const int j = k1 + n1 * k2;
  if (thread > M / 2) return;
  const Node at = node(j, lg), other = at.other();
  const double cc = at.c * at.c, ss = at.s * at.s, sc = at.s * at.c;
  int nearest = 0, nearest_other = 0;
  if constexpr (R > 0) {
    const float s = (float)at.s, c = (float)at.c;
    float least = 3e38f, least_other = 3e38f;
    for (int n = 0; n < P; ++n) {
      const float a = distance(pole[n], s, c), b = distance(pole[n], c, s);
      if (a < least) least = a, nearest = n;
      if (b < least_other) least_other = b, nearest_other = n;
    }
  }
  SumsOfNode<R> sums, sums_other;
  for (int n = 0; n < P; ++n) {
    const double *r = record + n * Of::SIZE, size = r[0], g = r[1];
    sums.add(r, inverse_of_pair(size, g, cc, ss, sc, R > 0 && n == nearest));
    sums_other.add(r, inverse_of_pair(size, g, ss, cc, sc, R > 0 && n == nearest_other));
  }
  const c64 phase = {at.c, at.s}, phase_other = {at.s, at.c};
  const c64 x = phase * response<R>(sums, record + nearest * Of::SIZE, at);
  const c64 y = conj(phase_other * response<R>(sums_other, record + nearest_other * Of::SIZE, other));
  // i e^{iθ}: e^{iθ} is the square of the phase.
  const c64 turn = times_i(phase * phase);
  const c64 sum = x + y, difference = turn * (x - y);
  double2* out = z + (i64)blockIdx.y * M;
  const c64 first = sum + difference, second = conj(sum - difference);
  out[(i64)k1 * n2 + k2] = make_double2(first.re, first.im);
  if (j > 0 && 2 * j != M) {
    const int back = M - j;
    out[(i64)(back % n1) * n2 + back / n1] = make_double2(second.re, second.im);
  }
}
#define SPECTRUM(R)                                                                                                \
  extern "C" __global__ void __launch_bounds__(128) cauchy_spectrum_##R(double2* z, const double* records,         \
                                                                        int pairs, int lg, int n1, int n2) {       \
    spectrum<R>(z, records, pairs, lg, n1, n2);                                                                    \
  }
EACH_RANK(SPECTRUM)
