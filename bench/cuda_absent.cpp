// A build without CUDA.
#include <stdexcept>

#include "bench/baselines/cublas_layer.h"
#include "bench/cuda_bench.h"

namespace qkv::bench {

struct CudaBench::State {};

bool CudaBench::available() { return false; }

std::string CudaBench::why_not() { return "this build of qkv has no CUDA kernels"; }

CudaBench::CudaBench() { throw std::runtime_error("no CUDA device: " + why_not()); }

CudaBench::~CudaBench() = default;

Facts CudaBench::facts() const { return {}; }

void CudaBench::measure_memory() {}

double CudaBench::ceiling_tflops(qkv_type) { return 0; }

std::vector<Candidate> CudaBench::candidates(const Spec&, const std::shared_ptr<const Tensors>&) {
  return {};
}

std::unique_ptr<Contender> CudaBench::contender(const std::vector<HostBuffer>&,
                                                std::function<void(std::span<void* const>, void*)>,
                                                double) {
  return nullptr;
}

std::string CublasAttention::available() { return CudaBench::why_not(); }
CublasAttention::CublasAttention(const Unfused& problem) : problem_(problem) {}
CublasAttention::~CublasAttention() = default;
std::string CublasLayer::available() { return CudaBench::why_not(); }
CublasLayer::CublasLayer(const CublasLayerShape& shape) : shape_(shape), attention_(shape.middle) {}
size_t CublasLayer::workspace_bytes() const { return 0; }
std::string CublasLayer::run(const CublasLayerTensors&, void*, void*) { return available(); }

}  // namespace qkv::bench
