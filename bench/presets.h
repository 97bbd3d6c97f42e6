// Problems of models that people run, by name: --preset.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bench/spec.h"

namespace qkv::bench {

struct Preset {
  const char* name;
  const char* fields;          // of a problem's line, without device, type and lengths
  std::vector<int64_t> sizes;  // lengths: of keys, and of queries where `queries` is 0
  int64_t queries;             // 1: decoding
  const char* about;           // the model and what of it; where its shape is published
};

// In the order of the documents.
std::span<const Preset> presets();

std::vector<std::string> preset_names();

// A preset's problems, contiguous [batch, heads, seq, dim]. `sizes`: lengths instead of its own
// where not empty. Throws std::invalid_argument for a name that is none.
std::vector<Spec> preset_problems(const std::string& name, const std::string& device,
                                  const std::string& type, const std::vector<int64_t>& sizes);

}  // namespace qkv::bench
