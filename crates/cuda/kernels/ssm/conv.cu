// Linear convolution of each sequence with each kernel, by FFT: a real sequence in a complex transform of n ≥ len
// points without padding, n a power of two and at least 8. The "right angle" avoids the padding: with w = e^{2πi/4n},
// w^{−t}·IFFT(FFT(w^t x)·FFT(w^t k)) is the product of x and k modulo zⁿ = i. Samples of the linear convolution at n
// and beyond so wrap into the imaginary part; its first n samples are the real part. A lag of −1−j is z^{n−1−j}/i: the
// anticausal kernel of a bidirectional layer is put in the imaginary part, reversed and negated.
//
// A transform that one block holds (4096 points) is Stockham's in natural order: a thread holds eight points, passes of
// radix 8 (the first of radix 2 or 4 where n needs it) exchange them through shared memory. A larger one is cut as a
// matrix, j = j₁·n₂ + j₂ and k = k₁ + n₁·k₂: columns over j₁, twiddle ω^{j₂k₁}, rows over j₂; the spectrum stays in
// [k₁][k₂] order, and the inverse goes back the same way.
#include "common/base.cuh"

DEV float2 operator+(float2 a, float2 b) { return make_float2(a.x + b.x, a.y + b.y); }
DEV float2 operator-(float2 a, float2 b) { return make_float2(a.x - b.x, a.y - b.y); }
DEV float2 mul(float2 a, float2 b) { return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }
DEV float2 mul_conj(float2 a, float2 b) { return make_float2(a.x * b.x + a.y * b.y, a.y * b.x - a.x * b.y); }

// e^{sign·2πi·k/n}, k < n ≤ 2²⁴ and n a power of two: k/n is exact.
DEV float2 root(int k, int n, int sign) {
  float s, c;
  sincospif((float)(2 * k) * (1.f / (float)n), &s, &c);
  return make_float2(c, sign * s);
}

// sign·i·a.
DEV float2 times_i(float2 a, int sign) { return sign < 0 ? make_float2(a.y, -a.x) : make_float2(-a.y, a.x); }

// Four points in place, natural order on both sides.
DEV void fft4(float2& a, float2& b, float2& c, float2& d, int sign) {
  const float2 s = a + c, t = a - c, u = b + d, v = times_i(b - d, sign);
  a = s + u, b = t + v, c = s - u, d = t - v;
}

DEV void fft8(float2 (&v)[8], int sign) {
  const float q = 0.70710678118654752f;
  float2 e[4], o[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) e[k] = v[k] + v[k + 4], o[k] = v[k] - v[k + 4];
  o[1] = mul(o[1], make_float2(q, sign * q));
  o[2] = times_i(o[2], sign);
  o[3] = mul(o[3], make_float2(-q, sign * q));
  fft4(e[0], e[1], e[2], e[3], sign);
  fft4(o[0], o[1], o[2], o[3], sign);
#pragma unroll
  for (int k = 0; k < 4; ++k) v[2 * k] = e[k], v[2 * k + 1] = o[k];
}

// Exchanges points through shared memory: on entry v[m] is point to(m), on return it is point j + m·n/8.
template <class At, class To>
DEV void exchange(float2 (&v)[8], float2* memory, int j, int eighth, At at, To to) {
  __syncthreads();
#pragma unroll
  for (int m = 0; m < 8; ++m) memory[at(to(m))] = v[m];
  __syncthreads();
#pragma unroll
  for (int m = 0; m < 8; ++m) v[m] = memory[at(j + m * eighth)];
}

