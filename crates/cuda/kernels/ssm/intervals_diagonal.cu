// Forward of sequences with intervals, A diagonal (S4D): see `intervals_diagonal.cuh`. A call with too few sequences and heads to
// fill the chip is cut into segments: `intervals_ends` gives the state that each segment makes of a zero state and its product
// of Ā, `intervals_scan` from these the state that enters each, and `intervals_forward` goes through all of them.
#include "ssm/intervals_diagonal.cuh"

// Warps of a block; each is alone with its item.
constexpr int WARPS = 4;

// ends and products (B, H, segments, P): the state after each segment that began with zero, and the product of its Ā.
template <int PAIRS, bool ZOH>
DEV void ends(c64* ends, c64* products, const float* u, const float* intervals, const Chunk* chunks, const int* lengths, const float* c,
              int channels, int L, int anticausal, i64 items, Segments cut, const Params& q) {
  alignas(16) __shared__ float2 shared[WARPS][STEPS];
  const int lane = threadIdx.x & 31, H = q.heads, P = q.pairs;
  const i64 index = (i64)blockIdx.x * WARPS + threadIdx.x / 32;
  if (index >= items) return;
  float2* steps = shared[threadIdx.x / 32];
  const Item item = item_at(index, H, cut);
  const Way way = {sequence_len(lengths, item.b, L), anticausal};
  const Head<PAIRS> head = load_head<PAIRS, ZOH>(q, c + (i64)anticausal * channels * H * P * 2, item.h, lane);
  const i64 row = item.b * H + item.h;
  u += row * L, intervals += item.b * L, chunks += item.b * ((L + STEPS - 1) / STEPS);
  c64 x[PAIRS], product[PAIRS];
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) x[m] = {0, 0}, product[m] = {1, 0};
  const int first = item.segment * cut.chunks, last = min(first + cut.chunks, (way.steps() + STEPS - 1) / STEPS);
  float2 next = load_step(u, intervals, way, first * STEPS + lane);
  for (int chunk = first; chunk < last; ++chunk) {
    const Chunk facts = chunks[chunk];
    __syncwarp();
    steps[lane] = next;
    const Distance distance = ZOH ? distance_of(head.near, facts.longest) : ANY;
    __syncwarp();
    next = load_step(u, intervals, way, (chunk + 1) * STEPS + lane);
    c32 v[PAIRS];
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) v[m] = {0, 0};
#pragma unroll 1
    for (int t = 0; t < STEPS; t += GROUP) {
      float2 now[GROUP];
      load_group(now, steps + t);
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) {
        c32 e[GROUP];
        increments<ZOH>(e, head.rate[m], now, distance);
#pragma unroll
        for (int j = 0; j < GROUP; ++j)
          v[m] = plus_product(v[m], e[j], plus_scaled(v[m], now[j].x, head.beta[m]));
      }
    }
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) {
      const c64 e = increment_of_chunk<ZOH>(head.z[m], facts.time, steps, head.rate[m].limit);
      x[m] += e * x[m] + widen(v[m]);
      product[m] += e * product[m];
    }
  }
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const int n = lane + 32 * m;
    if (n >= P) continue;
    ends[(row * cut.count + item.segment) * P + n] = x[m];
    products[(row * cut.count + item.segment) * P + n] = product[m];
  }
}

