// The gradients of chunk_pass_backward.cu for NP = 64, from compute capability 8.0 on: products of bf16, three of split
// numbers (split16.cuh; PROD = 3) or one of the high parts.
//
// A block sums over its part of the (sequence, chunk) pairs of one head, 16 at a time: while the tensor cores work on
// 16, the next 16 are loaded from global memory, and are split on their way to shared memory. Eight warps of 32 × 64
// cells.
#include "ssm/chunk_pass_backward_bf16.cuh"

#if __CUDA_ARCH__ >= 800

constexpr int MK = 16;
constexpr int LD = I + 8;                  // 16-bit numbers per row of a plane (the high or low parts of an operand), 16 bytes more than a power of two
constexpr int PLANE = MK * LD;             // A high, A low, B high, B low
constexpr int STAGE = 4 * PLANE;

// gradients (parts, H, I, I), of which the first `rows` rows are written: I, or T where dToep and dW alone are wanted.
// Block: 256 threads; grid (H, parts); shared memory: two stages.
template <int PROD>
DEV void chunk_grad(float* gradients, const float* dy, const float* ds, const float* x, const float* s, const int* lengths,
                    int B, int H, int out_channels, int out_channel, int chunks, i64 L, int rows, int vec) {
  extern __shared__ unsigned short planes[];
  const int h = blockIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int m0 = (warp & 3) * 32, n0 = (warp >> 2) * 64;
  const int kind = OperandReader::kind(), k0 = threadIdx.x >> 6;
  int first, end;
  steps_of_block(B * chunks, MK, first, end);
  OperandReader reader(dy, ds, x, s, lengths, B, H, out_channels, out_channel, chunks, L, vec, first * MK);
  unsigned short* mine = planes + (kind >= 2 ? 2 * PLANE : 0) + (kind & 1) * T + reader.within;
  float4 next[MK / 4];
  auto put = [&](int stage) {
#pragma unroll
    for (int l = 0; l < MK / 4; ++l) {
      u32 h0, l0, h1, l1;
      split_bf16(h0, l0, next[l].x, next[l].y);
      split_bf16(h1, l1, next[l].z, next[l].w);
      unsigned short* p = mine + stage * STAGE + (4 * l + k0) * LD;
      *(uint2*)p = make_uint2(h0, h1);
      if (PROD == 3) *(uint2*)(p + PLANE) = make_uint2(l0, l1);
    }
  };

  float acc[2][8][4] = {};
  const bool wanted = m0 < rows;
  // ldmatrix: lane l gives the address of row l % 8 of tile l / 8; tiles are (k, m): (0, 0) (0, 8) (8, 0) (8, 8) of A
  // and (0, 0) (8, 0) (0, 8) (8, 8) of B.
  const u32 at_a = shared_address(planes + ((lane >> 4) * 8 + (lane & 7)) * LD + m0 + ((lane >> 3) & 1) * 8);
  const u32 at_b = shared_address(planes + 2 * PLANE + (((lane >> 3) & 1) * 8 + (lane & 7)) * LD + n0 + (lane >> 4) * 8);
  if (first < end) {
    reader.fetch(next);
    put(0);
  }
  __syncthreads();
  for (int step = first; step < end; ++step) {
    const u32 stage = ((step - first) & 1) * STAGE * 2;
    if (step + 1 < end) reader.fetch(next);
    if (wanted) {
#pragma unroll
      for (int k = 0; k < MK; k += 16) {
        u32 ah[2][4], al[2][4];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          load_transposed(ah[i], at_a + stage + 2 * (k * LD + 16 * i));
          if (PROD == 3) load_transposed(al[i], at_a + stage + 2 * (PLANE + k * LD + 16 * i));
        }
#pragma unroll
        for (int j = 0; j < 8; j += 2) {
          u32 bh[4], bl[4];
          load_transposed(bh, at_b + stage + 2 * (k * LD + 8 * j));
          if (PROD == 3) {
            load_transposed(bl, at_b + stage + 2 * (PLANE + k * LD + 8 * j));
#pragma unroll
            for (int i = 0; i < 2; ++i) mma_bf16(acc[i][j], al[i], bh[0], bh[1]), mma_bf16(acc[i][j + 1], al[i], bh[2], bh[3]);
#pragma unroll
            for (int i = 0; i < 2; ++i) mma_bf16(acc[i][j], ah[i], bl[0], bl[1]), mma_bf16(acc[i][j + 1], ah[i], bl[2], bl[3]);
          }
#pragma unroll
          for (int i = 0; i < 2; ++i) mma_bf16(acc[i][j], ah[i], bh[0], bh[1]), mma_bf16(acc[i][j + 1], ah[i], bh[2], bh[3]);
        }
      }
    }
    if (step + 1 < end) put((step + 1 - first) & 1);
    __syncthreads();
  }
  if (!wanted) return;
  float* o = gradients + ((i64)blockIdx.y * H + h) * I * I;
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        *(float2*)(o + (m0 + 16 * i + 8 * r + g) * I + n0 + 8 * j + 2 * t) = make_float2(acc[i][j][2 * r], acc[i][j][2 * r + 1]);
}

GRAD(grad_64_3, 3, 2)
GRAD(grad_64_1, 1, 2)

#endif
