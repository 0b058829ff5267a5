// The end chunk of a sequence, which it does not fill: plain steps of the recurrence, in f64, where a final state is
// wanted. For a sequence of length 64c + r the final state is r steps after the state that enters chunk c; a chunk padded
// with zeros would not give it.
#include "common/complex.cuh"
#include "ssm/chunk.cuh"

constexpr int PL = 2;
#define EACH_PAIR(i, n) _Pragma("unroll") for (int i = 0, n = threadIdx.x & 31; i < PL; ++i, n += 32) if (n < P)

// The discrete recurrence of one head.
struct HeadRecurrence {
  const c64 *d0, *u_r, *v_r, *b_bar;
};
DEV HeadRecurrence head(const c64* d0, const c64* u_r, const c64* v_r, const c64* b_bar, int h, int P, int R) {
  return {d0 + (i64)h * P, u_r + (i64)h * R * P, v_r + (i64)h * R * P, b_bar + (i64)h * P};
}

// x ← Ā x + B̄ u.
DEV void step(const HeadRecurrence& q, c64 (&x)[PL], double u, int P, int R) {
  c64 y[PL] = {};
  EACH_PAIR(i, n) y[i] = q.d0[n] * x[i] + u * q.b_bar[n];
  for (int r = 0; r < R; ++r) {
    double rho = 0;
    EACH_PAIR(i, n) rho += dot(conj(q.v_r[r * P + n]), x[i]);
    rho = 2 * warp_sum(rho);
    EACH_PAIR(i, n) y[i] += rho * q.u_r[r * P + n];
  }
  EACH_PAIR(i, n) x[i] = y[i];
}

// state_end (B, H, 2P) from state_at_end_chunk (B, H, NP), the states that enter the end chunks. One warp per (sequence,
// head); grid (B, H).
KERNEL partial_chunk(float* state_end, const float* state_at_end_chunk, const float* u, const int* lengths, const c64* d0, const c64* u_r,
            const c64* v_r, const c64* b_bar, int H, int P, int R, int np, i64 L) {
  const int b = blockIdx.x, h = blockIdx.y;
  const HeadRecurrence q = head(d0, u_r, v_r, b_bar, h, P, R);
  const float* m = state_at_end_chunk + ((i64)b * H + h) * np;
  c64 x[PL] = {};
  EACH_PAIR(i, n) x[i] = {m[n], m[P + n]};
  const i64 len = lengths ? (i64)lengths[b] : L;
  const float* row = u + ((i64)b * H + h) * L;
  for (i64 t = len / T * T; t < len; ++t) step(q, x, row[t], P, R);
  float* o = state_end + ((i64)b * H + h) * 2 * P;
  EACH_PAIR(i, n) {
    o[n] = (float)x[i].re;
    o[P + n] = (float)x[i].im;
  }
}

// The adjoint of partial_chunk. dstate_at_end_chunk (B, H, NP): gradient of the state that enters the end chunk;
// du_end_chunk (B, H, T): what du of that chunk receives from dstate_end. The gradients of (D₀, B̄, u, v) are written as
// part `first_end_chunk_part + blockIdx.y`; a block takes the sequences b ≡ blockIdx.y mod gridDim.y. states (H,
// gridDim.y, T, P): scratch for the states of the steps. One warp; grid (H, end_chunk_gradient_parts).
KERNEL partial_chunk_backward(float* dstate_at_end_chunk, float* du_end_chunk, c64* gradient_parts, c64* states,
                     const float* dstate_end, const float* state_at_end_chunk, const float* u, const int* lengths, const c64* d0, const c64* u_r, const c64* v_r, const c64* b_bar,
                     int B, int H, int P, int R, int np, i64 L, int gradient_part_count, int first_end_chunk_part) {
  const int h = blockIdx.x, share = blockIdx.y;
  const HeadRecurrence q = head(d0, u_r, v_r, b_bar, h, P, R);
  c64* mine = gradient_parts + ((i64)h * gradient_part_count + first_end_chunk_part + share) * (2 + 2 * R) * P;
  c64 *su = mine + 2 * P, *sv = mine + (2 + R) * P;
  for (int e = threadIdx.x; e < (2 + 2 * R) * P; e += 32) mine[e] = {0, 0};
  __syncwarp();
  c64 gd[PL] = {}, gb[PL] = {};
  c64* step_states = states + ((i64)h * gridDim.y + share) * T * P;
  for (int b = share; b < B; b += gridDim.y) {
    const i64 bh = (i64)b * H + h, len = lengths ? (i64)lengths[b] : L;
    const int r = (int)(len % T);
    const float *m = state_at_end_chunk + bh * np, *row = u + bh * L + len / T * T, *ge = dstate_end + bh * 2 * P;
    c64 x[PL] = {}, g[PL] = {};
    EACH_PAIR(i, n) {
      x[i] = {m[n], m[P + n]};
      g[i] = {ge[n], ge[P + n]};
    }
    for (int k = 0; k < r; ++k) {
      EACH_PAIR(i, n) step_states[k * P + n] = x[i];
      step(q, x, row[k], P, R);
    }
    for (int k = T - 1; k >= r; --k)
      if (threadIdx.x == 0) du_end_chunk[bh * T + k] = 0.f;
    for (int k = r - 1; k >= 0; --k) {
      double du = 0;
      c64 y[PL] = {};
      EACH_PAIR(i, n) {
        du += dot(g[i], q.b_bar[n]);
        gb[i] += (double)row[k] * g[i];
        gd[i] += g[i] * conj(step_states[k * P + n]);
        y[i] = g[i] * conj(q.d0[n]);
      }
      du = warp_sum(du);
      if (threadIdx.x == 0) du_end_chunk[bh * T + k] = (float)du;
      for (int a = 0; a < R; ++a) {
        double rho = 0, d = 0;
        EACH_PAIR(i, n) {
          rho += dot(conj(q.v_r[a * P + n]), step_states[k * P + n]);
          d += dot(g[i], q.u_r[a * P + n]);
        }
        rho = 2 * warp_sum(rho), d = 2 * warp_sum(d);
        EACH_PAIR(i, n) {
          su[a * P + n] += rho * g[i];
          sv[a * P + n] += d * conj(step_states[k * P + n]);
          y[i] += d * conj(q.v_r[a * P + n]);
        }
      }
      EACH_PAIR(i, n) g[i] = y[i];
    }
    float* o = dstate_at_end_chunk + bh * np;
    for (int n = threadIdx.x; n < np; n += 32)
      if (n >= 2 * P) o[n] = 0.f;
    EACH_PAIR(i, n) {
      o[n] = (float)g[i].re;
      o[P + n] = (float)g[i].im;
    }
  }
  EACH_PAIR(i, n) {
    mine[n] = gd[i];
    mine[P + n] = gb[i];
  }
}

// du[b][h][64c + k] += du_end_chunk[b][h][k] in the end chunk of each sequence.
KERNEL add_partial_chunk(float* du, const float* du_end_chunk, const int* lengths, int B, int H, i64 L) {
  const i64 total = (i64)B * H * T;
  for (i64 i = index(); i < total; i += stride()) {
    const i64 bh = i / T, k = i % T, len = sequence_len(lengths, (int)(bh / H), (int)L);
    if (k < len % T) du[bh * L + len / T * T + k] += du_end_chunk[i];
  }
}