// A transform of n points by n/8 threads: thread j brings v[m] = x[j + m·n/8] and gets the same points of the result.
// `at`: where point p lies in shared memory. Every thread of the block takes part.
template <class At>
DEV void transform(float2 (&v)[8], float2* memory, int n, int j, int sign, At at) {
  const int lg = 31 - __clz(n), eighth = n / 8;
  int ns = 1;
  if (lg % 3 == 1) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const float2 a = v[k], b = v[k + 4];
      v[k] = a + b, v[k + 4] = a - b;
    }
    exchange(v, memory, j, eighth, at, [&](int m) { return 2 * (j + (m & 3) * eighth) + (m >> 2); });
    ns = 2;
  } else if (lg % 3 == 2) {
    fft4(v[0], v[2], v[4], v[6], sign);
    fft4(v[1], v[3], v[5], v[7], sign);
    exchange(v, memory, j, eighth, at, [&](int m) { return 4 * (j + (m & 1) * eighth) + (m >> 1); });
    ns = 4;
  }
  for (;; ns *= 8) {
    const int k = j & (ns - 1);
    if (ns > 1) {
      const float2 w = root(k, 8 * ns, sign), w2 = mul(w, w), w3 = mul(w2, w), w4 = mul(w2, w2);
      v[1] = mul(v[1], w), v[2] = mul(v[2], w2), v[3] = mul(v[3], w3), v[4] = mul(v[4], w4);
      v[5] = mul(v[5], mul(w4, w)), v[6] = mul(v[6], mul(w4, w2)), v[7] = mul(v[7], mul(w4, w3));
    }
    fft8(v, sign);
    if (8 * ns == n) return;
    exchange(v, memory, j, eighth, at, [&](int m) { return (j - k) * 8 + k + m * ns; });
  }
}

// v[m] ·= a·s^m.
DEV void twiddle(float2 (&v)[8], float2 a, float2 s) {
  const float2 s2 = mul(s, s), s3 = mul(s2, s), s4 = mul(s2, s2);
  v[0] = mul(v[0], a), v[1] = mul(v[1], mul(a, s)), v[2] = mul(v[2], mul(a, s2)), v[3] = mul(v[3], mul(a, s3));
  a = mul(a, s4);
  v[4] = mul(v[4], a), v[5] = mul(v[5], mul(a, s)), v[6] = mul(v[6], mul(a, s2)), v[7] = mul(v[7], mul(a, s3));
}

// The factors w^t of the right angle at t = first + m·n/8.
struct RightAngle {
  float2 w;

  __device__ RightAngle(int first, int n) : w(root(first, 4 * n, 1)) {}
  // w^{m·n/8} = e^{πi·m/16}.
  __device__ float2 operator[](int m) const {
    const float cosine[9] = {1.f,         0.98078528f, 0.92387953f, 0.83146961f, 0.70710678f,
                             0.55557023f, 0.38268343f, 0.19509032f, 0.f};
    return mul(w, make_float2(cosine[m], cosine[8 - m]));
  }
  __device__ float2 times(int m, float x) const {
    const float2 w = (*this)[m];
    return make_float2(x * w.x, x * w.y);
  }
  __device__ float2 times(int m, float2 x) const { return mul(x, (*this)[m]); }
  // Lets the compiler recompute the eight powers where they are used next: kept, they would not fit in the registers.
  __device__ void forget() { asm volatile("" : "+f"(w.x), "+f"(w.y)); }
  // The real part of w^{−t}·x.
  __device__ float real_of_inverse(int m, float2 x) const {
    const float2 w = (*this)[m];
    return x.x * w.x + x.y * w.y;
  }
};

// Arrays of a convolution: y (B, channels, H, L), u (B, H, L), kernel (channels, or 2·channels where bidirectional; H,
// M), d (channels, H) or null; for heads from h0 on.
struct Conv {
  float* y;
  const float *u, *kernel, *d;
  const int* lengths;
  int B, channels, H, h0;
  i64 L, M;
  int two_sided, n;

  // u of sequence b at time step t < n; 0 beyond the sequence's length.
  __device__ float input_at(int b, int h, i64 t) const {
    return t < sequence_len(lengths, b, (int)L) ? u[((i64)b * H + h0 + h) * L + t] : 0.f;
  }
  // Writes y of sequence b; 0 beyond the sequence's length.
  __device__ void write_output(int b, int c, int h, i64 t, float x) const {
    if (t < L) y[(((i64)b * channels + c) * H + h0 + h) * L + t] = t < sequence_len(lengths, b, (int)L) ? x : 0.f;
  }
  // Element t of channel c's kernel, with its anticausal part in the imaginary part, as a polynomial modulo zⁿ = i.
  __device__ float2 tap(int c, int h, i64 t) const {
    const i64 back = n - 1 - t;
    float2 x = make_float2(0.f, 0.f);
    if (t < M) x.x = kernel[((i64)c * H + h0 + h) * M + t];
    if (d && t == 0) x.x += d[(i64)c * H + h0 + h];
    if (two_sided && back < M) x.y = -kernel[((i64)(channels + c) * H + h0 + h) * M + back];
    return x;
  }
};
#define CONV                                                                                                        \
  float *y, const float *u, const float *kernel, const float *d, const int *lengths, int B, int channels, int H,    \
      int h0, i64 L, i64 M, int two_sided, int n
