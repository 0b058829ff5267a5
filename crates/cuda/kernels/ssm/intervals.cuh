// What the kernels of sequences with intervals share: the two directions of a sequence, the steps that a warp takes together,
// and e^z − 1 in f64.
//
// One warp computes one head of one segment of one sequence; lane l has the pairs l, l + 32, …, PAIRS of them, of which one
// that does not exist has Δ = 0 and stays 0. Forward saves the state before every STEPS time steps; backward computes those
// between once more. The anticausal direction of a bidirectional layer goes from the last step to the first over the same
// held input: step j takes input and interval of time len − 1 − j, and the output of the time before that follows it.
#pragma once
#include "ssm/params.cuh"

// Time steps between saved states.
constexpr int STEPS = 32;
// Steps that are computed side by side where they do not wait for one another.
constexpr int GROUP = 8;

// One direction of a sequence.
struct Way {
  int length, anticausal;
  __device__ int steps() const { return length - anticausal; }
  __device__ int input(int j) const { return anticausal ? length - 1 - j : j; }
  __device__ int output(int j) const { return anticausal ? length - 2 - j : j; }
};

struct c32 {
  float re, im;
};
DEV c32 narrow(c64 z) { return {(float)z.re, (float)z.im}; }
DEV c64 widen(c32 z) { return {(double)z.re, (double)z.im}; }
// z + ab, z + ab̄, z + sa
DEV c32 plus_product(c32 z, c32 a, c32 b) {
  return {fmaf(-a.im, b.im, fmaf(a.re, b.re, z.re)), fmaf(a.im, b.re, fmaf(a.re, b.im, z.im))};
}
DEV c32 plus_conj_product(c32 z, c32 a, c32 b) {
  return {fmaf(a.im, b.im, fmaf(a.re, b.re, z.re)), fmaf(a.im, b.re, fmaf(-a.re, b.im, z.im))};
}
DEV c32 plus_scaled(c32 z, float s, c32 a) { return {fmaf(s, a.re, z.re), fmaf(s, a.im, z.im)}; }
DEV c32 load32(const float* p, i64 i) { return {p[2 * i], p[2 * i + 1]}; }

// How the sequences of a call are cut: into segments of `chunks` times STEPS steps.
struct Segments {
  int count, chunks;
};

// What one warp computes: head h of a segment of sequence b, or of the first sequence of a group.
struct Item {
  i64 b;
  int h, segment;
};

// Item i of heads × segments × sequences, heads first: warps that run together read the same intervals.
DEV Item item_at(i64 i, int heads, const Segments& s) {
  const i64 rest = i / heads;
  return {rest / s.count, (int)(i % heads), (int)(rest % s.count)};
}

// Coefficients of `cexpm1_by_polynomials`, highest first, in memory that an instruction reads as it computes: 1/k! and those of
// FreeBSD's k_sin.c and k_cos.c.
__constant__ double EXPONENTIAL[12] = {1.0 / 6227020800.0, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
                                       1.0 / 362880,       1.0 / 40320,     1.0 / 5040,     1.0 / 720,
                                       1.0 / 120,          1.0 / 24,        1.0 / 6,        0.5};
__constant__ double SINES[6] = {1.5896909952115500e-10, -2.5050760253406863e-8, 2.7557313707070068e-6,
                                -1.9841269829857950e-4, 8.3333333333224900e-3,  -1.6666666666666632e-1};
__constant__ double COSINES[6] = {-1.1359647557788195e-11, 2.0875723212981750e-9,  -2.7557314351390663e-7,
                                  2.4801587289476730e-5,   -1.3888888888874110e-3, 4.1666666666666600e-2};
// 1/ln 2, −ln 2 and −π/2 in two and three parts, 2/π
__constant__ double REDUCTION[7] = {1.4426950408889634,  -6.9314718036912382e-1,  -1.9082149292705877e-10, 0.63661977236758134,
                                    -1.5707963267341256, -6.0771005063039660e-11, -2.0222662487111665e-21};

// e^z − 1 as `cexpm1`, without branches: polynomials on |Re| ≤ ln 2/2 and |Im| ≤ π/4.
DEV c64 cexpm1_by_polynomials(c64 z) {
  const double a = fmin(fmax(z.re, -709.0), 709.0), n = rint(a * REDUCTION[0]);
  double r = fma(n, REDUCTION[2], fma(n, REDUCTION[1], a)), p = EXPONENTIAL[0];
#pragma unroll
  for (int k = 1; k < 12; ++k) p = fma(p, r, EXPONENTIAL[k]);
  // 2ⁿ; 0 for n = −1023.
  const double power = __longlong_as_double((i64)((int)n + 1023) << 52);
  const double em1 = fma(fma(p * r, r, r), power, power - 1.0);
  const double m = rint(z.im * REDUCTION[3]);
  r = fma(m, REDUCTION[6], fma(m, REDUCTION[5], fma(m, REDUCTION[4], z.im)));
  // Beyond 2⁵¹ no digits of the angle are left, but what is given stays bounded.
  r = fmin(fmax(r, -1.0), 1.0);
  const double s = r * r;
  double ps = SINES[0], pc = COSINES[0];
#pragma unroll
  for (int k = 1; k < 6; ++k) ps = fma(ps, s, SINES[k]), pc = fma(pc, s, COSINES[k]);
  const double sine = fma(ps * s, r, r), versine = fma(-pc * s, s, 0.5 * s);
  const i64 quadrant = (i64)m;
  const bool odd = quadrant & 1, back = quadrant & 2;
  const double magnitude = odd ? 1.0 - versine : sine, signed_sine = back ? -sine : sine;
  const double v = odd ? 1.0 + signed_sine : back ? 2.0 - versine : versine;  // 1 − cos
  return {fma(-(em1 + 1.0), v, em1), (em1 + 1.0) * (back ? -magnitude : magnitude)};
}

