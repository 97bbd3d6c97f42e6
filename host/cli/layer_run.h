// qkv over the demo's data, through the public C++ interface.
#pragma once

#include <cstdint>
#include <vector>

#include "model_data.h"
#include "qkv/qkv.hpp"

namespace qkv::cli {

struct LayerResult {
  std::vector<float> o;        // [heads, tokens, dim], whatever the type it was computed in
  std::vector<float> weights;  // [heads, tokens, tokens]
};

// Attention of every head over its q, k, v, converted to `type` before.
LayerResult attend_layer(const LayerData& data, qkv_type type);

// The largest |a - b|; infinite where one of them is not a number.
double largest_difference(std::span<const float> a, std::span<const float> b);

// Computes on the CPU and fails if a result is further from the fp64 oracle than rounding explains.
void attend_and_check(Attention problem);

}  // namespace qkv::cli
