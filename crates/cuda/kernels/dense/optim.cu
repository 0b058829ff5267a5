// AdamW, the sum of squares for clipping, and the moving average: one pass over a flat buffer each.
#include "common/base.cuh"

constexpr i64 PART = 8192;

// cells[p] = Σ x² of elements PART·p … Block 256; one block a part.
KERNEL squares(double* cells, const float* x, i64 n) {
  const i64 first = (i64)blockIdx.x * PART, last = min(first + PART, n);
  double s = 0;
  for (i64 i = first + threadIdx.x; i < last; i += blockDim.x) s += (double)x[i] * x[i];
  s = block_sum(s);
  if (threadIdx.x == 0) cells[blockIdx.x] = s;
}

// acc[0] += Σ cells, one block.
KERNEL squares_total(float* acc, const double* cells, i64 n) {
  double s = 0;
  for (i64 i = threadIdx.x; i < n; i += blockDim.x) s += cells[i];
  s = block_sum(s);
  if (threadIdx.x == 0) acc[0] += (float)s;
}

// guard = [loss, Σ g²]: unless both are finite nothing changes.
DEV bool allowed(const float* guard) { return isfinite(guard[0]) && isfinite(guard[1]); }

// With g clipped: m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², θ ← (1 − lr·decay)θ − rate·m / (√(v·correct) + ε).
KERNEL adamw(float* value, float* m, float* v, const float* grad, const float* guard, i64 n, float b1, float c1, float b2,
             float c2, float rate, float correct, float keep, float eps, double max_norm) {
  if (!allowed(guard)) return;
  const double norm = sqrt((double)guard[1]);
  const float scale = norm > max_norm ? (float)(max_norm / norm) : 1.f;
  for (i64 i = index(); i < n; i += stride()) {
    const float g = grad[i] * scale;
    const float a = m[i] = fmaf(b1, m[i], c1 * g), b = v[i] = fmaf(b2, v[i], c2 * g * g);
    value[i] = keep * value[i] - rate * a / (sqrtf(b * correct) + eps);
  }
}

KERNEL ema(float* average, const float* value, const float* guard, i64 n, float decay, float rest) {
  if (!allowed(guard)) return;
  for (i64 i = index(); i < n; i += stride()) average[i] = fmaf(decay, average[i], rest * value[i]);
}
