// A multi-head layer in the place's memory, and what qkv_layer must make of it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "host/verify/built_problem.h"
#include "host/verify/tolerance.h"

namespace qkv::verify {

// What the contract test and `qkv verify` compute. The products are written as letters: q, k, v
// (packed: q for all three) and o.
struct LayerCase {
  Case attention;  // its name is the layer's; its layout and its q, k, v and o say nothing here
  int64_t e_q = 40, e_kv = 0, e_y = 24;  // widths; e_kv 0: self-attention; e_y 0: no w_o
  bool packed = false;
  std::string_view biases{};  // "qk": the products that have one
  std::string_view in_out{};  // whose weights are [in, out] memory
  int64_t gap = 0;            // elements behind each row of x, weights and y

  const std::string& name() const { return attention.name; }
  double work() const;  // multiply-adds of the products, and about those of attention
};
std::vector<LayerCase> layer_cases();

class BuiltLayer {
 public:
  BuiltLayer(const LayerCase& row, const BuildOptions& options);

  // Uploads, runs, downloads. A plan has a workspace of exactly the bytes that it asks for.
  qkv_status run(Api api = Api::kPlan);
  // By qkv_layer, with these options of attention instead of the case's; null: none.
  qkv_status run_with(const qkv_attention_desc* attention);
  // The same by a call for each step, with Q, K, V and O in memory of their own that has the
  // workspace's strides: "as if each step were a call of its own".
  qkv_status run_steps();

  // The descriptor on the place's addresses; its `attention` is this object's.
  qkv_layer_desc desc();

  // What the run changed that it must not: guards, gaps, inputs. "" if nothing.
  std::string damage() const { return memory_.damage() + middle_.damage(); }
  // The bytes of all output elements, one after another.
  std::vector<std::byte> output_bits() const;
  // The outputs against the same in fp64.
  Judgement judge() const;

 private:
  friend class LayerOracle;

  Tensor add(const std::string& name, int64_t b, int64_t s, int64_t width, Use use);
  Tensor add_weight(const std::string& name, char letter, int64_t out, int64_t in);
  Tensor add_bias(const std::string& name, char letter, int64_t out);
  void upload();
  void download();

  LayerCase row_;
  BuiltProblem middle_;  // attention's other tensors; its q, k, v and o are not used
  Tensors memory_;
  qkv_attention_desc attention_{};
  Random random_;

 public:
  Tensor x_q, x_kv, w_q, w_k, w_v, bias_q, bias_k, bias_v, w_qkv, bias_qkv, w_o, bias_o, y;
};

}  // namespace qkv::verify
