// The paper's Algorithm 1 in f64: Cauchy sums at the nodes of the unit circle, and Woodbury's identity.
//
// The nodes are those of L′ = 2^lg ≥ L samples, the next power of two; a kernel shorter than that is the beginning of
// it, with C̃ = C(I − Ā^{L′}). With θ = 2πj/L′, s = sin θ/2, c = cos θ/2, h = Δ/2 and x = hλ a pair n of the state and
// its conjugate stand at a node with the denominators
//   d = i s − x c,  d̃ = i s − conj(x) c;  d·d̃ = |x|²c² − s² − 2i·Re x·s c,
// and a sum over the whole state of z_n / ((2/Δ)i s − λ_n c) and its conjugate partner is
//   ρ = 2c Σ_n t_n w_n + 2i s Σ_n v_n w_n,  w = 1/(d·d̃),  t = −h Re(z conj x),  v = h Re z:
// four multiplications and additions a sum and pair, whatever the numerators are. Nodes j and L′/2 − j exchange s and c.
//
// A pole near a node makes the sums large and their difference in Woodbury's identity small. So where there is a
// low-rank part the pair k whose pole is nearest is left out of the sums (w = 0) and kept as unknowns X, X̃ beside
// y = P*x of the whole state (crates/cpu/src/ssm/cauchy/sums.rs):
//   ⎡  d_k      0       c h P_k      ⎤ ⎡ X ⎤   ⎡ h B_k       ⎤
//   ⎢  0        d̃_k     c h conj P_k ⎥ ⎢ X̃ ⎥ = ⎢ h conj(B_k) ⎥
//   ⎣ −conj P_k −P_k    I + c ρ_{P*P}⎦ ⎣ y ⎦   ⎣ ρ_{P*B}     ⎦
//   K̂ = e^{iθ/2} [ C̃_k X + conj(C̃_k) X̃ + ρ_{C̃B} − c Σ_r ρ_{C̃P_r} y_r ].
#pragma once
#include "common/complex.cuh"
#include "common/fft.cuh"
#include "ssm/params.cuh"

// Sums of a node, in this order: C̃B, C̃P_r (rank), P_r*B (rank), P_r*P_q (rank, rank).
__device__ constexpr int sums(int R) { return (1 + R) * (1 + R); }

// What the kernels read of a pair, in doubles: |x|², −2 Re x; t and v of every sum; x, h, C̃, B, P. Rows of P beyond the
// rank are 0.
template <int R>
struct Record {
  static constexpr int S = sums(R), X = 2 + 2 * S, H = X + 2, B = X + 4, C = X + 6, P = X + 8, SIZE = P + 2 * R;
  // Ranks above 2 have too many sums for shared memory.
  static constexpr bool SHARED = R <= 2;
  // How far loops over sums and over rows of P are unrolled.
  static constexpr int UNROLL_SUMS = SHARED ? S : 1, UNROLL_ROWS = R == 0 ? 1 : SHARED ? R : 1;
};

// Low-rank rows that kernels are compiled for.
__device__ constexpr int padded_rank(int rank) { return rank <= 2 ? rank : MAXR; }

DEV c64 complex_at(const double* p) { return {p[0], p[1]}; }
DEV c64 times_i(c64 a) { return {-a.im, a.re}; }

// 1/x of a normal number to two units of the last place.
DEV double reciprocal(double x) {
  double r;
  asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(r) : "d"(x));
  const double e = fma(-x, r, 1.0);
  return fma(r, fma(e, e, e), r);
}

// A node: s = sin θ/2 and c = cos θ/2.
struct Node {
  double s, c;

  // The node that exchanges s and c.
  __device__ Node other() const { return {c, s}; }
};
DEV Node node(int j, int lg) {
  Node at;
  // j/2^lg is exact.
  sincospi(ldexp((double)j, -lg), &at.s, &at.c);
  return at;
}

