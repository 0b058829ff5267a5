// Backward of sequences with intervals, A diagonal (S4D): see `intervals_diagonal.cuh`. The gradient g of the state after a
// step goes back as
//
//   g ← g + 2dy·c̄,   dz = gē,   du = Re(dz·β̄),   g ← g + dz
//
// and with D = ∂e/∂(Λτ), e^{Λτ} or 1/(1 − Λτ/2)², the parameters' gradients are sums over time: Q = Σ interval·g·conj(zD) with z = x + βu, and F = Σ u·dz give
// dΛ = ΔQ − F·conj(β/Λ), dΔ = Re(Q·Λ̄) and dB = F/Λ̄. Q is summed up going forward: with s the derivative of the state that the steps of a chunk bring,
// s ← s + es + interval·zD from zero, it is Σ 2dy·c̄s̄ and at the chunk's end gs̄, and by zero-order hold zD = x + βu with the state x after the step.
// Where |Λτ| is small the two terms of dΛ cancel. A mode that is so at all steps of a chunk has x in the place of z in Q, and a sum of its input apart:
// Ψ = Σ interval²·u·g·ψ̄ with ψ = (D − e/Λτ)/Λτ, by zero-order hold ½ + Λτ/3 (the next term is below 2.4e-7 of it), by the bilinear
// rule D/2; what dΔ has of the input is then Re(W·B̄) with W = Σ interval·u·g·D̄ = F/Λ̄Δ + Λ̄ΔΨ. All of a warp's lanes do the same, since heads with
// such steps would else run on alone.
#include "common/split16.cuh"
#include "ssm/intervals_diagonal.cuh"

constexpr float SMALL = 1.f / 1024;

// What the warps of a block have in shared memory; each reads what it has written itself, and a lane its own column.
template <int PAIRS>
struct Scratch {
  Chunk facts;                                     // of the next chunk
  float u[32], interval[32];                       // the next chunk's, a step a lane
  float state_ahead[PAIRS][2][32];                 // the state before it
  alignas(16) float inputs[STEPS], gaps[STEPS];    // u and the intervals
  alignas(16) float dy[STEPS];                     // 2dy of the first channel
  c32 e[PAIRS][STEPS][32];                         // Ā − 1; then the sums of du
  double sums[PAIRS][6][32], small[PAIRS][6][32];  // Q, Σ 2dy·x̄ and F; of chunks with small Λτ, F and what Ψ is made of
};
// As `scratch_bytes` of src/ssm/intervals.rs; three blocks of four are to fit a multiprocessor of 164 KB.
static_assert(sizeof(Scratch<1>) == 12176 && sizeof(Scratch<2>) == 23696, "the host's scratch_bytes");

// Begins to copy a number to shared memory, 0 where it does not exist: what is read is then not waited for. A lane reads what it has
// copied itself after `wait_for_copies`, others after a barrier too.
DEV void begin_copy(float* to, const float* from, bool exists) {
#if __CUDA_ARCH__ >= 800
  copy_4(shared_address(to), from, exists ? 4 : 0);
#else
  *to = exists ? *from : 0.f;
#endif
}
DEV void begin_copy(Chunk* to, const Chunk* from) {
#if __CUDA_ARCH__ >= 800
  copy_16(shared_address(to), from, 16);
#else
  *to = *from;
#endif
}
DEV void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  copies_end_group();
  wait_copies<0>();
#endif
}

// Keeps a number as it was computed: the compiler would rather multiply again in every chunk than spill it.
DEV i64 kept(i64 x) {
  asm("" : "+l"(x));
  return x;
}

// Σ u·dz, and of a mode with small Λτ Σ interval^k·u·g for k = 2 (by the bilinear rule with gD̄) and k = 3.
struct Sums {
  c32 f, second, third;
};

