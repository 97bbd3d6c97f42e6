#include "host/core/cpu/onednn.h"

#include <dlfcn.h>
#include <omp.h>

#include <algorithm>
#include <atomic>

#define QKV_TEXT_OF(x) #x
#define QKV_TEXT(x) QKV_TEXT_OF(x)

namespace qkv::cpu {
namespace {

constexpr const char* kFile = "libdnnl.so." QKV_TEXT(DNNL_VERSION_MAJOR);

bool visible(const char* name) { return dlsym(RTLD_DEFAULT, name) != nullptr; }

// Sanitizers end a process that opens anything with RTLD_DEEPBIND.
bool under_sanitizer() {
  return visible("__asan_init") || visible("__hwasan_init") || visible("__msan_init") ||
         visible("__tsan_init");
}

// Whether the program has an operator new of its own. The C++ runtime takes it, a library opened
// with RTLD_DEEPBIND does not: one would free what the other has allocated.
bool replaces_new() {
  void* const runtime = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
  return runtime == nullptr || dlsym(runtime, "_Znwm") != dlsym(RTLD_DEFAULT, "_Znwm");
}

bool program_has_onednn() {
#define QKV_ONEDNN_NAME(name) "dnnl_" #name,
  constexpr const char* kNames[] = {QKV_ONEDNN_FUNCTIONS(QKV_ONEDNN_NAME)};
#undef QKV_ONEDNN_NAME
  return std::ranges::any_of(kNames, visible);
}

// RTLD_LOCAL hides it from others; only RTLD_DEEPBIND hides others from it.
int mode() {
  const bool deep = !under_sanitizer() && (program_has_onednn() || !replaces_new());
  return RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE | (deep ? RTLD_DEEPBIND : 0);
}

template <class Function>
bool find(void* library, const char* name, Function** function) {
  *function = reinterpret_cast<Function*>(dlsym(library, name));
  return *function != nullptr;
}

OneDnn open() {
  OneDnn out;
  void* const library = dlopen(kFile, mode());
  if (library == nullptr) {
    const char* const why = dlerror();
    out.missing = why == nullptr ? kFile : why;
    return out;
  }
#define QKV_ONEDNN_FIND(name)                   \
  if (!find(library, "dnnl_" #name, &out.name)) \
    out.missing = kFile + std::string(" lacks dnnl_" #name);
  QKV_ONEDNN_FUNCTIONS(QKV_ONEDNN_FIND)
#undef QKV_ONEDNN_FIND
  find(library, "omp_get_max_threads", &out.omp_get_max_threads);
  find(library, "omp_set_num_threads", &out.omp_set_num_threads);
  return out;
}

// Made after oneDNN is loaded, so destroyed before oneDNN's own objects, whoever made what uses it.
std::atomic<bool> alive{false};
struct Life {
  Life() { alive = true; }
  ~Life() { alive = false; }
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;
};

}  // namespace

const OneDnn& onednn() {
  // Never destroyed: plans may outlive it.
  static const OneDnn& opened = *new OneDnn(open());
  static const Life life;
  return opened;
}

bool onednn_alive() { return alive; }

OneThread::OneThread() : threads_(omp_get_max_threads()) {
  omp_set_num_threads(1);
  const OneDnn& dnn = onednn();
  if (dnn.omp_get_max_threads == nullptr || dnn.omp_set_num_threads == nullptr) return;
  onednn_threads_ = dnn.omp_get_max_threads();
  dnn.omp_set_num_threads(1);
}

OneThread::~OneThread() {
  if (onednn_threads_ > 0) onednn().omp_set_num_threads(onednn_threads_);
  omp_set_num_threads(threads_);
}

}  // namespace qkv::cpu