// w of a pair whose record begins with |x|², −2 Re x; 0 where it is left out.
DEV c64 inverse_of_pair(double size, double g, double cc, double ss, double sc, bool left_out) {
  const double re = fma(cc, size, -ss), im = sc * g, r = reciprocal(fma(re, re, im * im));
  const double scale = left_out ? 0.0 : r;
  return {re * scale, -im * scale};
}

// x of a pair in f32, its imaginary part not negative: enough to find the pair nearest to a node.
DEV float2 rough(c64 x) { return make_float2((float)x.re, fabsf((float)x.im)); }
// The square of the distance of its pole to a node, times c².
DEV float distance(float2 x, float s, float c) {
  const float a = x.x * c, b = s - x.y * c;
  return a * a + b * b;
}

// Sums over the pairs at a node, without the nearest one.
template <int R>
struct SumsOfNode {
  static constexpr int S = sums(R);
  double t[2 * S], v[2 * S];

  __device__ SumsOfNode() {
#pragma unroll(Record<R>::UNROLL_SUMS * 2)
    for (int k = 0; k < 2 * S; ++k) t[k] = v[k] = 0;
  }
  __device__ void add(const double* record, c64 w) {
#pragma unroll(Record<R>::UNROLL_SUMS)
    for (int k = 0; k < S; ++k) {
      const double a = record[2 + 2 * k], b = record[3 + 2 * k];
      t[2 * k] = fma(a, w.re, t[2 * k]), t[2 * k + 1] = fma(a, w.im, t[2 * k + 1]);
      v[2 * k] = fma(b, w.re, v[2 * k]), v[2 * k + 1] = fma(b, w.im, v[2 * k + 1]);
    }
  }
  __device__ c64 rho(int k, Node at) const {
    return {2 * (at.c * t[2 * k] - at.s * v[2 * k + 1]), 2 * (at.c * t[2 * k + 1] + at.s * v[2 * k])};
  }
};

// The system of a node of rank 2 and more, solved by elimination with pivots: m q = rhs; m is destroyed, q replaces rhs.
template <int SIZE>
DEV void solve(c64 (&m)[SIZE][SIZE], c64 (&rhs)[SIZE]) {
#pragma unroll 1
  for (int k = 0; k < SIZE; ++k) {
    int pivot = k;
    double best = -1;
#pragma unroll 1
    for (int i = k; i < SIZE; ++i) {
      const double x = dot(m[i][k], m[i][k]);
      if (x > best) best = x, pivot = i;
    }
#pragma unroll 1
    for (int j = k; j < SIZE; ++j) {
      const c64 x = m[k][j];
      m[k][j] = m[pivot][j], m[pivot][j] = x;
    }
    const c64 x = rhs[k];
    rhs[k] = rhs[pivot], rhs[pivot] = x;
    const c64 d = inv(m[k][k]);
#pragma unroll 1
    for (int i = k + 1; i < SIZE; ++i) {
      const c64 f = m[i][k] * d;
#pragma unroll 1
      for (int j = k + 1; j < SIZE; ++j) m[i][j] -= f * m[k][j];
      rhs[i] -= f * rhs[k];
    }
  }
#pragma unroll 1
  for (int k = SIZE - 1; k >= 0; --k) {
    c64 x = rhs[k];
#pragma unroll 1
    for (int j = k + 1; j < SIZE; ++j) x -= m[k][j] * rhs[j];
    rhs[k] = x * inv(m[k][k]);
  }
}

// What a node knows of the nearest pair and of the sums: the unknowns q = (X, X̃, y), and the transpose of their solution.
template <int R>
struct Unknowns {
  c64 d, d_conj, b, c_tilde, p[R], q[R + 2];
  double h, c, ch;
  // Rank 1: 1 + c ρ_{P*P}, and 1 over the determinant.
  c64 m, scale;