// Goes on over SPAN steps from the state x before them, with s its derivative. out: 2dy of the first channel; o: what the others add to the
// gradient of a state. of_c and q: Σ 2dy·x̄ and Σ of the gradients with s̄. small: 1 for a mode with small Λτ, else 0. MANY: there are several channels;
// SMALL_MODES: some mode may be small.
template <bool ZOH, bool MANY, bool SMALL_MODES>
DEV void advance(c32& x, c32& s, c32& of_c, c32& q, const c32 (&e)[SPAN], const float (&u)[SPAN], const float (&gaps)[SPAN],
                 const float (&out)[SPAN], const c32 (&o)[SPAN], float small) {
#pragma unroll
  for (int j = 0; j < SPAN; ++j) {
    const float left_out = SMALL_MODES ? small * u[j] : 0.f, kept = SMALL_MODES ? u[j] - left_out : u[j];
    c32 zd;
    if (ZOH) {
      // In this order a step waits for two additions of the step before, not for three.
      const float z = x.re + u[j];
      x = {fmaf(e[j].re, z, fmaf(-e[j].im, x.im, x.re)), fmaf(e[j].im, z, fmaf(e[j].re, x.im, x.im))};
      zd = {x.re + kept, x.im};
      if (SMALL_MODES) zd = plus_scaled(zd, -left_out, e[j]);
    } else {
      const c32 z = {x.re + kept, x.im}, root = {fmaf(0.5f, e[j].re, 1.f), 0.5f * e[j].im};
      zd = plus_product({0, 0}, root, plus_product({0, 0}, root, z));
      x = plus_product(x, e[j], {x.re + u[j], x.im});
    }
    of_c.re = fmaf(out[j], x.re, of_c.re), of_c.im = fmaf(-out[j], x.im, of_c.im);
    s = plus_scaled(plus_product(s, e[j], s), gaps[j], zd);
    q.re = fmaf(out[j], s.re, q.re), q.im = fmaf(-out[j], s.im, q.im);
    if (MANY) q = plus_conj_product(q, o[j], s);
  }
}

// Goes on over the STEPS steps of a chunk, for one channel; leaves Ā − 1 of the steps.
template <int PAIRS, bool ZOH, bool SMALL_MODES, Distance DISTANCE>
DEV void advance_chunk(c32& x, c32& s, c32& of_c, c32& q, Scratch<PAIRS>& k, int m, const Rate& rate, float small, int lane) {
#pragma unroll 1
  for (int t = 0; t < STEPS; t += SPAN) {
    c32 e[SPAN], o[SPAN];
    float u[SPAN], gaps[SPAN], out[SPAN];
    load_steps(gaps, k.gaps + t), load_steps(u, k.inputs + t), load_steps(out, k.dy + t);
    increments<ZOH, DISTANCE>(e, rate, gaps);
#pragma unroll
    for (int j = 0; j < SPAN; ++j) k.e[m][t + j][lane] = e[j];
    advance<ZOH, false, SMALL_MODES>(x, s, of_c, q, e, u, gaps, out, o, small);
  }
}

// 2dy·c̄ of the channels after the first at SPAN steps from step `begin` on, times the conjugate of `scale`. dy, c of the head.
DEV void add_channels(c32 (&o)[SPAN], const float* dy, const float* c, c32 scale, int channels, const Way& way, int begin, i64 dy_stride,
                      i64 c_stride, int n, int P) {
#pragma unroll
  for (int j = 0; j < SPAN; ++j) o[j] = {0, 0};
  for (int k = 1; k < channels; ++k) {
    const c32 ck = plus_product({0, 0}, n < P ? load32(c, k * c_stride + n) : c32{0, 0}, scale);
#pragma unroll
    for (int j = 0; j < SPAN; ++j)
      if (begin + j < way.steps()) {
        const float out = 2.f * dy[k * dy_stride + way.output(begin + j)];
        o[j].re = fmaf(out, ck.re, o[j].re), o[j].im = fmaf(-out, ck.im, o[j].im);
      }
  }
}

