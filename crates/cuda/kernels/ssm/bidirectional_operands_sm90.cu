// The operands of bidirectional_pass_sm90.cu: each matrix of a chunk (Toep, V, W, Q of crates/ssm/src/lib.rs), as the
// pass or its adjoint multiplies by it, in split f16 (split16.cuh), laid out as wgmma reads it from shared memory. A
// plane is the high or the low parts of one 64 × 64 matrix.
#include "ssm/chunk_matrices.cuh"
#include "common/wgmma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Kinds of matrices: V of the direction with time and of the one against it, Q, W of both directions, and Toep, which
// holds both.
constexpr int V0 = 0, V1 = 1, Q = 2, W0 = 3, W1 = 4, TOEP = 5;
constexpr int PLANE = 64 * 64 * 2, NP = 64;

// Index of a kind's high plane among a head's planes; low_behind: how many planes further its low one is.
DEV int plane_of(int kind, int bidirectional) {
  if (bidirectional) return kind <= V1 ? 2 * kind : kind == Q ? 4 : 3 + kind;
  return kind == V0 ? 0 : kind == Q ? 2 : kind == W0 ? 4 : 5;
}
DEV int low_behind(int kind, int bidirectional) { return kind <= Q ? 1 : bidirectional ? 3 : 2; }

// The numbers of a matrix that this thread prepares; `element` gives each by its place, inner and outer. Gives the largest magnitude. The
// kind of the matrix is decided around this loop, not in it, so that all reads are on their way before the first is used.
template <bool STATE_IN, bool STATE_OUT, class E>
DEV float elements(float (&f)[4][4], E element) {
  double x[4][4];
#pragma unroll
  for (int l = 0; l < 4; ++l) {
    const int e = l * 256 + threadIdx.x, lane = e & 31, g = lane >> 2, t = lane & 3, nt = (e >> 5) & 7, k = e >> 8;
    const int to = STATE_OUT ? state_outer(nt, g) : time_outer(nt, g);
#pragma unroll
    for (int i = 0; i < 4; ++i) x[l][i] = element(STATE_IN ? state_inner(k, t, i) : time_inner(k, t, i), to);
  }
  float m = 0.f;
#pragma unroll
  for (int l = 0; l < 4; ++l)
#pragma unroll
    for (int i = 0; i < 4; ++i) f[l][i] = (float)x[l][i], m = fmaxf(m, fabsf(f[l][i]));
  return m;
}

// planes (H, count, 64 × 64) and exps (H, 8), the power of two of each kind. Block: 256 threads; grid (H, kinds): 6
// kinds, or 4 for a layer of one direction.
KERNEL operand_planes(char* planes, int* exps, const double* kern, const double* q, const c64* cols, const c64* rows,
                   const float* d, int heads, int pairs, int rank, int kc, int bidirectional, int adjoint, int count) {
  __shared__ float part[8];
  const int h = blockIdx.x, y = blockIdx.y, kind = bidirectional || y == 0 ? y : y + 1 + (y == 3);
  // The adjoint of the causal direction runs against time, that of the anticausal one with it.
  const bool second = kind == V1 || kind == W1, anticausal = bidirectional && second != (adjoint != 0);
  const Chunk c = {kern, q, cols, rows, nullptr, h, heads, pairs, rank, kc, anticausal, NP, anticausal};
  const double* Qh = q + (i64)h * NP * NP;
  const double* k0 = kern + (i64)h * kc * T;
  const double skip = kind == TOEP ? (double)d[h] : 0.0;
  float f[4][4], m;
  if (kind <= V1) {
    if (adjoint) m = elements<false, true>(f, [&](int in, int to) { return c.w(0, in, to); });
    else m = elements<false, true>(f, [&](int in, int to) { return c.v(to, in); });
  } else if (kind == W0 || kind == W1) {
    if (adjoint) m = elements<true, false>(f, [&](int in, int to) { return c.v(in, to); });
    else m = elements<true, false>(f, [&](int in, int to) { return c.w(0, to, in); });
  } else if (kind == Q) {
    if (adjoint) m = elements<true, true>(f, [&](int in, int to) { return Qh[in * NP + to]; });
    else m = elements<true, true>(f, [&](int in, int to) { return Qh[to * NP + in]; });
  } else {
    m = elements<false, false>(f, [&](int in, int to) {
      const int lag = adjoint ? in - to : to - in, other = T - 1 - lag;
      double x = 0.0;
      if (lag >= 0 || bidirectional) x = k0[lag >= 0 ? lag : other];
      return lag == 0 ? x + skip : x;
    });
  }
  for (int k = 16; k; k >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, k));
  if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = m;
  __syncthreads();
  for (int k = 0; k < 8; ++k) m = fmaxf(m, part[k]);
  const int exponent = f16_exponent(m, 24), at = plane_of(kind, bidirectional), low_at = at + low_behind(kind, bidirectional);
  if (threadIdx.x == 0) exps[8 * h + kind] = exponent;
  const float scale = power_of_two(exponent);
  // Core matrix (k/8, n/8) of 8 × 8 numbers is at k/8·8 + n/8, a row of it is one n.
#pragma unroll
  for (int l = 0; l < 4; ++l) {
    const int e = l * 256 + threadIdx.x, lane = e & 31, nt = (e >> 5) & 7, k = e >> 8;
    char* p = planes + ((i64)h * count + at) * PLANE + (2 * k * 8 + nt) * 128 + (lane >> 2) * 16 + (lane & 3) * 4;
    const i64 low = (i64)(low_at - at) * PLANE;
#pragma unroll
    for (int group = 0; group < 2; ++group, p += 8 * 128) {
      u32 a, b;
      split_f16(a, b, f[l][2 * group], f[l][2 * group + 1], scale);
      *(u32*)p = a;
      if (low_at < count) *(u32*)(p + low) = b;
    }
  }
}

#endif
