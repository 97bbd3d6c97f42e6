// One multi-head layer, made from the C descriptor: checked, and taken apart into the problems of
// its steps.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "host/core/descriptor.h"
#include "host/core/op.h"
#include "host/core/tensor_check.h"
#include "host/core/view.h"
#include "host/ops/attention/problem.h"
#include "host/ops/project/problem.h"

namespace qkv::host::layer {

// The products of a layer. A packed one gives Q, K and V by the first, and has no second and third.
enum ProductId : size_t { kProductQ, kProductK, kProductV, kProductY, kProductCount };

// Buffers of the workspace start at multiples of so many bytes.
inline constexpr size_t kBufferAlignment = 256;

constexpr size_t aligned(size_t bytes) {
  return (bytes + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment;
}

struct Problem : AnyProblem {
  bool packed = false;  // the descriptor has w_qkv
  bool self = false;    // it has no x_kv

  // What goes from step to step, Q, K, V and with w_o also O, lies in the workspace. Until place()
  // its addresses are those of a workspace at kNoWorkspace.
  std::array<project::Problem, kProductCount> products;
  attention::Problem attention;
  size_t buffer_bytes = 0;  // of the workspace, for these tensors

  bool has(ProductId id) const { return products[id].x.present(); }
  // No output element exists: nothing to run.
  bool empty() const { return attention.empty(); }

  // Into this workspace.
  void place(void* to);
};

// An address that no tensor has, aligned as a workspace is.
inline constexpr uintptr_t kNoWorkspace = kBufferAlignment;

// Calls visit(name, view, is output) for each tensor of the caller's: the layer's own, then those
// of attention, as "attention.mask".
const char* attention_name(size_t id);

template <class Visit>
void each_tensor(const Problem& p, Visit&& visit) {
  const auto input = [&](const char* name, const View& view) { visit(name, view, false); };
  const auto product = [&](ProductId id, const char* weight, const char* bias) {
    input(weight, p.products[id].weight);
    input(bias, p.products[id].bias);
  };
  input("x_q", p.products[kProductQ].x);
  if (!p.self) input("x_kv", p.products[kProductK].x);
  product(kProductQ, p.packed ? "w_qkv" : "w_q", p.packed ? "bias_qkv" : "bias_q");
  product(kProductK, "w_k", "bias_k");
  product(kProductV, "w_v", "bias_v");
  product(kProductY, "w_o", "bias_o");
  visit("y", p.has(kProductY) ? p.products[kProductY].y : p.attention.o, true);
  for (size_t id = std::size(attention::kRequired); id < attention::kTensorCount; ++id) {
    const attention::TensorRow& row = attention::kTensors[id];
    visit(attention_name(id), p.attention.*row.view, row.use == Use::kOutput);
  }
}

// A status that speaks of attention's fields, as one that says whose they are.
Status of_attention(const Status& status);

// What releases made of qkv_layer_desc.
extern const DescriptorForm kLayerForm;

// Turns the caller's descriptor into a problem or says what is wrong with it. Reads no tensor data.
Status validate(const qkv_layer_desc* given, Need need, const CudaRuntime& cuda, Problem* problem);

}  // namespace qkv::host::layer
