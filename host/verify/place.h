// Where a test's tensors live, hence which backend computes. The contract tests are written once;
// each of their programs links one place: host memory, or a CUDA device (a real or a virtual one).
#pragma once

#include <cstddef>
#include <string>

#include "qkv/qkv.h"

namespace qkv::verify {

class Place {
 public:
  virtual ~Place() = default;

  // Why no test can run here; "" if they can.
  virtual std::string missing() const = 0;
  virtual qkv_device device() const = 0;

  // 256-byte aligned.
  virtual void* allocate(size_t bytes) = 0;
  // Followed by memory whose use is a fault, as closely as the place can. Aligned to what divides
  // `bytes`.
  virtual void* allocate_exact(size_t bytes) = 0;
  virtual void release(void* memory) = 0;
  virtual void upload(void* to, const void* from, size_t bytes) = 0;
  // Waits for work that was queued before.
  virtual void download(void* to, const void* from, size_t bytes) = 0;

  // Threads that the backend may use from now on; 0: as many as it likes.
  virtual void set_threads(int threads) = 0;
};

Place& place();

// Bytes of a place.
class Memory {
 public:
  enum class Fit { kRoomy, kExact };

  Memory(size_t bytes, Fit fit)
      : address_(fit == Fit::kExact ? place().allocate_exact(bytes) : place().allocate(bytes)) {}
  ~Memory() {
    if (address_ != nullptr) place().release(address_);
  }
  Memory(Memory&& other) noexcept : address_(other.address_) { other.address_ = nullptr; }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  Memory& operator=(Memory&&) = delete;

  void* address() const { return address_; }

 private:
  void* address_;
};

}  // namespace qkv::verify
