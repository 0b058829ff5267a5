// Backward of sequences with intervals, A diagonal (S4D): see `intervals_diagonal.cuh`. The gradient g of the state after a
// step goes back as
//
//   g ← g + 2dy·c̄,   dz = gē,   du = Re(dz·β̄),   g ← g + dz,   z = x + βu
//
// and with D = ∂e/∂(Λτ), e^{Λτ} or 1/(1 − Λτ/2)², the parameters' gradients are sums over time: Q = Σ interval·g·conj(zD), by zero-order
// hold with g(1 + ē)·z̄ and so with the gradient after the step, and F = Σ u·dz give dΛ = ΔQ − F·conj(β/Λ), dΔ = Re(Q·Λ̄) and dB = F/Λ̄.
// Where |Λτ| is small the two terms of dΛ cancel. Such a step has x in the place of z in Q, and sums of its input apart:
// W = Σ interval·u·g·D̄ and Σ interval²·u·g·ψ̄ with ψ = (D − e/Λτ)/Λτ, by zero-order hold ½ + Λτ/3 (the next term is below 2.4e-7 of
// it), by the bilinear rule D/2. All of a warp's lanes do the same, since heads with such steps would else run on alone.
#include "common/split16.cuh"
#include "ssm/intervals_diagonal.cuh"

constexpr float SMALL = 1.f / 1024;

// What the warps of a block have in shared memory; each reads what it has written itself, and a lane its own column.
template <int PAIRS>
struct Scratch {
  Chunk facts;                               // of the next chunk
  float u[32], interval[32];                 // the next chunk's, a step a lane
  float state_ahead[PAIRS][2][32];           // the state before it
  alignas(16) float2 steps[STEPS];           // input and interval
  alignas(16) float dy[STEPS];               // 2dy of the first channel
  c32 e[PAIRS][STEPS][32];                   // Ā − 1
  c32 state[PAIRS][STEPS / GROUP][32];       // before every GROUP steps
  double sums[PAIRS][6][32], small[PAIRS][8][32];  // sums over all steps, and over those with small Λτ
};
// As `scratch_bytes` of src/ssm/intervals.rs; three blocks of four are to fit a multiprocessor of 164 KB.
static_assert(sizeof(Scratch<1>) == 13712 && sizeof(Scratch<2>) == 26768, "the host's scratch_bytes");

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

// Sums of a lane's mode over steps.
struct Sums {
  c32 q, f, c;
};
// Σ u·dz, W, and Σ interval^k·u·g for k = 2 (by the bilinear rule with gD̄) and k = 3, over steps with small Λτ.
struct SmallSums {
  c32 f, w, second, third;
};

// What GROUP steps are taken back from.
struct Group {
  c32 z[GROUP];      // x + βu before each step, x where Λτ is small
  c32 x[GROUP + 1];  // the states before each step and after the last, where they are needed
  c32 e[GROUP], o[GROUP];  // o: what the channels after the first add to the gradient of a state
  float2 now[GROUP];
  float out[GROUP];  // 2dy of the first channel
};
// The constants of a mode. small: the intervals at which Λτ is small are shorter.
struct Mode32 {
  c32 c, beta;
  float limit, small;
};

// Goes on over GROUP steps from the state x before them. STATES: x are kept; SMALL_STEPS: some Λτ may be small.
template <bool STATES, bool SMALL_STEPS>
DEV void advance(Group& of, Sums& sums, c32 x, const Mode32& mode) {
#pragma unroll
  for (int j = 0; j < GROUP; ++j) {
    if (STATES) of.x[j] = x;
    const c32 z = plus_scaled(x, of.now[j].x, mode.beta);
    of.z[j] = SMALL_STEPS && of.now[j].y < mode.small ? x : z;
    x = plus_product(x, of.e[j], z);
    sums.c.re = fmaf(of.out[j], x.re, sums.c.re), sums.c.im = fmaf(-of.out[j], x.im, sums.c.im);
  }
  if (STATES) of.x[GROUP] = x;
}

// 2dy·c̄ of the channels after the first at GROUP steps from step `begin` on. dy, c of the head.
DEV void add_channels(c32 (&o)[GROUP], const float* dy, const float* c, int channels, const Way& way, int begin, i64 dy_stride,
                      i64 c_stride, int n, int P) {
#pragma unroll
  for (int j = 0; j < GROUP; ++j) o[j] = {0, 0};
  for (int k = 1; k < channels; ++k) {
    const c32 ck = n < P ? load32(c, k * c_stride + n) : c32{0, 0};
#pragma unroll
    for (int j = 0; j < GROUP; ++j)
      if (begin + j < way.steps()) {
        const float out = 2.f * dy[k * dy_stride + way.output(begin + j)];
        o[j].re = fmaf(out, ck.re, o[j].re), o[j].im = fmaf(-out, ck.im, o[j].im);
      }
  }
}

