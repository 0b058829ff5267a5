// Batch norm of x (B, H, L): mean and variance of each head over all valid time steps of all sequences.
//
// A piece is up to PIECE_STEPS consecutive time steps of one head of one sequence. One warp holds a piece in registers
// and computes its sums; one block per head adds the sums of all pieces; another kernel, again one warp per piece,
// writes the result. It begins with the last pieces, which the second-level cache still holds of the first kernel.
#include "common/base.cuh"

constexpr int PIECE_STEPS = 1024;

struct Piece {
  int h, n;     // head; valid time steps of the piece
  i64 at, size; // index in x of its first time step; time steps up to L
  i64 sums_index;     // index in arrays (H, B, pieces per sequence) of sums

  // Finds the piece of this warp, number blockIdx.x·8 + warp of (B, H, pieces per sequence), or of the blocks in reverse
  // order; false beyond the last. Block: 256 threads.
  __device__ bool find(const int* lengths, int B, int H, i64 L, int pieces, bool reverse = false) {
    const i64 block = reverse ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
    const i64 w = block * 8 + (threadIdx.x >> 5), line = quotient(w, pieces), b = quotient(line, H);
    if (b >= B) return false;
    const i64 from = (w - line * pieces) * PIECE_STEPS;
    h = (int)(line - b * H);
    at = line * L + from;
    size = min(L - from, (i64)PIECE_STEPS);
    n = (int)max(min((i64)sequence_len(lengths, (int)b, (int)L) - from, size), (i64)0);
    sums_index = ((i64)h * B + b) * pieces + w - line * pieces;
    return true;
  }
  // First time step, within the piece, of the four that a lane holds in v[4k … 4k + 3].
  __device__ static int quad(int k) { return 4 * ((threadIdx.x & 31) + 32 * k); }
  // The piece's elements of an array, zero beyond the valid ones.
  __device__ void read(float (&v)[32], const float* x, bool vec) const {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      float q[4] = {};
      const int t = quad(k);
      if (t < n) read4(q, x + at + t, n - t, vec);
#pragma unroll
      for (int i = 0; i < 4; ++i) v[4 * k + i] = t + i < n ? q[i] : 0.f;
    }
  }
};

// part (H, B, pieces): mean of each piece and Σ (x − mean)². One warp per piece.
KERNEL batch_norm_pieces(float2* part, const float* x, const int* lengths, int B, int H, i64 L, int pieces) {
  Piece p;
  if (!p.find(lengths, B, H, L, pieces)) return;
  float v[32], s = 0.f;
  p.read(v, x, L % 4 == 0 && aligned(x));
#pragma unroll
  for (int k = 0; k < 32; ++k) s += v[k];
  const float mean = p.n ? warp_sum(s) / p.n : 0.f;
  s = 0.f;
#pragma unroll
  for (int k = 0; k < 32; ++k)
    if (Piece::quad(k / 4) + k % 4 < p.n) s += (v[k] - mean) * (v[k] - mean);
  s = warp_sum(s);
  if ((threadIdx.x & 31) == 0) part[p.sums_index] = make_float2(mean, s);
}

// Number of valid time steps in piece k of a head. A piece has `size` time steps (the last of a sequence may have
// fewer); sequence b has pieces b·pieces … (b + 1)·pieces − 1.
DEV double valid_samples(const int* lengths, int k, i64 L, int pieces, int size = PIECE_STEPS) {
  const int b = k / pieces;
  return (double)max(min((i64)sequence_len(lengths, b, (int)L) - (i64)(k - b * pieces) * size, (i64)size), (i64)0);
}

