// From a scaled score to the one that the selection sees: softcap, bias, ALiBi and mask, in this
// order and in fp32.
#pragma once

#include <cstdint>

#include "kernels/core/forward_args.h"
#include "kernels/core/mask.h"
#include "kernels/core/numeric.cuh"

namespace qkv::kernels {

// For one (batch, head) and, in a packed tile, the heads after it: `member` counts from the first.
// T is the type of Q; a bias has this type or fp32.
template <class T>
class ScoreRules {
 public:
  __device__ ScoreRules(const ForwardArgs& args, const KeyMask& keys, int batch, int head)
      : offset_(keys.offset),
        softcap_(args.softcap),
        inverse_softcap_(args.softcap > 0 ? 1 / args.softcap : 0),
        mask_(pairs<uint8_t>(args.mask, batch, head)),
        bias_f32_(args.bias_f32 ? pairs<float>(args.bias, batch, head) : Pairs<float>{}),
        bias_(args.bias_f32 ? Pairs<T>{} : pairs<T>(args.bias, batch, head)) {
    if (args.alibi_slopes.data == nullptr) return;
    slopes_ = static_cast<const float*>(args.alibi_slopes.data) + batch * args.alibi_slopes.batch +
              head * args.alibi_slopes.head;
    next_slope_ = args.alibi_slopes.head;
  }

  // ALiBi's slope of a head; 0 without ALiBi.
  __device__ float slope(int member) const {
    return slopes_ == nullptr ? 0 : slopes_[member * next_slope_];
  }

  __device__ float softcapped(float s) const {
    return softcap_ > 0 ? softcap_ * tanhf(s * inverse_softcap_) : s;
  }

  // Whether query i sees key j; `range` holds the keys that length, causal mask and window leave
  // it.
  __device__ bool visible(const KeyRange& range, int i, int j, int member = 0) const {
    return j >= range.begin && j < range.end &&
           (mask_.data == nullptr || mask_.at(i, j, member) != 0);
  }

  // A softcapped score of a visible key, after bias and ALiBi with the member's slope.
  __device__ float biased(float s, float slope, int i, int j, int member = 0) const {
    if (bias_f32_.data != nullptr) s += bias_f32_.at(i, j, member);
    if (bias_.data != nullptr) s += to_float(bias_.at(i, j, member));
    const int64_t distance = i + offset_ - j;
    return slope == 0 ? s
                      : fmaf(-slope, static_cast<float>(distance < 0 ? -distance : distance), s);
  }

 private:
  template <class Element>
  struct Pairs {
    const Element* data = nullptr;
    int64_t head = 0, row = 0, col = 0;
    __device__ Element at(int i, int j, int member) const {
      return data[member * head + i * row + j * col];
    }
  };

  template <class Element>
  static __device__ Pairs<Element> pairs(const PairTensor& t, int batch, int head) {
    if (t.data == nullptr) return {};
    return {static_cast<const Element*>(t.data) + batch * t.batch + head * t.head, t.head, t.row,
            t.col};
  }

  int64_t offset_;
  float softcap_, inverse_softcap_;
  const float* slopes_ = nullptr;
  int64_t next_slope_ = 0;
  Pairs<uint8_t> mask_;
  Pairs<float> bias_f32_;
  Pairs<T> bias_;
};

}  // namespace qkv::kernels
