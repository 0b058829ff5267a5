// The recurrence x ← x∘d + (2Re b·x) a of one warp, with one pair per lane, four steps for each sum over the lanes. With s_j = 2Re b·x_j
// and h_m = 2Re b·d^m∘a
//   s_{j+i} = 2Re (b∘d^i)·x_j + Σ_{l<i} h_{i−1−l} s_{j+l},   x_{j+i} = d^i∘x_j + Σ_{l<i} s_{j+l} d^{i−1−l}∘a,
// so four steps wait for the lanes once and not four times, and for one another's sums not at all.
#pragma once
#include "common/complex.cuh"
#include "ssm/chunk.cuh"

constexpr int AT_ONCE = 4;

// Sums of four numbers over a warp: lane l gets that of number l / 8.
DEV double four_sums(const double (&x)[AT_ONCE]) {
  const int lane = threadIdx.x & 31;
  const bool last_two = lane & 16, odd = lane & 8;
  double a = last_two ? x[2] : x[0], b = last_two ? x[3] : x[1];
  a += __shfl_xor_sync(~0u, last_two ? x[0] : x[2], 16);
  b += __shfl_xor_sync(~0u, last_two ? x[1] : x[3], 16);
  double s = odd ? b : a;
  s += __shfl_xor_sync(~0u, odd ? a : b, 8);
  for (int k = 4; k; k >>= 1) s += __shfl_xor_sync(~0u, s, k);
  return s;
}

// s_{j+i} of four steps, from the terms of (b∘d^i)·x_j that each lane has.
DEV void sums_of_four(double (&s)[AT_ONCE], const double (&terms)[AT_ONCE], const double (&h)[AT_ONCE]) {
  const double sums = four_sums(terms);
#pragma unroll
  for (int i = 0; i < AT_ONCE; ++i) s[i] = 2 * __shfl_sync(~0u, sums, 8 * i);
#pragma unroll
  for (int i = 1; i < AT_ONCE; ++i)
#pragma unroll
    for (int l = 0; l < i; ++l) s[i] += h[i - 1 - l] * s[l];
}

// h_0 … h_3; zeros where the rank is 0.
DEV void sums_ahead(double (&h)[AT_ONCE], c64 d, c64 a, c64 b, int rank) {
  if (!rank) return;
  double terms[AT_ONCE];
#pragma unroll
  for (int i = 0; i < AT_ONCE; ++i) terms[i] = dot(conj(b), a), b = b * d;
  const double sums = four_sums(terms);
#pragma unroll
  for (int i = 0; i < AT_ONCE; ++i) h[i] = 2 * __shfl_sync(~0u, sums, 8 * i);
}

// T steps from x on, h from sums_ahead. put(j, s_j, x, next) gets the x of each step and that of the next, four(j, x) those of four
// steps. Gives the last.
template <class Put, class Four>
DEV c64 four_by_four(c64 x, c64 d, c64 a, c64 b, int rank, const double (&h)[AT_ONCE], Put put, Four four) {
  c64 bd[AT_ONCE], ad[AT_ONCE];
  bd[0] = conj(b), ad[0] = a;
#pragma unroll
  for (int i = 1; i < AT_ONCE; ++i) bd[i] = bd[i - 1] * conj(d), ad[i] = ad[i - 1] * d;
  c64 plain = x;
  for (int j = 0; j < T; j += AT_ONCE) {
    double s[AT_ONCE] = {};
    if (rank) {
      double terms[AT_ONCE];
#pragma unroll
      for (int i = 0; i < AT_ONCE; ++i) terms[i] = dot(bd[i], x);
      sums_of_four(s, terms, h);
    }
    c64 before[AT_ONCE];
#pragma unroll
    for (int i = 0; i < AT_ONCE; ++i) {
      before[i] = x;
      // Without sums as yet; then with those up to here.
      plain = d * plain, x = plain;
#pragma unroll
      for (int l = 0; l <= i; ++l) x += s[l] * ad[i - l];
      put(j + i, s[i], before[i], x);
    }
    plain = x;
    four(j, before);
  }
  return x;
}
