// Memory that ends at an unmapped page, and numbers to fill it with.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace qkv::test {

// Memory that ends at an unmapped page: reading a byte too many is a fault.
class Guarded {
 public:
  explicit Guarded(size_t bytes) : pages_((bytes + 4095) / 4096 * 4096) {
    base_ = static_cast<std::byte*>(
        mmap(nullptr, pages_ + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + pages_, 4096, PROT_NONE);
    data = base_ + pages_ - bytes;
  }
  ~Guarded() { munmap(base_, pages_ + 4096); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  std::byte* data;

 private:
  size_t pages_;
  std::byte* base_;
};

inline std::vector<float> normal(int64_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = distribution(random);
  return x;
}

}  // namespace qkv::test
