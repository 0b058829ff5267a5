// States and inputs of the chunk pass: padded, taken out of segments, and an impulse.
#include "common/base.cuh"

// (B, H, N) ↔ (B, H, NP): pads with zeros, or cuts.
KERNEL pad_state(float* dst, const float* src, i64 rows, int n, int np) {
  for (i64 i = index(); i < rows * np; i += stride()) dst[i] = i % np < n ? src[i / np * n + i % np] : 0.f;
}
// dst (B, H, N) ← src (B, segments, H, NP) at `segment`.
KERNEL cut_state(float* dst, const float* src, int B, int H, int n, int np, int segments, int segment) {
  const i64 total = (i64)B * H * n;
  for (i64 i = index(); i < total; i += stride()) {
    const i64 bh = i / n, b = bh / H, h = bh % H;
    dst[i] = src[((b * segments + segment) * H + h) * np + i % n];
  }
}
// x ← 1 at time 0 of each head, 0 elsewhere.
KERNEL impulse(float* x, i64 H, i64 L) {
  for (i64 i = index(); i < H * L; i += stride()) x[i] = i % L == 0 ? 1.f : 0.f;
}
