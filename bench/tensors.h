// Host memory of one problem, filled with random numbers, and the problem that points to it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "bench/spec.h"
#include "host/ops/attention/problem.h"
#include "qkv/qkv.h"

namespace qkv::bench {

// Memory of elements, 256-byte aligned; null for 0 bytes. Throws std::bad_alloc.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes);

  void* data() const { return data_.get(); }
  size_t bytes() const { return bytes_; }

 private:
  std::unique_ptr<void, void (*)(void*)> data_{nullptr, std::free};
  size_t bytes_ = 0;
};

// From a tensor's first element to the end of its last; 0 for one that the problem does not have.
size_t tensor_bytes(const Spec& spec, Part part);

// Where the tensors are, on the host or on a device. All null: shapes only.
using Addresses = std::array<void*, kParts>;

// The problem as a caller of the library states it.
qkv_attention_desc describe(const Spec& spec, qkv_device device, const Addresses& at);

// The library's own view of it. Throws std::runtime_error with the library's reason.
host::attention::Problem make_problem(const qkv_attention_desc& desc);

// Inputs random, a pure function of the spec; outputs poisoned. Throws as make_problem() does.
class Tensors {
 public:
  explicit Tensors(const Spec& spec);

  const Spec& spec() const { return spec_; }
  const Buffer& operator[](Part part) const { return buffers_[part]; }
  const qkv_attention_desc& desc() const { return desc_; }
  const host::attention::Problem& problem() const { return problem_; }

  void poison() const;  // the outputs

 private:
  Spec spec_;
  std::array<Buffer, kParts> buffers_;
  qkv_attention_desc desc_;
  host::attention::Problem problem_;
};

// One call of the library on host memory. Throws qkv::Error with its reason.
void run(qkv_attention_desc desc);

// Normally distributed (mean 0, variance 1), a pure function of type, size and seed.
void fill_random(const Buffer& buffer, qkv_type type, uint64_t seed);

// The byte that makes what a run leaves unwritten show: every element NaN, every index below -1.
constexpr int poison_byte(Part part) { return part == kIndex ? 0x80 : 0xff; }

// The elements of a tensor in host memory, contiguous [batch, heads, seq, dim].
Buffer packed(const host::View& view);

// Its inverse: such elements into the tensor.
void unpack(const void* elements, const host::View& view);

}  // namespace qkv::bench
