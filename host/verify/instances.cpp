#include "host/verify/instances.h"

#include <algorithm>

#include "host/core/status.h"
#include "kernels/attention/simt_forward/policy.h"
#include "kernels/attention/sm80_additive/policy.h"
#include "kernels/attention/sm80_forward/policy.h"
#include "kernels/attention/sm80_hard/policy.h"
#include "kernels/attention/sm80_tf32x3/policy.h"
#include "kernels/attention/sm80_tf32x3_hard/policy.h"
#include "kernels/attention/sm80_top_k/policy.h"
#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/attention/sm90_hard/policy.h"

namespace qkv::verify {
namespace {

const char* type_constant(qkv_type type) {
  return type == QKV_TYPE_F32 ? "F32" : type == QKV_TYPE_F16 ? "F16" : "BF16";
}

bool everywhere(int32_t compute) { return compute >= 75; }
bool from_sm80(int32_t compute) { return compute >= 80; }
bool gains_by_tf32(int32_t compute) { return compute == 80 || compute == 90; }
bool sm90_alone(int32_t compute) { return compute == 90; }
bool nowhere(int32_t) { return false; }

std::string sm80_forward_instance(const std::string& name, int32_t dim, bool rules,
                                  const std::string& plan) {
  using kernels::Sm80Variant;
  const auto named = [&](Sm80Variant variant, const char* label) {
    return host::text(name, " ", kernels::sm80_forward_policy(dim, variant).max_dim, label);
  };
  if (rules) return named(Sm80Variant::kRules, " Rules");
  const auto tall = kernels::sm80_forward_policy(dim, Sm80Variant::kTall);
  const std::string tile = host::text(tall.tile_q, " queries x ", tall.tile_kv);
  return plan.find(tile) != std::string::npos ? named(Sm80Variant::kTall, " Tall")
                                              : named(Sm80Variant::kShort, " Short");
}

std::string sm80_additive_instance(const std::string& name, int32_t dim, bool rules,
                                   const std::string& plan) {
  const auto plain = kernels::sm80_additive_policy(dim, false);
  const std::string tile = host::text(plain.tile_q, " queries x ", plain.tile_kv);
  const bool with_rules = rules || plan.find(tile) == std::string::npos;
  return host::text(name, " ", plain.max_dim, with_rules ? " true" : " false");
}

std::string sm80_top_k_instance(const std::string& name, int64_t d_qk, bool rules,
                                const std::string& plan) {
  const auto plain = kernels::sm80_top_k_policy(static_cast<int32_t>(d_qk), false);
  const std::string tile = host::text(plain.tile_q, " queries x ");
  const bool with_rules = rules || plan.find(tile) == std::string::npos;
  return host::text(name, " ", plain.max_dim, with_rules ? " true" : " false");
}

}  // namespace

const std::vector<Instance>& all_instances() {
  static const std::vector<Instance> instances = [] {
    std::vector<Instance> out;
    const auto add = [&](const char* kernel, const char* row, bool (*runs_on)(int32_t)) {
      out.push_back({kernel, host::text(kernel, row), runs_on});
    };
    // Kernels that split keys compute in 16-bit types: nothing queues combine's fp32 instance.
    const auto splits = [](const std::string& type) { return type == "F32" ? nowhere : from_sm80; };
#define QKV_COMBINE(type) add("combine", " " #type, splits(#type));
#define QKV_SIMT_FORWARD(type, max_dim) add("simt_forward", " " #type " " #max_dim, everywhere);
#define QKV_SIMT_ADDITIVE(type) add("simt_additive", " " #type, everywhere);
#define QKV_SIMT_GENERAL(type, score, selection) \
  add("simt_general", " " #type " " #score " " #selection, everywhere);
#define QKV_SM80_FORWARD(type, max_dim, variant) \
  add("sm80_forward", " " #type " " #max_dim " " #variant, from_sm80);
#define QKV_SM80_TF32X3(max_dim, rules) add("sm80_tf32x3", " " #max_dim " " #rules, gains_by_tf32);
#define QKV_SM80_HARD(type, max_dim, rules) \
  add("sm80_hard", " " #type " " #max_dim " " #rules, from_sm80);
#define QKV_SM80_TF32X3_HARD(max_dim, rules) \
  add("sm80_tf32x3_hard", " " #max_dim " " #rules, gains_by_tf32);
#define QKV_SM90_HARD(type, dim) add("sm90_hard", " " #type " " #dim, sm90_alone);
#define QKV_SM80_ADDITIVE(type, max_dim, rules) \
  add("sm80_additive", " " #type " " #max_dim " " #rules, from_sm80);
#define QKV_SM80_TOP_K(type, max_dim, rules) \
  add("sm80_top_k", " " #type " " #max_dim " " #rules, from_sm80);
#define QKV_TOP_K_COMBINE(type) add("top_k_combine", " " #type, from_sm80);
#define QKV_HARD_COMBINE() add("hard_combine", "", from_sm80);
#define QKV_SM90_FORWARD(type, d_qk, d_v, variant) \
  add("sm90_forward", " " #type " " #d_qk " " #d_v " " #variant, sm90_alone);
#define QKV_SM90_WIDE(type, softcap) add("sm90_wide", " " #type " " #softcap, sm90_alone);
#define QKV_MASK_SUMMARY() add("mask_summary", "", sm90_alone);
#define QKV_MERGE() add("merge", "", everywhere);
#include "kernels/kernels.inc"
    return out;
  }();
  return instances;
}

std::string instance_of(const std::string& kernel, const Case& row, const std::string& plan) {
  std::string name = kernel + " " + type_constant(row.type);
  const bool rules = row.softcap > 0 || row.has(kMask) || row.has(kBias) || row.has(kAlibi);
  const auto dim = static_cast<int32_t>(std::max(row.d_qk, row.d_v));
  if (kernel == "cpu_forward" || kernel == "simt_additive") return name;
  if (kernel == "simt_forward") {
    const auto policy = kernels::simt_forward_policy(static_cast<int32_t>(row.d_v));
    return host::text(name, " ", policy.max_dim);
  }
  if (kernel == "sm80_tf32x3") {
    return host::text(kernel, " ", kernels::sm80_tf32x3_policy(dim, rules).max_dim,
                      rules ? " true" : " false");
  }
  if (kernel == "sm90_forward") {
    const bool reads = row.has(kMask) || row.has(kBias) || row.has(kAlibi);
    const kernels::Sm90Variant variant = kernels::sm90_variant(reads, row.softcap);
    const kernels::Sm90Shape& shape = *kernels::sm90_shape(row.d_qk, row.d_v, variant);
    return host::text(name, " ", shape.d_qk, " ", shape.d_v,
                      variant == kernels::Sm90Variant::kRules     ? " Rules"
                      : variant == kernels::Sm90Variant::kSoftcap ? " Softcap"
                                                                  : " Plain");
  }
  if (kernel == "sm90_wide") return name + (row.softcap > 0 ? " true" : " false");
  if (kernel == "sm80_hard") {
    const auto policy = kernels::sm80_hard_policy(static_cast<int32_t>(row.d_qk), rules);
    return host::text(name, " ", policy.max_dim, rules ? " true" : " false");
  }
  if (kernel == "sm80_tf32x3_hard") {
    const auto policy = kernels::sm80_tf32x3_hard_policy(static_cast<int32_t>(row.d_qk), rules);
    return host::text(kernel, " ", policy.max_dim, rules ? " true" : " false");
  }
  if (kernel == "sm90_hard") return host::text(name, " ", kernels::sm90_hard_shape(row.d_qk)->dim);
  if (kernel == "sm80_top_k") return sm80_top_k_instance(name, row.d_qk, rules, plan);
  if (kernel == "sm80_additive") return sm80_additive_instance(name, dim, rules, plan);
  if (kernel == "sm80_forward") return sm80_forward_instance(name, dim, rules, plan);
  return name + (row.score == QKV_SCORE_DOT ? " Dot" : " Additive") +
         (row.selection == QKV_SELECT_SOFT   ? " Soft"
          : row.selection == QKV_SELECT_HARD ? " Hard"
                                             : " TopK");
}

std::string summary_of(const std::string& plan) {
  const bool skips = plan.find("blocks of keys that the mask hides") != std::string::npos;
  return skips ? "mask_summary" : "";
}

std::string combine_of(const Case& row, const std::string& plan) {
  // "cut  heads apart, 4 splits of 64 keys; ..."
  if (plan.find(" splits") == std::string::npos) return {};
  if (row.selection == QKV_SELECT_HARD) return "hard_combine";
  if (row.selection == QKV_SELECT_TOP_K)
    return std::string("top_k_combine ") + type_constant(row.type);
  return std::string("combine ") + type_constant(row.type);
}

}  // namespace qkv::verify
