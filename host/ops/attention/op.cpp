#include "host/ops/attention/op.h"

#include <array>

#include "host/core/overlap.h"
#include "host/core/plan.h"
#include "host/core/verbose.h"
#include "kernels/core/softcap.h"

namespace qkv::host::attention {
bool has_fast_softcap(const Problem& p) {
  constexpr float kMostRatio = 0x1p125f;
  return p.softcap > 0 && p.softcap <= kernels::kLargestFastSoftcap &&
         p.scale / p.softcap <= kMostRatio;
}

namespace {

// clang-format off
constexpr std::array<const Kernel*, 13> kKernels{
    &kCpuForward,
    &kSm90Forward,
    &kSm80Forward,
    &kSm80Tf32x3,
    &kSm90Hard,
    &kSm80Hard,
    &kSm80Tf32x3Hard,
    &kSm80TopK,
    &kSimtAdditive,
    &kSm80Additive,
    &kSm90Wide,
    &kSimtForward,
    &kSimtGeneral,
};
// clang-format on

bool is_empty(const Problem& p) { return p.empty(); }

// --- what plans depend on

// Kernels may compute the larger ones by another formula, with other tiles.
int64_t softcap_class(const Problem& p) { return p.softcap == 0 ? 0 : has_fast_softcap(p) ? 1 : 2; }

void add_key(const Problem& p, PlanKey* key) {
  const std::array words{int64_t{p.score},
                         int64_t{p.selection},
                         p.top_k,
                         p.batch,
                         p.heads_q,
                         p.heads_kv,
                         p.s_q,
                         p.s_kv,
                         p.d_qk,
                         p.d_v,
                         int64_t{p.type},
                         int64_t{p.weights_mode},
                         softcap_class(p),
                         int64_t{p.scale > 0 ? 1 : 0},
                         int64_t{p.alignment},
                         p.explicit_offset,
                         p.left,
                         p.right,
                         p.fixed_split_size};
  constexpr size_t kCore = 5;  // words that plan_key() puts in front
  static_assert(kTensorCount <= PlanKey::kTensors &&
                kCore + words.size() + kTensorCount * PlanKey::kTensorWords <= PlanKey::kWords);
  for (const int64_t word : words) key->add(word);
  for (const TensorRow& row : kTensors) key->add(p.*row.view);
}

// --- what a workspace may not lie in

const char* sharing(const Problem& p, const View& memory) {
  for (const TensorRow& row : kTensors)
    if (overlap(p.*row.view, memory) != Overlap::kNone) return row.name;
  return nullptr;
}

// --- the problem for people

std::string selection_text(const Problem& p) {
  if (p.selection == QKV_SELECT_TOP_K) return host::text("top-k ", p.top_k);
  return p.selection == QKV_SELECT_SOFT ? "soft" : "hard";
}

const char* score_name(qkv_score score) { return score == QKV_SCORE_DOT ? "dot" : "additive"; }

std::string mask_text(const Problem& p) {
  if (!p.windowed() && !p.mask.present()) return "none";
  std::string out = p.mask.present() ? "tensor " : "";
  if (p.left == kUnbounded && p.right == 0) out += "causal ";
  if (p.windowed() && !(p.left == kUnbounded && p.right == 0)) {
    const auto bound = [](int64_t x) {
      return x == kUnbounded ? std::string("inf") : host::text(x);
    };
    out += host::text("window(", bound(p.left), ", ", bound(p.right), ") ");
  }
  if (p.windowed()) {
    out += p.alignment == QKV_ALIGN_BOTTOM_RIGHT ? "bottom-right"
           : p.alignment == QKV_ALIGN_TOP_LEFT   ? "top-left"
                                                 : host::text("offset ", p.explicit_offset);
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

// The optional inputs that no other word of the options stands for: ", bias, lengths".
std::string inputs_text(const Problem& p) {
  std::string out;
  for (const TensorRow& row : kTensors) {
    const bool named = is_optional_input(row) && row.kind != Word::kNone;
    if (named && row.view != &Problem::mask && (p.*row.view).present())
      out += host::text(", ", row.word);
  }
  return out;
}

std::string text(const Problem& p) {
  return text_line("problem", "batch ", p.batch, ", heads ", p.heads_q, "/", p.heads_kv, ", s_q ",
                   p.s_q, ", s_kv ", p.s_kv, ", d_qk ", p.d_qk, ", d_v ", p.d_v, ", ",
                   type_name(p.type)) +
         text_line("options", "score ", score_name(p.score), ", selection ", selection_text(p),
                   ", scale ", p.scale, ", mask ", mask_text(p),
                   p.softcap > 0 ? host::text(", softcap ", p.softcap) : "", inputs_text(p));
}

// --- the problem in one word

// The axes on which a tensor over (query, key) pairs has elements of its own.
std::string axes(const View& view) {
  std::string letters;
  for (size_t axis = 0; axis < 4; ++axis)
    if (view.stride[axis] != 0) letters += "bhqk"[axis];
  return letters.empty() ? "1" : letters;
}

// Batch, head and row strides, unless they are those of a contiguous [batch, seq, heads, dim].
std::string strides(const char* name, const View& view) {
  const auto& n = view.shape;
  const std::array<int64_t, 3> plain{n[2] * n[1] * n[3], n[3], n[1] * n[3]};
  bool same = true;
  for (size_t axis = 0; axis < 3; ++axis) same &= n[axis] <= 1 || view.stride[axis] == plain[axis];
  if (same) return {};
  return host::text(":", name, "=", view.stride[0], ".", view.stride[1], ".", view.stride[2]);
}

std::string field(const TensorRow& row, const Problem& p) {
  const View& view = p.*row.view;
  if (!view.present() || row.kind == Word::kNone) return {};
  std::string word = host::text(":", row.word);
  const char* const wide = row.element == Element::kWide && view.type != p.type ? "32=" : "=";
  switch (row.kind) {
    case Word::kAxes:
      return word + wide + axes(view);
    case Word::kInteger:
      return word + (view.type == QKV_TYPE_I32 ? "32" : "64");
    case Word::kMode:
      return host::text(word, wide, p.weights_mode);
    default:
      return word;
  }
}

}  // namespace

std::string repro(const Problem& p) {
  std::string out = host::text(
      "fwd:", p.device == QKV_DEVICE_CUDA ? "cuda" : "cpu", ":", type_name(p.type), ":d", p.d_qk,
      p.d_v == p.d_qk ? "" : host::text(":dv", p.d_v), p.right == 0 ? ":causal" : ":full", ":b",
      p.batch, ":hq", p.heads_q, ":hkv", p.heads_kv, ":sq", p.s_q, ":skv", p.s_kv);
  if (p.score == QKV_SCORE_ADDITIVE) out += ":additive";
  if (p.selection == QKV_SELECT_HARD) out += ":hard";
  if (p.selection == QKV_SELECT_TOP_K) out += host::text(":top-k=", p.top_k);
  if (p.scale != default_scale(p.score, p.d_qk)) out += ":scale=" + number(p.scale);
  if (p.softcap > 0) out += ":softcap=" + number(p.softcap);
  if (p.alignment == QKV_ALIGN_TOP_LEFT) out += ":top-left";
  if (p.alignment == QKV_ALIGN_EXPLICIT) out += host::text(":offset=", p.explicit_offset);
  if (p.left != kUnbounded) out += host::text(":left=", p.left);
  if (p.right != kUnbounded && p.right != 0) out += host::text(":right=", p.right);
  for (const TensorRow& row : kTensors) out += field(row, p);
  if (p.fixed_split_size > 0) out += host::text(":split=", p.fixed_split_size);
  if (p.threads > 0) out += host::text(":threads=", p.threads);
  for (const TensorId id : kRequired) out += strides(kTensors[id].word, p.*kTensors[id].view);
  return out;
}

const Op kOp = op_of<Problem, is_empty, add_key, repro, text, sharing>("attention", kKernels,
                                                                       "attention_bench --problem");

}  // namespace qkv::host::attention
