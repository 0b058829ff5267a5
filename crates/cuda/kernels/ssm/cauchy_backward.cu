// The transpose of cauchy.cu's sums and of Woodbury's identity: from the spectrum of a kernel's gradient to the gradients
// of the pairs' records, added up over the nodes in an order that depends on sizes and the chip's multiprocessors alone. The gradient of a complex z is
// ∂/∂Re z + i ∂/∂Im z, so z = ab gives g_a = g_z conj(b).
#include "ssm/cauchy_backward.cuh"

// What a node hands to every pair: c², s², sc, the nearest pair; 2c g and 2s g of every sum; the nearest pair's own.
template <int R>
struct NodeGradients {
  static constexpr int S = sums(R), OWN = 4 + 4 * S, SIZE = OWN + (R > 0 ? Fields<R>::OWN : 0);
};

// Nodes that a block takes at a time: as many as shared memory holds.
template <int R>
struct Tile {
  static constexpr int THREADS = 128, NODES = R < 2 ? 128 : R == 2 ? 96 : 16;
};

// The gradient of K̂_j: (w_j/L′)·FFT(dK̄)_j, w_j = 2 but for the nodes that are their own conjugates. z: FFT of the
// samples in pairs, in [k₁][k₂] order; `at`: where Z_j stands, or M for node M.
DEV c64 gradient_of_response(const double2* z, int M, int lg, int n1, int n2, int at, int& j) {
  j = at == M ? M : at / n2 + n1 * (at % n2);
  const int back = j == 0 || j == M ? 0 : M - j;
  const double2 a = z[at == M ? 0 : at], b = z[(i64)(back % n1) * n2 + back / n1];
  double s, c;
  sincospi(ldexp((double)j, 1 - lg), &s, &c);
  // X = E + e^{−iθ} O, E = (Z_j + conj Z_{M−j})/2, O = (Z_j − conj Z_{M−j})/2i
  const c64 e = {a.x + b.x, a.y - b.y}, o = {a.y + b.y, b.x - a.x};
  const double weight = ldexp(j == 0 || j == M ? 0.5 : 1.0, -lg);
  return weight * (e + c64{c, -s} * o);
}

// From the gradient g of K̂ at one node, whose sums are given, to what `out` tells the pairs.
template <int R>
DEV void node_gradients(double* out, const double* nearest, const SumsOfNode<R>& sums, c64 g, Node at) {
  typedef NodeGradients<R> To;
  auto sum = [&](int k, c64 g) {
    double* o = out + 4 + 4 * k;
    o[0] = 2 * at.c * g.re, o[1] = 2 * at.c * g.im, o[2] = 2 * at.s * g.re, o[3] = 2 * at.s * g.im;
  };
  g = g * c64{at.c, -at.s};
  sum(0, g);
  if constexpr (R > 0) {
    const Unknowns<R> u(nearest, sums, at);
    const c64* q = u.q;
    c64 dq[R + 2];
    dq[0] = g * conj(u.c_tilde), dq[1] = g * u.c_tilde;
#pragma unroll(Record<R>::UNROLL_ROWS)
    for (int r = 0; r < R; ++r) {
      sum(1 + r, (-at.c) * (g * conj(q[2 + r])));
      dq[2 + r] = (-at.c) * (g * conj(sums.rho(1 + r, at)));
    }
    u.adjoint(dq, sums, at);
    // M q = h: g_M = −g_h q^H.
    auto dm = [&](int row, int column) { return -1.0 * (dq[row] * conj(q[column])); };
    double* own = out + To::OWN;
    auto put = [&](int k, c64 z) { own[k] = z.re, own[k + 1] = z.im; };
    put(0, (-at.c) * (dm(0, 0) + conj(dm(1, 1))));
    put(2, dq[0] + conj(dq[1]));
    put(4, g * conj(q[0]) + conj(g) * q[1]);
#pragma unroll(Record<R>::UNROLL_ROWS)
    for (int r = 0; r < R; ++r) {
      put(6 + 4 * r, at.c * (dm(0, 2 + r) + conj(dm(1, 2 + r))));
      put(8 + 4 * r, -1.0 * conj(dm(2 + r, 0)) - dm(2 + r, 1));
      sum(1 + R + r, dq[2 + r]);
#pragma unroll(Record<R>::UNROLL_ROWS)
      for (int s = 0; s < R; ++s) sum(1 + 2 * R + r * R + s, at.c * dm(2 + r, 2 + s));
    }
  }
}

