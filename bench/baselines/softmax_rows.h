// The middle of the unfused GPU baseline. No CUDA headers: the caller is plain C++.
#pragma once

#include <cstdint>

#include "bench/baselines/unfused.h"

namespace qkv::bench {

// Rows of S and P start on multiples of this many elements.
inline constexpr int64_t kSoftmaxPitch = 8;

// Queues P = softmax(S) on `stream`: `rows` rows of `pitch` elements, the first s_kv of them in
// use; row r belongs to query r % s_q. S holds scaled scores of type s_type, P gets weights of
// p_type, 0 where hidden. P may be S if the types agree. 16-byte aligned. Returns a cudaError_t.
int launch_softmax_rows(const Unfused& problem, const void* s, qkv_type s_type, void* p,
                        qkv_type p_type, int64_t rows, int64_t pitch, void* stream);

}  // namespace qkv::bench
