#include "host/verify/cases.h"

#include <sstream>
#include <utility>

#include "host/core/view.h"
#include "host/verify/case_group.h"
#include "host/verify/pairwise.h"

namespace qkv::verify {
namespace {

using host::attention::kTensors;
using host::attention::Word;

std::string input_text(const Case& row, TensorId id) {
  if (!row.has(id)) return {};
  const Inputs::Input& input = row.inputs[id];
  // Where the word alone does not mean them.
  const bool says_axes = kTensors[id].kind == Word::kAxes || (input.axes & kBatch) != 0;
  const std::string axes = says_axes ? host::text(" axes ", input.axes) : "";
  return host::text(" ", kTensors[id].word, axes, input.f32 ? " f32" : "");
}

}  // namespace

const char* type_label(qkv_type type) { return host::type_name(type); }

std::string describe(const Case& row) {
  constexpr const char* kLayouts[] = {"bshd",   "bhsd",       "sbhd",      "packed",
                                      "padded", "odd_padded", "shared_kv", "repeated_kv"};
  constexpr const char* kAlignments[] = {"bottom-right", "top-left", "explicit"};
  std::ostringstream out;
  out << type_label(row.type) << " b" << row.batch << " h" << row.heads_q << '/' << row.heads_kv
      << " s" << row.s_q << 'x' << row.s_kv << " d" << row.d_qk << '/' << row.d_v << ' '
      << kLayouts[static_cast<int>(row.layout)] << '+' << row.misalign;
  if (row.score == QKV_SCORE_ADDITIVE) out << " additive";
  if (row.selection == QKV_SELECT_HARD) out << " hard";
  if (row.selection == QKV_SELECT_TOP_K) out << " top-k " << row.top_k;
  if (row.scale) out << " scale " << *row.scale;
  if (row.softcap > 0) out << " softcap " << row.softcap;
  if (row.causal) out << " causal";
  if (row.left >= 0 || row.right >= 0) out << " window " << row.left << ',' << row.right;
  out << ' ' << kAlignments[row.alignment];
  if (row.alignment == QKV_ALIGN_EXPLICIT) out << ' ' << row.offset;
  for (size_t id = 0; id < kTensors.size(); ++id)
    if (kTensors[id].kind == Word::kAxes) out << input_text(row, static_cast<TensorId>(id));
  if (row.broadcast_by_stride) out << " by stride";
  if (row.mask_squares > 0) out << " hidden squares of " << row.mask_squares;
  for (size_t id = 0; id < kTensors.size(); ++id)
    if (kTensors[id].kind != Word::kAxes) out << input_text(row, static_cast<TensorId>(id));
  for (size_t b = 0; b < row.lengths.size(); ++b)
    out << (b ? "," : row.long_lengths ? " i64 lengths " : " lengths ") << row.lengths[b];
  if (row.fixed_split > 0) out << " splits of " << row.fixed_split;
  if (row.in_place) out << " in place";
  if (row.index != QKV_TYPE_NONE) out << " index " << type_label(row.index);
  if (row.top_scores) out << " top-scores";
  if (row.weights != QKV_TYPE_NONE) {
    out << " weights " << type_label(row.weights) << " mode " << row.weights_mode;
  }
  return std::move(out).str();
}

std::ostream& operator<<(std::ostream& out, const Case& row) { return out << describe(row); }

const std::vector<Case>& all_cases() {
  static const std::vector<Case> cases = [] {
    Rows rows;
    add_option_cases(&rows);
    add_kernel_cases(&rows);
    add_combined_cases(&rows);
    rows.insert(rows.end(), pairwise().rows.begin(), pairwise().rows.end());
    return rows;
  }();
  return cases;
}

}  // namespace qkv::verify
