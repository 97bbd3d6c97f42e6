// A case as memory: inputs fresh and random, every byte that nobody may use filled with something
// that would show, outputs poisoned, guards around them. All tensors are made from the operation's
// table (kTensors) and the case: a new one of the table needs nothing here.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "host/ops/attention/problem.h"
#include "host/verify/cases.h"
#include "host/verify/tensor.h"

namespace qkv::verify {

enum class Api { kOneShot, kPlan };

class BuiltProblem {
 public:
  BuiltProblem(const Case& row, const BuildOptions& options);
  BuiltProblem(const BuiltProblem&) = delete;
  BuiltProblem& operator=(const BuiltProblem&) = delete;

  const Case& row() const { return row_; }

  // A tensor, absent if the case has none: before upload() as it will be, after download() as the
  // place holds it.
  const Tensor& operator[](TensorId id) const { return tensors_[id]; }

  void upload() { memory_.upload(); }
  void download();
  // Uploads, runs, downloads.
  qkv_status run(Api api = Api::kOneShot);

  // The descriptor on the place's addresses.
  qkv_attention_desc desc() const { return desc(false); }
  // The same problem on the images, as the oracle reads it.
  host::attention::Problem oracle_problem() const;

  // What the run changed that it must not: guards, gaps, inputs. "" if nothing.
  std::string damage() const { return memory_.damage(); }

  // The bytes of all output elements, one after another.
  std::vector<std::byte> output_bits() const;

  // Keys at or past a batch's length, in every input that has keys: nobody may use them.
  void poison_hidden_keys();

 private:
  void add_packed();
  void add(TensorId id);
  void draw(TensorId id);
  qkv_attention_desc desc(bool images) const;

  Case row_;
  BuildOptions options_;
  Tensors memory_;
  std::array<Tensor, host::attention::kTensorCount> tensors_;

 public:
  // The ones that most tests look at.
  const Tensor& q = tensors_[kQ];
  const Tensor& k = tensors_[kK];
  const Tensor& v = tensors_[kV];
  const Tensor& o = tensors_[kO];
  const Tensor& lse = tensors_[kLse];
  const Tensor& index = tensors_[kIndex];
  const Tensor& weights = tensors_[kWeights];
  const Tensor& top_scores = tensors_[kTopScores];
};

}  // namespace qkv::verify
