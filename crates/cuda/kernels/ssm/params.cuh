// The parameters of an SSM layer as stored, the functions that turn them into Δ, Λ, P and B, and how kernels take them
// as arguments.
#pragma once
#include "codes.cuh"
#include "common/complex.cuh"

// A kernel that asks for few of these can have them as functions, which are less code than copies in each place.
#ifndef TRANSFORM
#define TRANSFORM DEV
#endif

// The function f at x; f: a TRANSFORM_… of s4_backend.
TRANSFORM double transform(int f, double x) {
  switch (f) {
    case TRANSFORM_EXP: return exp(x);
    case TRANSFORM_SOFTPLUS: return fmax(x, 0.0) + log1p(exp(-fabs(x)));
    case TRANSFORM_RELU: return fmax(x, 0.0) + 1e-4;
    case TRANSFORM_SIGMOID: return 1.0 / (1.0 + exp(-x));
    default: return x;
  }
}
TRANSFORM double transform_derivative(int f, double x) {
  switch (f) {
    case TRANSFORM_EXP: return exp(x);
    case TRANSFORM_SOFTPLUS: return 1.0 / (1.0 + exp(-x));
    case TRANSFORM_RELU: return x > 0.0 ? 1.0 : 0.0;
    case TRANSFORM_SIGMOID: {
      double s = 1.0 / (1.0 + exp(-x));
      return s * (1.0 - s);
    }
    default: return 1.0;
  }
}

constexpr int MAXR = 8;

// The stored parameters (f32) of a layer, and their meaning at (head h, pair n).
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

// The members of Params as kernel arguments, one by one.
#define PARAMS                                                                                                   \
  const float *inv_dt, const float *a_real, const float *a_imag, const float *b_, const float *p_, int heads,    \
      int pairs, int ssms, int rank, int per_state, int zoh, int t_dt, int t_real, int t_imag, double rate
#define PARAMS_HERE \
  const Params q = {inv_dt, a_real, a_imag, b_, p_, heads, pairs, ssms, rank, per_state, zoh, t_dt, t_real, t_imag, rate}
