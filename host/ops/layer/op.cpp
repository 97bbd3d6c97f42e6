#include "host/ops/layer/op.h"

#include <array>
#include <string_view>

#include "host/core/overlap.h"
#include "host/core/plan.h"
#include "host/ops/attention/op.h"

namespace qkv::host::layer {
namespace {

constexpr std::array<const Kernel*, 2> kKernels{&kCpuLayer, &kCudaLayer};

bool is_empty(const Problem& p) { return p.empty(); }

// Attention's key, and what else the products have: the rest follows from these.
void add_key(const Problem& p, PlanKey* key) {
  attention::kOp.add_key(p.attention, key);
  for (const project::Problem& product : p.products) {
    key->add(product.x);
    key->add(product.weight);
    key->add(product.bias);
  }
  key->add(p.products[kProductY].y);
  // plan_key()'s words and attention's own; its tensors and those above.
  constexpr size_t kCore = 5, kAttention = 18, kViews = attention::kTensorCount + 13;
  static_assert(kViews <= PlanKey::kTensors &&
                kCore + kAttention + kViews * PlanKey::kTensorWords <= PlanKey::kWords);
}

const char* sharing(const Problem& p, const View& memory) {
  const char* found = nullptr;
  each_tensor(p, [&](const char* name, const View& view, bool) {
    if (found == nullptr && overlap(view, memory) != Overlap::kNone) found = name;
  });
  return found;
}

int64_t width(const View& x) { return x.shape[3]; }

// One letter for each product of which `holds` is true.
template <class Holds>
std::string letters(const Problem& p, const char* word, Holds&& holds) {
  std::string out;
  for (size_t id = 0; id < kProductCount; ++id)
    if (p.products[id].x.present() && holds(p.products[id])) out += "qkvo"[id];
  return out.empty() ? out : host::text(":", word, "=", out);
}

std::string text(const Problem& p) {
  return text_line(
      "problem", p.self ? "self" : "cross", "-attention from width ",
      width(p.products[kProductQ].x),
      p.self ? "" : host::text(" and ", width(p.products[kProductK].x)),
      p.packed ? ", packed weights" : "",
      p.has(kProductY) ? host::text(", to width ", width(p.products[kProductY].y)) : "");
}

}  // namespace

std::string repro(const Problem& p) {
  // q, k, v and o are the layer's: as attention sees them they are contiguous.
  attention::Problem middle = p.attention;
  for (const attention::TensorId id : attention::kRequired) {
    View& view = middle.*attention::kTensors[id].view;
    const auto& n = view.shape;
    view.stride = {n[2] * n[1] * n[3], n[3], n[1] * n[3], 1};
  }
  const std::string all = attention::repro(middle);
  const std::string_view rest = std::string_view(all).substr(all.find(':'));
  return host::text(
      "layer", rest, ":eq", width(p.products[kProductQ].x),
      p.self ? "" : host::text(":ekv", width(p.products[kProductK].x)),
      p.has(kProductY) ? host::text(":ey", width(p.products[kProductY].y)) : "",
      p.packed ? ":packed" : "",
      letters(p, "biases", [](const project::Problem& one) { return one.bias.present(); }),
      letters(p, "in-out", [](const project::Problem& one) { return !one.weight_by_out(); }));
}

const Op kOp = op_of<Problem, is_empty, add_key, repro, text, sharing>("layer", kKernels,
                                                                       "attention_bench --problem");

}  // namespace qkv::host::layer
