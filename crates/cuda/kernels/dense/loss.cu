// Losses with their gradients for each row of the outputs (rows, outputs), and the sum over rows.
#include "codes.cuh"
#include "common/base.cuh"

// Value and gradient of one row's loss. cells (rows, 2): weighted value, and the weight where the largest output is the label
// (cross-entropy), for loss_total to add; dout (rows, outputs): gradient, or null. kind: a LOSS_KIND_… of s4_backend;
// delta: where Huber's loss becomes linear; q0 … q8: `levels` levels of the quantile loss. One warp per row; block: 128
// threads.
KERNEL loss(double* cells, float* dout, const float* out, const float* values, const int* labels, const float* weights,
            int kind, double delta, i64 rows, int outputs, double denominator, int levels, double q0, double q1, double q2,
            double q3, double q4, double q5, double q6, double q7, double q8) {
  const i64 r = (i64)blockIdx.x * 4 + (threadIdx.x >> 5);
  if (r >= rows) return;
  const int lane = threadIdx.x & 31;
  const double weight = weights ? (double)weights[r] : 1.0, scale = weight / denominator;
  const float* x = out + r * outputs;
  float* d = dout ? dout + r * outputs : nullptr;
  double value = 0, hit = 0;
  if (kind == LOSS_KIND_CROSS_ENTROPY) {
    const int label = labels[r];
    // `at` becomes the index of the first of the largest outputs. A label out of range gives NaN, which the guard of
    // the update sees.
    if (label < 0 || weight == 0.0) {
      for (int i = lane; d && i < outputs; i += 32) d[i] = 0.f;
    } else {
      float best = -__int_as_float(0x7f800000);
      int at = 0x7fffffff;
      for (int i = lane; i < outputs; i += 32)
        if (at == 0x7fffffff || x[i] > best) best = x[i], at = i;
      for (int k = 16; k; k >>= 1) {
        const float v = __shfl_xor_sync(~0u, best, k);
        const int i = __shfl_xor_sync(~0u, at, k);
        if (i != 0x7fffffff && (at == 0x7fffffff || v > best || (v == best && i < at))) best = v, at = i;
      }
      double total = 0;
      for (int i = lane; i < outputs; i += 32) total += exp((double)x[i] - best);
      total = warp_sum(total);
      const double own = label < outputs ? (double)x[label] : __longlong_as_double(0x7ff8000000000000LL);
      for (int i = lane; d && i < outputs; i += 32)
        d[i] = (float)(scale * exp((double)x[i] - best) / total) - (i == label ? (float)scale : 0.f);
      value = log(total) + best - own;
      hit = at == label ? weight : 0.0;
    }
  } else if (kind == LOSS_KIND_GAUSSIAN) {
    const int width = outputs / 2;
    for (int i = lane; i < width; i += 32) {
      const double raw = x[width + i], ls = fmin(fmax(raw, -10.0), 10.0), precision = exp(-2.0 * ls);
      const double e = (double)x[i] - values[r * width + i];
      value += 0.5 * e * e * precision + (raw != raw ? raw : ls) + 0.9189385332046727;
      if (d) {
        d[i] = (float)(scale * e * precision);
        d[width + i] = raw >= -10.0 && raw <= 10.0 ? (float)(scale * (1.0 - e * e * precision)) : 0.f;
      }
    }
    value = warp_sum(value);
  } else if (kind == LOSS_KIND_QUANTILE) {
    const double q[] = {q0, q1, q2, q3, q4, q5, q6, q7, q8};
    const int width = outputs / levels;
    for (int i = lane; i < outputs; i += 32) {
      const double e = (double)x[i] - values[r * width + i % width], level = q[i / width];
      const double s = e > 0 ? 1 - level : e < 0 ? -level : e;
      value += s * e / levels;
      if (d) d[i] = (float)(scale * s / levels);
    }
    value = warp_sum(value);
  } else {
    for (int i = lane; i < outputs; i += 32) {
      const double e = (double)x[i] - values[r * outputs + i], a = fabs(e), sign = e > 0 ? 1.0 : e < 0 ? -1.0 : e;
      double v, s;
      if (kind == LOSS_KIND_MAE) v = a, s = sign;
      else if (kind == LOSS_KIND_HUBER && a > delta) v = delta * (a - 0.5 * delta), s = delta * sign;
      else if (kind == LOSS_KIND_HUBER) v = 0.5 * e * e, s = e;
      else if (kind == LOSS_KIND_LOG_COSH) v = a + log1p(exp(-2 * a)) - 0.69314718055994531, s = tanh(e);
      else v = e * e, s = 2 * e;
      value += v;
      if (d) d[i] = (float)(scale * s);
    }
    value = warp_sum(value);
  }
  if (lane == 0) cells[2 * r] = scale * value, cells[2 * r + 1] = hit;
}

// stats[0], stats[1] += the sums of cells (rows, 2), by one block, in an order that depends on the number of rows
// alone.
KERNEL loss_total(float* stats, const double* cells, i64 rows) {
  double v = 0, hit = 0;
  for (i64 r = threadIdx.x; r < rows; r += blockDim.x) v += cells[2 * r], hit += cells[2 * r + 1];
  v = block_sum(v);
  hit = block_sum(hit);
  if (threadIdx.x == 0) stats[0] += (float)v, stats[1] += (float)hit;
}
