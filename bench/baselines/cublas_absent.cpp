// The unfused GPU baseline of a build without cuBLAS's headers: it says so.
#include <limits>

#include "bench/baselines/cublas_attention.h"
#include "bench/gemm_ceiling.h"

namespace qkv::bench {

std::string CublasAttention::available() { return "this build had no header cublas_api.h"; }

CublasAttention::CublasAttention(const Unfused& problem) : CublasAttention(problem, Options()) {}
CublasAttention::CublasAttention(const Unfused& problem, Options options)
    : problem_(problem), options_(options) {}
CublasAttention::~CublasAttention() = default;
size_t CublasAttention::workspace_bytes() const { return 0; }
std::string CublasAttention::run(const void*, const void*, const void*, void*, void*, void*) {
  return available();
}

std::string CublasAttention::multiply(const Product&, void*, void*) { return available(); }

double gemm_ceiling_tflops(qkv_type, DeviceTimer*, const GemmRuns&) {
  return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace qkv::bench
