// Layer norm over heads at each (row, time); batch norm over (rows, time) at each head.
#include "common.cuh"

// Sum over threadIdx.y (8) for each threadIdx.x (32).
DEV float sum_y(float x) {
  __shared__ float part[8][33];
  __syncthreads();
  part[threadIdx.y][threadIdx.x] = x;
  __syncthreads();
  float s = 0.f;
#pragma unroll
  for (int k = 0; k < 8; ++k) s += part[k][threadIdx.x];
  return s;
}

// Block (32, 8): 32 positions (row, time) × 8 shares of the heads. Grid: positions / 32.
KERNEL layer_norm(float* y, float* stats, const float* x, const float* gamma, const float* beta, float eps, i64 B, int H,
                  i64 L) {
  const i64 p = (i64)blockIdx.x * 32 + threadIdx.x;
  const bool in = p < B * L;
  const i64 b = in ? p / L : 0, t = in ? p % L : 0;
  const float* r = x + b * H * L + t;
  float s = 0.f;
  for (int h = threadIdx.y; in && h < H; h += 8) s += r[h * L];
  const float mean = sum_y(s) / H;
  s = 0.f;
  for (int h = threadIdx.y; in && h < H; h += 8) {
    const float d = r[h * L] - mean;
    s += d * d;
  }
  const float rstd = 1.f / sqrtf(sum_y(s) / H + eps);
  if (!in) return;
  float* o = y + b * H * L + t;
  for (int h = threadIdx.y; h < H; h += 8) o[h * L] = fmaf(gamma[h] * rstd, r[h * L] - mean, beta[h]);
  if (threadIdx.y == 0) stats[b * 2 * L + t] = mean, stats[b * 2 * L + L + t] = rstd;
}

// With g = γ·dy and x̂ = (x − μ)·rstd: dx = rstd·(g − mean(g) − x̂·mean(g·x̂)).
KERNEL layer_norm_dx(float* dx, const float* dy, const float* x, const float* stats, const float* gamma, int add, i64 B,
                     int H, i64 L) {
  const i64 p = (i64)blockIdx.x * 32 + threadIdx.x;
  const bool in = p < B * L;
  const i64 b = in ? p / L : 0, t = in ? p % L : 0, at = b * H * L + t;
  const float mean = stats[b * 2 * L + t], rstd = stats[b * 2 * L + L + t];
  float s1 = 0.f, s2 = 0.f;
  for (int h = threadIdx.y; in && h < H; h += 8) {
    const float g = gamma[h] * dy[at + h * L];
    s1 += g, s2 += g * ((x[at + h * L] - mean) * rstd);
  }
  s1 = sum_y(s1) / H;
  s2 = sum_y(s2) / H;
  if (!in) return;
  for (int h = threadIdx.y; h < H; h += 8) {
    const float xh = (x[at + h * L] - mean) * rstd, d = rstd * (gamma[h] * dy[at + h * L] - s1 - xh * s2);
    dx[at + h * L] = add ? dx[at + h * L] + d : d;
  }
}

// dγ[h] += Σ dy·x̂, dβ[h] += Σ dy. One block a head.
KERNEL layer_norm_dparams(float* dgamma, float* dbeta, const float* dy, const float* x, const float* stats, int B, int H,
                          i64 L) {
  const int h = blockIdx.x;
  float g = 0.f, s = 0.f;
  for (int b = 0; b < B; ++b) {
    const i64 at = ((i64)b * H + h) * L;
    const float *mean = stats + (i64)b * 2 * L, *rstd = mean + L;
    for (i64 t = threadIdx.x; t < L; t += blockDim.x) {
      const float d = dy[at + t];
      s += d, g += d * ((x[at + t] - mean[t]) * rstd[t]);
    }
  }
  g = block_sum(g);
  s = block_sum(s);
  if (threadIdx.x == 0) dgamma[h] += g, dbeta[h] += s;
}

