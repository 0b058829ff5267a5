// The pointwise parts of a block's second half (the product between them is gemm.cu):
//   a = dropout(activation(s)),  z = W a + b,  y = dropout(gate(z)) (+ residual).
#include "pointwise.cuh"

// a = mask·f(s), n elements in lines of `len`.
KERNEL activate_drop(float* a, const float* s, i64 n, i64 len, int f, DROP) {
  DROP_HERE;
  for (i64 q = index(); q * 4 < n; q += stride()) {
    float m[4];
    factors(drop, q, len, m);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (q * 4 + i < n) a[q * 4 + i] = m[i] * activate(f, s[q * 4 + i]);
  }
}

// ds = da·mask·f′(s), in place over da.
KERNEL activate_drop_backward(float* ds, const float* s, i64 n, i64 len, int f, DROP) {
  DROP_HERE;
  for (i64 q = index(); q * 4 < n; q += stride()) {
    float m[4];
    factors(drop, q, len, m);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (q * 4 + i < n) ds[q * 4 + i] *= m[i] * activate_slope(f, s[q * 4 + i]);
  }
}

// y (B, outputs, len) from z (B, rows, len); rows = 2·outputs with GLU: first half · σ(second half).
KERNEL gate(float* y, const float* z, const float* residual, i64 n, i64 len, i64 outputs, int glu, int f, DROP) {
  DROP_HERE;
  const i64 size = outputs * len, zsize = glu ? 2 * size : size;
  for (i64 q = index(); q * 4 < n; q += stride()) {
    float m[4];
    factors(drop, q, len, m);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const i64 e = q * 4 + i;
      if (e >= n) break;
      const float* p = z + e / size * zsize + e % size;
      float v = m[i] * (glu ? p[0] * sigmoid(p[size]) : activate(f, p[0]));
      if (residual) v += residual[e];
      y[e] = v;
    }
  }
}

// dz from dy and z: with g = σ(z2), dz1 = mask·dy·g and dz2 = mask·dy·z1·g(1 − g).
KERNEL gate_backward(float* dz, const float* dy, const float* z, i64 n, i64 len, i64 outputs, int glu, int f, DROP) {
  DROP_HERE;
  const i64 size = outputs * len, zsize = glu ? 2 * size : size;
  for (i64 q = index(); q * 4 < n; q += stride()) {
    float m[4];
    factors(drop, q, len, m);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const i64 e = q * 4 + i;
      if (e >= n) break;
      const i64 at = e / size * zsize + e % size;
      const float d = m[i] * dy[e];
      if (glu) {
        const float g = sigmoid(z[at + size]), dg = d * g;
        dz[at + size] = dg * z[at] * (1.f - g);
        dz[at] = dg;
      } else {
        dz[at] = d * activate_slope(f, z[at]);
      }
    }
  }
}

KERNEL activation_forward(float* y, const float* x, i64 n, int f) {
  for (i64 i = index(); i < n; i += stride()) y[i] = activate(f, x[i]);
}
KERNEL activation_backward(float* dx, const float* dy, const float* x, i64 n, int f) {
  for (i64 i = index(); i < n; i += stride()) dx[i] = dy[i] * activate_slope(f, x[i]);
}
