// The gradients of chunk_pass_backward_bf16.cu by warpgroups (wgmma.cuh). The sum runs over (sequence, chunk), which is
// the slow index of both operands in memory: wgmma takes both transposed.
#include "ssm/chunk_pass_backward_bf16.cuh"
#include "common/wgmma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr int MK = 32;
using Core = CoreMatrices<false>;
constexpr int PLANE = Core::BYTES, STAGE = 4 * PLANE;  // A high, A low, B high, B low

// As in chunk_pass_backward_bf16.cu. Two warpgroups, each for 64 × 128 cells; shared memory: two stages.
template <int PROD>
DEV void chunk_grad(float* gradients, const float* dy, const float* ds, const float* x, const float* s, const int* lengths,
                    int B, int H, int out_channels, int out_channel, int chunks, i64 L, int rows, int vec) {
  extern __shared__ __align__(128) char planes[];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int kind = OperandReader::kind(), k0 = threadIdx.x >> 6;
  int first, end;
  steps_of_block(B * chunks, MK, first, end);
  OperandReader reader(dy, ds, x, s, lengths, B, H, out_channels, out_channel, chunks, L, vec, first * MK);
  const int i = (kind & 1) * T + reader.within;
  char* mine = planes + (kind >= 2 ? 2 * PLANE : 0);
  float4 next[MK / 4];
  auto put = [&](int stage) {
#pragma unroll
    for (int l = 0; l < MK / 4; ++l) {
      uint2 high, low;
      split_bf16(high.x, low.x, next[l].x, next[l].y);
      split_bf16(high.y, low.y, next[l].z, next[l].w);
      char* p = mine + stage * STAGE + Core::at(i, 4 * l + k0);
      *(uint2*)p = high;
      if (PROD == 3) *(uint2*)(p + PLANE) = low;
    }
  };
  float acc[64];
#pragma unroll
  for (int e = 0; e < 64; ++e) acc[e] = 0.f;
  const bool wanted = 64 * (warp >> 2) < rows;
  const u32 base = shared_address(planes);
  if (first < end) {
    reader.fetch(next);
    put(0);
  }
  stores_before_wgmma();
  __syncthreads();
  for (int step = first; step < end; ++step) {
    const int now = (step - first) & 1;
    if (step + 1 < end) reader.fetch(next);
    const u32 at_a = base + now * STAGE + (warp >> 2) * 8 * Core::OUTER, at_b = base + now * STAGE + 2 * PLANE;
    if (wanted) {
      wgmma_begin();
#pragma unroll
      for (int k = 0; k < MK / 16; ++k) {
        const int to = 2 * k * Core::INNER;
        const u64 ah = Core::describe(at_a + to), bh = Core::describe(at_b + to);
        if (PROD == 3) {
          wgmma<false, false>(acc, Core::describe(at_a + PLANE + to), bh);
          wgmma<false, false>(acc, ah, Core::describe(at_b + PLANE + to));
        }
        wgmma<false, false>(acc, ah, bh);
      }
      wgmma_end_group();
    }
    if (step + 1 < end) put(now ^ 1);
    stores_before_wgmma();
    wgmma_wait();
    __syncthreads();
  }
  if (!wanted) return;
  float* o = gradients + ((i64)blockIdx.y * H + blockIdx.x) * I * I;
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int j = 0; j < 16; ++j)
      *(float2*)(o + (16 * warp + 8 * r + g) * I + 8 * j + 2 * t) = make_float2(acc[4 * j + 2 * r], acc[4 * j + 2 * r + 1]);
}

GRAD(grad_64_3, 3, 2)
GRAD(grad_64_1, 1, 2)

#endif
