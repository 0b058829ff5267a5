// The gradients of the pairs' records, as cauchy_backward.cu sums them over nodes and cauchy_gradients.cu reads them.
#pragma once
#include "ssm/cauchy.cuh"

// Gradients of |x|² and −2 Re x, of t and v of every sum, and of what the nearest pair of a node has in its system: x,
// hB, C̃, and for each row of P what multiplies c h and what does not.
template <int R>
struct Fields {
  static constexpr int OWN = 6 + 4 * R, FIRST_OWN = 2 + 2 * sums(R), SIZE = FIRST_OWN + OWN;
};
