// Linear convolution by FFT: two real rows of a head in one complex transform of n ≥ len + kernel_len points, n a
// power of two. The kernel is real, so re and im stay apart and nothing is unpacked.
//
// Up to 4096 points a transform is one row in shared memory (Stockham, natural order on both sides). Beyond, with
// j = j₁·n₂ + j₂ and k = k₁ + n₁·k₂: columns over j₁, twiddle ω^{j₂k₁}, rows over j₂; the spectrum stays in
// [k₁][k₂] order, and the inverse goes back the same way.
#include "common.cuh"

DEV float2 mul(float2 a, float2 b) { return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }
DEV float2 mul_conj(float2 a, float2 b) { return make_float2(a.x * b.x + a.y * b.y, a.y * b.x - a.x * b.y); }

// e^{sign·2πi·k/n}, exact argument.
DEV float2 root(i64 k, i64 n, int sign) {
  float s, c;
  sincospif(2.f * (float)((double)k / (double)n), &s, &c);
  return make_float2(c, sign * s);
}

// `count` transforms of n points in shared memory, point p of transform q at p·count + q; radix 2 Stockham from x to
// y and back. Returns where the result is.
DEV float2* stockham(float2* x, float2* y, int n, int count, int sign) {
  for (int half = 1; half < n; half *= 2) {
    __syncthreads();
    for (int e = threadIdx.x; e < n / 2 * count; e += blockDim.x) {
      const int q = e % count, p = e / count, k = p % half;
      const float2 a = x[p * count + q], b = mul(x[(p + n / 2) * count + q], root(k, 2 * half, sign));
      const int at = ((p - k) * 2 + k) * count + q;
      y[at] = make_float2(a.x + b.x, a.y + b.y);
      y[at + half * count] = make_float2(a.x - b.x, a.y - b.y);
    }
    float2* t = x;
    x = y, y = t;
  }
  __syncthreads();
  return x;
}

// Rows of n points in place. Grid: rows; shared: 2n float2.
KERNEL fft_rows(float2* z, int n, int sign, float scale) {
  extern __shared__ float2 memory[];
  float2* row = z + (i64)blockIdx.x * n;
  for (int p = threadIdx.x; p < n; p += blockDim.x) memory[p] = row[p];
  const float2* r = stockham(memory, memory + n, n, 1, sign);
  for (int p = threadIdx.x; p < n; p += blockDim.x) row[p] = make_float2(scale * r[p].x, scale * r[p].y);
}

// Columns of n1 points, n2 apart, in place, `width` columns a block; the twiddle comes after them forward and before
// them inverse. Grid: (n2 / width, transforms); shared: 2·n1·width float2.
KERNEL fft_columns(float2* z, int n1, int n2, int width, int sign) {
  extern __shared__ float2 memory[];
  float2* base = z + (i64)blockIdx.y * n1 * n2 + (i64)blockIdx.x * width;
  const i64 n = (i64)n1 * n2;
  const int size = n1 * width;
  for (int e = threadIdx.x; e < size; e += blockDim.x) {
    const int q = e % width, p = e / width;
    float2 v = base[(i64)p * n2 + q];
    if (sign > 0) v = mul(v, root((i64)p * (blockIdx.x * width + q) % n, n, sign));
    memory[e] = v;
  }
  const float2* r = stockham(memory, memory + size, n1, width, sign);
  for (int e = threadIdx.x; e < size; e += blockDim.x) {
    const int q = e % width, p = e / width;
    float2 v = r[e];
    if (sign < 0) v = mul(v, root((i64)p * (blockIdx.x * width + q) % n, n, sign));
    base[(i64)p * n2 + q] = v;
  }
}

// z (heads, pairs, n) from x (B, ins, H, L), channel `in`, heads h0 …; rows 2p and 2p + 1 are re and im.
KERNEL pack_rows(float2* z, const float* x, const int* lengths, i64 total, i64 n, int pairs, int B, int ins, int in,
                 int H, int h0, i64 L) {
  for (i64 i = index(); i < total; i += stride()) {
    const i64 t = i % n;
    const int p = (int)(i / n % pairs), h = h0 + (int)(i / n / pairs), b = 2 * p;
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
    const i64 t = i % L;
    const int p = (int)(i / L % pairs), h = h0 + (int)(i / L / pairs), b = 2 * p;
    const float2 v = z[i / L * n + t];
    y[(((i64)b * outs + out) * H + h) * L + t] = t < row_len(lengths, b, (int)L) ? v.x : 0.f;
    if (b + 1 < B) y[(((i64)(b + 1) * outs + out) * H + h) * L + t] = t < row_len(lengths, b + 1, (int)L) ? v.y : 0.f;
  }
}

// k (heads, n): the kernel of channel c as a periodic sequence, lags −1−j of its second half at the end, D at lag 0.
KERNEL pack_kernel(float2* k, const float* kernel, const float* d, i64 total, i64 n, i64 M, int channels, int c, int H,
                   int h0, int two_sided) {
  for (i64 i = index(); i < total; i += stride()) {
    const i64 t = i % n, h = h0 + i / n;
    float v = t < M ? kernel[((i64)c * H + h) * M + t] : 0.f;
    if (two_sided && n - 1 - t < M) v += kernel[((i64)(channels + c) * H + h) * M + n - 1 - t];
    if (d && t == 0) v += d[(i64)c * H + h];
    k[i] = make_float2(v, 0.f);
  }
}

KERNEL unpack_kernel(float* dkernel, float* dd, const float2* k, i64 total, i64 n, i64 M, int channels, int c, int H,
                     int h0, int two_sided) {
  for (i64 i = index(); i < total; i += stride()) {
    const i64 j = i % M, h = h0 + i / M;
    const float2* s = k + i / M * n;
    dkernel[((i64)c * H + h) * M + j] += s[j].x;
    if (two_sided) dkernel[((i64)(channels + c) * H + h) * M + j] += s[n - 1 - j].x;
    if (dd && j == 0) dd[(i64)c * H + h] += s[0].x;
  }
}

// w (+)= z·k, or z·k̄ : (heads, pairs, n) by (heads, n).
KERNEL times(float2* w, const float2* z, const float2* k, i64 total, i64 n, int pairs, int conjugate, int add) {
  for (i64 i = index(); i < total; i += stride()) {
    const float2 f = k[i / n / pairs * n + i % n];
    float2 v = conjugate ? mul_conj(z[i], f) : mul(z[i], f);
    if (add) v.x += w[i].x, v.y += w[i].y;
    w[i] = v;
  }
}

// s (heads, n) = Σ_pairs zd·z̄u.
KERNEL correlate(float2* s, const float2* zd, const float2* zu, i64 total, i64 n, int pairs) {
  for (i64 i = index(); i < total; i += stride()) {
    float2 a = make_float2(0.f, 0.f);
    for (int p = 0; p < pairs; ++p) {
      const i64 at = (i / n * pairs + p) * n + i % n;
      const float2 v = mul_conj(zd[at], zu[at]);
      a.x += v.x, a.y += v.y;
    }
    s[i] = a;
  }
}
