// Pooling over time, masks, embedding, losses.
#include "common.cuh"

// x[b][h][t] ← 0 for t ≥ lengths[b].
KERNEL mask(float* x, const int* lengths, i64 n, i64 H, i64 L) {
  for (i64 i = index(); i < n; i += stride())
    if (i % L >= lengths[i / L / H]) x[i] = 0.f;
}

// First position of the largest value, over a warp; NaN counts as largest.
DEV int warp_first_max(const float* x, int n) {
  const int lane = threadIdx.x & 31;
  auto before = [](float v, int i, float w, int j) {  // whether (v, i) wins over (w, j)
    const bool nv = v != v, nw = w != w;
    if (nv != nw) return nv;
    if (!nv && v != w) return v > w;
    return i < j;
  };
  float best = 0.f;
  int at = 0x7fffffff;
  for (int t = lane; t < n; t += 32)
    if (at == 0x7fffffff || before(x[t], t, best, at)) best = x[t], at = t;
  for (int k = 16; k; k >>= 1) {
    const float v = __shfl_xor_sync(~0u, best, k);
    const int i = __shfl_xor_sync(~0u, at, k);
    if (i != 0x7fffffff && (at == 0x7fffffff || before(v, i, best, at))) best = v, at = i;
  }
  return at;
}

// Codes of s4_backend::Pooling: mean, last, first, max, sum. One warp a (row, head); block 128.
KERNEL pool(float* y, const float* x, const int* lengths, int kind, i64 rows, int H, i64 L) {
  const i64 r = (i64)blockIdx.x * 4 + (threadIdx.x >> 5);
  if (r >= rows) return;
  const int lane = threadIdx.x & 31, n = row_len(lengths, (int)(r / H), (int)L);
  const float* p = x + r * L;
  float v = 0.f;
  if (kind == 0 || kind == 4) {
    for (int t = lane; t < n; t += 32) v += p[t];
    v = warp_sum(v);
    if (kind == 0) v /= n;
  } else {
    v = p[kind == 1 ? n - 1 : kind == 2 ? 0 : warp_first_max(p, n)];
  }
  if (lane == 0) y[r] = v;
}

KERNEL pool_backward(float* dx, const float* dy, const float* x, const int* lengths, int kind, i64 rows, int H, i64 L) {
  const i64 r = (i64)blockIdx.x * 4 + (threadIdx.x >> 5);
  if (r >= rows) return;
  const int lane = threadIdx.x & 31, n = row_len(lengths, (int)(r / H), (int)L);
  const float d = dy[r];
  const int at = kind == 3 ? warp_first_max(x + r * L, n) : kind == 1 ? n - 1 : 0;
  for (i64 t = lane; t < L; t += 32) {
    float v;
    if (kind == 0) v = d / n;
    else if (kind == 4) v = d;
    else v = t == at ? d : 0.f;
    dx[r * L + t] = t < n ? v : 0.f;
  }
}

// y (B, H, L) = table (V, H) at tokens (B, L).
KERNEL embedding(float* y, const float* table, const int* tokens, i64 n, i64 H, i64 L) {
  for (i64 i = index(); i < n; i += stride()) {
    const i64 t = i % L, h = i / L % H, b = i / L / H;
    y[i] = table[(i64)tokens[b * L + t] * H + h];
  }
}

// part (splits, V, H): what each token's row receives from one share of the positions, in their order. Threads keep
// a head each and walk over the positions of their share. Block 128; grid (V, heads / 128, splits).
KERNEL embedding_backward(float* part, const float* dy, const int* tokens, i64 positions, int V, int H, i64 L) {
  const int v = blockIdx.x, h = blockIdx.y * 128 + threadIdx.x;
  const i64 each = (positions + gridDim.z - 1) / gridDim.z, first = blockIdx.z * each;
  const i64 last = min(first + each, positions);
  __shared__ int hit[128];
  float s = 0.f;
  for (i64 p0 = first; p0 < last; p0 += 128) {
    const i64 p = p0 + threadIdx.x;
    hit[threadIdx.x] = p < last && tokens[p] == v;
    const int any = __syncthreads_or(hit[threadIdx.x]);
    if (any && h < H)
      for (int k = 0; k < 128; ++k)
        if (hit[k]) {
          const i64 q = p0 + k;
          s += dy[(q / L * H + h) * L + q % L];
        }
    __syncthreads();
  }
  if (h < H) part[((i64)blockIdx.z * V + v) * H + h] = s;
}

// Codes of s4_backend::Loss: cross-entropy, mse, mae, huber, gaussian. One warp a row; block 128.
// cells: (rows, 2) value and hit, added up by `loss_total`.
KERNEL loss(double* cells, float* dout, const float* out, const float* values, const int* labels, const float* weights,
            int kind, double delta, i64 rows, int outputs, double denominator) {
  const i64 r = (i64)blockIdx.x * 4 + (threadIdx.x >> 5);
  if (r >= rows) return;
  const int lane = threadIdx.x & 31;
  const double weight = weights ? (double)weights[r] : 1.0, scale = weight / denominator;
  const float* x = out + r * outputs;
  float* d = dout ? dout + r * outputs : nullptr;
  double value = 0, hit = 0;
  if (kind == 0) {
    const int label = labels[r];
    // The first of the largest outputs; a label out of range gives NaN, which the guard of the update sees.
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
      hit = at == label;
    }
  } else if (kind == 4) {
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
  } else {
    for (int i = lane; i < outputs; i += 32) {
      const double e = (double)x[i] - values[r * outputs + i], a = fabs(e), sign = e > 0 ? 1.0 : e < 0 ? -1.0 : e;
      double v, s;
      if (kind == 2) v = a, s = sign;
      else if (kind == 3 && a > delta) v = delta * (a - 0.5 * delta), s = delta * sign;
      else if (kind == 3) v = 0.5 * e * e, s = e;
      else v = e * e, s = 2 * e;
      value += v;
      if (d) d[i] = (float)(scale * s);
    }
    value = warp_sum(value);
  }
  if (lane == 0) cells[2 * r] = scale * value, cells[2 * r + 1] = hit;
}

// stats[0..2] += Σ cells, one block, in an order that depends on the number of rows alone.
KERNEL loss_total(float* stats, const double* cells, i64 rows) {
  double v = 0, hit = 0;
  for (i64 r = threadIdx.x; r < rows; r += blockDim.x) v += cells[2 * r], hit += cells[2 * r + 1];
  v = block_sum(v);
  hit = block_sum(hit);
  if (threadIdx.x == 0) stats[0] += (float)v, stats[1] += (float)hit;
}