// Adds to dc (channels, H, P) of the head what the channels after the first give at GROUP steps; x[j + 1] is the state after
// step begin + j.
DEV void add_to_c(c64* dc, const float* dy, const c32 (&x)[GROUP + 1], int channels, const Way& way, int begin, i64 dy_stride,
                  i64 c_stride, int n, int P) {
  for (int k = 1; k < channels; ++k) {
    c32 sum = {0, 0};
#pragma unroll
    for (int j = 0; j < GROUP; ++j)
      if (begin + j < way.steps()) {
        const float out = 2.f * dy[k * dy_stride + way.output(begin + j)];
        sum.re = fmaf(out, x[j + 1].re, sum.re), sum.im = fmaf(-out, x[j + 1].im, sum.im);
      }
    if (n < P) dc[k * c_stride + n] += widen(sum);
  }
}

// Goes back over GROUP steps, of which x is the state before the first. g: the gradient of the state; v: what of it the steps
// of this chunk have added. MANY: there are several channels; SMALL_STEPS: some Λτ may be small; FAR: some interval may be
// beyond its limit.
template <bool ZOH, bool MANY, bool SMALL_STEPS, bool FAR>
DEV void reverse(c32& g, c32& v, Sums& sums, SmallSums& small, float (&du)[GROUP], Group& of, c32 x, const Mode32& mode) {
  const c32 c = mode.c, beta = mode.beta;
  advance<MANY, SMALL_STEPS>(of, sums, x, mode);
#pragma unroll
  for (int j = GROUP - 1; j >= 0; --j) {
    const float u = of.now[j].x, interval = FAR ? fminf(of.now[j].y, mode.limit) : of.now[j].y, out = of.out[j];
    const c32 e = of.e[j];
    g.re = fmaf(out, c.re, g.re), g.im = fmaf(-out, c.im, g.im);
    v.re = fmaf(out, c.re, v.re), v.im = fmaf(-out, c.im, v.im);
    if (MANY) g = {g.re + of.o[j].re, g.im + of.o[j].im}, v = {v.re + of.o[j].re, v.im + of.o[j].im};
    const c32 dz = plus_conj_product({0, 0}, g, e), before = {g.re + dz.re, g.im + dz.im};
    du[j] = fmaf(dz.re, beta.re, fmaf(dz.im, beta.im, du[j]));
    c32 dg = before;  // gD̄
    if (!ZOH) {
      const c32 root = {fmaf(0.5f, e.re, 1.f), 0.5f * e.im};
      dg = plus_conj_product({0, 0}, plus_conj_product({0, 0}, g, root), root);
    }
    sums.q = plus_conj_product(sums.q, dg, {interval * of.z[j].re, interval * of.z[j].im});
    float rest = u;
    if (SMALL_STEPS) {
      const bool is_small = of.now[j].y < mode.small;
      const float u_small = is_small ? u : 0.f, first = interval * u_small, second = interval * first;
      rest = is_small ? 0.f : u;
      small.f = plus_scaled(small.f, u_small, dz);
      small.w = plus_scaled(small.w, first, dg);
      small.second = plus_scaled(small.second, second, ZOH ? g : dg);
      if (ZOH) small.third = plus_scaled(small.third, interval * second, g);
    }
    sums.f = plus_scaled(sums.f, rest, dz);
    g = before;
    v = plus_conj_product(v, v, e);
  }
}

