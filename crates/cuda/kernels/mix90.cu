// A mix with GLU by Hopper's warpgroups: its three products with what stands around them.
//   y = dropout(z₁·σ(z₂)) (+ residual), z = W a + b, a = dropout(f(s))      mix_forward
//   dz from dy and z, which is made again, and its sums over time           mix_dz
//   Σ dz·aᵀ                                                                 mix_dw
//   ds = (Wᵀ dz)·mask·f′(s)                                                 mix_ds
//
// Operands are f16 planes, made once: x·2^e = high (+ low), where e brings the largest magnitude that x can have below
// 2^15. Three products of planes hold 22 bits, one holds TF32's 11. Asynchronous copies bring the planes to shared
// memory, two steps ahead of the tensor cores.
#include "pointwise.cuh"
#include "wgmma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

typedef unsigned short u16;

// Largest magnitudes, as bits: of s, of W, of z₁ (from forward), of dy.
struct Largest {
  u32 s, w, z, dy;
};

// Exponents of a, W and dz. |f(x)| ≤ |x| for all but the sigmoid; |dz₁| ≤ |dy|, |dz₂| ≤ |dy·z₁|/4, before the mask.
DEV int exponent_a(const Largest* l, int f, float scale) {
  return f16_exponent(scale * (f == 5 ? 1.f : __uint_as_float(l->s)), 60);
}
DEV int exponent_w(const Largest* l) { return f16_exponent(__uint_as_float(l->w), 60); }
DEV int exponent_dz(const Largest* l, float scale) {
  return f16_exponent(scale * __uint_as_float(l->dy) * fmaxf(1.f, 0.25f * __uint_as_float(l->z)), 60);
}

DEV void largest_of_warp(u32* to, float m) {
#pragma unroll
  for (int k = 16; k; k >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, k));
  if ((threadIdx.x & 31) == 0 && m > 0.f) atomicMax(to, __float_as_uint(m));
}

// *to ← max(*to, largest magnitude of x), n a multiple of four.
KERNEL mix_largest(u32* to, const float* x, i64 n) {
  float m = 0.f;
  const bool vec = aligned(x);
  for (i64 q = index(); q * 4 < n; q += stride()) {
    float v[4];
    read4(v, x + q * 4, 4, vec);
#pragma unroll
    for (int i = 0; i < 4; ++i) m = fmaxf(m, fabsf(v[i]));
  }
  largest_of_warp(to, m);
}

// Four numbers to the planes; low may be missing.
DEV void store_planes(u16* high, u16* low, i64 at, const float (&x)[4], float scale) {
  uint2 h, l;
  pair_f16(h.x, l.x, x[0], x[1], scale);
  pair_f16(h.y, l.y, x[2], x[3], scale);
  *(uint2*)(high + at) = h;
  if (low) *(uint2*)(low + at) = l;
}

KERNEL mix_weight(u16* high, u16* low, const float* w, const Largest* largest, i64 n) {
  const float scale = power_of_two(exponent_w(largest));
  const bool vec = aligned(w);
  for (i64 q = index(); q * 4 < n; q += stride()) {
    float x[4];
    read4(x, w + q * 4, 4, vec);
    store_planes(high, low, q * 4, x, scale);
  }
}

// a = mask·f(s), n elements in lines of `len` from number `first` of s on.
KERNEL mix_activate(u16* high, u16* low, const float* s, const Largest* largest, i64 first, i64 n, i64 len, int f, DROP) {
  DROP_HERE;
  const float to = power_of_two(exponent_a(largest, f, scale));
  const bool vec = aligned(s);
  for (i64 q = index(); q * 4 < n; q += stride()) {
    float m[4], x[4];
    read4(x, s + first + q * 4, 4, vec);
    factors(drop, first / 4 + q, len, m);
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = m[i] * activate(f, x[i]);
    store_planes(high, low, q * 4, x, to);
  }
}

