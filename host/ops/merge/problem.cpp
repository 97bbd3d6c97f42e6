#include "host/ops/merge/problem.h"

#include <string>
#include <vector>

#include "host/core/overlap.h"
#include "host/core/tensor_check.h"

namespace qkv::host::merge {
namespace {

constexpr qkv_merge_desc kDefaults{};
constexpr size_t kSizes[] = {sizeof(qkv_merge_desc)};  // 0.1.0

std::string part_name(const char* name, int32_t n) { return text(name, "[", n, "]"); }

Status check_float(const char* name, qkv_type type) {
  const bool is_float = type == QKV_TYPE_F32 || type == QKV_TYPE_F16 || type == QKV_TYPE_BF16;
  const qkv_type allowed = is_float ? type : QKV_TYPE_F32;
  return check_type(name, type, {"f32, f16, bf16", {allowed, allowed}});
}

// The first part defines sizes and type.
Status check_parts(const qkv_merge_desc& desc, Problem* m) {
  const qkv_tensor& first = desc.o_parts[0];
  QKV_RETURN_IF_ERROR(check_presence("o_parts[0]", first, true));
  QKV_RETURN_IF_ERROR(check_float("o_parts[0]", first.type));
  QKV_RETURN_IF_ERROR(check_extents("o_parts[0]", first));
  m->parts = desc.parts;
  m->batch = first.shape[0];
  m->heads = first.shape[1];
  m->seq = first.shape[2];
  m->dim = first.shape[3];
  const Shape whole{m->batch, m->heads, m->seq, m->dim}, row{m->batch, m->heads, m->seq, 1};
  const Types same{type_name(first.type), {first.type, first.type}};
  const Types f32{"f32", {QKV_TYPE_F32, QKV_TYPE_F32}};
  for (int32_t n = 0; n < desc.parts; ++n) {
    const std::string o = part_name("o_parts", n), lse = part_name("lse_parts", n);
    const auto at = static_cast<size_t>(n);
    QKV_RETURN_IF_ERROR(check_presence(o.c_str(), desc.o_parts[n], true));
    QKV_RETURN_IF_ERROR(check_presence(lse.c_str(), desc.lse_parts[n], true));
    QKV_RETURN_IF_ERROR(check_tensor({o.c_str(), whole, same, Use::kInput, Innermost::kOne, 0},
                                     desc.o_parts[n], Need::kAddresses, &m->o_parts[at]));
    QKV_RETURN_IF_ERROR(check_tensor({lse.c_str(), row, f32, Use::kInput, Innermost::kAny, 0},
                                     desc.lse_parts[n], Need::kAddresses, &m->lse_parts[at]));
  }
  QKV_RETURN_IF_ERROR(check_presence("o", desc.o, true));
  QKV_RETURN_IF_ERROR(check_float("o", desc.o.type));
  const Types own{type_name(desc.o.type), {desc.o.type, desc.o.type}};
  QKV_RETURN_IF_ERROR(check_tensor({"o", whole, own, Use::kOutput, Innermost::kOne, 0}, desc.o,
                                   Need::kAddresses, &m->o));
  return check_optional({"lse", row, f32, Use::kOutput, Innermost::kAny, 0}, desc.lse,
                        Need::kAddresses, &m->lse);
}

}  // namespace

constinit const DescriptorForm kMergeForm{"qkv_merge_desc_init", kSizes, &kDefaults};

Status validate(const qkv_merge_desc* given, const CudaRuntime& cuda, Problem* m) {
  Descriptor<qkv_merge_desc> desc;
  QKV_RETURN_IF_ERROR(desc.read(kMergeForm, given));
  QKV_REQUIRE(desc->parts >= 1 && desc->parts <= QKV_MERGE_MAX_PARTS, QKV_INVALID_VALUE,
              "parts is ", desc->parts, "; allowed: 1 to ", QKV_MERGE_MAX_PARTS);
  QKV_REQUIRE(desc->reserved == 0, QKV_INVALID_VALUE, "reserved is ", desc->reserved,
              "; it must be 0");
  QKV_REQUIRE(desc->o_parts != nullptr, QKV_INVALID_NULL, "o_parts is null");
  QKV_REQUIRE(desc->lse_parts != nullptr, QKV_INVALID_NULL, "lse_parts is null");
  QKV_RETURN_IF_ERROR(check_parts(*desc, m));

  std::vector<std::string> names;
  std::vector<Named> tensors{{"o", m->o}, {"lse", m->lse}};
  for (int32_t n = 0; n < desc->parts; ++n) {
    names.push_back(part_name("o_parts", n));
    names.push_back(part_name("lse_parts", n));
  }
  for (size_t n = 0; n < static_cast<size_t>(desc->parts); ++n) {
    tensors.push_back({names[2 * n].c_str(), m->o_parts[n]});
    tensors.push_back({names[2 * n + 1].c_str(), m->lse_parts[n]});
  }
  std::vector<Placed> placed{{"o", m->o, true, 1}, {"lse", m->lse, true, 2}};
  for (size_t n = 2; n < tensors.size(); ++n)
    placed.push_back({tensors[n].name, tensors[n].view, false, n % 2 == 0 ? 1 : 2});
  QKV_RETURN_IF_ERROR(check_apart(placed));
  Placement placement;
  QKV_RETURN_IF_ERROR(check_device(desc->device, desc->device_index, tensors, cuda, &placement));
  m->device = placement.device;
  m->device_index = placement.index;
  return {};
}

}  // namespace qkv::host::merge
