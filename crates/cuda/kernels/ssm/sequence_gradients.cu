// What kernel_gradient and sequences_backward of chunk_matrices_backward.cu compute, for up to 32 pairs and rank 0 or 1, from the discrete recurrence alone: the
// sequences are computed again, so that nobody writes or reads them.
//
// A sequence's step x_{j+1} = x_j∘d + s_j a, s_j = 2Re b·x_j, has no sum over the state once all s_j are known. A first warp goes forward
// through the sequence, keeping s_j and every eighth x; then it goes back through the gradients while a second one computes
// the x of the next eight steps again and reads what these receive.
#include "ssm/four_steps.cuh"
#include "ssm/transition_diagonal.cuh"

constexpr int WINDOW = 8;  // steps whose numbers are computed or read together

struct Window {
  c64 x[WINDOW][32], share[WINDOW][32];  // share: what the gradient of x receives directly
};

struct SequenceMemory {
  Window window[2];
  c64 every_eighth[T / WINDOW][32], more[32];
  double s[T];
  double dkern[T];  // gradient of K̄_j
};

// Goes back through a sequence of T steps from x of pair n. g: the gradient of x_T. shares(j, out): what the gradients of x_j …
// x_{j+7} receive directly; visit(j, x): each x; before() and rest(): what the second warp does before all else, and what it has left to do for
// this pair. Gives gradients of d, a, b and x_0
// to the first warp.
struct SequenceGradient {
  c64 d, a, b, x;
};
template <class Shares, class Visit, class Before, class Rest>
DEV SequenceGradient back_through(SequenceMemory& m, c64 x, c64 d, c64 a, c64 b, int rank, c64 g, Shares shares, Visit visit, Before before, Rest rest) {
  const int n = threadIdx.x & 31;
  const bool first = threadIdx.x < 32;
  double h[AT_ONCE] = {};
  auto read = [&](int w) {
    c64 share[WINDOW];
    shares(w * WINDOW, share);
#pragma unroll
    for (int i = 0; i < WINDOW; ++i) m.window[w & 1].share[i][n] = share[i];
  };
  if (first) {
    sums_ahead(h, d, a, b, rank);
    four_by_four(x, d, a, b, rank, h, [&](int j, double s, c64 x, c64) {
      if (n == 0) m.s[j] = s;
      if (j % WINDOW == 0) m.every_eighth[j / WINDOW][n] = x;
      if (j >= T - WINDOW) m.window[(T / WINDOW - 1) & 1].x[j % WINDOW][n] = x;
    }, [](int, const c64(&)[AT_ONCE]) {});
  } else {
    before();
    read(T / WINDOW - 1);
  }
  __syncthreads();
  SequenceGradient sum = {};
  const c64 back = conj(d);
  c64 b_back[AT_ONCE];
  b_back[0] = conj(b);
#pragma unroll
  for (int i = 1; i < AT_ONCE; ++i) b_back[i] = b_back[i - 1] * back;
  for (int w = T / WINDOW - 1; w >= 0; --w) {
    if (first) {
      const Window& here = m.window[w & 1];
#pragma unroll
      for (int top = WINDOW - 1; top >= 0; top -= AT_ONCE) {
        // As four_steps.cuh goes forward: y is g without the terms of the four sums.
        double delta[AT_ONCE] = {};
        c64 y[AT_ONCE + 1];
        y[0] = g;
#pragma unroll
        for (int i = 0; i < AT_ONCE; ++i) y[i + 1] = y[i] * back + here.share[top - i][n];
        if (rank) {
          double terms[AT_ONCE];
#pragma unroll
          for (int i = 0; i < AT_ONCE; ++i) terms[i] = dot(y[i], a);
          sums_of_four(delta, terms, h);
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE; ++i) {
          const c64 x = here.x[top - i][n], x_back = conj(x);
          visit(w * WINDOW + top - i, x);
          sum.d += g * x_back;
          sum.a += m.s[w * WINDOW + top - i] * g;
          sum.b += delta[i] * x_back;
          g = y[i + 1];
#pragma unroll
          for (int l = 0; l <= i; ++l) g += delta[l] * b_back[i - l];
        }
      }
    } else if (w) {
      read(w - 1);
      c64 x = m.every_eighth[w - 1][n];
#pragma unroll
      for (int i = 0; i < WINDOW; ++i) {
        m.window[(w - 1) & 1].x[i][n] = x;
        x = x * d + m.s[(w - 1) * WINDOW + i] * a;
      }
    } else {
      m.more[n] = rest();
    }
    __syncthreads();
  }
  sum.x = g;
  return sum;
}

// dkern[lag]: sums of dToep, of one direction, along its diagonals, as kernel_gradient takes them; by one warp.
DEV void sum_diagonals(double (&dkern)[T], const float* G, int ld, bool anticausal) {
  constexpr int LOADS = 16;
  for (int lag = threadIdx.x & 31; lag < T; lag += 32) {
    const int shift = anticausal ? 1 + lag : -lag;
    double s = 0;
#pragma unroll 1
    for (int first = 0; first < T; first += LOADS) {
      float x[LOADS];
#pragma unroll
      for (int i = 0; i < LOADS; ++i) x[i] = G[(first + i) * ld + max(first + i + shift, 0)];
#pragma unroll
      for (int i = 0; i < LOADS; ++i) s += (u32)(first + i + shift) < T ? x[i] : 0.f;
    }
    dkern[lag] = s;
  }
  __syncwarp();
}