// A panel is 128 × 32 numbers of a plane: core matrices of 8 × 8, in the order in which its 512 pieces of 16 bytes are
// brought. Where k is fast a warp takes 8 rows of 32 k, else 8 k of 32 columns. There are three stages of four panels.
constexpr int PANEL = 128 * 32 * 2, STAGE = 4 * PANEL, PITCH = 136;
template <bool KFAST>
struct Layout {
  static constexpr int INNER = KFAST ? 128 : 2048, OUTER = KFAST ? 512 : 128;
  __device__ __forceinline__ static u64 describe(u32 address) {
    return (u64)(address >> 4 & 0x3fff) | (u64)(INNER >> 4) << 16 | (u64)(OUTER >> 4) << 32;
  }
};

// One operand: X(i, k) = x[i·ld + k] where k is fast, else x[k·ld + i]; `count` of i, `batch` from one matrix to the next.
struct Side {
  const u16* x;
  i64 plane, ld, batch;
  int start, count;
};

// What a step takes of an operand: two planes of 32 k, or 64 k of one. `row`: which i stands at a place of the tile,
// negative for none.
template <bool KFAST, int PROD, class Row>
DEV void bring(u32 to, const Side& o, const u16* x, i64 k0, i64 K, Row row) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int panel = j >> 1, q = (j & 1) * 256 + threadIdx.x;
    const int i = KFAST ? (q >> 5) * 8 + (q & 7) : (q >> 3 & 15) * 8;
    const i64 k = k0 + (PROD == 1 ? panel * 32 : 0) + (KFAST ? (q >> 3 & 3) * 8 : (q >> 7) * 8 + (q & 7));
    const int at = row(i);
    const bool there = at >= 0 && k < K;
    const u16* from = x + (PROD == 3 ? panel * o.plane : 0) + (KFAST ? at * o.ld + k : k * o.ld + at);
    copy_16(to + panel * PANEL + q * 16, there ? from : o.x, there ? 16 : 0);
  }
}

#define ACCUMULATORS                                                                                                    \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),           \
      "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),            \
      "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),           \
      "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]),           \
      "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]),           \
      "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),           \
      "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),           \
      "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])

// As wgmma of wgmma.cuh, of f16.
template <bool AK, bool BK>
DEV void wgmma_f16(float (&d)[64], u64 a, u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,"
      "%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,"
      "%58,%59,%60,%61,%62,%63}, %64, %65, 1, 1, 1, %66, %67;"
      : ACCUMULATORS
      : "l"(a), "l"(b), "n"(AK ? 0 : 1), "n"(BK ? 0 : 1));
}

// acc (128 × 128, a warpgroup 64 rows) = the product over steps first … last − 1 of all (matrix, k) in order.
template <bool AK, bool BK, int PROD, class RowA, class RowB>
DEV void multiply(float (&acc)[64], char* memory, const Side& a, const Side& b, i64 K, int first, int last, RowA row_a,
                  RowB row_b) {
  constexpr int DEPTH = PROD == 3 ? 32 : 64;
  const int each = (int)((K + DEPTH - 1) / DEPTH);
  const u32 base = shared_address(memory);
  auto load = [&](int s, int stage) {
    if (s < last) {
      const int z = s / each;
      const i64 k0 = (i64)(s - z * each) * DEPTH;
      bring<AK, PROD>(base + stage * STAGE, a, a.x + z * a.batch, k0, K, row_a);
      bring<BK, PROD>(base + stage * STAGE + 2 * PANEL, b, b.x + z * b.batch, k0, K, row_b);
    }
    copies_end_group();
  };
#pragma unroll
  for (int e = 0; e < 64; ++e) acc[e] = 0.f;
  load(first, 0);
  load(first + 1, 1);
  int now = 0;
  for (int s = first; s < last; ++s) {
    copies_wait<1>();
    stores_before_wgmma();
    __syncthreads();
    const u32 at_a = base + now * STAGE + (threadIdx.x >> 7) * 8 * Layout<AK>::OUTER, at_b = base + now * STAGE + 2 * PANEL;
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < DEPTH / 16; ++k) {
      const int panel = PROD == 1 ? k / 2 * PANEL : 0;
      const u32 ka = at_a + panel + 2 * (k & 1) * Layout<AK>::INNER, kb = at_b + panel + 2 * (k & 1) * Layout<BK>::INNER;
      const u64 ah = Layout<AK>::describe(ka), bh = Layout<BK>::describe(kb);
      if (PROD == 3) {
        wgmma_f16<AK, BK>(acc, Layout<AK>::describe(ka + PANEL), bh);
        wgmma_f16<AK, BK>(acc, ah, Layout<BK>::describe(kb + PANEL));
      }
      wgmma_f16<AK, BK>(acc, ah, bh);
    }
    wgmma_end_group();
    // What all warps have multiplied makes room.
    const int free = now == 0 ? 2 : now - 1;
    load(s + 2, free);
    wgmma_wait();
    now = now == 2 ? 0 : now + 1;
  }
  copies_wait<0>();
  __syncthreads();
}