// y (B, channels·H, L), state_end and state0 (B, H, 2, P), saved (B, directions, H, chunks, 2, P), u (B, H, L), intervals
// (B, L), of_chunks (B, chunks) of `intervals_chunks`, c (kernel channels, H, P, 2), d (channels, H). The anticausal direction adds to y. entries (B, H, segments, P): the
// states before the segments, where there are several.
template <int PAIRS, bool ZOH>
DEV void forward(float* y, float* state_end, float* saved, const float* u, const float* state0, const c64* entries,
                 const float* intervals, const Chunk* of_chunks, const int* lengths, const float* c, const float* d, int channels,
                 int L, int directions, int anticausal, i64 items, Segments cut, const Params& q) {
  alignas(16) __shared__ float2 shared[WARPS][STEPS];
  // Two places for the first channel's sums, which are taken while the next group is computed, and one for the others.
  alignas(16) __shared__ float sums_in[WARPS][3][SUM_FLOATS];
  const int lane = threadIdx.x & 31, H = q.heads, P = q.pairs;
  const i64 index = (i64)blockIdx.x * WARPS + threadIdx.x / 32;
  if (index >= items) return;
  float2* steps = shared[threadIdx.x / 32];
  float(*sums)[SUM_FLOATS] = sums_in[threadIdx.x / 32];
  const Item item = item_at(index, H, cut);
  const int h = item.h, chunks = (L + STEPS - 1) / STEPS;
  const Way way = {sequence_len(lengths, item.b, L), anticausal};
  c += (i64)anticausal * channels * H * P * 2;
  const Head<PAIRS> head = load_head<PAIRS, ZOH>(q, c, h, lane);
  const i64 row = item.b * H + h;
  u += row * L, intervals += item.b * L, of_chunks += item.b * chunks, y += (item.b * channels * H + h) * L;
  c64 x[PAIRS];
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const int n = lane + 32 * m;
    if (!entries)
      x[m] = load_state(state0, row, P, n);
    else
      x[m] = n < P ? entries[(row * cut.count + item.segment) * P + n] : c64{0, 0};
  }
  if (saved) saved += ((item.b * directions + anticausal) * H + h) * chunks * 2 * P;
  const int first = item.segment * cut.chunks, last = min(first + cut.chunks, chunks);
  const float d0 = d[h];
  float2 next = load_step(u, intervals, way, first * STEPS + lane);
  Chunk next_facts = of_chunks[min(first, chunks - 1)];
  for (int chunk = first; chunk < last; ++chunk) {
    const int begin = chunk * STEPS, time_of_lane = begin + lane;
    const bool any = begin < way.steps();
    if (saved) {
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) store_state(saved, chunk, P, lane + 32 * m, any ? x[m] : c64{0, 0});
    }
    if (!any) {
      if (!anticausal && time_of_lane < L)
        for (int k = 0; k < channels; ++k) y[(i64)k * H * L + time_of_lane] = 0.f;
      continue;
    }
    __syncwarp();
    steps[lane] = next;
    const float in = next.x;
    const double time = next_facts.time;
    const Distance distance = ZOH ? distance_of(head.near, next_facts.longest) : ANY;
    __syncwarp();
    next = load_step(u, intervals, way, begin + STEPS + lane), next_facts = of_chunks[min(chunk + 1, chunks - 1)];
    // Where the lane's output goes; beyond a sequence's length it is 0.
    const bool mine = time_of_lane < way.steps(), there = anticausal ? mine : time_of_lane < L;
    const int at = anticausal ? way.output(time_of_lane) : time_of_lane;
    const auto store = [&](float* to, float sum, float dk) {
      *to = anticausal ? *to + sum : mine ? fmaf(dk, in, sum) : 0.f;
    };
    float out = 0;
    c32 from_entry[PAIRS], v[PAIRS];
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) from_entry[m] = narrow(x[m]), v[m] = {0, 0};
#pragma unroll 1
    for (int t = 0; t < STEPS; t += GROUP) {
      const int group = t / GROUP;
      float2 now[GROUP];
      load_group(now, steps + t);
      __syncwarp();
      if (group > 0) {
        const float sum = take_sum(sums[(group - 1) % 2], lane);
        if (lane / GROUP == group - 1) out = 2.f * sum;
      }
      c32 states[PAIRS][GROUP];
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) {
        c32 e[GROUP];
        increments<ZOH>(e, head.rate[m], now, distance);
#pragma unroll
        for (int j = 0; j < GROUP; ++j) {
          from_entry[m] = plus_product(from_entry[m], e[j], from_entry[m]);
          v[m] = plus_product(v[m], e[j], plus_scaled(v[m], now[j].x, head.beta[m]));
          states[m][j] = {from_entry[m].re + v[m].re, from_entry[m].im + v[m].im};
        }
      }
      float parts[GROUP];
      lane_output<PAIRS>(parts, states, head.c);
      put_for_sum(parts, sums[group % 2], lane);
      for (int k = 1; k < channels; ++k) {
        c32 ck[PAIRS];
#pragma unroll
        for (int m = 0; m < PAIRS; ++m) {
          const int n = lane + 32 * m;
          ck[m] = n < P ? load32(c, ((i64)k * H + h) * P + n) : c32{0, 0};
        }
        const float sum = output<PAIRS>(states, ck, sums[2], lane);
        if (lane / GROUP == group && there) store(y + (i64)k * H * L + at, sum, d[(i64)k * H + h]);
      }
    }
    __syncwarp();
    const float sum = take_sum(sums[(STEPS / GROUP - 1) % 2], lane);
    if (lane / GROUP == STEPS / GROUP - 1) out = 2.f * sum;
    if (there) store(y + at, out, d0);
