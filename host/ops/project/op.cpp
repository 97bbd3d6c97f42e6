#include "host/ops/project/op.h"

#include <array>

#include "host/core/overlap.h"
#include "host/core/plan.h"

namespace qkv::host::project {
namespace {

constexpr std::array<const Kernel*, 2> kKernels{&kCpuProject, &kCublasLt};

bool is_empty(const Problem& p) { return p.empty(); }

void add_key(const Problem& p, PlanKey* key) {
  for (const int64_t word : {p.batch, p.rows, p.in, p.heads, p.dim}) key->add(word);
  for (const View* view : {&p.x, &p.weight, &p.bias, &p.y}) key->add(*view);
}

const char* sharing(const Problem& p, const View& memory) {
  const std::array<Named, 4> tensors{
      {{"x", p.x}, {"weight", p.weight}, {"bias", p.bias}, {"y", p.y}}};
  for (const auto& [name, view] : tensors)
    if (overlap(view, memory) != Overlap::kNone) return name;
  return nullptr;
}

std::string text(const Problem& p) {
  return text_line("problem", "batch ", p.batch, ", rows ", p.rows, ", in ", p.in, ", out ",
                   p.out(), ", ", type_name(p.type)) +
         text_line("tensors", "weight [", p.weight_by_out() ? "out, in" : "in, out", "]",
                   p.bias.present() ? ", bias" : "",
                   p.heads == 1 ? "" : host::text(", heads ", p.heads, " x ", p.dim));
}

// " of x, when not rows after rows": strides over batch and rows.
std::string x_strides(const Problem& p) {
  const auto& stride = p.x.stride;
  const bool plain =
      (p.rows <= 1 || stride[2] == p.in) && (p.batch <= 1 || stride[0] == p.rows * p.in);
  return plain ? std::string() : host::text(":x=", stride[0], ".", stride[2]);
}

// Of the weight: its pitch, when its lines have gaps.
std::string weight_word(const Problem& p) {
  const bool by_out = p.weight_by_out();
  const int64_t lines = by_out ? p.out() : p.in, width = by_out ? p.in : p.out();
  const int64_t pitch = p.weight.stride[by_out ? 2 : 3];
  return host::text(by_out ? "" : ":io",
                    lines <= 1 || pitch == width ? "" : host::text(":w=", pitch));
}

// Of y, when not [batch, rows, heads, dim] in memory.
std::string y_strides(const Problem& p) {
  const auto& n = p.y.shape;
  const std::array<int64_t, 3> plain{p.rows * p.out(), p.dim, p.out()};
  bool same = true;
  for (size_t axis = 0; axis < 3; ++axis) same &= n[axis] <= 1 || p.y.stride[axis] == plain[axis];
  if (same) return {};
  return host::text(":y=", p.y.stride[0], ".", p.y.stride[1], ".", p.y.stride[2]);
}

}  // namespace

std::string repro(const Problem& p) {
  return host::text("project:", p.device == QKV_DEVICE_CUDA ? "cuda" : "cpu", ":",
                    type_name(p.type), ":b", p.batch, ":s", p.rows, ":in", p.in, ":out", p.out(),
                    p.heads == 1 ? "" : host::text(":h", p.heads), p.bias.present() ? ":bias" : "",
                    weight_word(p), x_strides(p), y_strides(p),
                    p.threads > 0 ? host::text(":threads=", p.threads) : "");
}

const Op kOp = op_of<Problem, is_empty, add_key, repro, text, sharing>("project", kKernels,
                                                                       "attention_bench --problem");

}  // namespace qkv::host::project
