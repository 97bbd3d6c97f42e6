// How many threads a problem is worth.
#pragma once

#include <algorithm>
#include <cstdint>

namespace qkv::cpu {

// What a thread is worth, in multiply-adds of a product's tile: 30 us a million on one core of an
// AMD EPYC (Zen, AVX2, fp32). Less is not worth waking a thread for: about 60 us there. A team that
// sleeps, or whose cores are busy, costs more than half of them gains: with other programs on both
// cores of that machine calls of 10 to 300 us took 20 ms in the median on two threads, where the
// scheduler's turn is waited for, and their own time on one.
inline constexpr double kWorkOfAThread = 2e6;

// As many of `threads` as so much work keeps busy; at least 1.
inline int32_t useful_threads(double work, int32_t threads) {
  const double enough = work / kWorkOfAThread;
  return enough >= threads ? threads : std::max(static_cast<int32_t>(enough), 1);
}

}  // namespace qkv::cpu
