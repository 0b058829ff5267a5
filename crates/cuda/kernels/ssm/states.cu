// Copies of states to and from the padded form of the chunk pass (NP ≥ N numbers per head), and its impulse input.
#include "common/base.cuh"

// dst (rows, np) ← src (rows, n), rows = B·H: filled up with zeros, or cut where np < n.
KERNEL pad_state(float* dst, const float* src, i64 rows, int n, int np) {
  for (i64 i = index(); i < rows * np; i += stride()) dst[i] = i % np < n ? src[i / np * n + i % np] : 0.f;
}
// dst (B, H, N) ← the states of one segment, src (B, segments, H, NP)[:, segment].
KERNEL cut_state(float* dst, const float* src, int B, int H, int n, int np, int segments, int segment) {
  const i64 total = (i64)B * H * n;
  for (i64 i = index(); i < total; i += stride()) {
    const i64 bh = i / n, b = bh / H, h = bh % H;
    dst[i] = src[((b * segments + segment) * H + h) * np + i % n];
  }
}
// x (H, L) ← 1 at time step 0 of each head, 0 elsewhere.
KERNEL impulse(float* x, i64 H, i64 L) {
  for (i64 i = index(); i < H * L; i += stride()) x[i] = i % L == 0 ? 1.f : 0.f;
}
