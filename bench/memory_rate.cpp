#include "bench/memory_rate.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "bench/tensors.h"

namespace qkv::bench {

double host_read_rate() {
  constexpr size_t kBytes = size_t{512} << 20;
  constexpr size_t kRuns = 7;
  constexpr auto kWords = static_cast<int64_t>(kBytes / sizeof(uint64_t));
  const Buffer memory(kBytes);
  auto* const words = static_cast<uint64_t*>(memory.data());
  // Touched by the threads that read it.
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < kWords; ++i) words[i] = 0;
  std::vector<double> seconds;
  for (size_t run = 0; run < kRuns; ++run) {
    const auto start = std::chrono::steady_clock::now();
    uint64_t fold = 0;
#pragma omp parallel for simd schedule(static) reduction(| : fold)
    for (int64_t i = 0; i < kWords; ++i) fold |= words[i];
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    if (fold != 0) throw std::runtime_error("memory that was zero is not");
  }
  return static_cast<double>(kBytes) / *std::min_element(seconds.begin(), seconds.end());
}

}  // namespace qkv::bench