// ends and products (B, H, segments, P): the gradient of the state before each segment where that of the state after it is
// zero, and the product of its Ā.
template <int PAIRS, bool ZOH, int WARPS>
DEV void adjoint_ends(c64* ends, c64* products, const float* dy, const float* intervals, const Chunk* chunks,
                      const int* lengths, const float* c, int channels, int L, int anticausal, i64 items, Segments cut, const Params& q) {
  alignas(16) __shared__ float2 shared[WARPS][STEPS];
  const int lane = threadIdx.x & 31, H = q.heads, P = q.pairs;
  const i64 index = (i64)blockIdx.x * WARPS + threadIdx.x / 32;
  if (index >= items) return;
  float2* steps = shared[threadIdx.x / 32];  // 2dy and interval
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
    steps[lane] = {out, interval};
    const Distance distance = ZOH ? distance_of(head.near, facts.longest) : ANY;
    __syncwarp();
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) {
      c32 v = {0, 0};
#pragma unroll 1
      for (int t = STEPS - GROUP; t >= 0; t -= GROUP) {
        c32 e[GROUP], o[GROUP];
        float2 now[GROUP];
        load_group(now, steps + t);
        increments<ZOH>(e, head.rate[m], now, distance);
        if (channels > 1)
          add_channels(o, dy, c + (i64)h * P * 2, channels, way, begin + t, (i64)H * L, (i64)H * P, lane + 32 * m, P);
#pragma unroll
        for (int j = GROUP - 1; j >= 0; --j) {
          const float out = now[j].x;
          v.re = fmaf(out, head.c[m].re, v.re), v.im = fmaf(-out, head.c[m].im, v.im);
          if (channels > 1) v = {v.re + o[j].re, v.im + o[j].im};
          v = plus_conj_product(v, v, e[j]);
        }
      }
      const c64 e = increment_of_chunk<ZOH>(head.z[m], facts.time, steps, head.rate[m].limit);
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
  float small_below[PAIRS];
#pragma unroll
  for (int m = 0; m < PAIRS; ++m) {
    const float size = (float)(fabs(head.z[m].re) + fabs(head.z[m].im));
    if (lane + 32 * m < P) slowest = fminf(slowest, size);
    small_below[m] = SMALL / size;
    for (int i = 0; i < 6; ++i) k.sums[m][i][lane] = 0;
    for (int i = 0; i < 8; ++i) k.small[m][i][lane] = 0;
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
    c64 g[PAIRS];
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) {
      const int n = lane + 32 * m;
      if (!entries)
        g[m] = load_state(dstate_end, row, P, n);
      else
        g[m] = n < P ? entries[(row * cut.count + item.segment) * P + n] : c64{0, 0};
    }
    float next_dy = 0;
    const auto fetch = [&](int chunk) {
      const int step = chunk * STEPS + lane;
      const bool mine = step < way.steps();
      const int at = mine ? way.input(step) : 0;
      begin_copy(k.u + lane, u + (u_at + at), mine);
      begin_copy(k.interval + lane, intervals + (intervals_at + at), mine);
      next_dy = mine ? dy[dy_at + way.output(step)] : 0.f;
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) {
        const int n = lane + 32 * m;
        const float* state = saved + (saved_at + (i64)chunk * (2 * P) + (n < P ? n : 0));
        begin_copy(k.state_ahead[m][0] + lane, state, n < P);
        begin_copy(k.state_ahead[m][1] + lane, state + P, n < P);
      }
      if (lane == 0) begin_copy(&k.facts, of_chunks + (chunks_at + chunk));
    };
    // Behind its length a sequence has no chunks, and nothing depends on u there.
    const int end = min(last, (max(way.steps(), 0) + STEPS - 1) / STEPS);
    if (du && !anticausal)
      for (int step = max(end, first) * STEPS + lane; step < min(last * STEPS, L); step += 32) du[u_at + step] = 0;
    if (end > first) fetch(end - 1);
    for (int chunk = end - 1; chunk >= first; --chunk) {
      const int begin = chunk * STEPS, step = begin + lane;
      const bool mine = step < way.steps();
      wait_for_copies();
      __syncwarp();
      const float2 now = {k.u[lane], k.interval[lane]};
      const float out = next_dy;
      c32 entering[PAIRS];
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) entering[m] = {k.state_ahead[m][0][lane], k.state_ahead[m][1][lane]};
      const double time = k.facts.time;
      const Distance distance = ZOH ? distance_of(head.near, k.facts.longest) : ANY;
      const bool has_small = slowest * k.facts.shortest < SMALL;
      if (!anticausal) sum_d += (double)out * now.x;
      k.steps[lane] = now, k.dy[lane] = 2.f * out;
      __syncwarp();
      if (chunk > first) fetch(chunk - 1);
      // Ā − 1 of all steps, and the states before every GROUP of them.
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) {
        c32 x = entering[m];
#pragma unroll 1
        for (int t = 0; t < STEPS; t += GROUP) {
          c32 e[GROUP];
          float2 steps[GROUP];
          load_group(steps, k.steps + t);
          increments<ZOH>(e, head.rate[m], steps, distance);
          k.state[m][t / GROUP][lane] = x;
#pragma unroll
          for (int j = 0; j < GROUP; ++j) {
            k.e[m][t + j][lane] = e[j];
            x = plus_product(x, e[j], plus_scaled(x, steps[j].x, head.beta[m]));
          }
        }
      }
      c32 gradient[PAIRS], v[PAIRS];
      Sums sums[PAIRS];
      SmallSums small[PAIRS] = {};
#pragma unroll
      for (int m = 0; m < PAIRS; ++m)
        gradient[m] = narrow(g[m]), v[m] = {0, 0}, sums[m].q = sums[m].f = sums[m].c = {0, 0};
      float du_of_lane = 0;
