// Part 5 of the demo: the throughput tables.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "demo.h"
#include "machine.h"
#include "speed.h"

namespace qkv::cli {
namespace {

const char* mask_word(bool causal) { return causal ? "causal" : "none"; }

// --- the GPU's

struct GpuTable {
  GpuSpeedSizes sizes;
  std::vector<int64_t> sequences;
};

GpuTable gpu_table(SpeedSizes sizes) {
  if (sizes == SpeedSizes::kFull) return {{}, {512, 1024, 2048, 4096, 8192, 16384}};
  if (sizes == SpeedSizes::kQuick) return {{}, {1024, 4096}};
  GpuSpeedSizes tiny;
  tiny.tokens = 128;
  tiny.heads = 2;
  tiny.least_runs = 1;
  tiny.seconds = 0;
  tiny.gemm_size = 64;
  tiny.gemm_runs = 1;
  tiny.gemm_warm_seconds = 0;
  return {tiny, {128}};
}

// Three significant digits.
std::string rate(double tflops) {
  if (tflops == 0) return "-";
  const int decimals = tflops >= 100 ? 0 : tflops >= 10 ? 1 : 2;
  return tflops >= 0.1 ? fmt::format("{:.{}f}", tflops, decimals) : fmt::format("{:.1e}", tflops);
}

std::string gemm_sentence(const GpuSpeedTest& test, const GpuSpeedSizes& sizes,
                          const char* type_name) {
  if (!GpuSpeedTest::has_cublas()) {
    return "cuBLAS, to compare with, was not found (QKV_CUBLAS names its folder): qkv alone is "
           "timed.";
  }
  return fmt::format(
      "\"Unfused\" is cuBLAS alone: one product for all scores, a softmax, a second product. \"Of "
      "GEMM\" is qkv's share of what cuBLAS reaches here on a {} product of {} x {} matrices: {} "
      "TFLOP/s.",
      type_name, sizes.gemm_size, sizes.gemm_size, rate(test.gemm()));
}

void show_gpu_row(const GpuSpeedTest& test, int64_t sequence, bool causal, std::string* note) {
  fmt::print("  {:>6}   {:<10}", sequence, mask_word(causal));
  std::fflush(stdout);
  const GpuSpeed speed = test.measure(sequence, causal);
  const std::string ratio =
      speed.unfused == 0 ? "-" : fmt::format("{:.2f}x", speed.qkv / speed.unfused);
  const std::string share =
      test.gemm() == 0 ? "-" : fmt::format("{:.0f}%", 100 * speed.qkv / test.gemm());
  fmt::print("{:>10}{:>10}{:>9}{:>10}   {}\n", rate(speed.qkv), rate(speed.unfused), ratio, share,
             speed.kernel);
  std::fflush(stdout);
  if (GpuSpeedTest::has_cublas() && speed.unfused == 0) *note = speed.why_not_unfused;
}

void show_gpu_speed(const Demo& demo) {
  const int32_t index = demo.places.back().device.index;
  const GpuTable table = gpu_table(demo.sizes);
  const GpuSpeedTest test(index, table.sizes);
  const char* type_name = test.type() == QKV_TYPE_BF16 ? "bf16" : "fp16";
  fmt::print("{}", wrap(fmt::format(
                       "Self-attention over S tokens in {}: {} heads of {} numbers, as many "
                       "sequences as make {} tokens. TFLOP/s count the pairs of query and key "
                       "that are visible. Every result is checked first. {}",
                       type_name, table.sizes.heads, kSpeedDim, table.sizes.tokens,
                       gemm_sentence(test, table.sizes, type_name))));
  fmt::print("\n                     ------ {} TFLOP/s -----\n", type_name);
  fmt::print("       S   mask             qkv   unfused    ratio   of GEMM   kernel of qkv\n");
  std::string note;
  for (const bool causal : {false, true}) {
    for (const int64_t sequence : table.sequences) show_gpu_row(test, sequence, causal, &note);
  }
  if (!note.empty()) fmt::print("\n{}", wrap("Where unfused has no figure: " + note + "."));
}

// --- the CPU's

std::vector<int64_t> cpu_sequences(const Demo& demo) {
  if (demo.sizes == SpeedSizes::kTiny) return {256};
  const bool quick = demo.sizes == SpeedSizes::kQuick;
  if (demo.has_gpu()) return {quick ? 1024 : 2048};
  return quick ? std::vector<int64_t>{512, 1024} : std::vector<int64_t>{512, 1024, 2048, 4096};
}

std::string figures(const Speed& speed) {
  if (speed.unfused == 0) return fmt::format("{:>8.0f}{:>10}{:>8}", speed.qkv, "-", "-");
  return fmt::format("{:>8.0f}{:>10.0f}{:>7.2f}x", speed.qkv, speed.unfused,
                     speed.qkv / speed.unfused);
}

void introduce_cpu(const Demo& demo) {
  if (demo.has_gpu()) {
    fmt::print("{}",
               wrap(fmt::format(
                   "{}, {} heads, one sequence{}:", cpu_text(this_machine()), kSpeedHeads,
                   SpeedTest::has_baseline() ? "; unfused: OpenBLAS, its products in fp32" : "")));
    return;
  }
  fmt::print("{}",
             wrap(fmt::format("Self-attention over S tokens, {} heads of {} numbers, on {}. "
                              "\"Unfused\" is what a program does with a BLAS alone: one matrix "
                              "product for all scores, a softmax over them, a second product{}. "
                              "GFLOP/s count the pairs of query and key that are visible. Every "
                              "result is checked before it is timed.",
                              kSpeedHeads, kSpeedDim, cpu_text(this_machine()),
                              SpeedTest::has_baseline() ? " (OpenBLAS, its products in fp32)"
                                                        : "; this build has no OpenBLAS")));
}

void show_cpu_speed(const Demo& demo) {
  introduce_cpu(demo);
  fmt::print(
      "\n                      ------- fp32 GFLOP/s -----      ------- bf16 GFLOP/s -----\n");
  fmt::print("       S   mask            qkv   unfused   ratio           qkv   unfused   ratio\n");
  const std::vector<int64_t> sequences = cpu_sequences(demo);
  const SpeedTest test(sequences.back());
  double least_share = 1;
  const auto measure = [&](int64_t s, qkv_type type, bool causal) {
    const Speed speed = test.measure(s, type, causal);
    least_share = std::min(least_share, speed.share);
    std::fflush(stdout);
    return figures(speed);
  };
  for (const bool causal : {false, true}) {
    for (const int64_t s : sequences) {
      fmt::print("  {:>6}   {:<10}", s, mask_word(causal));
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
}

}  // namespace

void show_speed(const Demo& demo) {
  fmt::print("{}", headline(demo.terminal, "5. How fast"));
  if (demo.has_gpu()) {
    show_gpu_speed(demo);
    fmt::print("{}", headline(demo.terminal, "The same on the CPU"));
  }
  show_cpu_speed(demo);
  if (demo.sizes != SpeedSizes::kFull) fmt::print("\nWith --speed full: larger sizes too.\n");
  if (!demo.why_no_gpu.empty()) {
    fmt::print("{}", headline(demo.terminal, "And on a GPU"));
    fmt::print("{}",
               wrap(fmt::format("The GPU's part is missing: {}. On a machine with an NVIDIA GPU "
                                "and its driver this command computes parts 1 to 4 there too and "
                                "shows its TFLOP/s beside those of cuBLAS. To try a GPU machine "
                                "without network or compiler: ./dev gpu-kit DIR.",
                                demo.why_no_gpu)));
  }
}

}  // namespace qkv::cli
