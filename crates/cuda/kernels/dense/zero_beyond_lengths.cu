// Sets time steps beyond the lengths of sequences to zero.
#include "common/base.cuh"

// x[b][h][t] ← 0 for t ≥ lengths[b]; x (B, H, L) of n elements.
KERNEL zero_beyond_lengths(float* x, const int* lengths, i64 n, i64 H, i64 L) {
  for (i64 i = index(); i < n; i += stride())
    if (i % L >= lengths[i / L / H]) x[i] = 0.f;
}
