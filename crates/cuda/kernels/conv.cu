// Linear convolution by FFT: two real rows of a head in one complex transform of n ≥ len + kernel_len points, n a
// power of two, 8 or more. The kernel is real, so re and im stay apart and nothing is unpacked.
//
// A transform that one block holds (8192 points, or 4096) is Stockham's in natural order: a thread holds eight points, passes of radix 8
// (the first of radix 2 or 4 where n asks for it) exchange them through shared memory. Beyond, with j = j₁·n₂ + j₂ and
// k = k₁ + n₁·k₂: columns over j₁, twiddle ω^{j₂k₁}, rows over j₂; the spectrum stays in [k₁][k₂] order, and the
// inverse goes back the same way.
#include "common.cuh"

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
DEV float2 turn(float2 a, int sign) { return sign < 0 ? make_float2(a.y, -a.x) : make_float2(-a.y, a.x); }

// Four points in place, natural order on both sides.
DEV void fft4(float2& a, float2& b, float2& c, float2& d, int sign) {
  const float2 s = a + c, t = a - c, u = b + d, v = turn(b - d, sign);
  a = s + u, b = t + v, c = s - u, d = t - v;
}

DEV void fft8(float2 (&v)[8], int sign) {
  const float q = 0.70710678118654752f;
  float2 e[4], o[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) e[k] = v[k] + v[k + 4], o[k] = v[k] - v[k + 4];
  o[1] = mul(o[1], make_float2(q, sign * q));
  o[2] = turn(o[2], sign);
  o[3] = mul(o[3], make_float2(-q, sign * q));
  fft4(e[0], e[1], e[2], e[3], sign);
  fft4(o[0], o[1], o[2], o[3], sign);
#pragma unroll
  for (int k = 0; k < 4; ++k) v[2 * k] = e[k], v[2 * k + 1] = o[k];
}

// v[m], which is point to(m), for v[m], which is point j + m·n/8.
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

// Rows of n points in place, blockDim.x / (n/8) of them a block. Shared: 9/8 of the block's points.
KERNEL fft_rows(float2* z, i64 rows, int n, int sign, float scale) {
  extern __shared__ float2 memory[];
  const int eighth = n / 8, own = threadIdx.x / eighth, j = threadIdx.x % eighth;
  const i64 r = (i64)blockIdx.x * (blockDim.x / eighth) + own;
  float2* row = z + r * n;
  float2 v[8] = {};
  if (r < rows)
#pragma unroll
    for (int m = 0; m < 8; ++m) v[m] = row[j + m * eighth];
  // One number after each eight: neither of the exchanges' strides meets a bank twice.
  transform(v, memory + own * (n + eighth), n, j, sign, [](int p) { return p + (p >> 3); });
  if (r < rows)
#pragma unroll
    for (int m = 0; m < 8; ++m) row[j + m * eighth] = make_float2(scale * v[m].x, scale * v[m].y);
}

// Columns of n1 points, n2 apart, in place, `width` columns a block; the twiddle comes after them forward and before
// them inverse. Grid: (n2 / width, transforms); block n1/8 · width; shared: n1·width float2.
KERNEL fft_columns(float2* z, int n1, int n2, int width, int sign) {
  extern __shared__ float2 memory[];
  const int q = threadIdx.x % width, j = threadIdx.x / width, eighth = n1 / 8, column = blockIdx.x * width + q;
  float2* base = z + (i64)blockIdx.y * n1 * n2 + column;
  auto twiddle = [&](float2 x, int p) { return mul(x, root(p * column, n1 * n2, sign)); };
  float2 v[8];
#pragma unroll
  for (int m = 0; m < 8; ++m) {
    const int p = j + m * eighth;
    v[m] = base[(i64)p * n2];
    if (sign > 0) v[m] = twiddle(v[m], p);
  }
  transform(v, memory, n1, j, sign, [&](int p) { return p * width + q; });
#pragma unroll
  for (int m = 0; m < 8; ++m) {
    const int p = j + m * eighth;
    base[(i64)p * n2] = sign < 0 ? twiddle(v[m], p) : v[m];
  }
}

// Two rows of one head of u (B, H, L) and of channel `out` of y (B, outs, H, L), as one complex row.
struct Pair {
  const float *re, *im;
  float *to_re, *to_im;
  i64 n_re, n_im, L;
  bool two;

