// The operands of bidirectional_pass_sm90.cu: each matrix of a chunk (Toep, V, W, Q of crates/ssm/src/lib.rs), as the
// pass or its adjoint multiplies by it, in split f16 (split16.cuh), laid out as wgmma reads it from shared memory. A
// plane is the high or the low parts of one 64 × 64 matrix. They come from sequences and matrices of chunk_matrices.cu, or, with no
// memory between, from the discrete recurrence.
#include "ssm/chunk_matrices.cuh"
#include "common/tile_product_f64.cuh"
#include "common/wgmma.cuh"
#include "ssm/four_steps.cuh"

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

// The largest x of a warp; every lane gets it.
DEV float warp_largest(float x) {
  for (int k = 16; k; k >>= 1) x = fmaxf(x, __shfl_xor_sync(~0u, x, k));
  return x;
}

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
  m = warp_largest(m);
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

// ---- from the discrete recurrence -------------------------------------------------------------------------------
// What the kernels `sequences`, `short_kernel` and `transition` of chunk_matrices.cu and `operand_planes` compute, of a layer of up to 32
// pairs and rank 0 or 1 with one channel, in one: what is between stays in shared memory.

constexpr int LINE = 68;  // numbers of a line of 64 in shared memory

struct PassConstants {
  double u[64][LINE];        // Ā^j u, coordinates [Re; Im]
  float col[64][LINE];       // Ā^j B̄
  float row[2][64][LINE];    // [2Re, −2Im] of the rows of W of both directions, by time step
  float q[64][LINE];         // Ā^T
  double kern[2][64];        // K̄_j
  float toep[128];           // by lag, from 64 on those of later inputs
  c64 d64[32];               // D₀^T
  // Largest magnitudes: 0 of col, 1 and 2 of row; of q by warps from 4 on, and of toep from 12 on.
  float most[16];
};

// The coordinates of pair n of x as lane n of a warp writes them, zeros beyond the state: all 64 of a line.
template <class F>
DEV void put_line(F* line, int n, int P, F re, F im) {
  if (n < P) line[n] = re, line[P + n] = im;
  else line[2 * n] = line[2 * n + 1] = F(0);
}

// The sequences of head h, one a warp; those of rank one into arrays as well where these are given.
DEV void constant_sequences(PassConstants& m, float2* u_powers, float2* v_powers, const c64* d0, const c64* u_r, const c64* v_r,
                            const c64* b_bar, const float* c, int heads, int P, int rank, int kc) {
  const int h = blockIdx.x, warp = threadIdx.x >> 5, n = threadIdx.x & 31;
  const bool there = n < P;
  const i64 at = (i64)h * P + (there ? n : 0);
  const c64 zero = {0, 0}, d = there ? d0[at] : zero, input = there ? b_bar[at] : zero;
  const c64 u = there && rank ? u_r[at] : zero, v = there && rank ? v_r[at] : zero;
  auto nothing = [](int, const c64(&)[AT_ONCE]) {};
  double sums[AT_ONCE] = {};
  if (warp <= 3) sums_ahead(sums, d, u, v, rank);
  if (warp == 0) {
    float most = 0.f;
    four_by_four(input, d, u, v, rank, sums, [&](int j, double, c64 x, c64) {
      const float re = (float)x.re, im = (float)x.im;
      most = fmaxf(most, fmaxf(fabsf(re), fabsf(im)));
      put_line(m.col[j], n, P, re, im);
    }, nothing);
    most = warp_largest(most);
    if (n == 0) m.most[0] = most;
  } else if (warp <= kc) {
    const int k = warp - 1;
    float most = 0.f;
    const c64 first = there ? load(c, ((i64)k * heads + h) * P + n) : zero;
    four_by_four(first, d, v, u, rank, sums, [&](int j, double, c64 x, c64 next) {
      // Row t of W is C Ā^{t+1} with time and C Ā^{T−1−t} against it.
      const c64 w = k ? x : next;
      const float re = (float)(2 * w.re), im = (float)(-2 * w.im);
      most = fmaxf(most, fmaxf(fabsf(re), fabsf(im)));
      put_line(m.row[k][k ? T - 1 - j : j], n, P, re, im);
    }, [&](int j, const c64 (&x)[AT_ONCE]) {
      double terms[AT_ONCE];
#pragma unroll
      for (int i = 0; i < AT_ONCE; ++i) terms[i] = dot(conj(input), x[i]);
      const double s = 2 * four_sums(terms);
      if ((n & 7) == 0) m.kern[k][j + n / 8] = s;
    });
    most = warp_largest(most);
    if (n == 0) m.most[1 + k] = most;
  } else if (warp == 3 && rank) {
    four_by_four(u, d, u, v, rank, sums, [&](int j, double, c64 x, c64) {
      put_line(m.u[j], n, P, x.re, x.im);
      if (u_powers && there) u_powers[((i64)h * T + j) * P + n] = make_float2((float)x.re, (float)x.im);
    }, nothing);
  } else if (warp == 4) {
    c64 y = d;
    for (int k = 0; k < 6; ++k) y = y * y;
    m.d64[n] = y;
    if (v_powers && rank && there) {
      float2* out = v_powers + (i64)h * T * P + n;
      y = v;
      for (int j = 0; j < T; ++j) out[j * P] = make_float2((float)y.re, (float)y.im), y = d * y;
    }
  }
}