// Adds to dc (channels, H, P) of the head what the channels after the first give at SPAN steps; x[j] is the state after step begin + j by β.
DEV void add_to_c(c64* dc, const float* dy, const c32 (&x)[SPAN], c32 beta, int channels, const Way& way, int begin, i64 dy_stride,
                  i64 c_stride, int n, int P) {
  for (int k = 1; k < channels; ++k) {
    c32 sum = {0, 0};
#pragma unroll
    for (int j = 0; j < SPAN; ++j)
      if (begin + j < way.steps()) {
        const float out = 2.f * dy[k * dy_stride + way.output(begin + j)];
        sum.re = fmaf(out, x[j].re, sum.re), sum.im = fmaf(-out, x[j].im, sum.im);
      }
    if (n < P) dc[k * c_stride + n] += widen(plus_conj_product({0, 0}, sum, beta));
  }
}

// Goes back over SPAN steps. g: the gradient of the state; v: what of it the steps of this chunk have added.
template <bool ZOH, bool MANY, bool SMALL_MODES>
DEV void reverse(c32& g, c32& v, Sums& sums, float (&du)[SPAN], const c32 (&e)[SPAN], const float (&u)[SPAN], const float* gaps,
                 const float (&out)[SPAN], const c32 (&o)[SPAN], c32 gain) {
#pragma unroll
  for (int j = SPAN - 1; j >= 0; --j) {
    g.re += out[j], v.re += out[j];
    if (MANY) g = {g.re + o[j].re, g.im + o[j].im}, v = {v.re + o[j].re, v.im + o[j].im};
    const c32 dz = plus_conj_product({0, 0}, g, e[j]), before = {g.re + dz.re, g.im + dz.im};
    du[j] = fmaf(dz.re, gain.re, fmaf(dz.im, gain.im, du[j]));
    sums.f = plus_scaled(sums.f, u[j], dz);
    if (SMALL_MODES) {
      const float second = gaps[j] * gaps[j] * u[j];
      if (ZOH) {
        sums.second = plus_scaled(sums.second, second, g), sums.third = plus_scaled(sums.third, gaps[j] * second, g);
      } else {
        const c32 root = {fmaf(0.5f, e[j].re, 1.f), 0.5f * e[j].im};
        sums.second = plus_scaled(sums.second, second, plus_conj_product({0, 0}, plus_conj_product({0, 0}, g, root), root));
      }
    }
    g = before;
    v = plus_conj_product(v, v, e[j]);
  }
}

