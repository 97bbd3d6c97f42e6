// Parts of an attention problem over disjoint keys in the place's memory, and what qkv_merge makes
// of them.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "host/verify/elements.h"
#include "host/verify/place.h"

namespace qkv::verify {

using Index = std::array<int64_t, 4>;

// A tensor [batch, heads, seq, dim] in memory of the place, with an image of it here.
class Array {
 public:
  Array(qkv_type type, Index shape, bool heads_first, int64_t padding = 0);

  qkv_tensor view() const;
  double get(Index at) const { return load(type_, image_.data() + offset(at)); }
  void set(Index at, double x) { store(type_, image_.data() + offset(at), x); }
  const std::vector<std::byte>& bytes() const { return image_; }

  template <class Visit>
  void each(Visit&& visit) const {
    for (int64_t b = 0; b < shape_[0]; ++b)
      for (int64_t h = 0; h < shape_[1]; ++h)
        for (int64_t i = 0; i < shape_[2]; ++i)
          for (int64_t d = 0; d < shape_[3]; ++d) visit(Index{b, h, i, d});
  }

  void upload() { place().upload(memory_->address(), image_.data(), image_.size()); }
  void download() { place().download(image_.data(), memory_->address(), image_.size()); }

 private:
  size_t offset(Index at) const {
    int64_t element = 0;
    for (size_t axis = 0; axis < 4; ++axis) element += at[axis] * stride_[axis];
    return static_cast<size_t>(element) * static_cast<size_t>(host::type_size(type_));
  }

  Index shape_, stride_{};
  qkv_type type_;
  std::vector<std::byte> image_;
  std::unique_ptr<Memory> memory_;
};

struct Parts {
  std::vector<std::unique_ptr<Array>> o, lse;
  std::unique_ptr<Array> merged_o, merged_lse;

  Parts(int n, qkv_type part_type, qkv_type type, Index shape, uint64_t seed);

  // In place: the merged tensors are those of part `into`.
  qkv_status run(int into = -1);

  double lse64(Index at) const;
  // Of O: its value and the sum of its terms' sizes, in fp64.
  struct Sum {
    double value, size;
  };
  Sum o64(Index at) const;
};

// What merge_test and `qkv verify` merge.
struct MergeCase {
  int parts;
  qkv_type part_type, type;

  std::string name() const;  // "parts3_f16_bf16"
  Index shape() const { return {2, 3, 5, parts % 2 == 0 ? 70 : 33}; }
};
std::vector<MergeCase> merge_cases();

// What is wrong with the merged tensors of run(); "" if nothing is. The largest error over what it
// may be goes to *worst.
std::string merge_faults(const Parts& parts, qkv_type type, double* worst);

}  // namespace qkv::verify
