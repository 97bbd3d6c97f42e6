// A build without CUDA.
#include <stdexcept>

#include "bench/cuda_bench.h"

namespace qkv::bench {

struct CudaBench::State {};

bool CudaBench::available() { return false; }

std::string CudaBench::why_not() { return "this build of qkv has no CUDA kernels"; }

CudaBench::CudaBench() { throw std::runtime_error("no CUDA device: " + why_not()); }

CudaBench::~CudaBench() = default;

Facts CudaBench::facts() const { return {}; }

double CudaBench::ceiling_tflops(qkv_type) { return 0; }

std::vector<Candidate> CudaBench::candidates(const Spec&, const std::shared_ptr<const Tensors>&) {
  return {};
}

std::unique_ptr<Contender> CudaBench::contender(const std::vector<HostBuffer>&,
                                                std::function<void(std::span<void* const>, void*)>,
                                                double) {
  return nullptr;
}

}  // namespace qkv::bench
