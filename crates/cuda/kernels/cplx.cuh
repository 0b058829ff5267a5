// Complex numbers in f64, and the transforms of stored parameters.
#pragma once
#include "common.cuh"

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
DEV c64 inv(c64 a) {
  double n = 1.0 / (a.re * a.re + a.im * a.im);
  return {a.re * n, -a.im * n};
}
DEV c64 load(const float* p, i64 i) { return {(double)p[2 * i], (double)p[2 * i + 1]}; }

// e^z − 1 without cancellation.
DEV c64 cexpm1(c64 z) {
  double s = sin(0.5 * z.im), e = expm1(z.re);
  return {e * cos(z.im) - 2.0 * s * s, (e + 1.0) * sin(z.im)};
}

// Codes of s4_backend::Transform, in its order: exp, softplus, relu, sigmoid, none.
DEV double transform(int f, double x) {
  switch (f) {
    case 0: return exp(x);
    case 1: return fmax(x, 0.0) + log1p(exp(-fabs(x)));
    case 2: return fmax(x, 0.0) + 1e-4;
    case 3: return 1.0 / (1.0 + exp(-x));
    default: return x;
  }
}
DEV double transform_derivative(int f, double x) {
  switch (f) {
    case 0: return exp(x);
    case 1: return 1.0 / (1.0 + exp(-x));
    case 2: return x > 0.0 ? 1.0 : 0.0;
    case 3: {
      double s = 1.0 / (1.0 + exp(-x));
      return s * (1.0 - s);
    }
    default: return 1.0;
  }
}

constexpr int MAXR = 8;

// The parameters of a layer as stored (f32), and what they mean.
struct Params {
  const float *inv_dt, *a_real, *a_imag, *b, *p;
  int heads, pairs, ssms, rank, per_state, zoh, t_dt, t_real, t_imag;
  double rate;
};

DEV double step_size(const Params& q, int h, int n) {
  return transform(q.t_dt, q.inv_dt[q.per_state ? (i64)h * q.pairs + n : h]) * q.rate;
}
DEV c64 lambda(const Params& q, int h, int n) {
  const i64 i = (i64)(h % q.ssms) * q.pairs + n;
  return {-transform(q.t_real, q.a_real[i]), -transform(q.t_imag, q.a_imag[i])};
}
DEV c64 input(const Params& q, int h, int n) { return load(q.b, (i64)(h % q.ssms) * q.pairs + n); }
DEV c64 lowrank(const Params& q, int r, int h, int n) {
  return load(q.p, ((i64)r * q.ssms + h % q.ssms) * q.pairs + n);
}

// As kernel arguments, one by one.
#define PARAMS                                                                                                   \
  const float *inv_dt, const float *a_real, const float *a_imag, const float *b_, const float *p_, int heads,    \
      int pairs, int ssms, int rank, int per_state, int zoh, int t_dt, int t_real, int t_imag, double rate
#define PARAMS_HERE \
  const Params q = {inv_dt, a_real, a_imag, b_, p_, heads, pairs, ssms, rank, per_state, zoh, t_dt, t_real, t_imag, rate}