// Accumulators times `scale` to shared memory, (128, PITCH).
DEV void stage(float* tile, const float (&acc)[64], float scale) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int j = 0; j < 16; ++j)
      *(float2*)(tile + (16 * warp + 8 * r + g) * PITCH + 8 * j + 2 * t) =
          make_float2(acc[4 * j + 2 * r] * scale, acc[4 * j + 2 * r + 1] * scale);
  __syncthreads();
}

// The tile of z that mix_forward and mix_dz share: 64 rows of z₁ above the same 64 of z₂, 128 steps of time.
// W (2·outputs × inputs), a (inputs × L) of this block's row of the batch.
template <int PROD>
DEV void product_z(float* tile, const u16* w, i64 w_plane, const u16* a, i64 a_plane, const Largest* largest, int outputs,
                   int inputs, i64 L, int f, float scale) {
  const int o0 = blockIdx.x * 64, n0 = blockIdx.y * 128;
  const Side ws = {w, w_plane, inputs, 0}, as = {a + (i64)blockIdx.z * inputs * L, a_plane, L, 0};
  float acc[64];
  constexpr int DEPTH = PROD == 3 ? 32 : 64;
  multiply<true, false, PROD>(
      acc, (char*)tile, ws, as, inputs, 0, (inputs + DEPTH - 1) / DEPTH,
      [&](int i) { return o0 + (i & 63) >= outputs ? -1 : o0 + (i & 63) + (i >> 6) * outputs; },
      [&](int i) { return n0 + i < L ? n0 + i : -1; });
  stage(tile, acc, power_of_two(-exponent_a(largest, f, scale) - exponent_w(largest)));
}

// Grid (outputs / 64, L / 128, B), block 256.
template <int PROD>
DEV void mix_forward(float* y, Largest* largest, const u16* w, i64 w_plane, const u16* a, i64 a_plane, const float* bias,
                     const float* residual, int outputs, int inputs, i64 L, int f, DROP) {
  extern __shared__ __align__(128) float tile[];
  DROP_HERE;
  product_z<PROD>(tile, w, w_plane, a, a_plane, largest, outputs, inputs, L, f, scale);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const i64 n = (i64)blockIdx.y * 128 + 4 * lane;
  const bool vec = aligned(y) && aligned(residual);
  float most = 0.f;
  for (int r = warp; r < 64; r += 8) {
    const int o = blockIdx.x * 64 + r;
    if (o >= outputs || n >= L) continue;
    const i64 at = ((i64)blockIdx.z * outputs + o) * L + n;
    float v[4], g[4], m[4], x[4] = {};
    if (residual) read4(x, residual + at, 4, vec);
    read4(v, tile + r * PITCH + 4 * lane, 4, true);
    read4(g, tile + (64 + r) * PITCH + 4 * lane, 4, true);
    factors(drop, at / 4, L, m);
    const float b1 = bias[o], b2 = bias[outputs + o];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[i] += b1;
      most = fmaxf(most, fabsf(v[i]));
      x[i] = fmaf(m[i], v[i] * sigmoid(g[i] + b2), x[i]);
    }
    write4(y + at, x, 4, vec);
  }
  largest_of_warp(&largest->z, most);
}

