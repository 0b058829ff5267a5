// Fast Fourier transforms of a power of two of complex points, float2 or double2.
//
// A transform that one block holds is Stockham's in natural order: a thread holds eight points, passes of radix 8 (the
// first of radix 2 or 4 where n needs it) exchange them through shared memory. A larger one is cut as a matrix,
// j = j₁·n₂ + j₂ and k = k₁ + n₁·k₂: columns over j₁, twiddle ω^{j₂k₁}, rows over j₂; the spectrum stays in [k₁][k₂]
// order, and the inverse goes back the same way.
#pragma once
#include "common/base.cuh"

DEV float2 complex(float x, float y) { return make_float2(x, y); }
DEV double2 complex(double x, double y) { return make_double2(x, y); }

DEV float2 operator+(float2 a, float2 b) { return complex(a.x + b.x, a.y + b.y); }
DEV float2 operator-(float2 a, float2 b) { return complex(a.x - b.x, a.y - b.y); }
DEV double2 operator+(double2 a, double2 b) { return complex(a.x + b.x, a.y + b.y); }
DEV double2 operator-(double2 a, double2 b) { return complex(a.x - b.x, a.y - b.y); }
template <class V>
DEV V mul(V a, V b) {
  return complex(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}
template <class V>
DEV V mul_conj(V a, V b) {
  return complex(a.x * b.x + a.y * b.y, a.y * b.x - a.x * b.y);
}

// e^{sign·2πi·k/n}, k < n ≤ 2²⁴ and n a power of two: k/n is exact.
DEV void root(float2& w, int k, int n, int sign) {
  float s, c;
  sincospif((float)(2 * k) * (1.f / (float)n), &s, &c);
  w = make_float2(c, sign * s);
}
DEV void root(double2& w, int k, int n, int sign) {
  double s, c;
  sincospi((double)(2 * k) * (1.0 / (double)n), &s, &c);
  w = make_double2(c, sign * s);
}
template <class V>
DEV V root(int k, int n, int sign) {
  V w;
  root(w, k, n, sign);
  return w;
}

// sign·i·a.
template <class V>
DEV V times_i(V a, int sign) {
  return sign < 0 ? complex(a.y, -a.x) : complex(-a.y, a.x);
}

// Four points in place, natural order on both sides.
template <class V>
DEV void fft4(V& a, V& b, V& c, V& d, int sign) {
  const V s = a + c, t = a - c, u = b + d, v = times_i(b - d, sign);
  a = s + u, b = t + v, c = s - u, d = t - v;
}

template <class V>
DEV void fft8(V (&v)[8], int sign) {
  typedef decltype(v[0].x + v[0].y) F;
  const F q = F(0.70710678118654752440);
  V e[4], o[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) e[k] = v[k] + v[k + 4], o[k] = v[k] - v[k + 4];
  o[1] = mul(o[1], complex(q, sign * q));
  o[2] = times_i(o[2], sign);
  o[3] = mul(o[3], complex(-q, sign * q));
  fft4(e[0], e[1], e[2], e[3], sign);
  fft4(o[0], o[1], o[2], o[3], sign);
#pragma unroll
  for (int k = 0; k < 4; ++k) v[2 * k] = e[k], v[2 * k + 1] = o[k];
}

// Exchanges points through shared memory: on entry v[m] is point to(m), on return it is point j + m·n/8.
template <class V, class At, class To>
DEV void exchange(V (&v)[8], V* memory, int j, int eighth, At at, To to) {
  __syncthreads();
#pragma unroll
  for (int m = 0; m < 8; ++m) memory[at(to(m))] = v[m];
  __syncthreads();
#pragma unroll
  for (int m = 0; m < 8; ++m) v[m] = memory[at(j + m * eighth)];
}

// A transform of n points by n/8 threads: thread j brings v[m] = x[j + m·n/8] and gets the same points of the result.
// `at`: where point p lies in shared memory. Every thread of the block takes part.
template <class V, class At>
DEV void transform(V (&v)[8], V* memory, int n, int j, int sign, At at) {
  const int lg = 31 - __clz(n), eighth = n / 8;
  int ns = 1;
  if (lg % 3 == 1) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const V a = v[k], b = v[k + 4];
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
      const V w = root<V>(k, 8 * ns, sign), w2 = mul(w, w), w3 = mul(w2, w), w4 = mul(w2, w2);
      v[1] = mul(v[1], w), v[2] = mul(v[2], w2), v[3] = mul(v[3], w3), v[4] = mul(v[4], w4);
      v[5] = mul(v[5], mul(w4, w)), v[6] = mul(v[6], mul(w4, w2)), v[7] = mul(v[7], mul(w4, w3));
    }
    fft8(v, sign);
    if (8 * ns == n) return;
    exchange(v, memory, j, eighth, at, [&](int m) { return (j - k) * 8 + k + m * ns; });
  }
}

// v[m] ·= a·s^m.
template <class V>
DEV void twiddle(V (&v)[8], V a, V s) {
  const V s2 = mul(s, s), s3 = mul(s2, s), s4 = mul(s2, s2);
  v[0] = mul(v[0], a), v[1] = mul(v[1], mul(a, s)), v[2] = mul(v[2], mul(a, s2)), v[3] = mul(v[3], mul(a, s3));
  a = mul(a, s4);
  v[4] = mul(v[4], a), v[5] = mul(v[5], mul(a, s)), v[6] = mul(v[6], mul(a, s2)), v[7] = mul(v[7], mul(a, s3));
}

// The columns that a block takes of a transform cut in n1 rows of n2 points: `width` columns, n1/8 · width threads and
// n1·width points of shared memory.
struct Columns {
  int width, n1, n2, q, j, column;
  i64 row;

  __device__ Columns(int n1, int n2, int width)
      : width(width), n1(n1), n2(n2), q(threadIdx.x % width), j(threadIdx.x / width) {
    const int blocks = n2 / width;
    row = blockIdx.x / blocks, column = blockIdx.x % blocks * width + q;
  }
  // Index of point m of this thread in its transform.
  __device__ i64 sample(int m) const { return (i64)(j + m * (n1 / 8)) * n2 + column; }
  // ω^{±p·column} at this thread's points p = j + m·n1/8.
  template <class V>
  __device__ void between(V (&v)[8], int sign) const {
    twiddle(v, root<V>(j * column, n1 * n2, sign), root<V>(column, 8 * n2, sign));
  }
  template <class V>
  __device__ void across(V (&v)[8], V* memory, int sign) const {
    transform(v, memory, n1, j, sign, [&](int p) { return p * width + q; });
  }
};