// m.q and, where `out` is given, Ā^T in f64: D₀^T + Σ_k (Ā^k u)(v D₀^{T−1−k}).
DEV void constant_transition(PassConstants& m, double* out, const c64* d0, const c64* v_r, int P, int rank) {
  const int h = blockIdx.x, lane = threadIdx.x & 31, g = lane / 4, t = lane & 3, row = cell_row(0);
  double acc[4][4] = {};
  if (rank) {
    // Powers of D₀ as the product reads them, from the last term to the first: z is v D₀^{T−1−k}, four terms on d4 times as much.
    c64 z[4], d4[4];
    double factor[4];
    bool imaginary[4];
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const int column = 32 * (threadIdx.x / 32 & 1) + 8 * n + g, pair = column < P ? column : column - P;
      const bool there = column < 2 * P;
      const i64 at = (i64)h * P + (there ? pair : 0);
      const c64 d = d0[at], d2 = d * d;
      imaginary[n] = column >= P, factor[n] = !there ? 0.0 : imaginary[n] ? -2.0 : 2.0;
      z[n] = v_r[at], d4[n] = d2 * d2;
      if (t != 3) z[n] = z[n] * d;
      if (t < 2) z[n] = z[n] * d;
      if (t == 0) z[n] = z[n] * d;
    }
    for (int k0 = T - 16; k0 >= 0; k0 -= 16) {
      double x[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) x[i] = m.u[k0 + 4 * (i >> 1) + t][row + 8 * (i & 1)];
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        double y[4];
#pragma unroll
        for (int i = 3; i >= 0; --i) y[i] = factor[n] * (imaginary[n] ? z[n].im : z[n].re), z[n] = z[n] * d4[n];
        mma_f64(acc[n >> 1] + 2 * (n & 1), acc[2 + (n >> 1)] + 2 * (n & 1), x, y);
      }
    }
  }
  float most = 0.f;
  EACH_PRODUCT(i, j, r, c) {
    const int a = r < P ? r : r - P, b = c < P ? c : c - P;
    if (r < 2 * P && c < 2 * P && a == b) {
      const c64 d = m.d64[a];
      acc[i][j] += (r < P) == (c < P) ? d.re : r < P ? -d.im : d.im;
    }
    const float x = (float)acc[i][j];
    m.q[r][c] = x, most = fmaxf(most, fabsf(x));
    if (out) out[(i64)h * NP * NP + r * NP + c] = acc[i][j];
  }
  most = warp_largest(most);
  if (lane == 0) m.most[4 + threadIdx.x / 32] = most;
}

// Where operand_planes writes, and what of it this layer has.
struct Planes {
  char* of_head;
  int *exps, bidirectional, count;
};

// Writes the planes of a kind, if they are among those, whose largest magnitude is given; eight(f, k8, n): the numbers of row n of core matrices k8. A row is 16 bytes behind
// the one before: thread by thread, as they lie.
template <class Eight>
DEV void write_planes(const Planes& p, int kind, float most, Eight eight) {
  const int exponent = f16_exponent(most, 24), at = plane_of(kind, p.bidirectional), low_at = at + low_behind(kind, p.bidirectional);
  if (at >= p.count) return;
  if (threadIdx.x == 0) p.exps[kind] = exponent;
  const float scale = power_of_two(exponent);
  uint4 *high = (uint4*)(p.of_head + at * PLANE), *low = (uint4*)(p.of_head + low_at * PLANE);
#pragma unroll
  for (int l = 0; l < 2; ++l) {
    const int e = l * 256 + threadIdx.x;
    float f[8];
    eight(f, e / 64, e % 64);
    u32 a[4], b[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) split_f16(a[i], b[i], f[2 * i], f[2 * i + 1], scale);
    high[e] = make_uint4(a[0], a[1], a[2], a[3]);
    if (low_at < p.count) low[e] = make_uint4(b[0], b[1], b[2], b[3]);
  }
}
DEV void line_of_eight(float (&f)[8], const float* line) {
  const float4 a = *(const float4*)line, b = *(const float4*)(line + 4);
  f[0] = a.x, f[1] = a.y, f[2] = a.z, f[3] = a.w, f[4] = b.x, f[5] = b.y, f[6] = b.z, f[7] = b.w;
}
// Number i of eight on the inner index, and place n on the outer one, along time.
DEV int inner_time(int k8, int i) { return time_inner(k8 >> 1, i >> 1, 2 * (k8 & 1) + (i & 1)); }
DEV int outer_time(int n) { return time_outer(n >> 3, n & 7); }