  __device__ Pair(float* y, const float* u, const int* lengths, int pair, int B, int outs, int out, int H, int h, i64 L)
      : L(L) {
    const int b = 2 * pair;
    two = b + 1 < B;
    re = u + ((i64)b * H + h) * L, im = re + H * L;
    to_re = y + (((i64)b * outs + out) * H + h) * L, to_im = to_re + (i64)outs * H * L;
    n_re = row_len(lengths, b, (int)L), n_im = two ? row_len(lengths, b + 1, (int)L) : 0;
  }
  __device__ float2 read(i64 t) const { return make_float2(t < n_re ? re[t] : 0.f, t < n_im ? im[t] : 0.f); }
  // Zero beyond a row's length.
  __device__ void write(i64 t, float2 v) const {
    if (t < L) to_re[t] = t < n_re ? v.x : 0.f;
    if (two && t < L) to_im[t] = t < n_im ? v.y : 0.f;
  }
};
#define ROWS float *y, const float *u, const int *lengths, int pairs, int B, int outs, int out, int H, int h0, i64 L

// The whole convolution where a row fits a block: k (heads, n) is the kernel's spectrum. Grid and shared as fft_rows.
extern "C" __global__ void __launch_bounds__(1024) conv_rows(const float2* k, i64 rows, int n, float scale, ROWS) {
  extern __shared__ float2 memory[];
  const int eighth = n / 8, own = threadIdx.x / eighth, j = threadIdx.x % eighth;
  const i64 r = (i64)blockIdx.x * (blockDim.x / eighth) + own;
  const bool in = r < rows;
  const int head = in ? (int)quotient(r, pairs) : 0;
  const Pair row(y, u, lengths, in ? (int)(r - (i64)head * pairs) : 0, B, outs, out, H, h0 + head, L);
  float2 v[8] = {};
  if (in)
#pragma unroll
    for (int m = 0; m < 8; ++m) v[m] = row.read(j + m * eighth);
  auto at = [](int p) { return p + (p >> 3); };
  transform(v, memory + own * (n + eighth), n, j, -1, at);
#pragma unroll
  for (int m = 0; m < 8; ++m) v[m] = mul(v[m], k[(i64)head * n + j + m * eighth]);
  transform(v, memory + own * (n + eighth), n, j, 1, at);
  if (in)
#pragma unroll
    for (int m = 0; m < 8; ++m) row.write(j + m * eighth, make_float2(scale * v[m].x, scale * v[m].y));
}

// Longer ones in three: columns of u to z (heads, pairs, n), rows of z times k to w, columns of w to y. Grids, blocks
// and shared memory as for fft_columns and fft_rows.
KERNEL conv_in(float2* z, int n1, int n2, int width, ROWS) {
  extern __shared__ float2 memory[];
  const int q = threadIdx.x % width, j = threadIdx.x / width, eighth = n1 / 8, column = blockIdx.x * width + q;
  const int head = blockIdx.y / pairs;
  const Pair row(y, u, lengths, blockIdx.y % pairs, B, outs, out, H, h0 + head, L);
  float2 v[8];
#pragma unroll
  for (int m = 0; m < 8; ++m) v[m] = row.read((i64)(j + m * eighth) * n2 + column);
  transform(v, memory, n1, j, -1, [&](int p) { return p * width + q; });
  float2* base = z + (i64)blockIdx.y * n1 * n2 + column;
#pragma unroll
  for (int m = 0; m < 8; ++m) {
    const int p = j + m * eighth;
    base[(i64)p * n2] = mul(v[m], root(p * column, n1 * n2, -1));
  }
}
KERNEL conv_times(float2* w, const float2* z, const float2* k, i64 rows, int n1, int n2, int pairs) {
  extern __shared__ float2 memory[];
  const int eighth = n2 / 8, own = threadIdx.x / eighth, j = threadIdx.x % eighth;
  const i64 r = (i64)blockIdx.x * (blockDim.x / eighth) + own, which = quotient(r, n1), head = quotient(which, pairs);
  const i64 line = head * n1 + (r - which * n1);
  const bool in = r < rows;
  float2 v[8] = {};
  if (in)
#pragma unroll
    for (int m = 0; m < 8; ++m) v[m] = z[r * n2 + j + m * eighth];
  auto at = [](int p) { return p + (p >> 3); };
  transform(v, memory + own * (n2 + eighth), n2, j, -1, at);
  if (in)
#pragma unroll
    for (int m = 0; m < 8; ++m) v[m] = mul(v[m], k[line * n2 + j + m * eighth]);
  transform(v, memory + own * (n2 + eighth), n2, j, 1, at);
  if (in)
#pragma unroll
    for (int m = 0; m < 8; ++m) w[r * n2 + j + m * eighth] = v[m];
}
KERNEL conv_out(const float2* w, int n1, int n2, int width, float scale, ROWS) {
  extern __shared__ float2 memory[];
  const int q = threadIdx.x % width, j = threadIdx.x / width, eighth = n1 / 8, column = blockIdx.x * width + q;
  const int head = blockIdx.y / pairs;
  const Pair row(y, u, lengths, blockIdx.y % pairs, B, outs, out, H, h0 + head, L);
  const float2* base = w + (i64)blockIdx.y * n1 * n2 + column;
  float2 v[8];
#pragma unroll
  for (int m = 0; m < 8; ++m) {
    const int p = j + m * eighth;
    v[m] = mul(base[(i64)p * n2], root(p * column, n1 * n2, 1));
  }
  transform(v, memory, n1, j, 1, [&](int p) { return p * width + q; });
#pragma unroll
  for (int m = 0; m < 8; ++m)
    row.write((i64)(j + m * eighth) * n2 + column, make_float2(scale * v[m].x, scale * v[m].y));
}