// ends and products (B, H, segments, P): the gradient of the state before each segment where that of the state after it is
// zero, and the product of its Ā.
template <int PAIRS, bool ZOH, int WARPS>
DEV void adjoint_ends(c64* ends, c64* products, const float* dy, const float* intervals, const Chunk* chunks,
                      const int* lengths, const float* c, int channels, int L, int anticausal, i64 items, Segments cut, const Params& q) {
  alignas(16) __shared__ float shared[WARPS][2][STEPS];
  const int lane = threadIdx.x & 31, H = q.heads, P = q.pairs;
  const i64 index = (i64)blockIdx.x * WARPS + threadIdx.x / 32;
  if (index >= items) return;
  float *outs = shared[threadIdx.x / 32][0], *gaps = shared[threadIdx.x / 32][1];  // 2dy and intervals
  const Item item = item_at(index, H, cut);
  const int h = item.h;
  const Way way = {sequence_len(lengths, item.b, L), anticausal};
  c += (i64)anticausal * channels * H * P * 2;
  const Head<PAIRS> head = load_head<PAIRS, ZOH>(q, c, h, lane);
  const i64 row = item.b * H + h;
  intervals += item.b * L, chunks += item.b * ((L + STEPS - 1) / STEPS), dy += (item.b * channels * H + h) * L;
  c64 g[PAIRS], product[PAIRS];
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) g[m] = {0, 0}, product[m] = {1, 0};
  const int first = item.segment * cut.chunks, last = min(first + cut.chunks, (way.steps() + STEPS - 1) / STEPS);
  for (int chunk = last - 1; chunk >= first; --chunk) {
    const int begin = chunk * STEPS, step = begin + lane;
    const bool mine = step < way.steps();
    const float interval = mine ? intervals[way.input(step)] : 0.f, out = mine ? 2.f * dy[way.output(step)] : 0.f;
    const Chunk facts = chunks[chunk];
    __syncwarp();
    outs[lane] = out, gaps[lane] = interval;
    const Distance distance = ZOH ? distance_of(head.reach, facts.longest) : ANY;
    __syncwarp();
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) {
      c32 v = {0, 0};
#pragma unroll 1
      for (int t = STEPS - SPAN; t >= 0; t -= SPAN) {
        c32 e[SPAN], o[SPAN];
        float out_now[SPAN], gaps_now[SPAN];
        load_steps(out_now, outs + t), load_steps(gaps_now, gaps + t);
        increments<ZOH>(e, head.rate[m], gaps_now, distance);
        if (channels > 1)
          add_channels(o, dy, c + (i64)h * P * 2, {1, 0}, channels, way, begin + t, (i64)H * L, (i64)H * P, lane + 32 * m, P);
#pragma unroll
        for (int j = SPAN - 1; j >= 0; --j) {
          const float out = out_now[j];
          v.re = fmaf(out, head.c[m].re, v.re), v.im = fmaf(-out, head.c[m].im, v.im);
          if (channels > 1) v = {v.re + o[j].re, v.im + o[j].im};
          v = plus_conj_product(v, v, e[j]);
        }
      }
      const c64 e = increment_of_chunk<ZOH>(head.z[m], facts.time, gaps, head.rate[m].limit);
      g[m] += conj(e) * g[m] + widen(v);
      product[m] += e * product[m];
    }
  }
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const int n = lane + 32 * m;
    if (n >= P) continue;
    ends[(row * cut.count + item.segment) * P + n] = g[m];
    products[(row * cut.count + item.segment) * P + n] = product[m];
  }
}