// partial (group, kc, parts, Fields<R>::SIZE, P), parts = gridDim.x · `shares`: the gradients of each part's nodes. z
// (group, kc, M). A block takes tiles of nodes in turn; for each, threads first have one node each, then one pair each
// and every `shares`-th node of the tile. Block: 128 threads; grid (blocks, group·kc); shared memory: the records where
// they fit, a tile's NodeGradients, then P float2.
template <int R>
DEV void sums_backward(double* partial, const double2* z, const double* records, int pairs, int lg, int n1, int n2) {
  typedef Record<R> Of;
  typedef NodeGradients<R> To;
  typedef Fields<R> F;
  constexpr int S = To::S, NODES = Tile<R>::NODES;
  extern __shared__ double memory[];
  const int P = pairs, M = 1 << (lg - 1);
  const double* global = records + (i64)blockIdx.y * P * Of::SIZE;
  double* nodes = memory + (Of::SHARED ? P * Of::SIZE : 0);
  float2* pole = (float2*)(nodes + NODES * To::SIZE);
  if constexpr (Of::SHARED)
    for (int i = threadIdx.x; i < P * Of::SIZE; i += blockDim.x) memory[i] = global[i];
  const double* record = Of::SHARED ? memory : global;
  for (int n = threadIdx.x; n < P; n += blockDim.x) pole[n] = rough(complex_at(global + n * Of::SIZE + Of::X));
  __syncthreads();
  z += (i64)blockIdx.y * M;

  const int groups = (P + 31) / 32, shares = Tile<R>::THREADS / 32 / groups, warp = threadIdx.x / 32;
  const int n = (threadIdx.x & 31) + 32 * (warp % groups), share = warp / groups;
  const bool has_pair = n < P && share < shares;
  double own[2 + 2 * S], gradient[F::SIZE];
#pragma unroll(Of::UNROLL_SUMS * 2 + 2)
  for (int k = 0; k < 2 + 2 * S; ++k) own[k] = has_pair ? record[n * Of::SIZE + k] : 0.0;
#pragma unroll(Of::SHARED ? F::SIZE : 1)
  for (int k = 0; k < F::SIZE; ++k) gradient[k] = 0;

  for (int first = blockIdx.x * NODES; first <= M; first += gridDim.x * NODES) {
    const int there = min(NODES, M + 1 - first);
    if ((int)threadIdx.x < there) {
      int j;
      const c64 g = gradient_of_response(z, M, lg, n1, n2, first + threadIdx.x, j);
      const Node at = node(j, lg);
      const double cc = at.c * at.c, ss = at.s * at.s, sc = at.s * at.c;
      int nearest = -1;
      if constexpr (R > 0) {
        const float s = (float)at.s, c = (float)at.c;
        float least = 3e38f;
        nearest = 0;
        for (int i = 0; i < P; ++i) {
          const float a = distance(pole[i], s, c);
          if (a < least) least = a, nearest = i;
        }
      }
      SumsOfNode<R> sums;
      if constexpr (R > 0)
        for (int i = 0; i < P; ++i) {
          const double* r = record + i * Of::SIZE;
          sums.add(r, inverse_of_pair(r[0], r[1], cc, ss, sc, i == nearest));
        }
      double* out = nodes + threadIdx.x * To::SIZE;
      out[0] = cc, out[1] = ss, out[2] = sc, out[3] = nearest;
      node_gradients<R>(out, record + max(nearest, 0) * Of::SIZE, sums, g, at);
    }
    __syncthreads();
    if (has_pair)
      for (int i = share; i < there; i += shares) {
        const double* node = nodes + i * To::SIZE;
        const double cc = node[0], ss = node[1], sc = node[2];
        const bool nearest = R > 0 && (int)node[3] == n;
        const c64 w = inverse_of_pair(own[0], own[1], cc, ss, sc, nearest);
        c64 dw = {0, 0};
#pragma unroll(Of::UNROLL_SUMS)
        for (int k = 0; k < S; ++k) {
          const double *g = node + 4 + 4 * k, t = own[2 + 2 * k], v = own[3 + 2 * k];
          double &dt = gradient[2 + 2 * k], &dv = gradient[3 + 2 * k];
          dt = fma(g[0], w.re, fma(g[1], w.im, dt)), dv = fma(g[3], w.re, fma(-g[2], w.im, dv));
          dw.re = fma(t, g[0], fma(v, g[3], dw.re)), dw.im = fma(t, g[1], fma(-v, g[2], dw.im));
        }
        // w = 1/(c²|x|² − s² + i sc (−2 Re x))
        const double re = w.re * w.re - w.im * w.im, im = 2 * w.re * w.im;
        gradient[0] = fma(-cc, re * dw.re + im * dw.im, gradient[0]);
        gradient[1] = fma(-sc, re * dw.im - im * dw.re, gradient[1]);
        if constexpr (R > 0)
          if (nearest)
#pragma unroll(Of::SHARED ? F::OWN : 1)
            for (int k = 0; k < F::OWN; ++k) gradient[2 + 2 * S + k] += node[To::OWN + k];
      }
    __syncthreads();
  }
  if (!has_pair) return;
  const i64 part = ((i64)blockIdx.y * gridDim.x + blockIdx.x) * shares + share;
#pragma unroll(Of::SHARED ? F::SIZE : 1)
  for (int k = 0; k < F::SIZE; ++k) partial[(part * F::SIZE + k) * P + n] = gradient[k];
}
#define SUMS_BACKWARD(R)                                                                                         \
  extern "C" __global__ void __launch_bounds__(128) cauchy_sums_backward_##R(                                    \
      double* partial, const double2* z, const double* records, int pairs, int lg, int n1, int n2) {             \
    sums_backward<R>(partial, z, records, pairs, lg, n1, n2);                                                    \
  }
EACH_RANK(SUMS_BACKWARD)
