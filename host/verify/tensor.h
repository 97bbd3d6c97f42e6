// Tensors of tests, whatever the operation: memory of a place and an image of it here, with guards
// around it, and every byte that nobody may use filled with something that would show.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "host/core/tensor_check.h"
#include "host/verify/elements.h"
#include "host/verify/place.h"

namespace qkv::verify {

using host::Shape;
using host::Use;

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

// The axes but dim, outermost first.
using Order = std::array<size_t, 3>;
inline constexpr Order kAsBhsd{0, 1, 2}, kAsBshd{0, 2, 1}, kAsSbhd{2, 0, 1};

// Strides of a tensor with memory of its own: `pad[axis]` elements follow each index of the axis.
Shape strides_of(const Shape& shape, const Order& order, const Shape& pad = {});

// Memory of the place and what the test wants it to hold.
struct Slab {
  std::string name;
  std::vector<std::byte> image;   // to be uploaded; after a download what the place holds
  std::vector<std::byte> before;  // the image that was uploaded
  std::vector<bool> writable;     // bytes that a run may change
  Memory memory;
};

// [batch, heads, seq, dim] elements of a slab. A copy is the same tensor.
struct Tensor {
  Slab* slab = nullptr;
  size_t base = 0;    // of element 0 in the slab, in bytes
  qkv_tensor view{};  // without an address

  bool present() const { return view.type != QKV_TYPE_NONE; }
  qkv_tensor on_place() const {
    return at_address(slab == nullptr ? nullptr : slab->memory.address());
  }
  qkv_tensor on_image() const { return at_address(slab == nullptr ? nullptr : slab->image.data()); }

  std::byte* at(int64_t b, int64_t h, int64_t i, int64_t d) const;
  double get(int64_t b, int64_t h, int64_t i, int64_t d) const {
    return load(view.type, at(b, h, i, d));
  }
  void set(int64_t b, int64_t h, int64_t i, int64_t d, double x) const {
    store(view.type, at(b, h, i, d), x);
  }
  // As if nobody may use the element.
  void spoil(int64_t b, int64_t h, int64_t i, int64_t d, Fill with) const;

  // Calls visit(b, h, i, d) once for each element in memory.
  template <class Visit>
  void each(Visit&& visit) const {
    Shape n{};
    for (size_t axis = 0; axis < 4; ++axis) {
      n[axis] = view.stride[axis] == 0 ? std::min<int64_t>(view.shape[axis], 1) : view.shape[axis];
    }
    for (int64_t b = 0; b < n[0]; ++b)
      for (int64_t h = 0; h < n[1]; ++h)
        for (int64_t i = 0; i < n[2]; ++i)
          for (int64_t d = 0; d < n[3]; ++d) visit(b, h, i, d);
  }
  // Sets each element to the next number() that there is.
  template <class Number>
  void draw(Number&& number) const {
    each([&](int64_t b, int64_t h, int64_t i, int64_t d) { set(b, h, i, d, number()); });
  }
  void fill(double x) const {
    draw([x] { return x; });
  }
  // All elements in the order of the axes.
  std::vector<double> dense() const;
  // The bytes of each element, one after another.
  std::vector<std::byte> bits() const;
  // From now on a run may change the elements.
  void allow_writes() const;

 private:
  qkv_tensor at_address(void* memory) const;
};

// The memory of a call's tensors.
class Tensors {
 public:
  explicit Tensors(const BuildOptions& options) : options_(options) {}
  Tensors(const Tensors&) = delete;
  Tensors& operator=(const Tensors&) = delete;

  // A tensor in a slab of its own, all filled, that starts `shift` bytes after an aligned address
  // (at once in an exact fit). Elements of an output may be written.
  Tensor add(const std::string& name, qkv_type type, const Shape& shape, const Shape& stride,
             Use use, size_t shift = 0);
  // Exactly so many bytes between guards, uploaded at once: their address.
  void* add_workspace(size_t bytes);

  void upload();    // the images
  void download();  // into the images

  // What a run between the two changed that it must not: guards, gaps, inputs. "" if nothing.
  std::string damage() const;

 private:
  Slab* add_slab(const std::string& name, size_t bytes, Memory::Fit fit);

  BuildOptions options_;
  std::deque<Slab> slabs_;  // stable addresses
};

}  // namespace qkv::verify
