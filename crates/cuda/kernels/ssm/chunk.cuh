#pragma once

constexpr int T = 64;  // time steps of a chunk, as in src/ssm/sizes.rs

// The largest power of two that a row of f16 numbers is multiplied by, so that rows of small numbers stay small.
constexpr int MOST_EXPONENT = 64;

// Numbers of a head in an array of powers of two, one per (sequence, chunk): as many as begin at multiples of 16 bytes.
__device__ __forceinline__ int exponents_of_head(int B, int chunks) { return (B * chunks + 3) & ~3; }

// Writes the power of two of (sequence, chunk) number `at` of head h, and zeros behind the last one.
__device__ __forceinline__ void put_exponent(int* exps, int h, int B, int chunks, int at, int e) {
  const int count = exponents_of_head(B, chunks);
  exps += (long long)h * count;
  exps[at] = e;
  if (at + 1 == B * chunks)
    for (int k = at + 1; k < count; ++k) exps[k] = 0;
}