// The largest (or smallest) of the warp's numbers, none of which is negative: their bits are in their order.
template <bool LARGEST>
DEV float warp_extreme(float x) {
  unsigned bits = __float_as_uint(x) & 0x7fffffffu;
#if __CUDA_ARCH__ >= 800
  bits = LARGEST ? __reduce_max_sync(~0u, bits) : __reduce_min_sync(~0u, bits);
#else
  for (int k = 16; k; k >>= 1) {
    const unsigned other = __shfl_xor_sync(~0u, bits, k);
    bits = LARGEST ? max(bits, other) : min(bits, other);
  }
#endif
  return __uint_as_float(bits);
}

// What the intervals of STEPS time steps are together: their sum, the longest, and the shortest of those that exist.
struct alignas(16) Chunk {
  double time;
  float longest, shortest;
};

// Lane l gets the sum over the warp of s[l % 8].
template <class T>
DEV T transposed_sum(const T (&s)[8], int lane) {
  T a[4], b[2];
  bool high = lane & 4;
#pragma unroll
  for (int j = 0; j < 4; ++j)
    a[j] = (high ? s[j + 4] : s[j]) + __shfl_xor_sync(~0u, high ? s[j] : s[j + 4], 4);
  high = lane & 2;
#pragma unroll
  for (int j = 0; j < 2; ++j)
    b[j] = (high ? a[j + 2] : a[j]) + __shfl_xor_sync(~0u, high ? a[j] : a[j + 2], 2);
  high = lane & 1;
  T sum = (high ? b[1] : b[0]) + __shfl_xor_sync(~0u, high ? b[0] : b[1], 1);
  sum += __shfl_xor_sync(~0u, sum, 8);
  return sum + __shfl_xor_sync(~0u, sum, 16);
}

// The same through shared memory, in fewer instructions and in two parts, so that a warp can go on before it takes the sum: between
// them, and before the next numbers come to the same place, is a barrier of the warp. Eight rows of eight numbers lie together, and 32
// bytes apart from the next eight, so that the lanes of a read are in different banks.
constexpr int SUM_FLOATS = 4 * 72;
DEV void put_for_sum(const float (&s)[8], float* scratch, int lane) {
  float4* to = (float4*)(scratch + 8 * lane + 8 * (lane / 8));
  to[0] = make_float4(s[0], s[1], s[2], s[3]), to[1] = make_float4(s[4], s[5], s[6], s[7]);
}
DEV float take_sum(const float* scratch, int lane) {
  const float* from = scratch + 72 * (lane / 8) + lane % 8;
  float sum = ((from[0] + from[8]) + (from[16] + from[24])) + ((from[32] + from[40]) + (from[48] + from[56]));
  sum += __shfl_xor_sync(~0u, sum, 8);
  return sum + __shfl_xor_sync(~0u, sum, 16);
}
DEV float transposed_sum(const float (&s)[8], float* scratch, int lane) {
  __syncwarp();
  put_for_sum(s, scratch, lane);
  __syncwarp();
  return take_sum(scratch, lane);
}

// Input and interval of step j; both are 0 beyond the last, which changes nothing then.
DEV float2 load_step(const float* u, const float* intervals, const Way& way, int j) {
  if (j >= way.steps()) return {0, 0};
  return {u[way.input(j)], intervals[way.input(j)]};
}

// Inputs and intervals of GROUP steps, from shared memory.
DEV void load_group(float2 (&now)[GROUP], const float2* steps) {
#pragma unroll
  for (int j = 0; j < GROUP; j += 2) {
    const float4 two = *(const float4*)(steps + j);
    now[j] = {two.x, two.y}, now[j + 1] = {two.z, two.w};
  }
}

// State n of a row (H, 2, P) of states, 0 where there is none.
DEV c64 load_state(const float* states, i64 row, int P, int n) {
  if (!states || n >= P) return {0, 0};
  return {(double)states[row * 2 * P + n], (double)states[row * 2 * P + P + n]};
}
DEV void store_state(float* states, i64 row, int P, int n, c64 x) {
  if (!states || n >= P) return;
  states[row * 2 * P + n] = (float)x.re, states[row * 2 * P + P + n] = (float)x.im;
}

// What a lane adds to the output of a channel at GROUP steps, by the states after them.
template <int PAIRS>
DEV void lane_output(float (&s)[GROUP], const c32 (&states)[PAIRS][GROUP], const c32 (&c)[PAIRS]) {
#pragma unroll
  for (int j = 0; j < GROUP; ++j) s[j] = 0;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m)
#pragma unroll
    for (int j = 0; j < GROUP; ++j) s[j] = fmaf(c[m].re, states[m][j].re, fmaf(-c[m].im, states[m][j].im, s[j]));
}

// What a channel has of y at GROUP steps, by the states after them; lane l gets that of step l % GROUP.
template <int PAIRS>
DEV float output(const c32 (&states)[PAIRS][GROUP], const c32 (&c)[PAIRS], int lane) {
  float s[GROUP];
  lane_output<PAIRS>(s, states, c);
  return 2.f * transposed_sum(s, lane);
}
template <int PAIRS>
DEV float output(const c32 (&states)[PAIRS][GROUP], const c32 (&c)[PAIRS], float* scratch, int lane) {
  float s[GROUP];
  lane_output<PAIRS>(s, states, c);
  return 2.f * transposed_sum(s, scratch, lane);
}
