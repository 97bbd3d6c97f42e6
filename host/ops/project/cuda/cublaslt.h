// NVIDIA's cuBLASLt, opened when a projection is first prepared and never linked: libqkv loads
// where there is none.
#pragma once

#if __has_include(<cublasLt.h>)
#define QKV_HAS_CUBLASLT 1
#include <cublasLt.h>

#include <cstdint>
#include <string>

namespace qkv::host::project {

// What qkv calls of it; the names lack their cublasLt. Those that end in _internal are what the
// header's own inline functions call.
// clang-format off
#define QKV_CUBLASLT_FUNCTIONS(each) \
  each(Create) \
  each(GetStatusString) \
  each(GetVersion) \
  each(Matmul) \
  each(MatmulAlgoGetHeuristic) \
  each(MatmulDescInit_internal) \
  each(MatmulDescSetAttribute) \
  each(MatmulPreferenceInit_internal) \
  each(MatmulPreferenceSetAttribute) \
  each(MatrixLayoutInit_internal) \
  each(MatrixLayoutSetAttribute)
// clang-format on

struct CublasLt {
  // Why it cannot be used, and what to do about it. Empty: it can.
  std::string missing;

// NOLINTNEXTLINE(bugprone-macro-parentheses): a member's name stands in none
#define QKV_CUBLASLT_POINTER(name) decltype(&::cublasLt##name) name = nullptr;
  QKV_CUBLASLT_FUNCTIONS(QKV_CUBLASLT_POINTER)
#undef QKV_CUBLASLT_POINTER
};

// Opened by the first call: the file or folder that QKV_CUBLASLT names, else by its SONAME, which
// finds one that the process has loaded already, as PyTorch does.
const CublasLt& cublaslt();

// The handle for the current device, whose index is given; one for each device and process, made by
// the first call. Null: cuBLASLt's words are in *why.
cublasLtHandle_t cublaslt_handle(int32_t device, cublasStatus_t* why);

}  // namespace qkv::host::project
#else
#define QKV_HAS_CUBLASLT 0
#endif
