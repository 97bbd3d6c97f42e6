// Host memory of one problem, filled with random numbers, and the problem that points to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "bench/spec.h"
#include "host/problem.h"
#include "qkv/qkv.hpp"

namespace qkv::bench {

// Memory of elements, 256-byte aligned. Throws std::bad_alloc.
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

// Bytes of the four tensors.
struct Extents {
  size_t q, k, v, o;
  explicit Extents(const Spec& spec);
};

// Addresses of the four tensors, on the host or on a device, contiguous [batch, heads, seq, dim].
// All null: shapes only.
struct Addresses {
  void *q = nullptr, *k = nullptr, *v = nullptr, *o = nullptr;
};

// The problem as a caller of the library states it.
Attention describe(const Spec& spec, qkv_device device, const Addresses& at);

// The library's own view of it. Throws std::runtime_error with the library's reason.
host::Problem make_problem(const Attention& attention);

// Q, K and V random, a pure function of the spec; O poisoned.
class Tensors {
 public:
  explicit Tensors(const Spec& spec);

  const Spec& spec() const { return spec_; }
  const Buffer& q() const { return q_; }
  const Buffer& k() const { return k_; }
  const Buffer& v() const { return v_; }
  const Buffer& o() const { return o_; }
  const Attention& attention() const { return attention_; }
  const host::Problem& problem() const { return problem_; }

 private:
  Spec spec_;
  Buffer q_, k_, v_, o_;
  Attention attention_;
  host::Problem problem_;
};

// Normally distributed (mean 0, variance 1), a pure function of type, size and seed.
void fill_random(const Buffer& buffer, qkv_type type, uint64_t seed);

// Fills every element with NaN, so that what a run leaves unwritten shows.
void poison(const Buffer& output);

}  // namespace qkv::bench
