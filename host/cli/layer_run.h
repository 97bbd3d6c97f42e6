// qkv over the demo's data, on the CPU and where there is one on a GPU.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "device.h"
#include "model_data.h"
#include "qkv/qkv.hpp"

namespace qkv::cli {

// Where the demo computes.
struct Place {
  std::string name;  // "CPU", "GPU"
  DeviceChoice device;
};

struct LayerResult {
  std::vector<float> o;        // [heads, tokens, dim], whatever the type it was computed in
  std::vector<float> weights;  // [heads, tokens, tokens], if asked for
  std::string kernel;
};

// Attention of every head over its q, k, v, converted to `type` before.
LayerResult attend_layer(const LayerData& data, qkv_type type, const Place& place,
                         bool weights = false);

// The largest |a - b|; infinite where one of them is not a number.
double largest_difference(std::span<const float> a, std::span<const float> b);

// Problems that every place computes, each result held against the fp64 oracle.
class Comparison {
 public:
  explicit Comparison(std::vector<Place> places);

  // The outputs are the last place's. `check` is called with each place's. Throws Failure if a
  // result is further from the oracle than rounding explains.
  void attend(
      const Attention& problem, const std::function<void()>& check = [] {});

  // How far every place was from the oracle, as a line; "" if the CPU alone computed.
  std::string text() const;

 private:
  struct Seen {
    Place place;
    double largest = 0;
    std::vector<std::string> kernels;
  };
  std::vector<Seen> seen_;
};

}  // namespace qkv::cli
