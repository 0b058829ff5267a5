// Losses with their gradients for each row of the outputs (rows, outputs), and the sum over rows.
#include "codes.cuh"
#include "common/base.cuh"

// Value and gradient of one row's loss. cells (rows, 4): the row's part of each of the sums of s4_backend's LossForwardBackward,
// for loss_total to add; dout (rows, outputs): gradient, or null; predictions (rows): class of the largest output, or null.
// kind: a LOSS_KIND_… of s4_backend; delta: where Huber's loss becomes linear; smoothing, class_weights (outputs, or null), top_k:
// of cross-entropy; q0 … q8: `levels` levels of the quantile loss, number `centre` the point forecast. One warp per row; block:
// 128 threads.
KERNEL loss(double* cells, float* dout, float* predictions, const float* out, const float* values, const int* labels,
            const float* weights, const float* class_weights, int kind, double delta, double smoothing, int top_k, i64 rows,
            int outputs, double denominator, int levels, int centre, double q0, double q1, double q2, double q3, double q4,
            double q5, double q6, double q7, double q8) {
  const i64 r = (i64)blockIdx.x * 4 + (threadIdx.x >> 5);
  if (r >= rows) return;
  const int lane = threadIdx.x & 31;
  const double weight = weights ? (double)weights[r] : 1.0, scale = weight / denominator;
  const float* x = out + r * outputs;
  float* d = dout ? dout + r * outputs : nullptr;
  double value = 0, sum1 = 0, sum2 = 0, sum3 = 0;
  int prediction = -1;
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
      const bool in_range = label < outputs;
      const double own_x = in_range ? (double)x[label] : __longlong_as_double(0x7ff8000000000000LL);
      // (1 − ε)·v_y and ε/classes.
      const double own = (1.0 - smoothing) * (class_weights && in_range ? (double)class_weights[label] : 1.0);
      const double every = smoothing / outputs;
      double total = 0;
      for (int i = lane; i < outputs; i += 32) total += exp((double)x[i] - best);
      total = warp_sum(total);
      const double norm = log(total) + best, nll = norm - own_x;
      value = own * nll;
      double v_total = 0;
      if (every > 0.0) {
        // Σ_c v_c·ℓ_c and Σ_c v_c.
        double others = 0;
        for (int i = lane; i < outputs; i += 32) {
          const double v = class_weights ? (double)class_weights[i] : 1.0;
          others += v * (norm - x[i]);
          v_total += v;
        }
        value += every * warp_sum(others);
        v_total = warp_sum(v_total);
      }
      // ∂ℓ_c/∂x_j = softmax(x)[j] − [j = c].
      const double g = scale * (own + every * v_total);
      for (int i = lane; d && i < outputs; i += 32) {
        float di = (float)(g * exp((double)x[i] - best) / total);
        if (every > 0.0) di -= (float)(scale * every * (class_weights ? (double)class_weights[i] : 1.0));
        d[i] = di - (i == label ? (float)(scale * own) : 0.f);
      }
      bool in_top_k = at == label;
      if (top_k != 1) {
        double above = 0;
        for (int i = lane; i < outputs; i += 32) above += x[i] > own_x || (x[i] == own_x && i < label) ? 1.0 : 0.0;
        in_top_k = warp_sum(above) < top_k;
      }
      // Where an output is NaN, or none is finite, no class is predicted.
      const bool defined = nll == nll;
      sum1 = defined && at == label ? weight : 0.0;
      sum2 = defined && in_top_k ? weight : 0.0;
      sum3 = weight * nll;
      prediction = defined ? at : -1;
    }
  } else if (kind == LOSS_KIND_GAUSSIAN) {
    const int width = outputs / 2;
    for (int i = lane; i < width; i += 32) {
      const double raw = x[width + i], ls = fmin(fmax(raw, -10.0), 10.0), precision = exp(-2.0 * ls);
      const double e = (double)x[i] - values[r * width + i];
      value += 0.5 * e * e * precision + (raw != raw ? raw : ls) + 0.9189385332046727;
      // CRPS of N(μ, σ²): σ·[z(2Φ(z) − 1) + 2φ(z) − 1/√π] with z = e/σ.
      const double sigma = exp(ls), z = e / sigma;
      sum1 += e * e;
      sum2 += fabs(e);
      sum3 += sigma * (z * erf(z * 0.70710678118654752) + 0.79788456080286536 * exp(-0.5 * z * z) - 0.56418958354775629);
      if (d) {
        d[i] = (float)(scale * e * precision);
        d[width + i] = raw >= -10.0 && raw <= 10.0 ? (float)(scale * (1.0 - e * e * precision)) : 0.f;
      }
    }
    value = warp_sum(value);
    sum1 = weight * warp_sum(sum1), sum2 = weight * warp_sum(sum2), sum3 = weight * warp_sum(sum3);
  } else if (kind == LOSS_KIND_QUANTILE) {
    const double q[] = {q0, q1, q2, q3, q4, q5, q6, q7, q8};
    const int width = outputs / levels;
    for (int i = lane; i < outputs; i += 32) {
      const double e = (double)x[i] - values[r * width + i % width], level = q[i / width];
      const double s = e > 0 ? 1 - level : e < 0 ? -level : e;
      value += s * e / levels;
      if (i / width == centre) sum1 += e * e, sum2 += fabs(e);
      if (d) d[i] = (float)(scale * s / levels);
    }
    value = warp_sum(value);
    sum1 = weight * warp_sum(sum1), sum2 = weight * warp_sum(sum2), sum3 = weight * 2 * value;
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
      sum1 += e * e;
      sum2 += a;
      if (d) d[i] = (float)(scale * s);
    }
    value = warp_sum(value);
    sum1 = weight * warp_sum(sum1), sum2 = weight * warp_sum(sum2);
  }
  if (lane == 0) {
    cells[4 * r] = scale * value, cells[4 * r + 1] = sum1, cells[4 * r + 2] = sum2, cells[4 * r + 3] = sum3;
    if (predictions) predictions[r] = (float)prediction;
  }
}

// stats[i] += the sum of column i of cells (rows, 4), by one block, in an order that depends on the number of rows alone.
KERNEL loss_total(float* stats, const double* cells, i64 rows) {
  double sums[4] = {0, 0, 0, 0};
  for (i64 r = threadIdx.x; r < rows; r += blockDim.x)
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] += cells[4 * r + i];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const double sum = block_sum(sums[i]);
    if (threadIdx.x == 0) stats[i] += (float)sum;
  }
}
