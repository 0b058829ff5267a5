// The next token of each row of logits, as s4_backend's SampleTokens says. One block a row.
#include "common/base.cuh"
#include "dense/dropout.cuh"

// Largest of v over the block with the smallest index of equals, as if by one pass in the order of the indices; index
// 0x7fffffff: none. Every thread gets it.
DEV void block_first_largest(double& v, int& at) {
  __shared__ double values[32];
  __shared__ int places[32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
  auto take = [&](double w, int j) {
    if (j != 0x7fffffff && (at == 0x7fffffff || w > v || (w == v && j < at))) v = w, at = j;
  };
  for (int k = 16; k; k >>= 1) {
    const double w = __shfl_xor_sync(~0u, v, k);
    const int j = __shfl_xor_sync(~0u, at, k);
    take(w, j);
  }
  __syncthreads();  // the arrays may still be read from the call before
  if (lane == 0) values[warp] = v, places[warp] = at;
  __syncthreads();
  for (int w = 0; w < warps; ++w) take(values[w], places[w]);
}

// Sum of v over the threads before this one, and over all; in the order of the threads.
DEV double block_sum_before(double v, double& total) {
  __shared__ double sums[32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
  double until = v;
  for (int k = 1; k < 32; k <<= 1) {
    const double w = __shfl_up_sync(~0u, until, k);
    if (lane >= k) until += w;
  }
  __syncthreads();
  if (lane == 31) sums[warp] = until;
  __syncthreads();
  double before = 0;
  total = 0;
  for (int w = 0; w < warps; ++w) {
    if (w == warp) before = total;
    total += sums[w];
  }
  const double left = __shfl_up_sync(~0u, until, 1);
  return before + (lane ? left : 0.0);
}

// Weights from 0 to 1 have the order of their bits.
DEV u64 bits_of(double w) { return (u64)__double_as_longlong(w); }
// A weight as a whole number: sums of these do not depend on their order, and those of weights that are few powers of two are exact.
DEV u64 whole(double w) { return (u64)(w * 70368744177664.0); }  // 2^46

// Counts and sums by eight bits of the weights that begin with `prefix`, whose other bits are at `shift` + 8 and above.
struct Histogram {
  u64 sums[256];
  u32 counts[256];
};
DEV void fill_histogram(Histogram& of, const double* weights, int n, u64 prefix, int shift) {
  __syncthreads();
  for (int i = threadIdx.x; i < 256; i += blockDim.x) of.sums[i] = 0, of.counts[i] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    const u64 bits = bits_of(weights[i]);
    // A shift by all 64 bits would be none.
    if (shift == 56 || bits >> (shift + 8) == prefix) {
      const int digit = (int)(bits >> shift) & 255;
      atomicAdd(&of.counts[digit], 1u);
      const u64 part = whole(weights[i]);
      if (part) atomicAdd(&of.sums[digit], part);
    }
  }
  __syncthreads();
}

// Least weight that stays, and how many of that weight: the fewest of the largest with `rank` of them (by_sum false), or which
// sum to `enough` or more, one at least.
DEV void least_kept(const double* weights, int n, bool by_sum, u32 rank, u64 enough, u64& least, u32& of_least) {
  __shared__ Histogram histogram;
  __shared__ u64 found_prefix, found_sum;
  __shared__ u32 found_count, found_last;
  u64 prefix = 0, sum = 0;  // of those that are larger than any with this prefix
  u32 count = 0, last = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    fill_histogram(histogram, weights, n, prefix, shift);
    if (threadIdx.x == 0) {
      // The last digit with a weight that is reached: the border lies in it, or all stay.
      int at = -1;
      u64 s = sum, s_at = 0;
      u32 c = count, c_at = 0;
      for (int digit = 255; digit >= 0; --digit) {
        const u32 here = histogram.counts[digit];
        if (here == 0) continue;
        at = digit, s_at = s, c_at = c;
        s += histogram.sums[digit], c += here;
        if (by_sum ? s >= enough : c >= rank) break;
      }
      found_prefix = prefix << 8 | (u64)at, found_sum = s_at, found_count = c_at, found_last = histogram.counts[at];
    }
    __syncthreads();
    prefix = found_prefix, sum = found_sum, count = found_count, last = found_last;
  }
  least = prefix;
  of_least = last;
  if (by_sum) {
    // Equals are taken one by one while the sum is not yet enough.
    const u64 each = whole(__longlong_as_double((i64)prefix));
    const u64 missing = sum >= enough ? 0 : enough - sum;
    const u64 wanted = each ? (missing + each - 1) / each : last;
    of_least = (u32)min(wanted, (u64)last);
    if (count == 0 && of_least == 0) of_least = 1;
  }
}

// Leaves out weights below `least`, and of those equal to it all but the first `of_least`. Each thread has the tokens from
// `from` to `to`.
DEV void leave_out(double* weights, int from, int to, u64 least, u32 of_least) {
  double equals = 0, all;
  for (int i = from; i < to; ++i) equals += bits_of(weights[i]) == least ? 1.0 : 0.0;
  u32 before = (u32)block_sum_before(equals, all);
  for (int i = from; i < to; ++i) {
    const u64 bits = bits_of(weights[i]);
    if (bits < least || (bits == least && before++ >= of_least)) weights[i] = 0.0;
  }
  __syncthreads();
}

