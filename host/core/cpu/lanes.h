// What threads need to compute side by side, handed out and taken back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace qkv::cpu {

// Lanes of one plan's code, for as many threads at a time as there are.
template <class Lane>
class Lanes {
 public:
  struct Return {
    const Lanes* owner;
    void operator()(Lane* lane) const { owner->give_back(lane); }
  };
  using Borrowed = std::unique_ptr<Lane, Return>;

  // Makes lanes for so many threads ahead of the run, each by `make`, which may throw.
  template <class Make>
  void reserve(int32_t threads, const Make& make) const {
    const std::lock_guard lock(mutex_);
    free_.reserve(static_cast<size_t>(threads));
    for (; lanes_ < static_cast<size_t>(threads); ++lanes_) free_.push_back(make());
  }

  // A free lane, or a new one when more threads run than ever before; null if `make` throws.
  template <class Make>
  Borrowed borrow(const Make& make) const try {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) {
      free_.reserve(lanes_ + 1);
      std::unique_ptr<Lane> lane = make();
      ++lanes_;
      return {lane.release(), Return{this}};
    }
    Borrowed lane(free_.back().release(), Return{this});
    free_.pop_back();
    return lane;
  } catch (...) {
    return {nullptr, Return{this}};
  }

 private:
  void give_back(Lane* lane) const noexcept {
    const std::lock_guard lock(mutex_);
    free_.emplace_back(lane);  // within capacity: cannot fail
  }

  mutable std::mutex mutex_;                         // guards what follows
  mutable std::vector<std::unique_ptr<Lane>> free_;  // has capacity for all lanes
  mutable size_t lanes_ = 0;                         // free and borrowed
};

}  // namespace qkv::cpu
