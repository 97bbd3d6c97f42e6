// How fast qkv's CPU backend is, beside the unfused BLAS baseline of the same run.
#pragma once

#include <cstdint>
#include <memory>

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

}  // namespace qkv::cli
