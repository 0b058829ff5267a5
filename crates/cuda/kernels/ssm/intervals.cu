// What stands around the sequences with intervals of all kernels: sums of intervals before them, and after them the gradients, sums over
// the parts that `intervals_diagonal_backward.cu` and `intervals_low_rank.cu` leave, in their order.
#include "ssm/intervals.cuh"

// chunks (B, chunks) of one direction, from intervals (B, L): a warp each, lane by lane as the other kernels have the steps.
KERNEL intervals_chunks(Chunk* chunks, const float* intervals, const int* lengths, int L, int anticausal, i64 B) {
  const int lane = threadIdx.x & 31, count = (L + STEPS - 1) / STEPS;
  for (i64 i = index() / 32; i < B * count; i += stride() / 32) {
    const Way way = {sequence_len(lengths, i / count, L), anticausal};
    const int step = (int)(i % count) * STEPS + lane;
    const bool mine = step < way.steps();
    const float interval = mine ? intervals[i / count * L + way.input(step)] : 0.f;
    const double time = warp_sum((double)interval);
    const float longest = warp_extreme<true>(interval);
    if (lane == 0) chunks[i] = {time, longest, 0};
  }
}

// Sums the parts of each head in their order and carries them through the transforms: g_dt, g_re, g_im (H, P), g_b (H, P) and
// g_p (H, R, P), as `add_parameter_gradients` takes them. One block per head.
KERNEL intervals_sum(double* g_dt, double* g_re, double* g_im, c64* g_b, c64* g_p, const double* parts, int count, PARAMS) {
  PARAMS_HERE;
  const int h = blockIdx.x, P = q.pairs, R = q.rank, width = (5 + 2 * R) * P;
  const double* from = parts + (i64)h * count * width;
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    double s = 0;
    for (int k = 0; k < count; ++k) s += from[(i64)k * width + i];
    const int kind = i / P, n = i % P;
    const i64 o = (i64)h * P + n, a = (i64)(h % q.ssms) * P + n;
    if (kind == 0)
      g_dt[o] = s * q.rate * transform_derivative(q.t_dt, q.inv_dt[q.per_state ? o : h]);
    else if (kind == 1)
      g_re[o] = -s * transform_derivative(q.t_real, q.a_real[a]);
    else if (kind == 2)
      g_im[o] = -s * transform_derivative(q.t_imag, q.a_imag[a]);
    else if (kind < 5)
      ((double*)(g_b + o))[kind - 3] = s;
    else
      ((double*)(g_p + ((i64)h * R + (kind - 5) / 2) * P + n))[(kind - 5) % 2] = s;
  }
}

// c (outputs, 2) += the sum over the parts of dc (B, outputs) complex; outputs = kernel channels · H · P.
KERNEL intervals_add_c(float* c, const c64* dc, int B, i64 outputs) {
  for (i64 i = index(); i < outputs; i += stride()) {
    c64 s = {0, 0};
    for (int b = 0; b < B; ++b) s += dc[b * outputs + i];
    c[2 * i] += (float)s.re, c[2 * i + 1] += (float)s.im;
  }
}

// d (outputs) += the sum over the parts of dd (B, outputs); outputs = channels · H.
KERNEL intervals_add_d(float* d, const double* dd, int B, i64 outputs) {
  for (i64 i = index(); i < outputs; i += stride()) {
    double s = 0;
    for (int b = 0; b < B; ++b) s += dd[b * outputs + i];
    d[i] += (float)s;
  }
}
