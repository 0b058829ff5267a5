// From the gradients of the pairs' records to those of the stored parameters: directly, and by C̃ = C(I − Ā^{L′}) to C
// and through the squarings of Ā to its parts, which discretize.cu takes. Heads from h0 on, `group` of them at a time.
#include "common/tile_product.cuh"
#include "ssm/cauchy_backward.cuh"

template <int R>
DEV void parameter_gradients(double* g_dt, double* g_re, double* g_im, c64* g_b, c64* g_p, c64* dc_tilde,
                             const double* partial, const double* records, int kc, int parts, int h0, const Params& q) {
  typedef Record<R> Of;
  typedef Fields<R> F;
  const int P = q.pairs, h = h0 + blockIdx.x;
  for (int n = threadIdx.x; n < P; n += blockDim.x) {
    c64 dx = {0, 0}, db = {0, 0}, dp[R + 1];
    for (int r = 0; r < R; ++r) dp[r] = {0, 0};
    double dh = 0;
    for (int k = 0; k < kc; ++k) {
      const i64 row = (i64)blockIdx.x * kc + k;
      const double *record = records + (row * P + n) * Of::SIZE, *from = partial + row * parts * F::SIZE * P + n;
      auto field = [&](int at) {
        double x = 0;
        for (int i = 0; i < parts; ++i) x += from[((i64)i * F::SIZE + at) * P];
        return x;
      };
      auto complex_field = [&](int at) { return c64{field(at), field(at + 1)}; };
      const c64 x = complex_at(record + Of::X), b = complex_at(record + Of::B), c = complex_at(record + Of::C);
      const double half = record[Of::H];
      auto p = [&](int r) { return complex_at(record + Of::P + 2 * r); };
      const double dsize = field(0), dg = field(1);
      dx += (2 * dsize) * x;
      dx.re -= 2 * dg;
      // The gradient of the numerator z of sum s, of which t = −h Re(z conj x) and v = h Re z.
      auto numerator = [&](int s, c64 z) {
        const double dt = field(2 + 2 * s), dv = field(3 + 2 * s);
        const c64 g = {dv - dt * x.re, -dt * x.im};
        dx -= (dt * half) * z;
        dh += dot(g, z);
        return half * g;
      };
      c64 g = numerator(0, c * b), dc = g * conj(b);
      db += g * conj(c);
      for (int r = 0; r < R; ++r) {
        g = numerator(1 + r, c * p(r));
        dc += g * conj(p(r)), dp[r] += g * conj(c);
        g = numerator(1 + R + r, conj(p(r)) * b);
        db += g * p(r), dp[r] += conj(g) * b;
        for (int s = 0; s < R; ++s) {
          g = numerator(1 + 2 * R + r * R + s, conj(p(r)) * p(s));
          dp[s] += g * p(r), dp[r] += conj(g) * p(s);
        }
      }
      if constexpr (R > 0) {
        constexpr int OWN = F::FIRST_OWN;
        dx += complex_field(OWN);
        const c64 dhb = complex_field(OWN + 2);
        db += half * dhb, dh += dot(dhb, b);
        dc += complex_field(OWN + 4);
        for (int r = 0; r < R; ++r) {
          const c64 e = complex_field(OWN + 6 + 4 * r);
          dp[r] += half * e + complex_field(OWN + 8 + 4 * r), dh += dot(e, p(r));
        }
      }
      dc_tilde[row * P + n] = dc;
    }
    // x = hλ, h = Δ/2.
    const i64 i = (i64)h * P + n, a = (i64)(h % q.ssms) * P + n;
    const double half = 0.5 * step_size(q, h, n);
    dh += dot(dx, lambda(q, h, n));
    g_re[i] = -half * dx.re * transform_derivative(q.t_real, q.a_real[a]);
    g_im[i] = -half * dx.im * transform_derivative(q.t_imag, q.a_imag[a]);
    g_dt[i] = 0.5 * dh * q.rate * transform_derivative(q.t_dt, q.inv_dt[q.per_state ? i : h]);
    g_b[i] = db;
    for (int r = 0; r < q.rank; ++r) g_p[((i64)h * q.rank + r) * P + n] = dp[r];
  }
}