// dz (2·outputs, L) in planes for rows b0 … of the batch; part (B, L / 128, 2·outputs): its sums over the tile's time.
template <int PROD>
DEV void mix_dz(u16* dz, i64 dz_plane, float* part, const float* dy, const Largest* largest, const u16* w, i64 w_plane,
                const u16* a, i64 a_plane, const float* bias, int b0, int outputs, int inputs, i64 L, int f, DROP) {
  extern __shared__ __align__(128) float tile[];
  DROP_HERE;
  product_z<PROD>(tile, w, w_plane, a, a_plane, largest, outputs, inputs, L, f, scale);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const i64 n = (i64)blockIdx.y * 128 + 4 * lane, b = b0 + blockIdx.z;
  const bool vec = aligned(dy);
  const float to = power_of_two(exponent_dz(largest, scale));
  float* sums = part + (b * gridDim.y + blockIdx.y) * 2 * outputs;
  for (int r = warp; r < 64; r += 8) {
    const int o = blockIdx.x * 64 + r;
    if (o >= outputs) continue;
    float s1 = 0.f, s2 = 0.f;
    if (n < L) {
      const i64 at = (b * outputs + o) * L + n;
      float v[4], g[4], m[4], d[4];
      read4(d, dy + at, 4, vec);
      read4(v, tile + r * PITCH + 4 * lane, 4, true);
      read4(g, tile + (64 + r) * PITCH + 4 * lane, 4, true);
      factors(drop, at / 4, L, m);
      const float b1 = bias[o], b2 = bias[outputs + o];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float open = sigmoid(g[i] + b2);
        d[i] *= m[i] * open;
        g[i] = d[i] * (v[i] + b1) * (1.f - open);
        s1 += d[i], s2 += g[i];
      }
      const i64 first = ((i64)blockIdx.z * 2 * outputs + o) * L + n;
      u16* low = PROD == 3 ? dz + dz_plane : nullptr;
      store_planes(dz, low, first, d, to);
      store_planes(dz, low, first + outputs * L, g, to);
    }
    s1 = warp_sum(s1), s2 = warp_sum(s2);
    if (lane == 0) sums[o] = s1, sums[outputs + o] = s2;
  }
}

// slices (parts, rows, inputs): parts of Σ dz·aᵀ over B rows of the batch and all time. Grid (inputs / 128,
// rows / 128, parts).
template <int PROD>
DEV void mix_dw(float* slices, const Largest* largest, const u16* dz, i64 dz_plane, const u16* a, i64 a_plane, int B,
                int rows, int inputs, i64 L, int f, float scale) {
  extern __shared__ __align__(128) float tile[];
  constexpr int DEPTH = PROD == 3 ? 32 : 64;
  const int steps = B * (int)((L + DEPTH - 1) / DEPTH), each = (steps + (int)gridDim.z - 1) / (int)gridDim.z;
  const int first = (int)blockIdx.z * each, last = min(steps, first + each), m0 = blockIdx.y * 128, n0 = blockIdx.x * 128;
  float acc[64];
  multiply<true, true, PROD>(
      acc, (char*)tile, {dz, dz_plane, L, rows * L}, {a, a_plane, L, inputs * L}, L, first, last,
      [&](int i) { return m0 + i < rows ? m0 + i : -1; }, [&](int i) { return n0 + i < inputs ? n0 + i : -1; });
  stage(tile, acc, power_of_two(-exponent_a(largest, f, scale) - exponent_dz(largest, scale)));
  const int lane = threadIdx.x & 31;
  for (int r = threadIdx.x >> 5; r < 128; r += 8) {
    if (m0 + r >= rows || n0 + 4 * lane >= inputs) continue;
    float v[4];
    read4(v, tile + r * PITCH + 4 * lane, 4, true);
    write4(slices + ((i64)blockIdx.z * rows + m0 + r) * inputs + n0 + 4 * lane, v, 4, true);
  }
}

