// The pointwise parts of what follows the SSM in a block, the mix (gemm.cu computes the product between them):
//   a = dropout(activation(s)),  z = W a + b,  y = dropout(gate(z)) (+ residual).
#include "dense/activation.cuh"
#include "dense/dropout.cuh"

// a = mask·f(s), n elements (batch·features, len); mask is the factor of dropout, 0 or 1/(1 − p).
KERNEL activate_drop(float* a, const float* s, i64 n, i64 len, int f, DROP) {
  DROP_HERE;
  const bool all_aligned = aligned(a) && aligned(s);
  for (i64 q = index(); q * 4 < n; q += stride()) {
    float m[4], x[4];
    const bool vec = all_aligned && q * 4 + 4 <= n;
    read4(x, s + q * 4, n - q * 4, vec);
    factors(drop, q, len, m);
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = m[i] * activate(f, x[i]);
    write4(a + q * 4, x, n - q * 4, vec);
  }
}

// ds = da·mask·f′(s), written over da (ds holds da on entry).
KERNEL activate_drop_backward(float* ds, const float* s, i64 n, i64 len, int f, DROP) {
  DROP_HERE;
  const bool all_aligned = aligned(ds) && aligned(s);
  for (i64 q = index(); q * 4 < n; q += stride()) {
    float m[4], x[4], d[4];
    const bool vec = all_aligned && q * 4 + 4 <= n;
    read4(x, s + q * 4, n - q * 4, vec);
    read4(d, ds + q * 4, n - q * 4, vec);
    factors(drop, q, len, m);
#pragma unroll
    for (int i = 0; i < 4; ++i) d[i] *= m[i] * activate_slope(f, x[i]);
    write4(ds + q * 4, d, n - q * 4, vec);
  }
}

// Indices in z (B, rows, len) of four elements of y (B, outputs, len), with rows = outputs, or 2·outputs with GLU: the
// outputs z₁, then their gates z₂.
struct FourOutputs {
  i64 at[4], count;
  bool vec;
};
DEV FourOutputs quad(i64 q, i64 n, i64 size, i64 zsize, bool all_aligned) {
  FourOutputs r;
  r.count = n - q * 4;
  r.vec = all_aligned && r.count >= 4;  // all_aligned: size is a multiple of four
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const i64 e = q * 4 + i;
    if (r.vec && i) {
      r.at[i] = r.at[0] + i;
    } else {
      const i64 row = quotient(e, size);
      r.at[i] = row * zsize + e - row * size;
    }
  }
  return r;
}
// Reads the four elements of z at r.at into v; scatter writes v there.
DEV void gather(float (&v)[4], const float* z, const FourOutputs& r) {
  if (r.vec) return read4(v, z + r.at[0], 4, true);
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = i < r.count ? z[r.at[i]] : 0.f;
}
DEV void scatter(float* z, const float (&v)[4], const FourOutputs& r) {
  if (r.vec) return write4(z + r.at[0], v, 4, true);
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (i < r.count) z[r.at[i]] = v[i];
}

// y (B, outputs, len) = mask·z₁·σ(z₂) with GLU, else mask·f(z), (+ residual, where not null).
KERNEL gate(float* y, const float* z, const float* residual, i64 n, i64 len, i64 outputs, int glu, int f, DROP) {
  DROP_HERE;
  const i64 size = outputs * len, zsize = glu ? 2 * size : size;
  const bool all_aligned = size % 4 == 0 && aligned(y) && aligned(z) && aligned(residual);
  for (i64 q = index(); q * 4 < n; q += stride()) {
    float m[4], v[4], g[4], x[4] = {};
    const FourOutputs r = quad(q, n, size, zsize, all_aligned);
    gather(v, z, r);
    if (glu) gather(g, z + size, r);
    if (residual) read4(x, residual + q * 4, r.count, r.vec);
    factors(drop, q, len, m);
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = m[i] * (glu ? v[i] * sigmoid(g[i]) : activate(f, v[i])) + x[i];
    write4(y + q * 4, v, r.count, r.vec);
  }
}

// dz (B, rows, len) from dy and z; dz may be z's own memory. With g = σ(z₂), dz₁ = mask·dy·g and dz₂ = mask·dy·z₁·g(1 −
// g).
KERNEL gate_backward(float* dz, const float* dy, const float* z, i64 n, i64 len, i64 outputs, int glu, int f, DROP) {
  DROP_HERE;
  const i64 size = outputs * len, zsize = glu ? 2 * size : size;
  const bool all_aligned = size % 4 == 0 && aligned(dz) && aligned(dy) && aligned(z);
  for (i64 q = index(); q * 4 < n; q += stride()) {
    float m[4], d[4], v[4], w[4];
    const FourOutputs r = quad(q, n, size, zsize, all_aligned);
    read4(d, dy + q * 4, r.count, r.vec);
    gather(v, z, r);
    if (glu) gather(w, z + size, r);
    factors(drop, q, len, m);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      d[i] *= m[i];
      if (glu) {
        const float g = sigmoid(w[i]);
        d[i] *= g;
        w[i] = d[i] * v[i] * (1.f - g);
      } else {
        d[i] *= activate_slope(f, v[i]);
      }
    }
    scatter(dz, d, r);
    if (glu) scatter(dz + size, w, r);
  }
}