// The moments of head blockIdx.x over all its pieces: number of valid time steps, mean, Σ (x − mean)². Called by all threads of a block.
struct Moments {
  double count, mean, squares;
  __device__ static Moments of_pieces(const float2* part, const int* lengths, int B, i64 L, int pieces, int size = PIECE_STEPS) {
    const float2* mine = part + (i64)blockIdx.x * B * pieces;
    double count = 0, s = 0;
    for (int k = threadIdx.x; k < B * pieces; k += blockDim.x) {
      const double n = valid_samples(lengths, k, L, pieces, size);
      count += n, s += n * mine[k].x;
    }
    count = block_sum(count);
    const double middle = block_sum(s) / count;
    s = 0;
    for (int k = threadIdx.x; k < B * pieces; k += blockDim.x) {
      const double d = mine[k].x - middle;
      s += mine[k].y + valid_samples(lengths, k, L, pieces, size) * d * d;
    }
    return {count, middle, block_sum(s)};
  }
  // running (2, H: mean, unbiased variance) of head h moves towards these by the share momentum.
  __device__ void move(float* running, int h, int H, double momentum) const {
    const double unbiased = squares / fmax(count - 1.0, 1.0);
    running[h] = (float)((1.0 - momentum) * running[h] + momentum * mean);
    running[H + h] = (float)((1.0 - momentum) * running[H + h] + momentum * unbiased);
  }
  __device__ float rstd(double eps) const { return (float)(1.0 / sqrt(squares / count + eps)); }
};

// stats (2, H): mean and 1/√(variance + eps) of each head. When training they come from the pieces, and running (2, H:
// mean, unbiased variance) moves towards them by momentum; otherwise they come from running. size: time steps of a piece. One block per head.
KERNEL batch_norm_stats(float* stats, float* running, const float2* part, const int* lengths, double eps, double momentum,
                        int training, int B, int H, i64 L, int pieces, int size) {
  const int h = blockIdx.x;
  float mean, rstd;
  if (training) {
    const Moments m = Moments::of_pieces(part, lengths, B, L, pieces, size);
    mean = (float)m.mean, rstd = m.rstd(eps);
    if (threadIdx.x == 0) m.move(running, h, H, momentum);
  } else {
    mean = running[h];
    rstd = (float)(1.0 / sqrt((double)running[H + h] + eps));
  }
  if (threadIdx.x == 0) stats[h] = mean, stats[H + h] = rstd;
}

// moments (2 H + 1): mean and Σ (x − mean)² of each head, then the number of valid time steps. One block per head.
KERNEL batch_norm_moments(float* moments, const float2* part, const int* lengths, int B, int H, i64 L, int pieces) {
  const Moments m = Moments::of_pieces(part, lengths, B, L, pieces);
  if (threadIdx.x) return;
  moments[blockIdx.x] = (float)m.mean, moments[H + blockIdx.x] = (float)m.squares;
  if (blockIdx.x == 0) moments[2 * H] = (float)m.count;
}

// stats and running as in batch_norm_stats, from the moments (ranks, 2 H + 1) of several ranks. One thread per head.
KERNEL batch_norm_joint(float* stats, float* running, const float* moments, int ranks, int H, double eps, double momentum) {
  const int h = blockIdx.x * blockDim.x + threadIdx.x;
  if (h >= H) return;
  const i64 width = 2 * (i64)H + 1;
  Moments all = {0, 0, 0};
  for (int r = 0; r < ranks; ++r) {
    const double n = moments[r * width + 2 * H];
    all.count += n, all.mean += n * moments[r * width + h];
  }
  all.mean /= all.count;
  for (int r = 0; r < ranks; ++r) {
    const double d = moments[r * width + h] - all.mean;
    all.squares += moments[r * width + H + h] + moments[r * width + 2 * H] * d * d;
  }
  stats[h] = (float)all.mean, stats[H + h] = all.rstd(eps);
  all.move(running, h, H, momentum);
}

// y (B, H, L) = γ(x − mean)·rstd + β from stats (2, H); 0 beyond each sequence's length. One warp per piece.
KERNEL batch_norm_normalize(float* y, const float* stats, const float* x, const float* gamma, const float* beta,
                        const int* lengths, int B, int H, i64 L, int pieces) {
  Piece p;
  if (!p.find(lengths, B, H, L, pieces, true)) return;
  const bool vec = L % 4 == 0 && aligned(x) && aligned(y);
  const float mean = stats[p.h], g = gamma[p.h] * stats[H + p.h], shift = beta[p.h];
  float v[32];
  p.read(v, x, vec);
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const int t = Piece::quad(k);
    float q[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = t + i < p.n ? fmaf(g, v[4 * k + i] - mean, shift) : 0.f;
    if (t < p.size) write4(y + p.at + t, q, p.size - t, vec);
  }
}

