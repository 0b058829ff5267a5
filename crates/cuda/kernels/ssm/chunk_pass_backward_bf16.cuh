// How chunk_pass_backward_bf16.cu and chunk_pass_backward_bf16_sm90.cu read their operands: for each (sequence, chunk)
// of one head, in order, 64 time steps of dY and X and 64 coordinates of the states dS and S.
#pragma once
#include "common/split16.cuh"
#include "ssm/chunk.cuh"

#if __CUDA_ARCH__ >= 800

constexpr int NP = 64, I = T + NP;

// What one thread reads: four columns of one operand, of every fourth (sequence, chunk).
struct OperandReader {
  const float* from;
  const int* lengths;
  i64 batch, L, len;
  int at, total, b, c, chunks, within;
  bool state, vec;

  // Columns 4·(threadIdx.x % 64) of [dY | dS | X | S], rows (sequence, chunk) first + threadIdx.x / 64 + 4l. Block: 256
  // threads.
  __device__ OperandReader(const float* dy, const float* ds, const float* x, const float* s, const int* lengths, int B, int H,
                   int out_channels, int out_channel, int chunks, i64 L, int vec, int first)
      : lengths(lengths), L(L), total(B * chunks), chunks(chunks), vec(vec) {
    const int kind = this->kind(), h = blockIdx.x;
    within = (threadIdx.x & 15) * 4;
    state = kind & 1;
    from = kind == 0   ? dy + ((i64)out_channel * H + h) * L
           : kind == 2 ? x + (i64)h * L
                       : (kind == 1 ? ds : s) + (i64)h * total * NP;
    batch = state ? (i64)chunks * NP : kind == 0 ? (i64)out_channels * H * L : (i64)H * L;
    at = first + (threadIdx.x >> 6), b = min(at / chunks, B - 1), c = at - b * chunks;
    len = length();
    from += b * batch + (i64)c * T + within;
  }

  // 0: dY, 1: dS, 2: X, 3: S.
  __device__ static int kind() { return (threadIdx.x & 63) >> 4; }
  __device__ i64 length() const { return state ? (i64)chunks * T : lengths ? (i64)lengths[b] : L; }

  // Loads the next N rows; zero beyond a sequence's length and beyond the last row.
  template <int N>
  __device__ __forceinline__ void fetch(float4 (&next)[N]) {
#pragma unroll
    for (int l = 0; l < N; ++l) {
      const i64 left = at < total ? len - (i64)c * T - within : 0;
      if (vec || state) {
        next[l] = read4_if(from, left > 0);
        if (left > 0 && left < 4) {
          next[l].w = 0.f;
          if (left < 3) next[l].z = 0.f;
          if (left < 2) next[l].y = 0.f;
        }
      } else {
        next[l] = make_float4(read_if(from, left > 0), read_if(from + 1, left > 1), read_if(from + 2, left > 2),
                              read_if(from + 3, left > 3));
      }
      at += 4, c += 4, from += 4 * T;
      while (c >= chunks && at < total) {
        c -= chunks, ++b, from += batch - (i64)chunks * T;
        len = length();
      }
    }
  }
};

// Steps of `step` rows that this block takes, first … end − 1: one of gridDim.y equal ranges, by blockIdx.y.
DEV void steps_of_block(int total, int step, int& first, int& end) {
  const int steps = (total + step - 1) / step, each = (steps + (int)gridDim.y - 1) / (int)gridDim.y;
  first = (int)blockIdx.y * each, end = min(steps, first + each);
}

#define GRAD(name, PROD, blocks)                                                                                    \
  extern "C" __global__ void __launch_bounds__(256, blocks)                                                        \
      name(float* gradients, const float* dy, const float* ds, const float* x, const float* s, const int* lengths, int B, \
           int H, int out_channels, int out_channel, int chunks, i64 L, int rows, int vec) {                                  \
    chunk_grad<PROD>(gradients, dy, ds, x, s, lengths, B, H, out_channels, out_channel, chunks, L, rows, vec);                     \
  }

#endif
