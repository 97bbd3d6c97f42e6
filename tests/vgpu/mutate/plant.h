// A planted fault: kernels made wrong on purpose, for tests of programs that should notice.
#pragma once

#include <string>

namespace vgpu {

// The text of a PTX module with a fault in every kernel whose mangled name has KERNEL in it, as
// `plant`, "FAULT:KERNEL", says; adds their number to `count`. Faults:
//   wrong    exponents are 1/16 too large: a softmax of another temperature
//   hang     a loop without end
//   trap     a trap
//   address  a store to an address where nothing is
// Throws std::invalid_argument for other words, and where a fault would change nothing.
std::string planted(const std::string& text, const std::string& plant, int* count);

}  // namespace vgpu
