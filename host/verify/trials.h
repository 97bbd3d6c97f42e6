// A trial: one case, tried in one way on the place. `qkv verify` is made of them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "host/verify/cases.h"
#include "host/verify/layer_parts.h"
#include "host/verify/merge_parts.h"
#include "host/verify/projection.h"
#include "host/verify/tolerance.h"

namespace qkv::verify {

struct Trial {
  enum class Way {
    kContract,   // twice, between guards and poison: the same bits, and the oracle's answer
    kSelection,  // probes.h
    kLeak,       // probes.h
    kMerge,      // merge_parts.h
    kProject,    // projection.h
    kLayer,      // layer_parts.h
  };

  Way way = Way::kContract;
  Case row{};             // of attention's
  MergeCase merge{};      // of kMerge
  ProjectCase project{};  // of kProject
  LayerCase layer{};      // of kLayer

  std::string name() const;   // "contract/causal_top_left_q37_kv53_f16"
  std::string group() const;  // what it has in common with others: "causal", "leak"
  double cost() const;        // multiply-adds, about

  // The kernel of another operation than attention, its only one on the device; "" of attention's,
  // which have several.
  std::string kernel(qkv_device device) const;
};

// The kernels of other operations than attention on the device, in the trials' order.
std::vector<std::string> other_kernels(qkv_device device);

// Every case in every way, but for problems without work.
const std::vector<Trial>& all_trials();

// Does what needs the place; what is left is the judge's, on any thread. Throws where the place
// fails: nothing can be tried in this process afterwards.
std::function<Judgement()> run_trial(const Trial& trial, uint64_t seed);

}  // namespace qkv::verify
