// What gemm_bf16.cu and gemm_bf16_sm90.cu have in common: writing two neighbouring elements of C, and the definitions
// of the kernels for each combination of transposed operands.
#pragma once
#include "common/base.cuh"

// Writes v to c[m][n] and c[m][n + 1] as far as they exist (n < N), adding `over`, the bias of row m, and bias_n, those
// of the columns.
DEV void store_pair(float* c, i64 cm, int m, int n, int N, float2 v, float over, const float* bias_n, int vec) {
  float* p = c + m * cm + n;
  v.x += over, v.y += over;
  if (bias_n && n < N) v.x += bias_n[n];
  if (bias_n && n + 1 < N) v.y += bias_n[n + 1];
  if ((vec & 4) && n + 1 < N) {
    *(float2*)p = v;
  } else {
    if (n < N) p[0] = v.x;
    if (n + 1 < N) p[1] = v.y;
  }
}

#define GEMM(name, AK, BK, PROD)                                                                                      \
  extern "C" __global__ void __launch_bounds__(256, 2) name(                                                         \
      float* c, const float* a, const float* b, const float* bias_m, const float* bias_n, int M, int N, i64 K, i64 am, \
      i64 ak, i64 bk, i64 bn, i64 cm, i64 abatch, i64 bbatch, i64 cbatch, i64 cpart, int parts, int vec) {             \
    gemm<AK, BK, PROD>(c, a, b, bias_m, bias_n, M, N, K, am, ak, bk, bn, cm, abatch, bbatch, cbatch, cpart, parts,   \
                       vec);                                                                                          \
  }
#define GEMMS                       \
  GEMM(gemm_mn_3, false, false, 3) \
  GEMM(gemm_kn_3, true, false, 3)  \
  GEMM(gemm_mk_3, false, true, 3)  \
  GEMM(gemm_kk_3, true, true, 3)   \
  GEMM(gemm_mn_1, false, false, 1) \
  GEMM(gemm_kn_1, true, false, 1)  \
  GEMM(gemm_mk_1, false, true, 1)  \
  GEMM(gemm_kk_1, true, true, 1)
