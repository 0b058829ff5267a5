// AdamW, the sum of squares for clipping, the moving average of parameters and scaling, each over one flat array of n elements.
#include "common/base.cuh"

constexpr i64 PART = 8192;

// cells[p] = Σ x² of elements PART·p … PART·(p + 1) − 1. One block of 256 threads per p.
KERNEL squares(double* cells, const float* x, i64 n) {
  const i64 first = (i64)blockIdx.x * PART, last = min(first + PART, n);
  double s = 0;
  for (i64 i = first + threadIdx.x; i < last; i += blockDim.x) s += (double)x[i] * x[i];
  s = block_sum(s);
  if (threadIdx.x == 0) cells[blockIdx.x] = s;
}

// acc[0] += Σ cells. One block.
KERNEL squares_total(float* acc, const double* cells, i64 n) {
  double s = 0;
  for (i64 i = threadIdx.x; i < n; i += blockDim.x) s += cells[i];
  s = block_sum(s);
  if (threadIdx.x == 0) acc[0] += (float)s;
}

// Whether an update may happen. guard = [loss, Σ g²] of the step: unless both are finite, parameters and moments stay.
DEV bool allowed(const float* guard) { return isfinite(guard[0]) && isfinite(guard[1]); }

// AdamW, g clipped to the norm max_norm: m ← b1·m + c1·g, v ← b2·v + c2·g², θ ← keep·θ − rate·m / (√(v·correct) + ε),
// with c = 1 − b, keep = 1 − lr·decay, rate = lr/(1 − b1^t) and correct = 1/(1 − b2^t).
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

// average ← decay·average + rest·value, rest = 1 − decay.
KERNEL ema(float* average, const float* value, const float* guard, i64 n, float decay, float rest) {
  if (!allowed(guard)) return;
  for (i64 i = index(); i < n; i += stride()) average[i] = fmaf(decay, average[i], rest * value[i]);
}

// x ← factor·x.
KERNEL scale(float* x, i64 n, float factor) {
  for (i64 i = index(); i < n; i += stride()) x[i] *= factor;
}

// x ← (factor/divisor[0])·x.
KERNEL scale_by_ratio(float* x, const float* divisor, i64 n, double factor) {
  const float ratio = (float)(factor / divisor[0]);
  for (i64 i = index(); i < n; i += stride()) x[i] *= ratio;
}