// du (B, H, L; may be null), dstate0; the sums of each part, a part a segment of the sequences of a group: parts
// (H, parts · directions, 5P) f64 for Δ, Λ and B; dc (parts, kernel channels, H, P), which holds zeros before; dd (parts,
// channels, H). The anticausal direction adds to du and runs after the causal one. entries (B, H, segments, P): the gradients of
// the states after the segments, where there are several. MANY: there are several channels; what they take of registers slows a
// single one by a sixth. Dynamic shared memory: a Scratch a warp.
template <int PAIRS, bool ZOH, bool MANY, int WARPS>
DEV void backward(float* du, float* dstate0, double* parts, c64* dc, double* dd, const float* dy, const float* dstate_end,
                  const c64* entries, const float* saved, const float* u, const float* intervals, const Chunk* of_chunks,
                  const int* lengths, const float* c, const float* d, int channels, int L, int directions, int anticausal, i64 B, i64 groups,
                  Segments cut, const Params& q) {
  extern __shared__ __align__(16) char memory[];
  const int lane = threadIdx.x & 31, H = q.heads, P = q.pairs;
  const i64 index = (i64)blockIdx.x * WARPS + threadIdx.x / 32;
  if (index >= groups * cut.count * H) return;
  Scratch<PAIRS>& k = ((Scratch<PAIRS>*)memory)[threadIdx.x / 32];
  const Item item = item_at(index, H, cut);
  const int h = item.h, chunks = (L + STEPS - 1) / STEPS;
  const i64 part = item.b * cut.count + item.segment;
  c += (i64)anticausal * channels * H * P * 2;
  dc += ((part * directions + anticausal) * channels * H + h) * P;
  const Head<PAIRS> head = load_head<PAIRS, ZOH>(q, c, h, lane);
  float slowest = 1e30f;  // the smallest |ΛΔ|
  float size_of[PAIRS];
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const c64 z = from_units<ZOH>(head.z[m]);
    const float size = (float)(fabs(z.re) + fabs(z.im));
    if (lane + 32 * m < P) slowest = fminf(slowest, size);
    size_of[m] = lane + 32 * m < P ? size : 1e30f;
    for (int i = 0; i < 6; ++i) k.sums[m][i][lane] = 0;
    for (int i = 0; i < 6; ++i) k.small[m][i][lane] = 0;
  }
  slowest = warp_extreme<false>(slowest);
  double sum_d = 0;
  const float d0 = 0.5f * d[h];  // of 2dy
  const int first = item.segment * cut.chunks, last = min(first + cut.chunks, chunks);
  for (i64 b = item.b; b < B; b += groups) {
    const Way way = {sequence_len(lengths, b, L), anticausal};
    // Where the sequence stands in u, in dy, among the intervals, the saved states and the chunks.
    const i64 row = b * H + h, u_at = kept(row * L), dy_at = MANY ? (b * channels * H + h) * L : u_at;
    const i64 intervals_at = kept(b * L), saved_at = kept(((b * directions + anticausal) * H + h) * chunks * 2 * P);
    const i64 chunks_at = kept(b * chunks);
    c64 g[PAIRS];  // by c̄
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) {
      const int n = lane + 32 * m;
      if (!entries)
        g[m] = load_state(dstate_end, row, P, n);
      else
        g[m] = n < P ? entries[(row * cut.count + item.segment) * P + n] : c64{0, 0};
      g[m] = g[m] * inv(conj(head.c_divisor[m]));
    }
    // Behind its length a sequence has no chunks, and nothing depends on u there.
    const int end = min(last, (max(way.steps(), 0) + STEPS - 1) / STEPS);
    if (du && !anticausal)
      for (int step = max(end, first) * STEPS + lane; step < min(last * STEPS, L); step += 32) du[u_at + step] = 0;
    // Where the lane's step of the chunk that is read next is, the state before it, and the input of the step whose sum the lane takes; they move by `hop`.
    const int hop = anticausal ? STEPS : -STEPS, ahead = (end - 1) * STEPS + lane;
    const float *u_ahead = u + (u_at + way.input(ahead)), *gap_ahead = intervals + (intervals_at + way.input(ahead));
    const float *dy_ahead = dy + (dy_at + way.output(ahead)), *state_ahead = saved + (saved_at + (i64)(end - 1) * (2 * P) + lane);
    float* du_there = du + (u_at + way.input((end - 1) * STEPS + summed_step(lane)));
    const Chunk* facts_ahead = of_chunks + (chunks_at + end - 1);
    float next_dy = 0;
    const auto fetch = [&](int chunk) {
      const bool mine = chunk * STEPS + lane < way.steps();
      begin_copy(k.u + lane, u_ahead, mine);
      begin_copy(k.interval + lane, gap_ahead, mine);
      next_dy = mine ? *dy_ahead : 0.f;
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) {
        const bool exists = lane + 32 * m < P;
        begin_copy(k.state_ahead[m][0] + lane, state_ahead + 32 * m, exists);
        begin_copy(k.state_ahead[m][1] + lane, state_ahead + P + 32 * m, exists);
      }
      if (lane == 0) begin_copy(&k.facts, facts_ahead);
      u_ahead += hop, gap_ahead += hop, dy_ahead += hop, state_ahead -= 2 * P, facts_ahead -= 1;
    };
    if (end > first) fetch(end - 1);
    for (int chunk = end - 1; chunk >= first; --chunk) {
      const int begin = chunk * STEPS;
      wait_for_copies();
      __syncwarp();
      const float2 now = {k.u[lane], k.interval[lane]};
      const float out = next_dy;
      c32 entering[PAIRS];
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) entering[m] = {k.state_ahead[m][0][lane], k.state_ahead[m][1][lane]};
      const double time = k.facts.time;
      const float longest = k.facts.longest;
      const Distance distance = ZOH ? distance_of(head.reach, longest) : ANY;
      const bool has_small = slowest * longest < SMALL;
      if (!anticausal) sum_d += (double)out * now.x;
      k.inputs[lane] = now.x, k.gaps[lane] = now.y, k.dy[lane] = 2.f * out;
      __syncwarp();
      if (chunk > first) fetch(chunk - 1);
      // Going forward: Ā − 1 of all steps, and sums over states and their derivatives.
      c32 gradient[PAIRS], v[PAIRS];
      Sums sums[PAIRS] = {};
      float small[PAIRS];
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) {
        const int n = lane + 32 * m;
        gradient[m] = narrow(g[m]), v[m] = {0, 0};
        small[m] = size_of[m] * longest < SMALL ? 1.f : 0.f;
        c32 x = plus_product({0, 0}, entering[m], head.per_beta[m]), s = {0, 0}, of_c = {0, 0}, of_q = {0, 0};
        if constexpr (MANY) {
#pragma unroll 1
          for (int t = 0; t < STEPS; t += SPAN) {
            c32 e[SPAN], o[SPAN];
            float u_now[SPAN], gaps_now[SPAN], out_now[SPAN];
            load_steps(gaps_now, k.gaps + t), load_steps(u_now, k.inputs + t), load_steps(out_now, k.dy + t);
            increments<ZOH>(e, head.rate[m], gaps_now, distance);
#pragma unroll
            for (int j = 0; j < SPAN; ++j) k.e[m][t + j][lane] = e[j];
            add_channels(o, dy + dy_at, c + (i64)h * P * 2, head.per_c[m], channels, way, begin + t, (i64)H * L, (i64)H * P, n, P);
            c32 states[SPAN], state = x;
#pragma unroll
            for (int j = 0; j < SPAN; ++j) states[j] = state = plus_product(state, e[j], {state.re + u_now[j], state.im});
            add_to_c(dc, dy + dy_at, states, head.beta_divisor[m], channels, way, begin + t, (i64)H * L, (i64)H * P, n, P);
            advance<ZOH, true, true>(x, s, of_c, of_q, e, u_now, gaps_now, out_now, o, small[m]);
          }
        } else if (has_small) {
          // Few heads: of the distances, those that need the least and the most, and one between.
          if (ZOH && distance == TENTH_TURN)
            advance_chunk<PAIRS, ZOH, true, TENTH_TURN>(x, s, of_c, of_q, k, m, head.rate[m], small[m], lane);
          else if (ZOH && distance != ANY)
            advance_chunk<PAIRS, ZOH, true, SLOW>(x, s, of_c, of_q, k, m, head.rate[m], small[m], lane);
          else
            advance_chunk<PAIRS, ZOH, true, ANY>(x, s, of_c, of_q, k, m, head.rate[m], small[m], lane);
        } else if (ZOH && distance == TENTH_TURN) {
          advance_chunk<PAIRS, ZOH, false, TENTH_TURN>(x, s, of_c, of_q, k, m, head.rate[m], 0.f, lane);
        } else if (ZOH && distance == QUARTER_TURN) {
          advance_chunk<PAIRS, ZOH, false, QUARTER_TURN>(x, s, of_c, of_q, k, m, head.rate[m], 0.f, lane);
        } else if (ZOH && distance == HALF_TURN) {
          advance_chunk<PAIRS, ZOH, false, HALF_TURN>(x, s, of_c, of_q, k, m, head.rate[m], 0.f, lane);
        } else if (ZOH && distance == SLOW) {
          advance_chunk<PAIRS, ZOH, false, SLOW>(x, s, of_c, of_q, k, m, head.rate[m], 0.f, lane);
        } else {
          advance_chunk<PAIRS, ZOH, false, ANY>(x, s, of_c, of_q, k, m, head.rate[m], 0.f, lane);
        }
        of_q = plus_conj_product(of_q, gradient[m], s);
        const float terms[4] = {of_q.re, of_q.im, of_c.re, of_c.im};
#pragma unroll
        for (int i = 0; i < 4; ++i) k.sums[m][i][lane] += terms[i];
      }
      // Going back: the gradients.