#pragma unroll
    for (int m = 0; m < PAIRS; ++m)
      x[m] += increment_of_chunk<ZOH>(head.z[m], time, steps, head.rate[m].limit) * x[m] + widen(v[m]);
  }
  if (item.segment + 1 < cut.count) return;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) store_state(state_end, row, P, lane + 32 * m, x[m]);
}

#define DIAGONAL(PAIRS, RULE, ZOH)                                                                                        \
  extern "C" __global__ void __launch_bounds__(32 * WARPS, 4) intervals_ends_##RULE##_##PAIRS(                            \
      c64* ends_, c64* products, const float* u, const float* intervals, const Chunk* of_chunks, const int* lengths,      \
      const float* c, int channels, int L, int anticausal, i64 items, int segments, int chunks_per_segment, PARAMS) {                     \
    PARAMS_HERE;                                                                                                          \
    ends<PAIRS, ZOH>(ends_, products, u, intervals, of_chunks, lengths, c, channels, L, anticausal, items,                \
                     {segments, chunks_per_segment}, q);                                                                  \
  }                                                                                                                       \
  extern "C" __global__ void __launch_bounds__(32 * WARPS, 4) intervals_forward_##RULE##_##PAIRS(                         \
      float* y, float* state_end, float* saved, const float* u, const float* state0, const c64* entries,                  \
      const float* intervals, const Chunk* of_chunks, const int* lengths, const float* c, const float* d, int channels,   \
      int L, int directions, int anticausal, i64 items, int segments, int chunks_per_segment, PARAMS) {                                          \
    PARAMS_HERE;                                                                                                          \
    forward<PAIRS, ZOH>(y, state_end, saved, u, state0, entries, intervals, of_chunks, lengths, c, d, channels, L, directions,       \
                        anticausal, items, {segments, chunks_per_segment}, q);                                            \
  }
DIAGONAL(1, zoh, true)
DIAGONAL(2, zoh, true)
DIAGONAL(1, bilinear, false)
DIAGONAL(2, bilinear, false)

// From the ends and products of segments to the states that enter them, in place. first (rows, 2, P) enters the first segment;
// null for zero. back: gradients of states, which go from the last segment to the first by the conjugate products, from
// that of the end state. A thread a row and pair.
KERNEL intervals_scan(c64* ends, const c64* products, const float* first, i64 rows, int P, int segments, int back) {
  for (i64 i = index(); i < rows * P; i += stride()) {
    const i64 row = i / P;
    const int n = (int)(i % P);
    c64 x = load_state(first, row, P, n);
    for (int k = 0; k < segments; ++k) {
      const i64 at = (row * segments + (back ? segments - 1 - k : k)) * P + n;
      const c64 end = ends[at], product = products[at];
      ends[at] = x;
      x = (back ? conj(product) : product) * x + end;
    }
  }
}
