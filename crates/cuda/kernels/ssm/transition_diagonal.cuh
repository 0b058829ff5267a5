// The part of Ā^T that is D₀^T, on its diagonal.
#pragma once
#include "common/complex.cuh"
#include "ssm/chunk.cuh"

// What D₀ of pair n, which is d, receives of dQ by that part: dQ stands behind dToep in the gradients G0 of one pass and, unless null, G1 of
// another (lines of `ld`), over the coordinates [Re; Im] of P pairs.
DEV c64 gradient_of_diagonal(c64 d, const float* G0, const float* G1, int ld, int P, int n) {
  c64 p = d, square = d;  // d^(T − 1)
  for (int k = 2; k < T; k *= 2) square = square * square, p = p * square;
  auto dq = [&](int m, int l) {
    const i64 at = (i64)(T + m) * ld + T + l;
    return (double)G0[at] + (G1 ? (double)G1[at] : 0.0);
  };
  const c64 gdelta = {dq(n, n) + dq(P + n, P + n), dq(P + n, n) - dq(n, P + n)};
  return (double)T * (gdelta * conj(p));
}