// The direct gradients, as discretize_backward writes its own: f64 per head. dc_tilde (group, kc, P); partial (group, kc,
// parts, fields, P) of cauchy_backward.cu. Block: any number of threads; grid (group).
KERNEL cauchy_parameter_gradients(double* g_dt, double* g_re, double* g_im, c64* g_b, c64* g_p, c64* dc_tilde,
                                  const double* partial, const double* records, int kc, int parts, int h0, PARAMS) {
  PARAMS_HERE;
  const int R = padded_rank(q.rank);
#define OF(N) \
  if (R == N) parameter_gradients<N>(g_dt, g_re, g_im, g_b, g_p, dc_tilde, partial, records, kc, parts, h0, q);
  EACH_RANK(OF)
#undef OF
}

// x += y, of n elements.
KERNEL cauchy_add(double* x, const double* y, i64 n) {
  for (i64 i = index(); i < n; i += stride()) x[i] += y[i];
}

// dpower (group, np, np): the gradient of Ā^{L′}, by way of the row [2 Re C, −2 Im C] times it (cauchy_c_tilde).
KERNEL cauchy_power_gradient(double* dpower, const c64* dc_tilde, const float* c, int heads, int h0, int pairs, int kc,
                             int np, i64 total) {
  for (i64 e = index(); e < total; e += stride()) {
    const i64 h = quotient(e, (i64)np * np);
    const int at = (int)(e - h * np * np), i = at / np, j = at % np, P = pairs;
    double x = 0;
    if (i < 2 * P && j < 2 * P)
      for (int k = 0; k < kc; ++k) {
        const c64 row = load(c, ((i64)k * heads + h0 + h) * P + i % P), g = dc_tilde[(h * kc + k) * P + j % P];
        x += (i < P ? 2 * row.re : -2 * row.im) * (j < P ? -0.5 * g.re : 0.5 * g.im);
      }
    dpower[e] = x;
  }
}

// Adds the gradient of C to dc (kc, H, P) in f32. power (group, np, np): Ā^{L′}. One warp per row; grid (group, kc), any
// number of warps.
KERNEL cauchy_c_gradient(float* dc, const c64* dc_tilde, const double* power, int heads, int h0, int pairs, int np) {
  const int h = blockIdx.x, k = blockIdx.y, P = pairs, lane = threadIdx.x & 31;
  const double* a = power + (i64)h * np * np;
  const c64* g = dc_tilde + ((i64)h * gridDim.y + k) * P;
  for (int n = threadIdx.x / 32; n < P; n += blockDim.x / 32) {
    double re = 0, im = 0;
    for (int j = lane; j < P; j += 32) {
      re += -0.5 * g[j].re * a[n * np + j] + 0.5 * g[j].im * a[n * np + P + j];
      im += -0.5 * g[j].re * a[(P + n) * np + j] + 0.5 * g[j].im * a[(P + n) * np + P + j];
    }
    re = warp_sum(re), im = warp_sum(im);
    const i64 to = ((i64)k * heads + h0 + h) * P + n;
    if (lane == 0) dc[2 * to] += (float)(g[n].re + 2 * re), dc[2 * to + 1] += (float)(g[n].im - 2 * im);
  }
}

