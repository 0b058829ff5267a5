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

// Steps that are computed side by side. With more, the loops of four warps whose heads are at different distances would not fit the cache of
// instructions that they share.
constexpr int SPAN = 8;

// ΛΔ as the computation of e takes it: by zero-order hold Re in powers of 2 and Im in turns, either in two parts.
struct Rate {
  float re, im, re_rest, im_rest;
  // Intervals count as at most this: then e^{Re Λτ} leaves f32, or no digits of an angle are left.
  float limit;
  // The factor √2π of the first term of a sine, with what `im` alone would leave out of it.
  float sine;
};
// How far an interval takes the modes of a head, by zero-order hold: ANY distance up to `limit`; SLOW: |Re Λτ| ≤ ln 2/9; and besides |Re Λτ| ≤ ln 2/43 and
// |Im Λτ| at most a half, a quarter or a tenth of a turn. The nearer, the fewer terms its polynomials need, and the angle is taken as it is.
enum Distance { ANY, SLOW, HALF_TURN, QUARTER_TURN, TENTH_TURN };

template <bool ZOH>
DEV Rate rate_of(c64 z) {
  if (!ZOH) return {(float)z.re, (float)z.im, 0.f, 0.f, (float)(1e8 / (fabs(z.re) + fabs(z.im))), 0.f};
  const double re = z.re * 1.4426950408889634, im = z.im * 0.15915494309189535;
  Rate k = {(float)re, (float)im};
  k.re_rest = (float)(re - k.re), k.im_rest = (float)(im - k.im);
  k.limit = (float)fmin(126.0 / fabs(re), 2097152.0 / fabs(im));
  k.sine = (float)(4.44288293815836625 * (k.im == 0 ? 1.0 : im / k.im));
  return k;
}

// The largest |Re ΛΔ|, in powers of 2, and |Im ΛΔ|, in turns, of modes.
struct Reach {
  float re, im;
};

// e of an interval of at most `limit`; by the bilinear rule at any DISTANCE.
template <bool ZOH, Distance DISTANCE>
DEV c32 increment(const Rate& k, float interval) {
  if (!ZOH) {
    const float a = interval * k.re, b = interval * k.im, d = fmaf(-0.5f, a, 1.f), c = 0.5f * b;
    const float scale = 1.f / fmaf(d, d, c * c);
    return {fmaf(a, d, -b * c) * scale, fmaf(a, c, b * d) * scale};
  }
  const float magic = 12582912.f;  // 1.5·2²³: what is added to it is rounded to a whole number, in its last bits
  constexpr bool TURNS = DISTANCE == ANY || DISTANCE == SLOW;
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
  } else if (DISTANCE == SLOW) {
    // |r| ≤ 1/9
    const float r = interval * k.re;
    float p = fmaf(9.618129581e-03f, r, 5.552057177e-02f);
    p = fmaf(p, r, 2.402265221e-01f);
    real = fmaf(p, r, 6.931471825e-01f) * r;
  } else {
    // |r| ≤ 1/43
    const float r = interval * k.re, p = fmaf(5.550410971e-02f, r, 2.402304113e-01f);
    real = fmaf(p, r, 6.931471825e-01f) * r;
  }
  // Half the angle is πq.
  float q;
  if (TURNS) {
    const float turns = fmaf(interval, k.im, magic);
    q = fmaf(interval, k.im_rest, fmaf(interval, k.im, magic - turns));
  } else {
    q = interval * k.im;
  }
  const float s = q * q, first = TURNS ? 4.442882938f : k.sine;
  float sine, cosine;  // √2·sin and √2·cos
  if (DISTANCE == TENTH_TURN) {
    sine = fmaf(3.593767881e+00f, s, -7.308201790e+00f);
    cosine = fmaf(5.711620808e+00f, s, -6.978758335e+00f);
  } else if (DISTANCE == QUARTER_TURN) {
    sine = fmaf(-8.329890370e-01f, s, 3.605906725e+00f);
    sine = fmaf(sine, s, -7.308242321e+00f);
    cosine = fmaf(-1.847153187e+00f, s, 5.738282204e+00f);
    cosine = fmaf(cosine, s, -6.978844166e+00f);
  } else {
    sine = fmaf(1.096869633e-01f, s, -8.460421562e-01f);
    sine = fmaf(sine, s, 3.606343269e+00f);
    sine = fmaf(sine, s, -7.308245182e+00f);
    cosine = fmaf(-3.450105799e-02f, s, 3.322511887e-01f);
    cosine = fmaf(cosine, s, -1.888274847e+00f);
    cosine = fmaf(cosine, s, 5.739881532e+00f);
    cosine = fmaf(cosine, s, -6.978864110e+00f);
  }
  sine = fmaf(sine, s, first) * q;
  cosine = fmaf(cosine, s, 1.414213562f);
  // 1 − cos of the angle is 2sin² of its half.
  const float scaled = fmaf(real, sine, sine);
  return {fmaf(-scaled, sine, real), scaled * cosine};
}

