// How fast qkv is, beside the unfused BLAS baseline of the same run: on the CPU, and on a GPU.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "qkv/qkv.h"

namespace qkv::cli {

inline constexpr int64_t kSpeedHeads = 8, kSpeedDim = 128;

struct Speed {
  double qkv = 0;      // GFLOP/s; a pair of query and key counts if it is visible
  double unfused = 0;  // 0 in a build without OpenBLAS
  double share = 1;    // of the processor's time that this process got while it was timed
};

// Random inputs for sequences of up to `most`, made once.
class SpeedTest {
 public:
  explicit SpeedTest(int64_t most);
  ~SpeedTest();
  SpeedTest(const SpeedTest&) = delete;
  SpeedTest& operator=(const SpeedTest&) = delete;

  static bool has_baseline();

  // One sequence, kSpeedHeads heads, self-attention. Each side's output is checked against the
  // oracle before it is timed; throws Failure if it is wrong.
  Speed measure(int64_t sequence, qkv_type type, bool causal) const;

 private:
  struct Data;
  std::unique_ptr<Data> data_;
};

// What is measured on a GPU. The default's inputs are 64 MiB each, as others measure.
struct GpuSpeedSizes {
  int64_t tokens = 16384;  // of all batches together; sequences divide it
  int64_t heads = 16;
  int least_runs = 5;    // of each side, and ...
  double seconds = 0.1;  // so long of device time
  // cuBLAS's square product, and for how long it warms the card before.
  int gemm_size = 8192, gemm_runs = 31;
  double gemm_warm_seconds = 0.5;
};

struct GpuSpeed {
  std::string kernel;
  double qkv = 0;      // TFLOP/s; a pair of query and key counts if it is visible
  double unfused = 0;  // 0: not measured
  std::string why_not_unfused;
};

// On CUDA device `index` (speed_cuda.cpp). Throws Failure, or std::runtime_error with CUDA's words.
class GpuSpeedTest {
 public:
  GpuSpeedTest(int32_t index, const GpuSpeedSizes& sizes);
  ~GpuSpeedTest();
  GpuSpeedTest(const GpuSpeedTest&) = delete;
  GpuSpeedTest& operator=(const GpuSpeedTest&) = delete;

  qkv_type type() const;  // bf16; f16 where the GPU's tensor cores know no bf16
  static bool has_cublas();
  double gemm() const;  // TFLOP/s of cuBLAS's product of the type; 0: not measured

  // Self-attention over tokens / sequence batches of `sequence` tokens, kSpeedDim numbers a head.
  // Each side's output is checked against the oracle before it is timed. The unfused side may fail:
  // then there is a reason instead of its figure.
  GpuSpeed measure(int64_t sequence, bool causal) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qkv::cli
