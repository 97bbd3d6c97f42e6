// oneDNN of qkv's own. Programs bring oneDNN too, of other releases with other structs, or have
// functions of the same names: were libqkv linked with it, the loader would hand qkv theirs. So it
// is opened on first use, seen by nobody else, and looks for its own functions in itself first.
#pragma once

#include <dnnl.h>

#include <string>

#if DNNL_VERSION_MAJOR != 2
#error "qkv is written for oneDNN 2.x"
#endif

namespace qkv::cpu {

// What qkv calls of it; the names lack their dnnl_.
// clang-format off
#define QKV_ONEDNN_FUNCTIONS(each) \
  each(engine_create) \
  each(get_effective_cpu_isa) \
  each(matmul_desc_init) \
  each(memory_create) \
  each(memory_desc_get_size) \
  each(memory_desc_init_by_strides) \
  each(memory_destroy) \
  each(memory_set_data_handle) \
  each(post_ops_append_sum) \
  each(post_ops_create) \
  each(post_ops_destroy) \
  each(primitive_attr_create) \
  each(primitive_attr_destroy) \
  each(primitive_attr_set_post_ops) \
  each(primitive_attr_set_scratchpad_mode) \
  each(primitive_create) \
  each(primitive_desc_create) \
  each(primitive_desc_destroy) \
  each(primitive_desc_query_md) \
  each(primitive_destroy) \
  each(primitive_execute) \
  each(stream_create) \
  each(stream_destroy) \
  each(version)
// clang-format on

struct OneDnn {
  // Why it cannot be used: the loader's words. Empty: it can.
  std::string missing;

// NOLINTNEXTLINE(bugprone-macro-parentheses): a member's name stands in none
#define QKV_ONEDNN_POINTER(name) decltype(&::dnnl_##name) name = nullptr;
  QKV_ONEDNN_FUNCTIONS(QKV_ONEDNN_POINTER)
#undef QKV_ONEDNN_POINTER

  // Of the OpenMP that it uses, which need not be the program's; null where it uses none.
  int (*omp_get_max_threads)() = nullptr;
  void (*omp_set_num_threads)(int) = nullptr;
};

// Opened by the first call.
const OneDnn& onednn();

// Whether it may still be called: not when the process ends and destroys what qkv kept.
bool onednn_alive();

// One thread for what the calling thread asks of OpenMP while this lives, and for what oneDNN asks.
// oneDNN splits its work for the number of threads that OpenMP has, when code is generated and when
// it runs; qkv's tasks keep all of them busy already.
class OneThread {
 public:
  OneThread();
  ~OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int threads_, onednn_threads_ = 0;
};

}  // namespace qkv::cpu