// z (heads, pairs, n) from x (B, ins, H, L), channel `in`, heads h0 …; rows 2p and 2p + 1 are re and im.
KERNEL pack_rows(float2* z, const float* x, const int* lengths, i64 total, i64 n, int pairs, int B, int ins, int in,
                 int H, int h0, i64 L) {
  for (i64 i = index(); i < total; i += stride()) {
    const i64 row = quotient(i, n), t = i - row * n, own = quotient(row, pairs);
    const int p = (int)(row - own * pairs), h = h0 + (int)own, b = 2 * p;
    float2 v = make_float2(0.f, 0.f);
    if (t < row_len(lengths, b, (int)L)) v.x = x[(((i64)b * ins + in) * H + h) * L + t];
    if (b + 1 < B && t < row_len(lengths, b + 1, (int)L)) v.y = x[(((i64)(b + 1) * ins + in) * H + h) * L + t];
    z[i] = v;
  }
}

// The way back; 0 beyond lengths.
KERNEL unpack_rows(float* y, const float2* z, const int* lengths, i64 total, i64 n, int pairs, int B, int outs, int out,
                   int H, int h0, i64 L) {
  for (i64 i = index(); i < total; i += stride()) {
    const i64 row = quotient(i, L), t = i - row * L, own = quotient(row, pairs);
    const int p = (int)(row - own * pairs), h = h0 + (int)own, b = 2 * p;
    const float2 v = z[row * n + t];
    y[(((i64)b * outs + out) * H + h) * L + t] = t < row_len(lengths, b, (int)L) ? v.x : 0.f;
    if (b + 1 < B) y[(((i64)(b + 1) * outs + out) * H + h) * L + t] = t < row_len(lengths, b + 1, (int)L) ? v.y : 0.f;
  }
}

// k (heads, n): the kernel of channel c as a periodic sequence, lags −1−j of its second half at the end, D at lag 0.
KERNEL pack_kernel(float2* k, const float* kernel, const float* d, i64 total, i64 n, i64 M, int channels, int c, int H,
                   int h0, int two_sided) {
  for (i64 i = index(); i < total; i += stride()) {
    const i64 row = quotient(i, n), t = i - row * n, h = h0 + row;
    float v = t < M ? kernel[((i64)c * H + h) * M + t] : 0.f;
    if (two_sided && n - 1 - t < M) v += kernel[((i64)(channels + c) * H + h) * M + n - 1 - t];
    if (d && t == 0) v += d[(i64)c * H + h];
    k[i] = make_float2(v, 0.f);
  }
}

KERNEL unpack_kernel(float* dkernel, float* dd, const float2* k, i64 total, i64 n, i64 M, int channels, int c, int H,
                     int h0, int two_sided) {
  for (i64 i = index(); i < total; i += stride()) {
    const i64 row = quotient(i, M), j = i - row * M, h = h0 + row;
    const float2* s = k + row * n;
    dkernel[((i64)c * H + h) * M + j] += s[j].x;
    if (two_sided) dkernel[((i64)(channels + c) * H + h) * M + j] += s[n - 1 - j].x;
    if (dd && j == 0) dd[(i64)c * H + h] += s[0].x;
  }
}

// w (+)= z·k, or z·k̄ : (heads, pairs, n) by (heads, n).
KERNEL times(float2* w, const float2* z, const float2* k, i64 total, i64 n, int pairs, int conjugate, int add) {
  for (i64 i = index(); i < total; i += stride()) {
    const i64 row = quotient(i, n);
    const float2 f = k[(quotient(row, pairs) - row) * n + i];
    float2 v = conjugate ? mul_conj(z[i], f) : mul(z[i], f);
    if (add) v.x += w[i].x, v.y += w[i].y;
    w[i] = v;
  }
}

// s (heads, n) = Σ_pairs zd·z̄u.
KERNEL correlate(float2* s, const float2* zd, const float2* zu, i64 total, i64 n, int pairs) {
  for (i64 i = index(); i < total; i += stride()) {
    float2 a = make_float2(0.f, 0.f);
    const i64 row = quotient(i, n);
    for (int p = 0; p < pairs; ++p) {
      const i64 at = (row * (pairs - 1) + p) * n + i;
      const float2 v = mul_conj(zd[at], zu[at]);
      a.x += v.x, a.y += v.y;
    }
    s[i] = a;
  }
}
