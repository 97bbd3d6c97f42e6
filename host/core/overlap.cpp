#include "host/core/overlap.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace qkv::host {
namespace {

// One axis of an element's offset: step * index, 0 <= index < count. Bytes.
struct Axis {
  int64_t step, count;

  int64_t reach() const { return step * (count - 1); }
};

// The steps of both tensors together.
class Axes {
 public:
  void add(const View& view) {
    for (size_t axis = 0; axis < 4; ++axis) {
      if (view.shape[axis] > 1 && view.stride[axis] > 0)
        axes_[size_++] = {view.stride[axis] * type_size(view.type), view.shape[axis]};
    }
  }

  // Whether a sum of steps lies in [low, high].
  Overlap any_sum_in(int64_t low, int64_t high) {
    std::sort(axes_.data(), axes_.data() + size_,
              [](const Axis& a, const Axis& b) { return a.step < b.step; });
    merge_multiples();
    // Steps no longer than the interval leave no gaps in it: what the axis adds widens it.
    size_t dense = 0;
    for (; dense < size_ && axes_[dense].step <= high - low + 1; ++dense)
      low -= axes_[dense].reach();
    std::copy(axes_.data() + dense, axes_.data() + size_, axes_.data());
    size_ -= dense;
    for (size_t n = 0; n < size_; ++n) {
      reach_[n + 1] = reach_[n] + axes_[n].reach();
      divisor_[n + 1] = std::gcd(divisor_[n], axes_[n].step);
    }
    return search(size_, low, high);
  }

 private:
  // Steps c and m c, the first of at least m indices, make all multiples of c up to their sum: one
  // axis. Equal steps, as those of two slots of a buffer, are of this kind.
  void merge_multiples() {
    size_t kept = 0;
    for (size_t n = 0; n < size_; ++n) {
      const Axis next = axes_[n];
      Axis* const fits = std::find_if(axes_.data(), axes_.data() + kept, [&](const Axis& axis) {
        return next.step % axis.step == 0 && axis.count >= next.step / axis.step;
      });
      if (fits == axes_.data() + kept)
        axes_[kept++] = next;
      else
        fits->count += next.step / fits->step * (next.count - 1);
    }
    size_ = kept;
  }

  // By the first n axes, the longest step first: of tensors whose axes are nested a few indices
  // come into question for each.
  Overlap search(size_t n, int64_t low, int64_t high) {
    if (high < 0 || low > reach_[n]) return Overlap::kNone;
    if (low <= 0) return Overlap::kSome;
    if (n == 0 || low > high / divisor_[n] * divisor_[n]) return Overlap::kNone;
    if (n == 1) return Overlap::kSome;  // a multiple of the step, not beyond its reach
    const Axis& axis = axes_[n - 1];
    const int64_t rest = reach_[n - 1];
    const int64_t first = low > rest ? (low - rest - 1) / axis.step + 1 : 0;
    const int64_t last = std::min(high / axis.step, axis.count - 1);
    Overlap found = Overlap::kNone;
    for (int64_t index = last; index >= first; --index) {
      if (--budget_ < 0) return Overlap::kUnknown;
      const Overlap one = search(n - 1, low - index * axis.step, high - index * axis.step);
      if (one == Overlap::kSome) return one;
      if (one == Overlap::kUnknown) found = one;
    }
    return found;
  }

  std::array<Axis, 8> axes_{};  // the first size_ of them
  size_t size_ = 0;
  std::array<int64_t, 9> reach_{}, divisor_{};  // of the first n axes: greatest sum, its divisor
  int budget_ = 4096;
};

}  // namespace

ByteRange::ByteRange(const View& view) {
  int64_t last = 0;
  for (size_t axis = 0; axis < 4; ++axis) {
    if (view.shape[axis] == 0) return;
    last += (view.shape[axis] - 1) * view.stride[axis];
  }
  if (!view.present() || view.data == nullptr) return;
  begin = reinterpret_cast<uintptr_t>(view.data);
  const auto bytes = static_cast<uintptr_t>((last + 1) * type_size(view.type));
  end = begin > UINTPTR_MAX - bytes ? UINTPTR_MAX : begin + bytes;
}

Overlap overlap(const View& a, const View& b) {
  const ByteRange range_a(a), range_b(b);
  if (!range_a.meets(range_b)) return Overlap::kNone;
  // No machine has so much memory; below it no sum overflows.
  constexpr uintptr_t kMost = uintptr_t{1} << 60;
  if (range_a.end - range_a.begin > kMost || range_b.end - range_b.begin > kMost)
    return Overlap::kUnknown;
  // With b's elements counted from its last one, the offset of an element of a plus that of one of
  // b is the distance of their addresses plus this:
  const int64_t size_a = type_size(a.type), size_b = type_size(b.type);
  const auto base = static_cast<int64_t>(range_b.end - range_a.begin) - size_b;
  Axes axes;
  axes.add(a);
  axes.add(b);
  return axes.any_sum_in(base - size_a + 1, base + size_b - 1);
}

bool same_place(const View& a, const View& b) {
  return a.data == b.data && a.type == b.type && a.shape == b.shape && a.stride == b.stride;
}

Status check_apart(std::span<const Placed> tensors) {
  for (size_t n = 0; n < tensors.size(); ++n) {
    const Placed& output = tensors[n];
    if (!output.output) continue;
    for (size_t other = 0; other < tensors.size(); ++other) {
      const Placed& tensor = tensors[other];
      if (!output.range.meets(tensor.range) || other == n || (tensor.output && other < n)) continue;
      const bool may = output.place != 0 && output.place == tensor.place && !tensor.output;
      if (may && same_place(output.view, tensor.view)) continue;
      const Overlap shared = overlap(output.view, tensor.view);
      QKV_REQUIRE(shared != Overlap::kUnknown, QKV_INVALID_OVERLAP, output.name, " and ",
                  tensor.name,
                  " lie between each other by strides that do not fit; whether they share elements "
                  "is unknown: give each its own memory");
      QKV_REQUIRE(shared == Overlap::kNone, QKV_INVALID_OVERLAP, output.name,
                  " shares elements with ", tensor.name,
                  may ? "; it may stand exactly in its place (the same data, type, extents and "
                        "strides), or apart from it"
                      : "; an output has elements of its own");
    }
  }
  return {};
}

}  // namespace qkv::host
