#include <algorithm>
#include <vector>

#include "bench/baselines/read_stream.h"
#include "bench/cuda_tools.h"

namespace qkv::bench {

double device_read_rate(size_t device_bytes, DeviceTimer* timer) {
  constexpr size_t kMost = size_t{4} << 30;
  constexpr size_t kRuns = 9;
  constexpr int kBlocksOfEach = 4;  // multiprocessor: all that fit, of 512 threads
  const size_t bytes = std::min(kMost, device_bytes / 8) / 16 * 16;
  int device = 0, multiprocessors = 0;
  cuda_check(cudaGetDevice(&device), "cudaGetDevice");
  cuda_check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
             "cudaDeviceGetAttribute");
  const DeviceBuffer from(bytes), sink(4);
  cuda_check(cudaMemset(from.data(), 0, bytes), "cudaMemset");
  const auto read = [&](cudaStream_t stream) {
    const int code = launch_read_stream(from.data(), bytes, sink.data(),
                                        multiprocessors * kBlocksOfEach, stream);
    cuda_check(static_cast<cudaError_t>(code), "read_stream");
  };
  std::vector<double> seconds;
  for (size_t run = 0; run < kRuns; ++run) seconds.push_back(timer->seconds(read));
  return static_cast<double>(bytes) / *std::min_element(seconds.begin(), seconds.end());
}

}  // namespace qkv::bench