DEV double count_of(const int* lengths, int B, i64 L) {
  if (!lengths) return (double)B * L;
  double s = 0;
  for (int b = threadIdx.x; b < B; b += blockDim.x) s += lengths[b];
  return block_sum(s);
}

// One block a head. `running` is updated when training, used otherwise; 0 beyond lengths.
KERNEL batch_norm(float* y, float* stats, float* running, const float* x, const float* gamma, const float* beta,
                  const int* lengths, double eps, double momentum, int training, int B, int H, i64 L) {
  const int h = blockIdx.x;
  float mean, rstd;
  if (training) {
    const double count = count_of(lengths, B, L);
    double s = 0;
    for (int b = 0; b < B; ++b) {
      const float* r = x + ((i64)b * H + h) * L;
      const i64 n = row_len(lengths, b, (int)L);
      float part = 0.f;
      for (i64 t = threadIdx.x; t < n; t += blockDim.x) part += r[t];
      s += part;
    }
    mean = (float)(block_sum(s) / count);
    s = 0;
    for (int b = 0; b < B; ++b) {
      const float* r = x + ((i64)b * H + h) * L;
      const i64 n = row_len(lengths, b, (int)L);
      float part = 0.f;
      for (i64 t = threadIdx.x; t < n; t += blockDim.x) part += (r[t] - mean) * (r[t] - mean);
      s += part;
    }
    const double variance = block_sum(s) / count;
    rstd = (float)(1.0 / sqrt(variance + eps));
    if (threadIdx.x == 0) {
      const double unbiased = variance * count / fmax(count - 1.0, 1.0);
      running[h] = (float)((1.0 - momentum) * running[h] + momentum * mean);
      running[H + h] = (float)((1.0 - momentum) * running[H + h] + momentum * unbiased);
    }
  } else {
    mean = running[h];
    rstd = (float)(1.0 / sqrt((double)running[H + h] + eps));
  }
  if (threadIdx.x == 0) stats[h] = mean, stats[H + h] = rstd;
  const float g = gamma[h] * rstd, be = beta[h];
  for (int b = 0; b < B; ++b) {
    const i64 at = ((i64)b * H + h) * L, n = row_len(lengths, b, (int)L);
    for (i64 t = threadIdx.x; t < L; t += blockDim.x) y[at + t] = t < n ? fmaf(g, x[at + t] - mean, be) : 0.f;
  }
}

// Training: dx = γ·rstd·(dy − mean(dy) − x̂·mean(dy·x̂)); otherwise γ·rstd·dy. One block a head.
KERNEL batch_norm_backward(float* dx, float* dgamma, float* dbeta, const float* dy, const float* x, const float* stats,
                           const float* gamma, const int* lengths, int training, int add, int B, int H, i64 L) {
  const int h = blockIdx.x;
  const float mean = stats[h], rstd = stats[H + h];
  const double count = count_of(lengths, B, L);
  double s1 = 0, s2 = 0;
  for (int b = 0; b < B; ++b) {
    const i64 at = ((i64)b * H + h) * L, n = row_len(lengths, b, (int)L);
    float p = 0.f, q = 0.f;
    for (i64 t = threadIdx.x; t < n; t += blockDim.x) p += dy[at + t], q += dy[at + t] * (x[at + t] - mean);
    s1 += p, s2 += q;
  }
  s1 = block_sum(s1);
  s2 = block_sum(s2) * rstd;
  if (threadIdx.x == 0) dgamma[h] += (float)s2, dbeta[h] += (float)s1;
  const float m1 = training ? (float)(s1 / count) : 0.f, m2 = training ? (float)(s2 / count) * rstd : 0.f;
  const float g = gamma[h] * rstd;
  for (int b = 0; b < B; ++b) {
    const i64 at = ((i64)b * H + h) * L, n = row_len(lengths, b, (int)L);
    for (i64 t = threadIdx.x; t < L; t += blockDim.x) {
      const float d = t < n ? g * fmaf(mean - x[at + t], m2, dy[at + t] - m1) : 0.f;
      dx[at + t] = add ? dx[at + t] + d : d;
    }
  }
}
