// Part 5 of the demo: the throughput table.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "demo.h"
#include "machine.h"
#include "speed.h"

namespace qkv::cli {
namespace {

std::string figures(const Speed& speed) {
  if (speed.unfused == 0) return fmt::format("{:>8.0f}{:>10}{:>8}", speed.qkv, "-", "-");
  return fmt::format("{:>8.0f}{:>10.0f}{:>7.2f}x", speed.qkv, speed.unfused,
                     speed.qkv / speed.unfused);
}

}  // namespace

void show_speed(const Demo& demo) {
  fmt::print("{}", headline(demo.terminal, "5. How fast"));
  fmt::print("{}",
             wrap(fmt::format("Self-attention over S tokens, {} heads of {} numbers, on {}. "
                              "\"Unfused\" is what a program does with a BLAS alone: one matrix "
                              "product for all scores, a softmax over them, a second product{}. "
                              "GFLOP/s count the pairs of query and key that are visible. Every "
                              "result is checked before it is timed.",
                              kSpeedHeads, kSpeedDim, cpu_text(this_machine()),
                              SpeedTest::has_baseline() ? " (OpenBLAS, its products in fp32)"
                                                        : "; this build has no OpenBLAS")));
  fmt::print(
      "\n                        ------- fp32 GFLOP/s -----      ------- bf16 GFLOP/s -----\n");
  fmt::print(
      "       S   mask              qkv   unfused   ratio           qkv   unfused   ratio\n");
  const int64_t most = demo.quick ? 1024 : 4096;
  const SpeedTest test(most);
  double least_share = 1;
  const auto measure = [&](int64_t s, qkv_type type, bool causal) {
    const Speed speed = test.measure(s, type, causal);
    least_share = std::min(least_share, speed.share);
    std::fflush(stdout);
    return figures(speed);
  };
  for (const bool causal : {false, true}) {
    for (int64_t s = 512; s <= most; s *= 2) {
      fmt::print("  {:>6}   {:<12}", s, causal ? "causal" : "none");
      std::fflush(stdout);
      fmt::print("{}", measure(s, QKV_TYPE_F32, causal));
      std::fflush(stdout);
      fmt::print("      {}\n", measure(s, QKV_TYPE_BF16, causal));
      std::fflush(stdout);
    }
  }
  if (least_share < 0.8) {
    fmt::print("\n{}", wrap(fmt::format("Other programs were busy meanwhile: at one point qkv got "
                                        "{:.0f} percent of the processor. An idle machine is "
                                        "faster.",
                                        100 * least_share)));
  }
  if (demo.quick) fmt::print("\nWithout --quick: up to S = 4096.\n");
}

}  // namespace qkv::cli
