// Where tensors live that are checked, hence which backend computes: host memory, or a CUDA device
// (a real or a virtual one). Checks are written once; each program says which place it means.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "qkv/qkv.h"

namespace qkv::verify {

class Place {
 public:
  virtual ~Place() = default;

  // Why no test can run here; "" if they can.
  virtual std::string missing() const = 0;
  virtual qkv_device device() const = 0;
  virtual int32_t index() const { return 0; }  // of the CUDA device

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

// The places there are.
Place& host_place();
// The first caller's index is the process's. Builds with CUDA alone have it.
Place& cuda_place(int32_t index);

// The place of this program: a test's own file defines it, `qkv verify` chooses by its --device.
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