// part (H, B, pieces): Σ dy and Σ dy·(x − mean) of each piece. One warp per piece.
KERNEL batch_norm_sums(float2* part, const float* dy, const float* x, const float* stats, const int* lengths, int B, int H,
                       i64 L, int pieces) {
  Piece p;
  if (!p.find(lengths, B, H, L, pieces)) return;
  const bool vec = L % 4 == 0 && aligned(x) && aligned(dy);
  const float mean = stats[p.h];
  float v[32], d[32], s1 = 0.f, s2 = 0.f;
  p.read(v, x, vec);
  p.read(d, dy, vec);
#pragma unroll
  for (int k = 0; k < 32; ++k) s1 += d[k], s2 += d[k] * (v[k] - mean);
  s1 = warp_sum(s1), s2 = warp_sum(s2);
  if ((threadIdx.x & 31) == 0) part[p.sums_index] = make_float2(s1, s2);
}

// dγ += Σ dy·x̂, dβ += Σ dy with x̂ = (x − mean)·rstd, and sums (2 H + 1): Σ dy and Σ dy·x̂ of each head, then the number of valid time
// steps. One block per head.
KERNEL batch_norm_dparams(float* dgamma, float* dbeta, float* sums, const float2* part, const float* stats,
                          const int* lengths, int B, int H, i64 L, int pieces) {
  const int h = blockIdx.x;
  const float2* mine = part + (i64)h * B * pieces;
  double count = 0, s1 = 0, s2 = 0;
  for (int k = threadIdx.x; k < B * pieces; k += blockDim.x)
    count += valid_samples(lengths, k, L, pieces), s1 += mine[k].x, s2 += mine[k].y;
  count = block_sum(count);
  s1 = block_sum(s1);
  s2 = block_sum(s2) * stats[H + h];
  if (threadIdx.x) return;
  dgamma[h] += (float)s2, dbeta[h] += (float)s1;
  sums[h] = (float)s1, sums[H + h] = (float)s2;
  if (h == 0) sums[2 * H] = (float)count;
}

// dx (B, H, L) = γ·rstd·(dy − mean(dy) − x̂·mean(dy·x̂)) (+ residual, where not null), the means by the sums of batch_norm_dparams;
// without them, where not training. One warp per piece.
KERNEL batch_norm_dx(float* dx, const float* dy, const float* x, const float* residual, const float* stats,
                     const float* sums, const float* gamma, const int* lengths, int training, int B, int H, i64 L, int pieces) {
  Piece p;
  if (!p.find(lengths, B, H, L, pieces, true)) return;
  const bool vec = L % 4 == 0 && aligned(x) && aligned(dy) && aligned(dx) && aligned(residual);
  const float mean = stats[p.h], g = gamma[p.h] * stats[H + p.h];
  float2 m = {0.f, 0.f};
  if (training) m = make_float2(sums[p.h] / sums[2 * H], sums[H + p.h] / sums[2 * H] * stats[H + p.h]);
  // Eight elements at a time per lane: few registers, so that many warps wait for memory at once.
#pragma unroll 1
  for (int k = 0; k < 8; k += 2) {
    float v[2][4], d[2][4], q[2][4] = {};
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int t = Piece::quad(k + j);
      if (t >= p.size) continue;
      read4(v[j], x + p.at + t, p.size - t, vec);
      read4(d[j], dy + p.at + t, p.size - t, vec);
      if (residual) read4(q[j], residual + p.at + t, p.size - t, vec);
    }
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int t = Piece::quad(k + j);
      if (t >= p.size) continue;
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (t + i < p.n) q[j][i] += g * fmaf(mean - v[j][i], m.y, d[j][i] - m.x);
      write4(dx + p.at + t, q[j], p.size - t, vec);
    }
  }
}
