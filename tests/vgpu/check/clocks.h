// What a thread knows, or a barrier passes on: of every agent, the clock below which its accesses
// to shared memory are done.
#pragma once

#include <algorithm>
#include <vector>

#include "common/types.h"

namespace vgpu {

// `proxied` is the part of `plain` that a proxy fence has shown to the asynchronous proxy.
struct Clocks {
  std::vector<u32> plain, proxied;

  bool empty() const { return plain.empty(); }
  void clear() {
    plain.clear();
    proxied.clear();
  }
  static void join(std::vector<u32>& to, const u32* from, size_t count) {
    if (to.size() < count) to.resize(count, 0);
    for (size_t i = 0; i < count; ++i) to[i] = std::max(to[i], from[i]);
  }
  void join(const Clocks& other) {
    join(plain, other.plain.data(), other.plain.size());
    join(proxied, other.proxied.data(), other.proxied.size());
  }
};

}  // namespace vgpu