#pragma unroll 1
      for (int t = STEPS - GROUP; t >= 0; t -= GROUP) {
        __syncwarp();
        if (t < STEPS - GROUP) {
          const float sum = take_sum((float*)k.e[0][t + GROUP], lane);
          if (lane / GROUP == t / GROUP + 1) du_of_lane = sum;
        }
        float parts_of_du[GROUP];
#pragma unroll
        for (int j = 0; j < GROUP; ++j) parts_of_du[j] = 0;
#pragma unroll
        for (int m = 0; m < PAIRS; ++m) {
          const int n = lane + 32 * m;
          const c32 x = k.state[m][t / GROUP][lane];
          Group group;
          load_group(group.now, k.steps + t);
#pragma unroll
          for (int j = 0; j < GROUP; j += 4) {
            const float4 four = *(const float4*)(k.dy + t + j);
            group.out[j] = four.x, group.out[j + 1] = four.y, group.out[j + 2] = four.z, group.out[j + 3] = four.w;
          }
#pragma unroll
          for (int j = 0; j < GROUP; ++j) group.e[j] = k.e[m][t + j][lane];
          const Mode32 mode = {head.c[m], head.beta[m], head.rate[m].limit, small_below[m]};
          if constexpr (MANY) {
            add_channels(group.o, dy + dy_at, c + (i64)h * P * 2, channels, way, begin + t, (i64)H * L, (i64)H * P, n, P);
            reverse<ZOH, true, true, true>(gradient[m], v[m], sums[m], small[m], parts_of_du, group, x, mode);
            add_to_c(dc, dy + dy_at, group.x, channels, way, begin + t, (i64)H * L, (i64)H * P, n, P);
          } else if (has_small) {
            reverse<ZOH, false, true, true>(gradient[m], v[m], sums[m], small[m], parts_of_du, group, x, mode);
          } else if (distance == ANY) {
            reverse<ZOH, false, false, true>(gradient[m], v[m], sums[m], small[m], parts_of_du, group, x, mode);
          } else {
            reverse<ZOH, false, false, false>(gradient[m], v[m], sums[m], small[m], parts_of_du, group, x, mode);
          }
        }
        // The e of these steps have been taken up: their place is free. The sum is taken while the next steps are computed.
        __syncwarp();
        put_for_sum(parts_of_du, (float*)k.e[0][t], lane);
      }
      __syncwarp();
      const float sum_of_first = take_sum((float*)k.e[0][0], lane);
      if (lane / GROUP == 0) du_of_lane = sum_of_first;
      if (du && (anticausal ? mine : step < L)) {
        float* to = du + (u_at + (anticausal ? way.input(step) : step));
        float direct = anticausal ? *to : d0 * k.dy[lane];
        for (int i = 1; MANY && !anticausal && mine && i < channels; ++i)
          direct = fmaf(d[(i64)i * H + h], dy[dy_at + (i64)i * H * L + step], direct);
        *to = direct + du_of_lane;
      }
#pragma unroll
      for (int m = 0; m < PAIRS; ++m) {
        g[m] += conj(increment_of_chunk<ZOH>(head.z[m], time, k.steps, head.rate[m].limit)) * g[m] + widen(v[m]);
        const float terms[6] = {sums[m].q.re, sums[m].q.im, sums[m].f.re, sums[m].f.im, sums[m].c.re, sums[m].c.im};
#pragma unroll
        for (int i = 0; i < 6; ++i) k.sums[m][i][lane] += terms[i];
        if (MANY || has_small) {
          const SmallSums& of = small[m];
          const float few[8] = {of.f.re,      of.f.im,      of.w.re,     of.w.im,
                                of.second.re, of.second.im, of.third.re, of.third.im};
#pragma unroll
          for (int i = 0; i < 8; ++i) k.small[m][i][lane] += few[i];
        }
      }
    }
    if (item.segment > 0) continue;
#pragma unroll
    for (int m = 0; m < PAIRS; ++m) store_state(dstate0, row, P, lane + 32 * m, g[m]);
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
    const c64 sq = sum(sums[0], sums[1]), f = sum(sums[2], sums[3]), f_small = sum(small[0], small[1]);
    const c64 w = sum(small[2], small[3]);
    const c64 psi = 0.5 * sum(small[4], small[5]) + (1.0 / 3) * (conj(head.z[m]) * sum(small[6], small[7]));
    const c64 dlambda = mode.dt * (sq + mode.dt * (conj(mode.b) * psi)) - f * conj(beta * inverse);
    const c64 db = (f + f_small) * conj(inverse);
    to[n] = dot(sq, mode.lambda) + dot(w, mode.b);
    to[P + n] = dlambda.re, to[2 * P + n] = dlambda.im, to[3 * P + n] = db.re, to[4 * P + n] = db.im;
    dc[n] = sum(sums[4], sums[5]);
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