#pragma unroll 1
      for (int t = STEPS - SPAN; t >= 0; t -= SPAN) {
        float parts_of_du[SPAN];
#pragma unroll
        for (int j = 0; j < SPAN; ++j) parts_of_du[j] = 0;
#pragma unroll
        for (int m = 0; m < PAIRS; ++m) {
          c32 e[SPAN], o[SPAN];
          float u_now[SPAN], out_now[SPAN];
          load_steps(u_now, k.inputs + t), load_steps(out_now, k.dy + t);
#pragma unroll
          for (int j = 0; j < SPAN; ++j) e[j] = k.e[m][t + j][lane];
          if constexpr (MANY) {
            add_channels(o, dy + dy_at, c + (i64)h * P * 2, head.per_c[m], channels, way, begin + t, (i64)H * L, (i64)H * P,
                         lane + 32 * m, P);
            reverse<ZOH, true, true>(gradient[m], v[m], sums[m], parts_of_du, e, u_now, k.gaps + t, out_now, o, head.gain[m]);
          } else if (has_small) {
            reverse<ZOH, false, true>(gradient[m], v[m], sums[m], parts_of_du, e, u_now, k.gaps + t, out_now, o, head.gain[m]);
          } else {
            reverse<ZOH, false, false>(gradient[m], v[m], sums[m], parts_of_du, e, u_now, k.gaps + t, out_now, o, head.gain[m]);
          }
        }
        // The e of these steps have been taken up: their place is free.
        __syncwarp();
        put_steps(parts_of_du, (float*)k.e[0][t] + t, lane);
      }
      __syncwarp();
      const float du_of_lane = take_step<SPAN>((float*)k.e[0][0], 65 * SPAN, lane);
      const int summed = begin + summed_step(lane);
      if (du && (anticausal ? summed < way.steps() : summed < L)) {
        float direct = anticausal ? *du_there : d0 * k.dy[summed_step(lane)];
        for (int i = 1; MANY && !anticausal && summed < way.steps() && i < channels; ++i)
          direct = fmaf(d[(i64)i * H + h], dy[dy_at + (i64)i * H * L + summed], direct);
        *du_there = direct + du_of_lane;
      }
      du_there += hop;
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) {
        g[m] += conj(increment_of_chunk<ZOH>(head.z[m], time, k.gaps, head.rate[m].limit)) * g[m] + widen(v[m]);
        const Sums& of = sums[m];
        if (small[m] == 0) {
          k.sums[m][4][lane] += of.f.re, k.sums[m][5][lane] += of.f.im;
        } else {
          const float few[6] = {of.f.re, of.f.im, of.second.re, of.second.im, of.third.re, of.third.im};
#pragma unroll
          for (int i = 0; i < 6; ++i) k.small[m][i][lane] += few[i];
        }
      }
    }
    if (item.segment > 0) continue;
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) store_state(dstate0, row, P, lane + 32 * m, g[m] * conj(head.c_divisor[m]));
  }
  if (!anticausal) {
    sum_d = warp_sum(sum_d);
    if (lane == 0) dd[part * channels * H + h] = sum_d;
    for (int i = 1; MANY && i < channels; ++i) {
      double s = 0;
      for (i64 b = item.b; b < B; b += groups) {
        const float *u_row = u + (b * H + h) * L, *dy_row = dy + ((b * channels + i) * H + h) * L;
        const int end = min(last * STEPS, sequence_len(lengths, b, L));
        for (int t = first * STEPS + lane; t < end; t += 32) s += (double)dy_row[t] * u_row[t];
      }
      s = warp_sum(s);
      if (lane == 0) dd[(part * channels + i) * H + h] = s;
    }
  }
  double* to = parts + (((i64)h * groups * cut.count + part) * directions + anticausal) * 5 * P;
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const int n = lane + 32 * m;
    if (n >= P) continue;
    const Mode mode = load_mode(q, h, n);
    const c64 inverse = inv(mode.lambda), beta = mode.b * inverse;
    const auto sum = [&](const double(&of)[32], const double(&and_of)[32]) { return c64{of[lane], and_of[lane]}; };
    const auto& sums = k.sums[m];
    const auto& small = k.small[m];
    const c64 of_c = conj(head.c_divisor[m]), of_beta = conj(divisor(beta));
    const c64 sq = of_c * of_beta * sum(sums[0], sums[1]), f = of_c * sum(sums[4], sums[5]), f_small = of_c * sum(small[0], small[1]);
    const c64 step = conj(from_units<ZOH>(head.z[m]));
    const c64 psi = of_c * (0.5 * sum(small[2], small[3]) + (1.0 / 3) * (step * sum(small[4], small[5])));
    const c64 w = f_small * inv(step) + step * psi;
    const c64 dlambda = mode.dt * (sq + mode.dt * (conj(mode.b) * psi)) - f * conj(beta * inverse);
    const c64 db = (f + f_small) * conj(inverse);
    to[n] = dot(sq, mode.lambda) + dot(w, mode.b);
    to[P + n] = dlambda.re, to[2 * P + n] = dlambda.im, to[3 * P + n] = db.re, to[4 * P + n] = db.im;
    dc[n] = of_beta * sum(sums[2], sums[3]);
  }
}


