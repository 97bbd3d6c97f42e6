// Parts of an attention problem over disjoint keys in the place's memory, and what qkv_merge makes
// of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/verify/tensor.h"

namespace qkv::verify {

// Parts of O and LSE in different layouts, and what they are merged into.
class Parts {
 public:
  Parts(int n, qkv_type part_type, qkv_type type, const Shape& shape, const BuildOptions& options);

  // Uploads, merges, downloads. In place: the merged tensors are those of part `into`.
  qkv_status run(int into = -1);
  void download() { memory_.download(); }

  // What the run changed that it must not: guards, gaps, the parts. "" if nothing.
  std::string damage() const { return memory_.damage(); }
  // The bytes of the merged elements, one after another.
  std::vector<std::byte> output_bits() const;

  double lse64(int64_t b, int64_t h, int64_t i) const;
  // Of O: its value and the sum of its terms' sizes, in fp64.
  struct Sum {
    double value, size;
  };
  Sum o64(int64_t b, int64_t h, int64_t i, int64_t d) const;

 private:
  Tensors memory_;

 public:
  std::vector<Tensor> o, lse;
  Tensor merged_o, merged_lse;
};

// What the contract test and `qkv verify` merge.
struct MergeCase {
  int parts;
  qkv_type part_type, type;

  std::string name() const;  // "parts3_f16_bf16"
  // Widths of one step of 32 columns and more, and of one column.
  Shape shape() const { return {2, 3, 5, parts % 2 == 0 ? 70 : parts == 3 ? 1 : 33}; }
};
std::vector<MergeCase> merge_cases();

// What is wrong with the merged tensors of run(); "" if nothing is. The largest error over what it
// may be goes to *worst.
std::string merge_faults(const Parts& parts, qkv_type type, double* worst);

}  // namespace qkv::verify
