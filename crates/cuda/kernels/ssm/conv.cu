// Linear convolution of each sequence with each kernel, by FFT: a real sequence in a complex transform of n ≥ len
// points without padding, n a power of two and at least 8. The "right angle" avoids the padding: with w = e^{2πi/4n},
// w^{−t}·IFFT(FFT(w^t x)·FFT(w^t k)) is the product of x and k modulo zⁿ = i. Samples of the linear convolution at n
// and beyond so wrap into the imaginary part; its first n samples are the real part. A lag of −1−j is z^{n−1−j}/i: the
// anticausal kernel of a bidirectional layer is put in the imaginary part, reversed and negated.
#include "common/fft.cuh"

DEV float2 root(int k, int n, int sign) { return root<float2>(k, n, sign); }

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

// The right angle at the points of a thread.
DEV RightAngle angle_at(const Columns& at) { return RightAngle(at.j * at.n2 + at.column, at.n1 * at.n2); }

// Longer transforms, in three kernels, by way of z (heads, B + channels, n), where a head's kernels follow its
// sequences: columns of u and of the kernels to z; rows of z times those of the kernel to w, which may be z; columns of
// w to y. A column kernel takes `width` columns per block, n1/8 · width threads and n1·width float2 of shared memory.
extern "C" __global__ void __launch_bounds__(512, 2) conv_in(CONV, float2* z, int n1, int n2, int width) {
  extern __shared__ float2 memory[];
  CONV_HERE;
  const Columns at(n1, n2, width);
  const int rows = B + channels, h = (int)(at.row / rows), b = (int)(at.row - (i64)h * rows);
  const RightAngle angle = angle_at(at);
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
  const RightAngle angle = angle_at(at);
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