// planes and exps as operand_planes writes them; Ā^T in f64 to q, or from it where it is filled. Where they are given, for
// transition_gradient: Ā^j u and v D₀^j in f32 (H, T, P). Block: 256 threads; grid H; shared memory: a PassConstants.
extern "C" __global__ void __launch_bounds__(256, 2)
    pass_constants(char* planes, int* exps, double* q, float2* u_powers, float2* v_powers, const c64* d0, const c64* u_r, const c64* v_r, const c64* b_bar, const float* c, const float* d, int heads, int pairs, int rank, int kc, int q_filled,
                   int adjoint, int count) {
  extern __shared__ __align__(16) char memory[];
  PassConstants& m = *(PassConstants*)memory;
  const int h = blockIdx.x, warp = threadIdx.x >> 5, bidirectional = kc == 2;
  if (q_filled && warp > 4) {
    // By the warps that have no sequence.
    const double* from = q + (i64)h * NP * NP;
    float most = 0.f;
#pragma unroll 8
    for (int e = threadIdx.x - 160; e < NP * NP; e += 96) {
      const float x = (float)from[e];
      m.q[e / NP][e % NP] = x, most = fmaxf(most, fabsf(x));
    }
    most = warp_largest(most);
    if ((threadIdx.x & 31) == 0) m.most[4 + warp] = most;
  } else if (q_filled && (threadIdx.x & 31) == 0) {
    m.most[4 + warp] = 0.f;
  }
  constant_sequences(m, u_powers, v_powers, d0, u_r, v_r, b_bar, c, heads, pairs, rank, kc);
  __syncthreads();
  if (!q_filled) constant_transition(m, q, d0, v_r, pairs, rank);
  if (threadIdx.x < 128) {
    const int k = threadIdx.x / T, j = threadIdx.x % T;
    const double skip = threadIdx.x == 0 ? (double)d[h] : 0.0;
    const float x = k < kc ? (float)(m.kern[k][j] + skip) : 0.f;
    m.toep[threadIdx.x] = x;
    // No lag is 64.
    const float most = warp_largest(threadIdx.x == 127 ? 0.f : fabsf(x));
    if ((threadIdx.x & 31) == 0) m.most[12 + warp] = most;
  }
  __syncthreads();
  const Planes p = {planes + (i64)h * count * PLANE, exps + 8 * h, bidirectional, count};
  for (int dir = 0; dir < kc; ++dir) {
    // The adjoint of the causal direction runs against time, that of the anticausal one with it.
    const int anticausal = bidirectional && dir != adjoint, flip = anticausal ? 0 : T - 1;
    // V is of columns and W of rows, the other way round in the adjoint; time step t is line t ^ back.
    const float(*of_v)[LINE] = adjoint ? m.row[anticausal] : m.col;
    const float(*of_w)[LINE] = adjoint ? m.col : m.row[anticausal];
    const int back_v = adjoint ? 0 : flip, back_w = adjoint ? flip : 0;
    const float most_v = m.most[adjoint ? 1 + anticausal : 0], most_w = m.most[adjoint ? 0 : 1 + anticausal];
    write_planes(p, V0 + dir, most_v, [&](float (&f)[8], int k8, int n) {
#pragma unroll
      for (int i = 0; i < 8; ++i) f[i] = of_v[inner_time(k8, i) ^ back_v][n];
    });
    write_planes(p, W0 + dir, most_w, [&](float (&f)[8], int k8, int n) { line_of_eight(f, &of_w[outer_time(n) ^ back_w][8 * k8]); });
  }
  float most = 0.f;
#pragma unroll
  for (int w = 0; w < 8; ++w) most = fmaxf(most, m.most[4 + w]);
  write_planes(p, Q, most, [&](float (&f)[8], int k8, int n) {
    if (!adjoint) return line_of_eight(f, &m.q[n][8 * k8]);
#pragma unroll
    for (int i = 0; i < 8; ++i) f[i] = m.q[8 * k8 + i][n];
  });
  most = fmaxf(fmaxf(m.most[12], m.most[13]), fmaxf(m.most[14], m.most[15]));
  write_planes(p, TOEP, most, [&](float (&f)[8], int k8, int n) {
    const int to = outer_time(n);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int in = inner_time(k8, i), lag = adjoint ? in - to : to - in;
      f[i] = m.toep[lag >= 0 ? lag : T - 1 - lag];
    }
  });
}

#endif
