// The implementations on a CUDA device, timed by events. A build without CUDA has none.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/contender.h"
#include "bench/machine.h"
#include "bench/tensors.h"
#include "host/core/op.h"

namespace qkv::bench {

class CudaBench {
 public:
  // Whether this process can use a CUDA device, and why not.
  static bool available();
  static std::string why_not();

  CudaBench();  // of device 0; throws std::runtime_error without one
  ~CudaBench();
  CudaBench(const CudaBench&) = delete;
  CudaBench& operator=(const CudaBench&) = delete;

  // GPU, driver, clocks under load, versions of CUDA and cuDNN, measured ceilings.
  Facts facts() const;

  // The rate of an 8192 x 8192 x 8192 product by cuBLAS in this type, measured at the first call;
  // NaN without cuBLAS.
  double ceiling_tflops(qkv_type type);

  // The rate at which a kernel that does nothing else reads memory, for the facts.
  void measure_memory();

  // qkv's own choice, every kernel of its registry that takes the problem, cuBLAS unfused, cuDNN.
  // Without tensors: names only, not to be made.
  std::vector<Candidate> candidates(const Spec& spec,
                                    const std::shared_ptr<const Tensors>& tensors);

  // A kernel of attention, in the registry or not, planned and launched as the library does it.
  Candidate candidate(const std::string& name, const host::Kernel& kernel, const Spec& spec,
                      const std::shared_ptr<const Tensors>& tensors);

  // An implementation of any op, its buffers on the device. `queue` gets their addresses in the
  // same order and puts one run on the stream.
  std::unique_ptr<Contender> contender(
      const std::vector<HostBuffer>& buffers,
      std::function<void(std::span<void* const>, void* stream)> queue, double flops);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qkv::bench
