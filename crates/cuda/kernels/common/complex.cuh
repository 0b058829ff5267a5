// Complex numbers in f64.
#pragma once
#include "common/base.cuh"

struct c64 {
  double re, im;
};
DEV c64 operator+(c64 a, c64 b) { return {a.re + b.re, a.im + b.im}; }
DEV c64 operator-(c64 a, c64 b) { return {a.re - b.re, a.im - b.im}; }
DEV c64 operator*(c64 a, c64 b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
DEV c64 operator*(double s, c64 a) { return {s * a.re, s * a.im}; }
DEV void operator+=(c64& a, c64 b) { a = a + b; }
DEV void operator-=(c64& a, c64 b) { a = a - b; }
DEV c64 conj(c64 a) { return {a.re, -a.im}; }
// Re(a·b̄): the real inner product.
DEV double dot(c64 a, c64 b) { return a.re * b.re + a.im * b.im; }
// 1/a.
DEV c64 inv(c64 a) {
  double n = 1.0 / (a.re * a.re + a.im * a.im);
  return {a.re * n, -a.im * n};
}
// Complex number i of an array of (re, im) pairs in f32.
DEV c64 load(const float* p, i64 i) { return {(double)p[2 * i], (double)p[2 * i + 1]}; }

// e^z − 1 without cancellation.
DEV c64 cexpm1(c64 z) {
  double s = sin(0.5 * z.im), e = expm1(z.re);
  return {e * cos(z.im) - 2.0 * s * s, (e + 1.0) * sin(z.im)};
}