#define CONV_HERE                                                           \
  const Conv a = {y, u, kernel, d, lengths, B, channels, H, h0, L, M, two_sided, n}

// Index of point p of a transform in shared memory, chosen so that a stride of eight has no bank conflict.
DEV int swapped(int p) { return p ^ (p >> 3 & 15); }

// The whole convolution for channel c where one transform fits in a block: the kernel's spectrum stays in shared memory
// for `each` sequences of the batch. A block computes blockDim.x / (n/8) of the H·parts (head, part of the batch) at a
// time; shared memory: twice the block's points.
extern "C" __global__ void __launch_bounds__(512, 2) conv_rows(CONV, int c, int parts, int each) {
  extern __shared__ float2 memory[];
  CONV_HERE;
  const int eighth = n / 8, own = threadIdx.x / eighth, j = threadIdx.x % eighth;
  const int share = blockIdx.x * (blockDim.x / eighth) + own, h = share / parts;
  const int first = h < H ? share % parts * each : B;
  float2 *mine = memory + own * 2 * n, *k = mine + n + j;
  RightAngle angle(j, n);
  const float scale = 1.f / n;
  float2 v[8] = {};
  if (first < B)
#pragma unroll
    for (int m = 0; m < 8; ++m) v[m] = angle.times(m, a.tap(c, h, j + m * eighth));
  transform(v, mine, n, j, -1, swapped);
#pragma unroll
  for (int m = 0; m < 8; ++m) k[m * eighth] = v[m];
  for (int i = 0; i < each; ++i) {
    const int b = first + i;
    angle.forget();
#pragma unroll
    for (int m = 0; m < 8; ++m) v[m] = angle.times(m, b < B ? a.input_at(b, h, j + m * eighth) : 0.f);
    transform(v, mine, n, j, -1, swapped);
#pragma unroll
    for (int m = 0; m < 8; ++m) v[m] = mul(v[m], k[m * eighth]);
    transform(v, mine, n, j, 1, swapped);
    angle.forget();
    if (b < B)
#pragma unroll
      for (int m = 0; m < 8; ++m) a.write_output(b, c, h, j + m * eighth, scale * angle.real_of_inverse(m, v[m]));
  }
}

// Longer transforms, in three kernels, by way of z (heads, B + channels, n), where a head's kernels follow its
// sequences: columns of u and of the kernels to z; rows of z times those of the kernel to w, which may be z; columns of
// w to y. A column kernel takes `width` columns per block, n1/8 · width threads and n1·width float2 of shared memory.
struct Columns {
  int width, n1, n2, q, j, column;
  i64 row;

