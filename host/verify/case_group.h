// How cases are written down: a group has a prefix and a base row, and each of its cases is the
// base with something changed.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "host/core/status.h"
#include "host/verify/cases.h"

namespace qkv::verify {

using Rows = std::vector<Case>;
using Types = std::vector<qkv_type>;

inline constexpr qkv_type kF32 = QKV_TYPE_F32, kF16 = QKV_TYPE_F16, kBf16 = QKV_TYPE_BF16;
inline constexpr int64_t kFar = int64_t{1} << 60;  // the farthest window and offset

struct Group {
  Rows* rows;
  std::string prefix;
  Case base{};
  Types types{kF32, kF16, kBf16};

  // The case PREFIX + DETAIL + _TYPE in each of the types: change(base).
  template <class Change>
  void add(const std::string& detail, const Types& of_types, Change&& change) const {
    for (const qkv_type type : of_types) {
      Case row = base;
      change(row);
      row.type = type;
      row.name = prefix + detail + "_" + type_label(type);
      // The narrow type of weights is that of q.
      if (row.weights != QKV_TYPE_NONE && row.weights != kF32) row.weights = type;
      rows->push_back(std::move(row));
    }
  }
  template <class Change>
  void add(const std::string& detail, Change&& change) const {
    add(detail, types, change);
  }
  void add(const std::string& detail) const {
    add(detail, [](Case&) {});
  }
};

// The groups, by what they are about.
void add_option_cases(Rows* rows);     // each option of the contract
void add_kernel_cases(Rows* rows);     // what tiles, splits and warpgroups have to get right
void add_warpgroup_cases(Rows* rows);  // those of Hopper's kernels among them
void add_combined_cases(Rows* rows);   // many options at once

}  // namespace qkv::verify
