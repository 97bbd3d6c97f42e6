// A case as memory: inputs fresh and random, every byte that nobody may use filled with something
// that would show, outputs poisoned, guards around them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "host/ops/attention/problem.h"
#include "host/verify/cases.h"
#include "host/verify/elements.h"
#include "host/verify/place.h"

namespace qkv::verify {

// What unused slots of inputs hold: padding, stride gaps, keys past their length.
enum class Fill { kZero, kNaN, kPositiveInf, kNegativeInf, kMax };
inline constexpr Fill kFills[] = {Fill::kZero, Fill::kNaN, Fill::kPositiveInf, Fill::kNegativeInf,
                                  Fill::kMax};

struct BuildOptions {
  uint64_t seed = 0;
  Fill fill = Fill::kNaN;
  // What outputs hold before the run: two runs with different poison agree only on bytes written.
  unsigned char poison = 0xff;
  Memory::Fit fit = Memory::Fit::kRoomy;  // kRoomy: 4 KiB of guard bytes on both sides
  bool contents = true;                   // false: for questions about the problem alone
};

enum class Api { kOneShot, kPlan };

class BuiltProblem {
 public:
  // Memory of the place and what the test wants it to hold.
  struct Slab {
    std::vector<std::byte> image;
    std::vector<std::byte> before;  // the image that was uploaded
    Memory memory;
    const char* name;
    bool output;
  };

  // A view of a slab, as the descriptor has it.
  struct Tensor {
    Slab* slab = nullptr;
    size_t base = 0;  // of element 0 in the slab
    qkv_tensor view{};

    bool present() const { return view.type != QKV_TYPE_NONE; }
    std::byte* at(int64_t b, int64_t h, int64_t i, int64_t d) const;
    double get(int64_t b, int64_t h, int64_t i, int64_t d) const {
      return load(view.type, at(b, h, i, d));
    }
    void set(int64_t b, int64_t h, int64_t i, int64_t d, double x) const {
      store(view.type, at(b, h, i, d), x);
    }
    // Calls visit(b, h, i, d) once for each element in memory.
    template <class Visit>
    void each(Visit&& visit) const {
      std::array<int64_t, 4> n{};
      for (size_t axis = 0; axis < 4; ++axis) {
        n[axis] =
            view.stride[axis] == 0 ? std::min<int64_t>(view.shape[axis], 1) : view.shape[axis];
      }
      for (int64_t b = 0; b < n[0]; ++b)
        for (int64_t h = 0; h < n[1]; ++h)
          for (int64_t i = 0; i < n[2]; ++i)
            for (int64_t d = 0; d < n[3]; ++d) visit(b, h, i, d);
    }
    void fill(double x) const {
      each([&](int64_t b, int64_t h, int64_t i, int64_t d) { set(b, h, i, d, x); });
    }
    // All elements in the order of the axes.
    std::vector<double> dense() const;
  };

  BuiltProblem(const Case& row, const BuildOptions& options);
  BuiltProblem(const BuiltProblem&) = delete;
  BuiltProblem& operator=(const BuiltProblem&) = delete;

  const Case& row() const { return row_; }

  // The tensors, before upload() and after run() as the place holds them.
  Tensor q, k, v, o, lse, index, weights;
  Tensor mask, bias, alibi_slopes, additive_weight, kv_lengths;

  // Uploads the images, runs, downloads the outputs.
  qkv_status run(Api api = Api::kOneShot);

  // The descriptor on the place's addresses.
  qkv_attention_desc desc() const;
  // The same problem on the images, as the oracle reads it.
  host::attention::Problem oracle_problem() const;

  // What the run changed that it must not: guards, gaps, inputs. "" if nothing.
  std::string damage();

  // The bytes of all output elements, one after another.
  std::vector<std::byte> output_bits() const;

  // Keys at or past a batch's length, in K, V, mask and bias: nobody may use them.
  void poison_hidden_keys();

 private:
  enum class Use { kInput, kOutput };

  Slab* add_slab(const char* name, qkv_type type, size_t elements, Use use);
  Tensor add(const char* name, qkv_type type, std::array<int64_t, 4> shape,
             std::array<int64_t, 4> stride, Use use, int64_t misalign = 0);
  void add_qkv();
  void add_outputs();
  void add_options();
  void randomize();
  std::vector<const Tensor*> inputs() const;
  std::vector<const Tensor*> outputs() const;
  qkv_attention_desc desc(bool images) const;

  Case row_;
  BuildOptions options_;
  std::deque<Slab> slabs_;  // stable addresses
};

}  // namespace qkv::verify