  __device__ Columns(int n1, int n2, int width)
      : width(width), n1(n1), n2(n2), q(threadIdx.x % width), j(threadIdx.x / width) {
    const int blocks = n2 / width;
    row = blockIdx.x / blocks, column = blockIdx.x % blocks * width + q;
  }
  // Time step of point m, and the right angle there.
  __device__ i64 sample(int m) const { return (i64)(j + m * (n1 / 8)) * n2 + column; }
  __device__ RightAngle angle() const { return RightAngle(j * n2 + column, n1 * n2); }
  // ω^{±p·column} at this thread's points p = j + m·n1/8.
  __device__ void between(float2 (&v)[8], int sign) const {
    twiddle(v, root(j * column, n1 * n2, sign), root(column, 8 * n2, sign));
  }
  __device__ void across(float2 (&v)[8], float2* memory, int sign) const {
    transform(v, memory, n1, j, sign, [&](int p) { return p * width + q; });
  }
};
extern "C" __global__ void __launch_bounds__(512, 2) conv_in(CONV, float2* z, int n1, int n2, int width) {
  extern __shared__ float2 memory[];
  CONV_HERE;
  const Columns at(n1, n2, width);
  const int rows = B + channels, h = (int)(at.row / rows), b = (int)(at.row - (i64)h * rows);
  const RightAngle angle = at.angle();
  float2 v[8];
#pragma unroll
  for (int m = 0; m < 8; ++m)
    v[m] = b < B ? angle.times(m, a.input_at(b, h, at.sample(m))) : angle.times(m, a.tap(b - B, h, at.sample(m)));
  at.across(v, memory, -1);
  at.between(v, -1);
#pragma unroll
  for (int m = 0; m < 8; ++m) z[at.row * n + at.sample(m)] = v[m];
}
// Rows k₁ of z times the kernel's, for one of `parts` ranges of the batch in one row of one head (a share); a block
// takes as many shares as conv_rows, and as much memory.
extern "C" __global__ void __launch_bounds__(512, 2) conv_times(float2* w, const float2* z, int B, int channels, int c, int n1,
                                                             int n2, int parts, int each, i64 shares) {
  extern __shared__ float2 memory[];
  const int eighth = n2 / 8, own = threadIdx.x / eighth, j = threadIdx.x % eighth;
  const i64 share = (i64)blockIdx.x * (blockDim.x / eighth) + own, above = share / n1, h = above / parts;
  const int first = share < shares ? (int)(above - h * parts) * each : B;
  float2 *mine = memory + own * 2 * n2, *k = mine + n2 + j;
  auto at = [&](int b, int m) { return ((h * (B + channels) + b) * n1 + (share - above * n1)) * n2 + j + m * eighth; };
  float2 v[8] = {};
  if (first < B)
#pragma unroll
    for (int m = 0; m < 8; ++m) v[m] = z[at(B + c, m)];
  transform(v, mine, n2, j, -1, swapped);
#pragma unroll
  for (int m = 0; m < 8; ++m) k[m * eighth] = v[m];
  for (int i = 0; i < each; ++i) {
    const int b = first + i;
    if (b < B)
#pragma unroll
      for (int m = 0; m < 8; ++m) v[m] = z[at(b, m)];
    transform(v, mine, n2, j, -1, swapped);
#pragma unroll
    for (int m = 0; m < 8; ++m) v[m] = mul(v[m], k[m * eighth]);
    transform(v, mine, n2, j, 1, swapped);
    if (b < B)
#pragma unroll
      for (int m = 0; m < 8; ++m) w[at(b, m)] = v[m];
  }
}
extern "C" __global__ void __launch_bounds__(512, 2) conv_out(CONV, const float2* w, int c, int n1, int n2, int width) {
  extern __shared__ float2 memory[];
  CONV_HERE;
  const Columns at(n1, n2, width);
  const int h = (int)(at.row / B), b = (int)(at.row - (i64)h * B);
  const float2* from = w + ((i64)h * (B + channels) + b) * n;
  float2 v[8];
#pragma unroll
  for (int m = 0; m < 8; ++m) v[m] = from[at.sample(m)];
  at.between(v, 1);
  at.across(v, memory, 1);
  const RightAngle angle = at.angle();
  const float scale = 1.f / n;
#pragma unroll
  for (int m = 0; m < 8; ++m) a.write_output(b, c, h, at.sample(m), scale * angle.real_of_inverse(m, v[m]));
}

// ---- step by step, for gradients ----------------------------------------------------------------------------------
// Transforms of n points in place, blockDim.x / (n/8) of them per block. Shared memory: the block's points.
extern "C" __global__ void __launch_bounds__(512) fft_rows(float2* z, i64 rows, int n, int sign, float scale) {
  extern __shared__ float2 memory[];
  const int eighth = n / 8, own = threadIdx.x / eighth, j = threadIdx.x % eighth;
  const i64 r = (i64)blockIdx.x * (blockDim.x / eighth) + own;
  float2* row = z + r * n;
  float2 v[8] = {};
  if (r < rows)
#pragma unroll
    for (int m = 0; m < 8; ++m) v[m] = row[j + m * eighth];
  transform(v, memory + own * n, n, j, sign, swapped);
  if (r < rows)
#pragma unroll
    for (int m = 0; m < 8; ++m) row[j + m * eighth] = make_float2(scale * v[m].x, scale * v[m].y);
}

