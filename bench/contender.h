// What is timed: one implementation of one problem, ready to run.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace qkv::bench {

struct Measurement {
  double seconds = 0;
  double flops = 0;  // done, as the problem counts them
};

class Contender {
 public:
  virtual ~Contender() = default;

  // Makes unwritten output visible.
  virtual void poison() {}
  // Runs once. Throws std::runtime_error with the reason if it cannot.
  virtual Measurement run() = 0;
  // Brings the last run's outputs to the tensors in host memory, to be checked; false: there are
  // none.
  virtual bool fetch() { return false; }
  // Whether it stores the scores in the input type before the softmax, as unfused code does: one
  // rounding more than the contract's, which its check allows for.
  virtual bool rounds_scores() const { return false; }
  // Bytes of memory that it works with and on, as allocated: the problem's tensors, its copies of
  // them, its workspace. Not what libraries allocate for themselves. 0: not known.
  virtual size_t memory_bytes() const { return 0; }
};

// A tensor's memory on the host, for contenders elsewhere.
struct HostBuffer {
  void* data;
  size_t bytes;
  bool output;
};

// Implementations by name. The first is qkv's own choice.
struct Candidate {
  std::string name;
  std::function<std::unique_ptr<Contender>()> make;  // throws std::runtime_error
  std::string label = {};                            // of qkv: the kernel that its plan chose
  std::string declined = {};  // not empty: it cannot do the problem, and why; `make` is not called
};

// The names that the report compares with.
inline constexpr const char* kQkv = "qkv";
inline constexpr const char* kUnfused = "unfused";  // ratios are against it
inline constexpr const char* kProduct = "product";  // Q K^T of the unfused one, of a search
inline constexpr const char* kCudnn = "cudnn";
inline constexpr const char* kTileProducts = "tile_products";  // the CPU's reference rate

}  // namespace qkv::bench
