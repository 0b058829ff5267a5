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

// Coefficients of `increment_of_turns`, highest first, in memory that an instruction reads as it computes: of (2^r − 1)/r for |r| ≤ ½, to 4.5e-12,
// and of √2·sin(πq)/q and √2·cos(πq) in q² for |q| ≤ ½, to 6e-14 and 7.5e-13 (minimax).
__constant__ double POWERS[8] = {1.32154774387518749e-6, 1.53036107438010844e-5, 1.54036295932601995e-4, 1.33334788107337114e-3,
                                 9.61812894251165843e-3, 5.55041090601026231e-2, 2.40226506964893426e-1, 6.93147180556876388e-1};
__constant__ double SINES[7] = {6.32436720532629483e-4,  -1.04139646555099715e-2, 1.1617019423484593e-1, -8.47487878323259279e-1,
                                3.60647656516612738,     -7.30824949989268553,    4.44288293815808885};
__constant__ double COSINES[7] = {2.60218386360278673e-3, -3.64532506704237903e-2, 3.32800433668143483e-1, -1.88834607682302786,
                                  5.73988570832085741,    -6.97886419922350349,    1.41421356237203698};

// e^{ln 2·Re z + 2πi·Im z} − 1 to some 1e-12, without branches.
DEV c64 increment_of_turns(c64 z) {
  const double magic = 6755399441055744.0;  // 1.5·2⁵²: what is added to it is rounded to a whole number, in its last bits
  const double a = z.re > 1000.0 ? 1000.0 : z.re < -1000.0 ? -1000.0 : z.re;
  const double whole = a + magic, r = a - (whole - magic);
  double p = POWERS[0];
#pragma unroll
  for (int k = 1; k < 8; ++k) p = fma(p, r, POWERS[k]);
  const double power = __hiloint2double((__double2loint(whole) << 20) + 0x3ff00000, 0);
  const double real = fma(p * r, power, power - 1.0);
  // Beyond 2⁵¹ turns no digits of the angle are left, but what is given stays bounded.
  const double turns = z.im + magic, q = z.im - (turns - magic), s = q * q;
  double sine = SINES[0], cosine = COSINES[0];
#pragma unroll
  for (int k = 1; k < 7; ++k) sine = fma(sine, s, SINES[k]), cosine = fma(cosine, s, COSINES[k]);
  sine *= q;
  // 1 − cos of the angle is 2sin² of its half.
  const double scaled = (real + 1.0) * sine;
  return {fma(-scaled, sine, real), scaled * cosine};
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

// What the intervals of STEPS time steps are together: their sum, and the longest.
struct alignas(16) Chunk {
  double time;
  float longest;
  float nothing;  // copies are of 16 bytes: none of them is left unwritten
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

// Sums over the warp at all STEPS steps, of which a lane puts N at a time: then it takes the sum at the step `summed_step`. N steps
// are `stride` numbers behind those before, N more than a multiple of 32, so that eight lanes of a read are in different banks.
DEV int summed_step(int lane) { return 4 * (lane % 8) + lane / 16 * 2 + lane / 8 % 2; }
template <int N>
DEV void put_steps(const float (&s)[N], float* to, int lane) {
#pragma unroll
  for (int j = 0; j < N; j += 4) *(float4*)(to + N * lane + j) = make_float4(s[j], s[j + 1], s[j + 2], s[j + 3]);
}
template <int N>
DEV float take_step(const float* sums, int stride, int lane) {
  // Four steps of eight of the lanes that have put them, then halves of them go to the other lanes with these steps.
  const int step = lane % 8 * 4;
  const float* from = sums + step / N * stride + step % N + lane / 8 * 8 * N;
  float4 a = *(const float4*)from;
#pragma unroll
  for (int i = 1; i < 8; ++i) {
    const float4 b = *(const float4*)(from + i * N);
    a = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
  }
  bool high = lane & 16;
  const float x = (high ? a.z : a.x) + __shfl_xor_sync(~0u, high ? a.x : a.z, 16);
  const float y = (high ? a.w : a.y) + __shfl_xor_sync(~0u, high ? a.y : a.w, 16);
  high = lane & 8;
  return (high ? y : x) + __shfl_xor_sync(~0u, high ? x : y, 8);
}

// Input and interval of step j; both are 0 beyond the last, which changes nothing then.
DEV float2 load_step(const float* u, const float* intervals, const Way& way, int j) {
  if (j >= way.steps()) return {0, 0};
  return {u[way.input(j)], intervals[way.input(j)]};
}

// What shared memory has of N steps.
template <int N>
DEV void load_steps(float (&now)[N], const float* steps) {
#pragma unroll
  for (int j = 0; j < N; j += 4) {
    const float4 four = *(const float4*)(steps + j);
    now[j] = four.x, now[j + 1] = four.y, now[j + 2] = four.z, now[j + 3] = four.w;
  }
}

// State n of a row (H, 2, P) of states, 0 where there is none.
DEV c64 load_state(const float* states, i64 row, int P, int n) {
  if (!states || n >= P) return {0, 0};
  return {(double)states[row * 2 * P + n], (double)states[row * 2 * P + P + n]};
}
template <class T>
DEV void store_state(float* states, i64 row, int P, int n, T x) {
  if (!states || n >= P) return;
  states[row * 2 * P + n] = (float)x.re, states[row * 2 * P + P + n] = (float)x.im;
}

// What a channel has of y at N steps, by the states after them; lane l gets that of step l % N.
template <int PAIRS, int N>
DEV float output(const c32 (&states)[PAIRS][N], const c32 (&c)[PAIRS], int lane) {
  float s[N];
#pragma unroll
  for (int j = 0; j < N; ++j) s[j] = 0;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m)
#pragma unroll
    for (int j = 0; j < N; ++j) s[j] = fmaf(c[m].re, states[m][j].re, fmaf(-c[m].im, states[m][j].im, s[j]));
  return 2.f * transposed_sum(s, lane);
}