// Transforms of columns in place; the twiddle factors come after them forward and before them inverse.
extern "C" __global__ void __launch_bounds__(512) fft_columns(float2* z, int n1, int n2, int width, int sign) {
  extern __shared__ float2 memory[];
  const Columns at(n1, n2, width);
  float2* base = z + at.row * n1 * n2;
  float2 v[8];
#pragma unroll
  for (int m = 0; m < 8; ++m) v[m] = base[at.sample(m)];
  if (sign > 0) at.between(v, sign);
  at.across(v, memory, sign);
  if (sign < 0) at.between(v, sign);
#pragma unroll
  for (int m = 0; m < 8; ++m) base[at.sample(m)] = v[m];
}

// z (heads, B, n) = w^t · channel `in` of x (B, ins, H, L), for heads from h0 on.
KERNEL pack_rows(float2* z, const float* x, const int* lengths, i64 total, i64 n, int B, int ins, int in, int H, int h0,
                 i64 L) {
  for (i64 i = index(); i < total; i += stride()) {
    const i64 row = quotient(i, n), t = i - row * n, own = quotient(row, B), b = row - own * B;
    const float v = t < sequence_len(lengths, (int)b, (int)L) ? x[((b * ins + in) * H + h0 + own) * L + t] : 0.f;
    const float2 w = root((int)t, 4 * (int)n, 1);
    z[i] = make_float2(v * w.x, v * w.y);
  }
}

// Channel `out` of y (B, outs, H, L) = real part of w^{−t}·z; 0 beyond each sequence's length.
KERNEL unpack_rows(float* y, const float2* z, const int* lengths, i64 total, i64 n, int B, int outs, int out, int H,
                   int h0, i64 L) {
  for (i64 i = index(); i < total; i += stride()) {
    const i64 row = quotient(i, L), t = i - row * L, own = quotient(row, B), b = row - own * B;
    const float2 v = z[row * n + t], w = root((int)t, 4 * (int)n, 1);
    y[((b * outs + out) * H + h0 + own) * L + t] =
        t < sequence_len(lengths, (int)b, (int)L) ? v.x * w.x + v.y * w.y : 0.f;
  }
}

// k (heads, n) = w^t · kernel of channel c, as Conv::tap gives it.
KERNEL pack_kernel(CONV, float2* k, i64 total, int c) {
  CONV_HERE;
  for (i64 i = index(); i < total; i += stride()) {
    const i64 row = quotient(i, n), t = i - row * n;
    k[i] = mul(a.tap(c, (int)row, t), root((int)t, 4 * n, 1));
  }
}

// Adds the gradients of channel c's kernels and of D. k (heads, n): the gradient of what pack_kernel wrote, correlate's
// result transformed back. Its real part goes to the causal kernel and to D, its imaginary part to the anticausal kernel.
KERNEL unpack_kernel(float* dkernel, float* dd, const float2* k, i64 total, int n, i64 M, int channels, int c, int H,
                     int h0, int two_sided) {
  for (i64 i = index(); i < total; i += stride()) {
    const i64 row = quotient(i, M), j = i - row * M, h = h0 + row;
    auto at = [&](i64 t) { return mul_conj(k[row * n + t], root((int)t, 4 * n, 1)); };
    const float x = at(j).x;
    dkernel[((i64)c * H + h) * M + j] += x;
    if (two_sided) dkernel[((i64)(channels + c) * H + h) * M + j] -= at(n - 1 - j).y;
    if (dd && j == 0) dd[(i64)c * H + h] += x;
  }
}

// w (+)= z times the conjugate of k, elementwise: (heads, B, n) by (heads, n).
KERNEL times(float2* w, const float2* z, const float2* k, i64 total, i64 n, int B, int accumulate) {
  for (i64 i = index(); i < total; i += stride()) {
    const i64 row = quotient(i, n);
    float2 v = mul_conj(z[i], k[(quotient(row, B) - row) * n + i]);
    if (accumulate) v.x += w[i].x, v.y += w[i].y;
    w[i] = v;
  }
}

// s (heads, n) = Σ_b zd[b] times the conjugate of zu[b], elementwise.
KERNEL correlate(float2* s, const float2* zd, const float2* zu, i64 total, i64 n, int B) {
  for (i64 i = index(); i < total; i += stride()) {
    float2 a = make_float2(0.f, 0.f);
    const i64 row = quotient(i, n);
    for (int b = 0; b < B; ++b) {
      const i64 at = (row * (B - 1) + b) * n + i;
      const float2 v = mul_conj(zd[at], zu[at]);
      a.x += v.x, a.y += v.y;
    }
    s[i] = a;
  }
}
