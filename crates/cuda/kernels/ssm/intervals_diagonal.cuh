// The recurrence of a diagonal A by time steps of their own, in f32 within STEPS steps and in f64 across them.
//
//   x′ = x + e(x + βu),   e = Ā − 1 = e^{Λτ} − 1 or Λτ/(1 − Λτ/2),   β = B/Λ,   τ = Δ·interval
//
// Precision. e is computed in f32, to about 1e-7 of itself, as small as it may be: Λτ is reduced by its whole numbers of halvings
// and turns exactly, by fused multiply-adds. An error of e that repeats (equal intervals) would grow with the number of steps
// that a state lasts, and so would the rounding of a state that changes slowly. Neither is carried beyond STEPS steps: the
// state x₀ before them is held in f64 and advanced by the product of their Ā, in f64 (one exponential of the sum of
// their intervals), and what their inputs add is summed up from zero. Inside, x_t = h_t + v_t in f32, h from x₀ and v from
// zero. The adjoint goes back the same way.
#pragma once
#include "ssm/intervals.cuh"

// ΛΔ as the computation of e takes it: by zero-order hold Re in powers of 2 and Im in turns, either in two parts.
struct Rate {
  float re, im, re_rest, im_rest;
  // Intervals count as at most this: then e^{Re Λτ} leaves f32, or no digits of an angle are left.
  float limit;
};
// How far an interval takes the modes of a head, by zero-order hold: ANY distance up to `limit`; SLOW: |Re Λτ| ≤ ln 2/12; STILL: besides, |Im Λτ| at
// most a quarter of a turn. The nearer, the fewer terms its polynomials need.
enum Distance { ANY, SLOW, STILL };

template <bool ZOH>
DEV Rate rate_of(c64 z) {
  if (!ZOH) return {(float)z.re, (float)z.im, 0.f, 0.f, (float)(1e8 / (fabs(z.re) + fabs(z.im)))};
  const double re = z.re * 1.4426950408889634, im = z.im * 0.15915494309189535;
  Rate k = {(float)re, (float)im};
  k.re_rest = (float)(re - k.re), k.im_rest = (float)(im - k.im);
  k.limit = (float)fmin(126.0 / fabs(re), 2097152.0 / fabs(im));
  return k;
}

// The longest intervals at which a mode is SLOW and STILL.
struct Nearness {
  float slow, still;
};
DEV Nearness nearness_of(c64 z) {
  const double re = fabs(z.re * 1.4426950408889634), im = fabs(z.im * 0.15915494309189535);
  const float slow = (float)fmin(1.0 / 12 / re, 2097152.0 / im);
  return {slow, fminf(slow, (float)(0.25 / im))};
}

// e of an interval of at most `limit`; by the bilinear rule at any DISTANCE.
template <bool ZOH, Distance DISTANCE>
DEV c32 increment(const Rate& k, float interval) {
  if (!ZOH) {
    const float a = interval * k.re, b = interval * k.im, d = fmaf(-0.5f, a, 1.f), c = 0.5f * b;
    const float scale = 1.f / fmaf(d, d, c * c);
    return {fmaf(a, d, -b * c) * scale, fmaf(a, c, b * d) * scale};
  }
  const float magic = 12582912.f;  // 1.5·2²³: what is added to it is rounded to a whole number, in its last bits
  float real;
  if (DISTANCE == ANY) {
    // 2^r − 1 with |r| ≤ ½
    const float whole = fmaf(interval, k.re, magic);
    const float r = fmaf(interval, k.re_rest, fmaf(interval, k.re, magic - whole));
    float p = fmaf(1.545316294e-04f, r, 1.339086336e-03f);
    p = fmaf(p, r, 9.618082557e-03f);
    p = fmaf(p, r, 5.550357114e-02f);
    p = fmaf(p, r, 2.402265076e-01f);
    p = fmaf(p, r, 6.931471880e-01f) * r;
    const float power = __uint_as_float((__float_as_uint(whole) << 23) + 0x3f800000u);
    real = fmaf(p, power, power - 1.f);
  } else {
    // 2^r − 1 with |r| ≤ 1/12
    const float r = interval * k.re;
    float p = fmaf(9.618128650e-03f, r, 5.551336706e-02f);
    p = fmaf(p, r, 2.402265072e-01f);
    real = fmaf(p, r, 6.931471825e-01f) * r;
  }
  const float size = real + 1.f;
  // √2·sin and √2·cos of half the angle, πq
  float sine, cosine;
  if (DISTANCE == STILL) {
    // |q| ≤ ¼
    const float q = fmaf(interval, k.im, interval * k.im_rest), s = q * q;
    sine = fmaf(-8.329890370e-01f, s, 3.605906725e+00f);
    sine = fmaf(sine, s, -7.308242321e+00f);
    sine = fmaf(sine, s, 4.442883015e+00f) * q;
    cosine = fmaf(-1.846268892e+00f, s, 5.738198757e+00f);
    cosine = fmaf(cosine, s, -6.978842258e+00f);
    cosine = fmaf(cosine, s, 1.414213538e+00f);
  } else {
    // |q| ≤ ½
    const float turns = fmaf(interval, k.im, magic);
    const float q = fmaf(interval, k.im_rest, fmaf(interval, k.im, magic - turns)), s = q * q;
    sine = fmaf(1.098220443e-01f, s, -8.461104139e-01f);
    sine = fmaf(sine, s, 3.606354025e+00f);
    sine = fmaf(sine, s, -7.308245677e+00f);
    sine = fmaf(sine, s, 4.442882919e+00f) * q;
    cosine = fmaf(-3.450105799e-02f, s, 3.322511887e-01f);
    cosine = fmaf(cosine, s, -1.888274847e+00f);
    cosine = fmaf(cosine, s, 5.739881532e+00f);
    cosine = fmaf(cosine, s, -6.978864110e+00f);
    cosine = fmaf(cosine, s, 1.414213562e+00f);
  }
  // 1 − cos of the angle is 2sin² of its half.
  return {fmaf(-size, sine * sine, real), size * (sine * cosine)};
}

