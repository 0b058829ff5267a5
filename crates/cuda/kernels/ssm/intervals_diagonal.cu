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
  alignas(16) __shared__ float shared[WARPS][2][STEPS];
  const int lane = threadIdx.x & 31, H = q.heads, P = q.pairs;
  const i64 index = (i64)blockIdx.x * WARPS + threadIdx.x / 32;
  if (index >= items) return;
  float *inputs = shared[threadIdx.x / 32][0], *gaps = shared[threadIdx.x / 32][1];
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
    inputs[lane] = next.x, gaps[lane] = next.y;
    const Distance distance = ZOH ? distance_of(head.reach, facts.longest) : ANY;
    __syncwarp();
    next = load_step(u, intervals, way, (chunk + 1) * STEPS + lane);
    c32 v[PAIRS];
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) v[m] = {0, 0};
#pragma unroll 1
    for (int t = 0; t < STEPS; t += SPAN) {
      float u_now[SPAN];
      load_steps(u_now, inputs + t);
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) {
        c32 e[SPAN];
        float gaps_now[SPAN];
        load_steps(gaps_now, gaps + t);
        increments<ZOH>(e, head.rate[m], gaps_now, distance);
#pragma unroll
        for (int j = 0; j < SPAN; ++j)
          v[m] = plus_product(v[m], e[j], plus_scaled(v[m], u_now[j], head.beta[m]));
      }
    }
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) {
      const c64 e = increment_of_chunk<ZOH>(head.z[m], facts.time, gaps, head.rate[m].limit);
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

// From the sums over lanes at SPAN steps to those at the next.
constexpr int SUMS_STRIDE = 33 * SPAN;

// SPAN steps from the states that come of the entering one and of what the steps of a chunk add; parts: what the lane adds to the output.
template <int PAIRS>
DEV void take_group(c32 (&from_entry)[PAIRS], c32 (&v)[PAIRS], c32 (&states)[PAIRS][SPAN], float (&parts)[SPAN],
                    const c32 (&e)[PAIRS][SPAN], const Head<PAIRS>& head, const float* inputs) {
  float u[SPAN];
  load_steps(u, inputs);
#pragma unroll
  for (int m = 0; m < PAIRS; ++m)
#pragma unroll
    for (int j = 0; j < SPAN; ++j) {
      from_entry[m] = plus_product(from_entry[m], e[m][j], from_entry[m]);
      v[m] = plus_product(v[m], e[m][j], plus_scaled(v[m], u[j], head.gain[m]));
      states[m][j] = {from_entry[m].re + v[m].re, from_entry[m].im + v[m].im};
      parts[j] = m == 0 ? states[m][j].re : parts[j] + states[m][j].re;
    }
}

// The STEPS steps of a chunk, for one channel.
template <int PAIRS, bool ZOH, Distance DISTANCE>
DEV void take_chunk(c32 (&from_entry)[PAIRS], c32 (&v)[PAIRS], float* sums, const Head<PAIRS>& head, const float* inputs, const float* gaps,
                    int lane) {
#pragma unroll 1
  for (int t = 0; t < STEPS; t += SPAN) {
    c32 e[PAIRS][SPAN], states[PAIRS][SPAN];
    float parts[SPAN];
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) {
      float gaps_now[SPAN];
      load_steps(gaps_now, gaps + t);
      increments<ZOH, DISTANCE>(e[m], head.rate[m], gaps_now);
    }
    take_group<PAIRS>(from_entry, v, states, parts, e, head, inputs + t);
    put_steps(parts, sums + t / SPAN * SUMS_STRIDE, lane);
  }
}

