// Stochastic depth: what a block adds, kept or dropped for whole sequences.
#include "dense/dropout.cuh"

// y[b][i] = m_b·x[b][i] + residual[b][i]; residual may be null. m_b is the factor of element b of the dropout. n elements, those of a
// sequence one after another.
KERNEL drop_path(float* y, const float* x, const float* residual, i64 n, i64 elements, DROP) {
  DROP_HERE;
  for (i64 i = index(); i < n; i += stride()) {
    const i64 b = i / elements;
    float f[4];
    factors(drop, b / 4, 1, f);
    const int j = (int)(b & 3);
    const float factor = j == 0 ? f[0] : j == 1 ? f[1] : j == 2 ? f[2] : f[3];
    y[i] = residual ? residual[i] + factor * x[i] : factor * x[i];
  }
}