  __device__ Unknowns(const double* record, const SumsOfNode<R>& sums, Node at) {
    typedef Record<R> Of;
    const c64 x = complex_at(record + Of::X);
    h = record[Of::H], c = at.c, ch = c * h;
    b = complex_at(record + Of::B), c_tilde = complex_at(record + Of::C);
#pragma unroll(Of::UNROLL_ROWS)
    for (int r = 0; r < R; ++r) p[r] = complex_at(record + Of::P + 2 * r);
    d = {-x.re * c, at.s - x.im * c}, d_conj = {-x.re * c, at.s + x.im * c};
    if constexpr (R == 1) {
      const c64 P = p[0], z = sums.rho(2, at), hb = h * b;
      m = c * sums.rho(3, at) + c64{1, 0};
      scale = inv(d * d_conj * m + (ch * dot(P, P)) * (d + d_conj));
      // conj(P) B − P conj(B) = iκ; the products of the stored parameters are exact.
      const double kappa = 2 * (P.re * b.im - P.im * b.re);
      const c64 cross = (ch * h * kappa) * times_i(P);
      q[0] = scale * (d_conj * (m * hb - ch * (P * z)) + cross);
      q[1] = scale * (d * (m * conj(hb) - ch * (conj(P) * z)) - (ch * h * kappa) * times_i(conj(P)));
      q[2] = scale * (d_conj * (conj(P) * hb) + d * (P * conj(hb)) + d * d_conj * z);
    } else {
      c64 a[R + 2][R + 2];
      system(a, sums, at);
      q[0] = h * b, q[1] = h * conj(b);
      for (int r = 0; r < R; ++r) q[2 + r] = sums.rho(1 + R + r, at);
      solve<R + 2>(a, q);
    }
  }
  __device__ void system(c64 (&a)[R + 2][R + 2], const SumsOfNode<R>& sums, Node at) const {
    a[0][0] = d, a[0][1] = {0, 0}, a[1][0] = {0, 0}, a[1][1] = d_conj;
    for (int r = 0; r < R; ++r) {
      a[0][2 + r] = ch * p[r], a[1][2 + r] = ch * conj(p[r]);
      a[2 + r][0] = -1.0 * conj(p[r]), a[2 + r][1] = -1.0 * p[r];
      for (int k = 0; k < R; ++k) {
        a[2 + r][2 + k] = c * sums.rho(1 + 2 * R + r * R + k, at);
        a[2 + r][2 + k].re += r == k;
      }
    }
  }
  // K̂ e^{−iθ/2}.
  __device__ c64 response(const SumsOfNode<R>& sums, Node at) const {
    c64 k = c_tilde * q[0] + conj(c_tilde) * q[1] + sums.rho(0, at);
#pragma unroll(Record<R>::UNROLL_ROWS)
    for (int r = 0; r < R; ++r) k -= c * (sums.rho(1 + r, at) * q[2 + r]);
    return k;
  }
  // From the gradient of q to that of the right-hand side, in place.
  __device__ void adjoint(c64 (&g)[R + 2], const SumsOfNode<R>& sums, Node at) const {
    if constexpr (R == 1) {
      const c64 P = p[0], t = conj(scale), cross = conj(P) * g[0] - P * g[1];
      const c64 x = t * (conj(d_conj * m) * g[0] + ch * (P * cross) + conj(d_conj) * (P * g[2]));
      const c64 y = t * (conj(d * m) * g[1] - ch * (conj(P) * cross) + conj(d) * (conj(P) * g[2]));
      g[2] = t * (conj(d * d_conj) * g[2] - ch * (conj(P * d_conj) * g[0] + P * (conj(d) * g[1])));
      g[0] = x, g[1] = y;
    } else {
      c64 a[R + 2][R + 2], adj[R + 2][R + 2];
      system(a, sums, at);
      for (int i = 0; i < R + 2; ++i)
        for (int k = 0; k < R + 2; ++k) adj[i][k] = conj(a[k][i]);
      solve<R + 2>(adj, g);
    }
  }
};

// The kernels for the ranks that they are compiled for.
#define EACH_RANK(OF) OF(0) OF(1) OF(2) OF(8)
