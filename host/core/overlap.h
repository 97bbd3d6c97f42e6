// Which tensors of a call share bytes. Decided by elements, not by ranges of addresses: the rows of
// one tensor may lie in the gaps of another, as the slots of a buffer do.
#pragma once

#include <cstdint>
#include <span>

#include "host/core/status.h"
#include "host/core/view.h"

namespace qkv::host {

enum class Overlap {
  kNone,
  kSome,
  kUnknown,  // strides that fit each other so badly that a bounded search does not tell
};

// Absent tensors and tensors without elements share nothing.
Overlap overlap(const View& a, const View& b);

// The same elements, one by one: address, type, extents and strides.
bool same_place(const View& a, const View& b);

// From a tensor's first byte to behind its last; empty for a tensor without elements.
struct ByteRange {
  explicit ByteRange(const View& view);

  bool meets(const ByteRange& other) const { return begin < other.end && other.begin < end; }

  uintptr_t begin = 0, end = 0;
};

// A tensor of a call, for check_apart().
struct Placed {
  const char* name;
  const View& view;
  bool output;
  int place = 0;  // an output may stand exactly in the place of an input with the same number but 0
  ByteRange range{view};
};

// Refuses outputs that share bytes with another tensor.
Status check_apart(std::span<const Placed> tensors);

}  // namespace qkv::host
