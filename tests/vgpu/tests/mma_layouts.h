// Fragments of mma by the formulas of the PTX ISA's figures, written here once more and per shape.
// PTX ISA 9.0 sections 9.7.14.5.1 to 9.7.14.5.14.
#pragma once

#include <functional>
#include <vector>

#include "common/types.h"

namespace vgpu::test {

struct Place {
  int row, column;
};

// Row and column of element i of a lane's fragment.
struct Layout {
  const char* name;   // m16n8k16
  const char* types;  // after the layouts: ".f32.f16.f16.f32"
  int m, n, k;
  int a_elements, b_elements, c_elements;
  int bits;  // of an element of A and B
  int c_bits;
  std::function<Place(int lane, int i)> a, b, c;
  std::function<double(u64)> value;
  std::function<u64(double)> code;
  int needs;
  std::function<u64(double)> b_code{};  // where B's type is another
  const char* before_types = "";        // .satfinite
  const char* after_types = "";         // .xor.popc
};

std::vector<Layout> mma_layouts();

}  // namespace vgpu::test