// dst = g·aᵀ + aᵀ·g of each head (group, np, np): from the gradient of a² to that of a. Block: 256 threads; grid (group,
// tiles).
KERNEL cauchy_square_gradient(double* dst, const double* g, const double* a, int np) {
  const int tiles = (np + TILE - 1) / TILE, m0 = blockIdx.y / tiles * TILE, n0 = blockIdx.y % tiles * TILE;
  const i64 at = (i64)blockIdx.x * np * np;
  g += at, a += at;
  double acc[4][4] = {};
  tile_product<true, true>(
      acc, np, [&](int k, int i) { return m0 + i < np ? g[(m0 + i) * np + k] : 0.0; },
      [&](int k, int i) { return n0 + i < np ? a[(n0 + i) * np + k] : 0.0; });
  tile_product(
      acc, np, [&](int k, int i) { return m0 + i < np ? a[k * np + m0 + i] : 0.0; },
      [&](int k, int i) { return n0 + i < np ? g[k * np + n0 + i] : 0.0; });
  EACH_CELL(i, j, r, c) {
    if (m0 + r < np && n0 + c < np) dst[at + (m0 + r) * np + n0 + c] = acc[i][j];
  }
}

// parts (H, (2 + 2R)·P), as discretize_backward reads one part: the gradients of (D₀, B̄, u, v) from that of Ā (group,
// np, np); cauchy_a_bar's transpose. Block: any number of warps; grid (group).
KERNEL cauchy_a_bar_gradient(c64* parts, const double* da, const c64* u, const c64* v, int h0, int pairs, int rank,
                             int np) {
  const int h = blockIdx.x, P = pairs, lane = threadIdx.x & 31;
  const double* g = da + (i64)h * np * np;
  c64* out = parts + (i64)(h0 + h) * (2 + 2 * rank) * P;
  u += (i64)h * rank * P, v += (i64)h * rank * P;
  for (int m = threadIdx.x / 32; m < P; m += blockDim.x / 32) {
    const double *top = g + m * np, *bottom = g + (P + m) * np;
    if (lane == 0) {
      out[m] = {top[m] + bottom[P + m], bottom[m] - top[P + m]};
      out[P + m] = {0, 0};
    }
    for (int r = 0; r < rank; ++r) {
      c64 du = {0, 0}, dv = {0, 0};
      for (int n = lane; n < P; n += 32) {
        const c64 z = v[r * P + n], w = u[r * P + n];
        du += c64{2 * (z.re * top[n] - z.im * top[P + n]), 2 * (z.re * bottom[n] - z.im * bottom[P + n])};
        const double *row = g + n * np, *below = g + (P + n) * np;
        dv += c64{2 * (w.re * row[m] + w.im * below[m]), -2 * (w.re * row[P + m] + w.im * below[P + m])};
      }
      du = {warp_sum(du.re), warp_sum(du.im)}, dv = {warp_sum(dv.re), warp_sum(dv.im)};
      if (lane == 0) out[(2 + r) * P + m] = du, out[(2 + rank + r) * P + m] = dv;
    }
  }
}

// The same for a diagonal A, with that of C, which is added to dc (kc, H, P): C̃ = C(1 − D₀^{L′}), L′ = 2^lg. Block: any
// number of threads; grid (group).
KERNEL cauchy_diagonal_gradient(c64* parts, float* dc, const c64* dc_tilde, const float* c, const c64* d0, int heads,
                                int h0, int pairs, int kc, int lg) {
  const int h = blockIdx.x, P = pairs;
  for (int n = threadIdx.x; n < P; n += blockDim.x) {
    c64 square = d0[(i64)h * P + n], before = {1, 0};  // D₀^{L′−1}, so that nothing is divided by a D₀ of 0
    for (int i = 0; i < lg; ++i) before = before * square, square = square * square;
    c64 dd0 = {0, 0};
    for (int k = 0; k < kc; ++k) {
      const i64 at = ((i64)k * heads + h0 + h) * P + n;
      const c64 g = dc_tilde[((i64)h * kc + k) * P + n];
      const c64 dcn = g * conj(c64{1, 0} - square);
      dd0 -= ldexp(1.0, lg) * (g * conj(load(c, at) * before));
      dc[2 * at] += (float)dcn.re, dc[2 * at + 1] += (float)dcn.im;
    }
    c64* out = parts + (i64)(h0 + h) * 2 * P;
    out[n] = dd0, out[P + n] = {0, 0};
  }
}