// tokens (rows); progress (rows, 3); seen (rows, V), of a penalty; results (window, rows, 3); weights (rows, V): scratch. Block: a
// multiple of 32 threads, 1024 at most.
KERNEL sample(int* tokens, int* progress, int* seen, float* results, double* weights, const float* logits, double temperature,
              int top_k, double top_p, double min_p, double penalty, u64 seed, int V, int window) {
  const int row = blockIdx.x, rows = gridDim.x;
  const float* x = logits + (i64)row * V;
  double* w = weights + (i64)row * V;
  int* own_seen = penalty != 1.0 ? seen + (i64)row * V : nullptr;
  const u32 number = (u32)progress[3 * row];
  const u64 count = (u32)progress[3 * row + 1] | (u64)(u32)progress[3 * row + 2] << 32;
  __shared__ int chosen, all_finite;
  if (threadIdx.x == 0) chosen = 0x7fffffff, all_finite = 1;
  __syncthreads();
  // The model's own probabilities.
  double most = 0;
  int best = 0x7fffffff;
  for (int i = threadIdx.x; i < V; i += blockDim.x) {
    const double v = (double)x[i];
    if (!(fabs(v) <= 3.4028234663852886e38)) all_finite = 0;
    if (best == 0x7fffffff || v > most) most = v, best = i;
  }
  block_first_largest(most, best);
  const bool finite = all_finite;
  double sum = 0;
  for (int i = threadIdx.x; i < V; i += blockDim.x) sum += exp((double)x[i] - most);
  const double log_sum = most + log(block_sum(sum));
  auto score = [&](int i) {
    const double v = (double)x[i];
    if (own_seen == nullptr || own_seen[i] == 0) return v;
    return v > 0.0 ? v / penalty : v * penalty;
  };
  if (own_seen != nullptr) {
    best = 0x7fffffff;
    for (int i = threadIdx.x; i < V; i += blockDim.x) {
      const double v = score(i);
      if (best == 0x7fffffff || v > most) most = v, best = i;
    }
    block_first_largest(most, best);
  }
  int token = best;
  if (temperature != 0.0 && finite) {
    for (int i = threadIdx.x; i < V; i += blockDim.x) w[i] = exp((score(i) - most) / temperature);
    __syncthreads();
    const int each = (V + blockDim.x - 1) / blockDim.x;
    const int from = min((int)threadIdx.x * each, V), to = min(from + each, V);
    u64 least;
    u32 of_least;
    if (top_k > 0 && top_k < V) {
      least_kept(w, V, false, (u32)top_k, 0, least, of_least);
      leave_out(w, from, to, least, ~0u);
    }
    if (top_p < 1.0) {
      // Those that were left out count for nothing, and stay out.
      u64 part = 0;
      for (int i = from; i < to; ++i) part += whole(w[i]);
      const u64 total = block_sum(part);
      // The sum that is enough, rounded up: a sum that is a whole number reaches it where it reaches the product.
      const double product = top_p * (double)total;
      u64 enough = (u64)product;
      if ((double)enough < product) ++enough;
      least_kept(w, V, true, 0, enough, least, of_least);
      leave_out(w, from, to, least, of_least);
    }
    if (min_p > 0.0) {
      for (int i = threadIdx.x; i < V; i += blockDim.x)
        if (w[i] < min_p) w[i] = 0.0;
      __syncthreads();
    }
    // The token at which the sum of the weights passes the random part of all of it; the last with a weight where rounding
    // keeps it from there.
    double own = 0, total;
    int last = -1;
    for (int i = from; i < to; ++i) {
      own += w[i];
      if (w[i] > 0.0) last = i;
    }
    double before = block_sum_before(own, total);
    const uint4 r = philox((u32)count, (u32)(count >> 32), number, 0x53414d50u, (u32)seed, (u32)(seed >> 32));
    const double uniform = ((double)(r.x >> 5) * 67108864.0 + (double)(r.y >> 6)) / 9007199254740992.0;
    const double target = uniform * total;
    for (int i = from; i < to; ++i) {
      if (w[i] > 0.0 && target < before + w[i]) {
        atomicMin(&chosen, i);
        break;
      }
      before += w[i];
    }
    double place = (double)last;
    int thread = last < 0 ? 0x7fffffff : (int)threadIdx.x;
    block_first_largest(place, thread);
    __syncthreads();
    token = chosen != 0x7fffffff ? chosen : thread != 0x7fffffff ? (int)place : best;
  }
  if (threadIdx.x == 0) {
    float* out = results + ((i64)(count % (u64)window) * rows + row) * 3;
    const double log_probability = (double)x[token] - log_sum;
    const float high = (float)log_probability;
    out[0] = finite ? (float)token : -1.f;
    out[1] = high;
    out[2] = (float)(log_probability - (double)high);
    tokens[row] = finite ? token : 0;
    if (own_seen != nullptr && finite) own_seen[token] = 1;
    progress[3 * row + 1] = (int)(u32)(count + 1);
    progress[3 * row + 2] = (int)(u32)((count + 1) >> 32);
  }
}