// For rows b0 … of the batch, to which dz belongs. Grid (inputs / 128, L / 128, rows of the batch).
template <int PROD>
DEV void mix_ds(float* ds, const float* s, const Largest* largest, const u16* w, i64 w_plane, const u16* dz, i64 dz_plane,
                int b0, int rows, int inputs, i64 L, int f, DROP) {
  extern __shared__ __align__(128) float tile[];
  DROP_HERE;
  constexpr int DEPTH = PROD == 3 ? 32 : 64;
  const int m0 = blockIdx.x * 128, n0 = blockIdx.y * 128;
  float acc[64];
  multiply<false, false, PROD>(
      acc, (char*)tile, {w, w_plane, inputs, 0}, {dz + (i64)blockIdx.z * rows * L, dz_plane, L, 0}, rows, 0,
      (rows + DEPTH - 1) / DEPTH, [&](int i) { return m0 + i < inputs ? m0 + i : -1; },
      [&](int i) { return n0 + i < L ? n0 + i : -1; });
  stage(tile, acc, power_of_two(-exponent_w(largest) - exponent_dz(largest, scale)));
  const int lane = threadIdx.x & 31;
  const i64 n = n0 + 4 * lane, b = b0 + blockIdx.z;
  const bool vec = aligned(s) && aligned(ds);
  for (int r = threadIdx.x >> 5; r < 128; r += 8) {
    if (m0 + r >= inputs || n >= L) continue;
    const i64 at = (b * inputs + m0 + r) * L + n;
    float d[4], x[4], m[4];
    read4(x, s + at, 4, vec);
    read4(d, tile + r * PITCH + 4 * lane, 4, true);
    factors(drop, at / 4, L, m);
#pragma unroll
    for (int i = 0; i < 4; ++i) d[i] *= m[i] * activate_slope(f, x[i]);
    write4(ds + at, d, 4, vec);
  }
}

// db[m] += Σ_p part[p][m]. Block (32, 32).
KERNEL mix_db(float* db, const float* part, i64 parts, int rows) {
  __shared__ float share[32][33];
  const int m = blockIdx.x * 32 + threadIdx.x;
  float s = 0.f;
  if (m < rows)
    for (i64 p = threadIdx.y; p < parts; p += 32) s += part[p * rows + m];
  share[threadIdx.y][threadIdx.x] = s;
  __syncthreads();
  s = warp_sum(share[threadIdx.x][threadIdx.y]);
  const int to = blockIdx.x * 32 + threadIdx.y;
  if (threadIdx.x == 0 && to < rows) db[to] += s;
}

#define PLANES(x) const u16 *x, i64 x##_plane
#define PRODUCT extern "C" __global__ void __launch_bounds__(256, 2)
#define MIXES(PROD)                                                                                                     \
  PRODUCT mix_forward_##PROD(float* y, Largest* largest, PLANES(w), PLANES(a), const float* bias, const float* residual, \
                             int outputs, int inputs, i64 L, int f, DROP) {                                             \
    mix_forward<PROD>(y, largest, w, w_plane, a, a_plane, bias, residual, outputs, inputs, L, f, seed, step, site,      \
                      threshold, scale, tied);                                                                          \
  }                                                                                                                     \
  PRODUCT mix_dz_##PROD(u16* dz, i64 dz_plane, float* part, const float* dy, const Largest* largest, PLANES(w),         \
                        PLANES(a), const float* bias, int b0, int outputs, int inputs, i64 L, int f, DROP) {            \
    mix_dz<PROD>(dz, dz_plane, part, dy, largest, w, w_plane, a, a_plane, bias, b0, outputs, inputs, L, f, seed, step,      \
                 site, threshold, scale, tied);                                                                         \
  }                                                                                                                     \
  PRODUCT mix_dw_##PROD(float* slices, const Largest* largest, PLANES(dz), PLANES(a), int B, int rows, int inputs, i64 L, \
                        int f, float scale) {                                                                           \
    mix_dw<PROD>(slices, largest, dz, dz_plane, a, a_plane, B, rows, inputs, L, f, scale);                              \
  }                                                                                                                     \
  PRODUCT mix_ds_##PROD(float* ds, const float* s, const Largest* largest, PLANES(w), PLANES(dz), int b0, int rows,     \
                        int inputs, i64 L, int f, DROP) {                                                                           \
    mix_ds<PROD>(ds, s, largest, w, w_plane, dz, dz_plane, b0, rows, inputs, L, f, seed, step, site, threshold, scale,      \
                 tied);                                                                                                 \
  }
MIXES(3)
MIXES(1)

#endif