// As sequences_backward, part by part, and dd[k][h] += the gradient of D; but what B̄ receives from K̄_j = 2Re C Ā^j·B̄ is in the parts of the rows C Ā^j. One sequence a block of
// 64 threads; grid (H, 1 + 2R + kc).
extern "C" __global__ void __launch_bounds__(64, 10)
    sequence_gradients(c64* gradient_parts, float* dc, float* dd, const float2* ga, const float2* gb, const float* g0, const float* g1,
                       const c64* d0, const c64* u_r, const c64* v_r, const c64* b_bar, const float* c, int heads, int pairs, int rank, int kc,
                       int ch0, int ld, i64 head_stride, i64 channel_stride, int gradient_part_count) {
  __shared__ SequenceMemory m;
  const int h = blockIdx.x, seq = blockIdx.y, P = pairs, R = rank, n = threadIdx.x & 31, at = n < P ? n : 0;
  const bool there = n < P, first = threadIdx.x < 32;
  const c64 zero = {0, 0};
  const i64 i = (i64)h * P + at;
  const c64 d = there ? d0[i] : zero, input = there ? b_bar[i] : zero;
  const c64 u = there && R ? u_r[i] : zero, v = there && R ? v_r[i] : zero;
  const float *G0 = g0 + h * head_stride, *G1 = g1 ? g1 + h * head_stride : nullptr;
  c64 *mine = gradient_parts + ((i64)h * gradient_part_count + seq) * (2 + 2 * R) * P + at, *su = mine + 2 * P, *sv = mine + 3 * P;
  if (seq <= R) {
    // Ā^j u receives ga; Ā^j B̄ receives from dV, as V[:, t] = Ā^{T−1−t} B̄ (Ā^t B̄ where anticausal).
    auto shares = [&](int j, c64(&share)[WINDOW]) {
      if (seq) {
        const float2* own = ga + ((i64)h * T + j) * P + at;
#pragma unroll
        for (int k = 0; k < WINDOW; ++k) share[k] = {(double)own[k * P].x, (double)own[k * P].y};
        return;
      }
      const float* a = G0 + (i64)(T + at) * ld + T - 1 - j;
#pragma unroll
      for (int k = 0; k < WINDOW; ++k) share[k] = {(double)a[-k], (double)a[(i64)P * ld - k]};
      if (!G1) return;
      a = G1 + (i64)(T + at) * ld + j;
#pragma unroll
      for (int k = 0; k < WINDOW; ++k) share[k] += c64{(double)a[k], (double)a[(i64)P * ld + k]};
    };
    auto diagonal = [&] { return seq ? zero : gradient_of_diagonal(d, G0, G1, ld, P, at); };
    // The lanes beyond the state have zeros for all but the shares.
    auto of_state = [&](int j, c64(&share)[WINDOW]) {
      shares(j, share);
#pragma unroll
      for (int k = 0; k < WINDOW; ++k) share[k] = there ? share[k] : zero;
    };
    const SequenceGradient sum = back_through(m, seq ? u : input, d, u, v, R, zero, of_state, [](int, c64) {}, [] {}, diagonal);
    if (!first || !there) return;
    mine[0] = sum.d + m.more[n];
    mine[P] = seq ? zero : sum.x;
    if (R) *su = seq ? sum.a + sum.x : sum.a, *sv = sum.b;
  } else if (seq <= 2 * R) {
    // v D₀^j receives gb: a polynomial of D̄₀ and its derivative.
    if (!first || !there) return;
    const float2* own = gb + (i64)h * T * P + n;
    const c64 back = conj(d);
    c64 p = zero, derivative = zero;
    for (int j = T - WINDOW; j >= 0; j -= WINDOW) {
      float2 share[WINDOW];
#pragma unroll
      for (int k = 0; k < WINDOW; ++k) share[k] = own[(j + k) * P];
#pragma unroll
      for (int k = WINDOW - 1; k >= 0; --k) {
        derivative = derivative * back + p;
        p = p * back + c64{(double)share[k].x, (double)share[k].y};
      }
    }
    mine[0] = conj(v) * derivative, mine[P] = zero, *su = zero, *sv = p;
  } else {
    const int k = seq - 2 * R - 1;
    const bool anticausal = k >= ch0;
    const float *G = anticausal ? G1 + (k - ch0) * channel_stride : G0 + k * channel_stride, *W = G + T + at;
    // What C Ā^j receives from the row of W that it is.
    auto of_row = [&](int j) {
      const int t = anticausal ? T - 1 - j : j - 1;
      const bool row = there && t >= 0 && t < T;
      const float* w = W + (row ? t : 0) * ld;
      const float re = w[0], im = w[P];
      return row ? c64{2.0 * re, -2.0 * im} : zero;
    };
    auto shares = [&](int j, c64(&share)[WINDOW]) {
#pragma unroll
      for (int i = 0; i < WINDOW; ++i) share[i] = of_row(j + i);
#pragma unroll
      for (int i = 0; i < WINDOW; ++i) share[i] += (2 * m.dkern[j + i]) * conj(input);
    };
    c64 of_input = zero;
    auto visit = [&](int j, c64 x) { of_input += (2 * m.dkern[j]) * conj(x); };
    auto diagonals = [&] { sum_diagonals(m.dkern, G, ld, anticausal); };
    const c64 start = there ? load(c, ((i64)k * heads + h) * P + n) : zero;
    const SequenceGradient sum = back_through(m, start, d, v, u, R, of_row(T), shares, visit, diagonals, [&] { return zero; });
    if (dd && !anticausal && threadIdx.x == 0) dd[(i64)k * heads + h] += (float)m.dkern[0];
    if (!first || !there) return;
    mine[0] = sum.d, mine[P] = of_input;
    if (R) *su = sum.b, *sv = sum.a;
    float* o = dc + 2 * (((i64)k * heads + h) * P + n);
    o[0] += (float)sum.x.re, o[1] += (float)sum.x.im;
  }
}