// y (B, channels·H, L), state_end and state0 (B, H, 2, P), saved (B, directions, H, chunks, 2, P), u (B, H, L), intervals
// (B, L), of_chunks (B, chunks) of `intervals_chunks`, c (kernel channels, H, P, 2), d (channels, H). The anticausal direction adds to y. entries (B, H, segments, P): the
// states before the segments, where there are several.
template <int PAIRS, bool ZOH>
DEV void forward(float* y, float* state_end, float* saved, const float* u, const float* state0, const c64* entries,
                 const float* intervals, const Chunk* of_chunks, const int* lengths, const float* c, const float* d, int channels,
                 int L, int directions, int anticausal, i64 items, Segments cut, const Params& q) {
  alignas(16) __shared__ float shared[WARPS][2][STEPS];
  alignas(16) __shared__ float sums_in[WARPS][STEPS / SPAN * SUMS_STRIDE];
  const int lane = threadIdx.x & 31, H = q.heads, P = q.pairs;
  const i64 index = (i64)blockIdx.x * WARPS + threadIdx.x / 32;
  if (index >= items) return;
  float *inputs = shared[threadIdx.x / 32][0], *gaps = shared[threadIdx.x / 32][1];
  float* sums = sums_in[threadIdx.x / 32];
  const Item item = item_at(index, H, cut);
  const int h = item.h, chunks = (L + STEPS - 1) / STEPS;
  const Way way = {sequence_len(lengths, item.b, L), anticausal};
  c += (i64)anticausal * channels * H * P * 2;
  const Head<PAIRS> head = load_head<PAIRS, ZOH>(q, c, h, lane);
  const i64 row = item.b * H + h;
  u += row * L, intervals += item.b * L, of_chunks += item.b * chunks, y += (item.b * channels * H + h) * L;
  c64 x[PAIRS];  // times c
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const int n = lane + 32 * m;
    if (!entries)
      x[m] = load_state(state0, row, P, n);
    else
      x[m] = n < P ? entries[(row * cut.count + item.segment) * P + n] : c64{0, 0};
    x[m] = head.c_divisor[m] * x[m];
  }
  if (saved) saved += ((item.b * directions + anticausal) * H + h) * chunks * 2 * P;
  const int first = item.segment * cut.chunks, last = min(first + cut.chunks, chunks);
  const float d0 = d[h];
  // Where the lane's next step is, and where the output of the step goes whose sum it takes; they move by `hop`.
  const int hop = anticausal ? -STEPS : STEPS;
  u += way.input(first * STEPS + lane), intervals += way.input(first * STEPS + lane);
  float* y_at = y + way.output(first * STEPS + summed_step(lane));
  if (saved) saved += (i64)first * 2 * P + lane;
  const auto load_next = [&](int step) {
    float2 now = {0, 0};
    if (step < way.steps()) now = {*u, *intervals};
    u += hop, intervals += hop;
    return now;
  };
  float2 next = load_next(first * STEPS + lane);
  Chunk next_facts = of_chunks[min(first, chunks - 1)];
  for (int chunk = first; chunk < last; ++chunk) {
    const int begin = chunk * STEPS, time_of_lane = begin + lane, summed = begin + summed_step(lane);
    const bool any = begin < way.steps();
    if (saved) {
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) {
        const c32 before = any ? plus_product({0, 0}, narrow(x[m]), head.per_c[m]) : c32{0, 0};
        if (lane + 32 * m < P) saved[32 * m] = before.re, saved[P + 32 * m] = before.im;
      }
      saved += 2 * P;
    }
    if (!any) {
      if (!anticausal && time_of_lane < L)
        for (int k = 0; k < channels; ++k) y[(i64)k * H * L + time_of_lane] = 0.f;
      continue;
    }
    __syncwarp();
    inputs[lane] = next.x, gaps[lane] = next.y;
    const float in = next.x;
    const double time = next_facts.time;
    const Distance distance = ZOH ? distance_of(head.reach, next_facts.longest) : ANY;
    __syncwarp();
    next = load_next(begin + STEPS + lane), next_facts = of_chunks[min(chunk + 1, chunks - 1)];
    // Where the lane's output goes; beyond a sequence's length it is 0.
    const bool mine = time_of_lane < way.steps(), there = anticausal ? mine : time_of_lane < L;
    const int at = anticausal ? way.output(time_of_lane) : time_of_lane;
    const auto store = [&](float* to, float sum, float dk) {
      *to = anticausal ? *to + sum : mine ? fmaf(dk, in, sum) : 0.f;
    };
    c32 from_entry[PAIRS], v[PAIRS];
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) from_entry[m] = narrow(x[m]), v[m] = {0, 0};
    if (channels == 1) {
      if (ZOH && distance == TENTH_TURN)
        take_chunk<PAIRS, ZOH, TENTH_TURN>(from_entry, v, sums, head, inputs, gaps, lane);
      else if (ZOH && distance == QUARTER_TURN)
        take_chunk<PAIRS, ZOH, QUARTER_TURN>(from_entry, v, sums, head, inputs, gaps, lane);
      else if (ZOH && distance == HALF_TURN)
        take_chunk<PAIRS, ZOH, HALF_TURN>(from_entry, v, sums, head, inputs, gaps, lane);
      else if (ZOH && distance == SLOW)
        take_chunk<PAIRS, ZOH, SLOW>(from_entry, v, sums, head, inputs, gaps, lane);
      else
        take_chunk<PAIRS, ZOH, ANY>(from_entry, v, sums, head, inputs, gaps, lane);
    } else {
#pragma unroll 1
      for (int t = 0; t < STEPS; t += SPAN) {
        c32 e[PAIRS][SPAN], states[PAIRS][SPAN];
        float parts[SPAN];
#pragma unroll
        for (int m = 0; m < PAIRS; ++m) {
          float gaps_now[SPAN];
          load_steps(gaps_now, gaps + t);
          increments<ZOH>(e[m], head.rate[m], gaps_now, distance);
        }
        take_group<PAIRS>(from_entry, v, states, parts, e, head, inputs + t);
        for (int k = 1; k < channels; ++k) {
          c32 ck[PAIRS];
#pragma unroll
          for (int m = 0; m < PAIRS; ++m) {
            const int n = lane + 32 * m;
            ck[m] = plus_product({0, 0}, n < P ? load32(c, ((i64)k * H + h) * P + n) : c32{0, 0}, head.per_c[m]);
          }
          const float sum = output<PAIRS>(states, ck, lane);
          if (lane / SPAN == t / SPAN && there) store(y + (i64)k * H * L + at, sum, d[(i64)k * H + h]);
        }
        put_steps(parts, sums + t / SPAN * SUMS_STRIDE, lane);
      }
    }
    __syncwarp();
    const float sum = take_step<SPAN>(sums, SUMS_STRIDE, lane);
    if (anticausal) {
      if (summed < way.steps()) *y_at += 2.f * sum;
    } else if (summed < L) {
      *y_at = summed < way.steps() ? fmaf(d0, inputs[summed_step(lane)], 2.f * sum) : 0.f;
    }
    y_at += hop;
#pragma unroll
    for (int m = 0; m < PAIRS; ++m)
      x[m] += increment_of_chunk<ZOH>(head.z[m], time, gaps, head.rate[m].limit) * x[m] + widen(v[m]);
  }
  if (item.segment + 1 < cut.count) return;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) store_state(state_end, row, P, lane + 32 * m, x[m] * inv(head.c_divisor[m]));
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