#define ENDS(PAIRS, RULE, ZOH)                                                                                            \
  extern "C" __global__ void __launch_bounds__(128 / PAIRS, 4) intervals_adjoint_ends_##RULE##_##PAIRS(                   \
      c64* ends, c64* products, const float* dy, const float* intervals, const Chunk* of_chunks, const int* lengths,      \
      const float* c, int channels, int L, int anticausal, i64 items, int segments, int chunks_per_segment, PARAMS) {                     \
    PARAMS_HERE;                                                                                                          \
    adjoint_ends<PAIRS, ZOH, 4 / PAIRS>(ends, products, dy, intervals, of_chunks, lengths, c, channels, L, anticausal, items, \
                                        {segments, chunks_per_segment}, q);                                               \
  }
#define BACKWARD(PAIRS, RULE, ZOH, CHANNELS, MANY)                                                                        \
  extern "C" __global__ void __launch_bounds__(128 / PAIRS, 4) intervals_backward_##CHANNELS##_##RULE##_##PAIRS(          \
      float* du, float* dstate0, double* parts, c64* dc, double* dd, const float* dy, const float* dstate_end,            \
      const c64* entries, const float* saved, const float* u, const float* intervals, const Chunk* of_chunks,             \
      const int* lengths, const float* c, const float* d, int channels, int L, int directions, int anticausal, i64 B, i64 groups, int segments,               \
      int chunks_per_segment, PARAMS) {                                                                                   \
    PARAMS_HERE;                                                                                                          \
    backward<PAIRS, ZOH, MANY, 4 / PAIRS>(du, dstate0, parts, dc, dd, dy, dstate_end, entries, saved, u, intervals,       \
                                          of_chunks, lengths, c, d, channels, L, directions, anticausal, B, groups,                  \
                                          {segments, chunks_per_segment}, q);                                             \
  }
#define DIAGONAL(PAIRS, RULE, ZOH)          \
  ENDS(PAIRS, RULE, ZOH)                    \
  BACKWARD(PAIRS, RULE, ZOH, one, false)    \
  BACKWARD(PAIRS, RULE, ZOH, many, true)
DIAGONAL(1, zoh, true)
DIAGONAL(2, zoh, true)
DIAGONAL(1, bilinear, false)
DIAGONAL(2, bilinear, false)
