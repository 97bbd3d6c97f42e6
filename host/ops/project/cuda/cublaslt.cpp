#include "host/ops/project/cuda/cublaslt.h"

#if QKV_HAS_CUDA && QKV_HAS_CUBLASLT
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "host/core/status.h"

namespace qkv::host::project {
namespace {

// The release of the runtime first, then the other: the functions that are called are the same.
#if CUDART_VERSION >= 13000
constexpr std::array kFiles{"libcublasLt.so.13", "libcublasLt.so.12"};
constexpr const char* kPackage = "nvidia-cublas";
#else
constexpr std::array kFiles{"libcublasLt.so.12", "libcublasLt.so.13"};
constexpr const char* kPackage = "nvidia-cublas-cu12";
#endif

std::vector<std::string> candidates() {
  const char* const named = std::getenv("QKV_CUBLASLT");
  if (named == nullptr || *named == '\0') return {kFiles.begin(), kFiles.end()};
  std::vector<std::string> files{named};
  for (const char* file : kFiles) files.push_back(std::string(named) + "/" + file);
  return files;
}

template <class Function>
bool find(void* library, const char* name, Function** function) {
  *function = reinterpret_cast<Function*>(dlsym(library, name));
  return *function != nullptr;
}

CublasLt open() {
  CublasLt out;
  void* library = nullptr;
  std::string words;
  for (const std::string& file : candidates()) {
    library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library != nullptr) break;
    const char* const why = dlerror();
    words += (words.empty() ? "" : "; ") + (why == nullptr ? file : std::string(why));
  }
  if (library == nullptr) {
    out.missing = text("cuBLASLt, which multiplies matrices, cannot be opened (", words,
                       "); install CUDA's libraries or the Python package ", kPackage,
                       ", and name the folder in QKV_CUBLASLT where the loader does not look");
    return out;
  }
#define QKV_CUBLASLT_FIND(name)                    \
  if (!find(library, "cublasLt" #name, &out.name)) \
    out.missing = "the cuBLASLt that was opened lacks cublasLt" #name;
  QKV_CUBLASLT_FUNCTIONS(QKV_CUBLASLT_FIND)
#undef QKV_CUBLASLT_FIND
  return out;
}

}  // namespace

const CublasLt& cublaslt() {
  // Never destroyed: plans may outlive it.
  static const CublasLt& opened = *new CublasLt(open());
  return opened;
}

cublasLtHandle_t cublaslt_handle(int32_t device, cublasStatus_t* why) {
  static std::mutex& mutex = *new std::mutex;
  static std::vector<cublasLtHandle_t>& handles = *new std::vector<cublasLtHandle_t>;
  const std::lock_guard lock(mutex);
  const auto at = static_cast<size_t>(device);
  if (handles.size() <= at) handles.resize(at + 1);
  *why = CUBLAS_STATUS_SUCCESS;
  if (handles[at] == nullptr) *why = cublaslt().Create(&handles[at]);
  return *why == CUBLAS_STATUS_SUCCESS ? handles[at] : nullptr;
}

}  // namespace qkv::host::project
#endif