// e of GROUP steps, whose inputs and intervals `now` has. distance: of all the warp's lanes.
template <bool ZOH>
DEV void increments(c32 (&e)[GROUP], const Rate& k, const float2 (&now)[GROUP], Distance distance) {
  if (ZOH && distance == STILL) {
#pragma unroll
    for (int j = 0; j < GROUP; ++j) e[j] = increment<ZOH, STILL>(k, now[j].y);
  } else if (ZOH && distance == SLOW) {
#pragma unroll
    for (int j = 0; j < GROUP; ++j) e[j] = increment<ZOH, SLOW>(k, now[j].y);
  } else {
#pragma unroll
    for (int j = 0; j < GROUP; ++j) e[j] = increment<ZOH, ANY>(k, fminf(now[j].y, k.limit));
  }
}

// Ā − 1 of STEPS steps together: e^{Λτ} − 1 with the sum of the intervals, or the product of the bilinear Ā.
template <bool ZOH>
DEV c64 increment_of_chunk(c64 z, double time, const float2* steps, float limit) {
  if (ZOH) return cexpm1_by_polynomials(time * z);
  c64 above = {1, 0}, below = {1, 0};
  for (int t = 0; t < STEPS; ++t) {
    const c64 half = (0.5 * fminf(steps[t].y, limit)) * z;
    above += above * half, below -= below * half;
  }
  return (above - below) * inv(below);
}

// The constants of a head in f64; Λ is never so small that e or β leave f32. In its limit Λ = 0 nothing changes by that.
struct Mode {
  c64 lambda, b;
  double dt;
};

DEV Mode load_mode(const Params& q, int h, int n) {
  if (n >= q.pairs) return {{-1, 0}, {0, 0}, 0};
  Mode k = {lambda(q, h, n), input(q, h, n), step_size(q, h, n)};
  if ((fabs(k.lambda.re) + fabs(k.lambda.im)) * k.dt < 1e-12) k.lambda = {-1e-12 / fmax(k.dt, 1e-30), 0};
  return k;
}

// The constants of a head that a lane has.
template <int PAIRS>
struct Head {
  Rate rate[PAIRS];
  c32 beta[PAIRS], c[PAIRS];  // c of the first channel
  c64 z[PAIRS];               // ΛΔ
  Nearness near;              // of all modes of the head
};

// c0: (channels, H, P, 2), those of the direction.
template <int PAIRS, bool ZOH>
DEV Head<PAIRS> load_head(const Params& q, const float* c0, int h, int lane) {
  Head<PAIRS> k;
  Nearness near = {1e30f, 1e30f};
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const int n = lane + 32 * m;
    const Mode mode = load_mode(q, h, n);
    k.z[m] = mode.dt * mode.lambda;
    const Nearness own = nearness_of(k.z[m]);
    near = {fminf(near.slow, own.slow), fminf(near.still, own.still)};
    k.rate[m] = rate_of<ZOH>(k.z[m]);
    k.beta[m] = narrow(mode.b * inv(mode.lambda));
    k.c[m] = n < q.pairs ? load32(c0, (i64)h * q.pairs + n) : c32{0, 0};
  }
  k.near = {warp_extreme<false>(near.slow), warp_extreme<false>(near.still)};
  return k;
}

// How far intervals take the modes of a head at most.
DEV Distance distance_of(const Nearness& near, float longest) {
  return longest <= near.still ? STILL : longest <= near.slow ? SLOW : ANY;
}