// e of SPAN steps; at ANY, intervals beyond the limit become the limit.
template <bool ZOH, Distance DISTANCE>
DEV void increments(c32 (&e)[SPAN], const Rate& k, float (&intervals)[SPAN]) {
#pragma unroll
  for (int j = 0; j < SPAN; ++j) {
    if (DISTANCE == ANY) intervals[j] = fminf(intervals[j], k.limit);
    e[j] = increment<ZOH, DISTANCE>(k, intervals[j]);
  }
}

template <bool ZOH>
DEV void increments(c32 (&e)[SPAN], const Rate& k, float (&intervals)[SPAN], Distance distance) {
  if (ZOH && distance == TENTH_TURN)
    increments<ZOH, TENTH_TURN>(e, k, intervals);
  else if (ZOH && distance == QUARTER_TURN)
    increments<ZOH, QUARTER_TURN>(e, k, intervals);
  else if (ZOH && distance == HALF_TURN)
    increments<ZOH, HALF_TURN>(e, k, intervals);
  else if (ZOH && distance == SLOW)
    increments<ZOH, SLOW>(e, k, intervals);
  else
    increments<ZOH, ANY>(e, k, intervals);
}

// ΛΔ as `increment_of_chunk` takes it: by zero-order hold Re in powers of 2 and Im in turns.
template <bool ZOH>
DEV c64 units_of(c64 z) {
  return ZOH ? c64{z.re * 1.4426950408889634, z.im * 0.15915494309189535} : z;
}
template <bool ZOH>
DEV c64 from_units(c64 z) {
  return ZOH ? c64{z.re * 0.69314718055994531, z.im * 6.2831853071795865} : z;
}

// Ā − 1 of STEPS steps together: e^{Λτ} − 1 with the sum of the intervals, or the product of the bilinear Ā.
template <bool ZOH>
DEV c64 increment_of_chunk(c64 z, double time, const float* intervals, float limit) {
  if (ZOH) return increment_of_turns(time * z);
  c64 above = {1, 0}, below = {1, 0};
  for (int t = 0; t < STEPS; ++t) {
    const c64 half = (0.5 * fminf(intervals[t], limit)) * z;
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

// What states and gradients can be divided by: z, or where there is next to nothing of it, next to nothing.
DEV c64 divisor(c64 z) { return fabs(z.re) + fabs(z.im) < 1e-12 ? c64{1e-12, 0} : z; }

// The constants of a head that a lane has.
template <int PAIRS>
struct Head {
  Rate rate[PAIRS];
  c32 beta[PAIRS], c[PAIRS];  // c of the first channel
  c64 c_divisor[PAIRS];       // the same as a `divisor`
  c32 gain[PAIRS];            // its product with β
  c32 beta_divisor[PAIRS], per_c[PAIRS], per_beta[PAIRS];
  c64 z[PAIRS];               // ΛΔ, as `units_of`
  Reach reach;                // of all modes of the head
};

// c0: (channels, H, P, 2), those of the direction.
template <int PAIRS, bool ZOH>
DEV Head<PAIRS> load_head(const Params& q, const float* c0, int h, int lane) {
  Head<PAIRS> k;
  Reach reach = {0, 0};
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const int n = lane + 32 * m;
    const Mode mode = load_mode(q, h, n);
    const c64 z = mode.dt * mode.lambda;
    k.z[m] = units_of<ZOH>(z);
    k.rate[m] = rate_of<ZOH>(z);
    reach = {fmaxf(reach.re, fabsf(k.rate[m].re)), fmaxf(reach.im, fabsf(k.rate[m].im))};
    const c64 beta = mode.b * inv(mode.lambda);
    k.beta[m] = narrow(beta), k.beta_divisor[m] = narrow(divisor(beta)), k.per_beta[m] = narrow(inv(divisor(beta)));
    k.c[m] = n < q.pairs ? load32(c0, (i64)h * q.pairs + n) : c32{0, 0};
    k.c_divisor[m] = divisor(widen(k.c[m]));
    k.gain[m] = narrow(k.c_divisor[m] * beta), k.per_c[m] = narrow(inv(k.c_divisor[m]));
  }
  k.reach = {warp_extreme<true>(reach.re), warp_extreme<true>(reach.im)};
  return k;
}

// How far intervals take the modes of a head at most.
DEV Distance distance_of(const Reach& reach, float longest) {
  const float re = longest * reach.re, im = longest * reach.im;
  if (re <= 1.f / 43 && im <= 0.5f) return im <= 0.1f ? TENTH_TURN : im <= 0.25f ? QUARTER_TURN : HALF_TURN;
  return re <= 1.f / 9 && im <= 2097152.f ? SLOW : ANY;
}
