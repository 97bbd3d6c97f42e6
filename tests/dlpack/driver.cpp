// dlpack.hpp behind a C ABI, for arrays.py: managed tensors come in from Python's array libraries,
// qkv computes, managed tensors go out.
#include <memory>
#include <string>
#include <vector>

#include "qkv/dlpack.hpp"

namespace {

using namespace qkv::dlpack;

std::string error_text;
int buffers_alive = 0;

// Memory that a consumer borrows; it counts itself.
struct Buffer {
  explicit Buffer(size_t bytes) : memory(bytes) { ++buffers_alive; }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { --buffers_alive; }
  std::vector<std::byte> memory;
};

struct Argument {
  void* managed;
  int32_t versioned;
};

Borrowed borrow(const Argument& it, const char* axes, Use use) {
  return it.versioned != 0
             ? from_dlpack(static_cast<ManagedTensorVersioned*>(it.managed), axes, use)
             : from_dlpack(static_cast<ManagedTensor*>(it.managed), axes, use);
}

template <class Body>
int32_t guarded(Body&& body) {
  try {
    body();
    return QKV_SUCCESS;
  } catch (const qkv::Error& error) {
    error_text = error.what();
    return error.status();
  }
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) const char* driver_error() { return error_text.c_str(); }
__attribute__((visibility("default"))) int32_t driver_buffers_alive() { return buffers_alive; }

// Takes a tensor and gives it back.
__attribute__((visibility("default"))) int32_t driver_take(const Argument* it, const char* axes,
                                                           int32_t output) {
  return guarded([&] { (void)borrow(*it, axes, output != 0 ? Use::kOutput : Use::kInput); });
}

// Causal attention into the caller's O and, if given, LSE; with key lengths, if given.
__attribute__((visibility("default"))) int32_t driver_attend(const Argument* q, const Argument* k,
                                                             const Argument* v,
                                                             const Argument* lengths,
                                                             const Argument* o, const Argument* lse,
                                                             const char* axes) {
  return guarded([&] {
    const Borrowed bq = borrow(*q, axes, Use::kInput), bk = borrow(*k, axes, Use::kInput);
    const Borrowed bv = borrow(*v, axes, Use::kInput), bo = borrow(*o, axes, Use::kOutput);
    qkv::Attention problem{.q = bq.tensor(),
                           .k = bk.tensor(),
                           .v = bv.tensor(),
                           .o = bo.tensor(),
                           .causal = true,
                           .device = bq.device(),
                           .device_index = bq.device_index()};
    std::unique_ptr<Borrowed> bl, be;
    if (lengths != nullptr) {
      bl = std::make_unique<Borrowed>(borrow(*lengths, "b", Use::kInput));
      problem.kv_lengths = bl->tensor();
    }
    if (lse != nullptr) {
      be = std::make_unique<Borrowed>(borrow(*lse, "bhs", Use::kOutput));
      problem.lse = be->tensor();
    }
    qkv::attention(problem);
  });
}

// Causal attention into memory of its own, lent as `out` with axes [batch, seq, heads, dim].
__attribute__((visibility("default"))) int32_t driver_attend_new(const Argument* q,
                                                                 const Argument* k,
                                                                 const Argument* v,
                                                                 const char* axes, Argument* out) {
  return guarded([&] {
    const Borrowed bq = borrow(*q, axes, Use::kInput), bk = borrow(*k, axes, Use::kInput);
    const Borrowed bv = borrow(*v, axes, Use::kInput);
    const int64_t batch = bq.tensor().shape[0], heads = bq.tensor().shape[1];
    const int64_t seq = bq.tensor().shape[2], dim = bv.tensor().shape[3];
    auto buffer = std::make_unique<Buffer>(static_cast<size_t>(batch * heads * seq * dim) *
                                           (bq.tensor().type == QKV_TYPE_F32 ? 4 : 2));
    const qkv::Tensor o =
        qkv::strided(buffer->memory.data(), bq.tensor().type, {batch, heads, seq, dim},
                     {seq * heads * dim, dim, heads * dim, 1});
    qkv::attention({.q = bq.tensor(),
                    .k = bk.tensor(),
                    .v = bv.tensor(),
                    .o = o,
                    .causal = true,
                    .device = qkv::Device::kCpu});
    out->managed =
        out->versioned != 0
            ? static_cast<void*>(
                  to_dlpack(o, qkv::Device::kCpu, 0, std::move(buffer), "bshd").release())
            : to_dlpack<ManagedTensor>(o, qkv::Device::kCpu, 0, std::move(buffer), "bshd")
                  .release();
  });
}

}  // extern "C"
