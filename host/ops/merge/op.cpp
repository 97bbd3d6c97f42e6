#include "host/ops/merge/op.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "host/core/current_device.h"
#include "host/core/numeric.h"
#include "host/core/tensor_check.h"
#include "host/ops/attention/op.h"
#include "kernels/core/merge_math.h"

namespace qkv::host {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::string part_name(const char* name, int32_t n) { return text(name, "[", n, "]"); }

Status check_float(const char* name, qkv_type type) {
  const bool is_float = type == QKV_TYPE_F32 || type == QKV_TYPE_F16 || type == QKV_TYPE_BF16;
  const qkv_type allowed = is_float ? type : QKV_TYPE_F32;
  return check_type(name, type, {"f32, f16, bf16", {allowed, allowed}});
}

// The first part defines sizes and type.
Status check_parts(const qkv_merge_desc& desc, Merge* m) {
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

Status validate(const qkv_merge_desc* desc, const CudaRuntime& cuda, Merge* m) {
  QKV_RETURN_IF_ERROR(check_struct(desc, desc == nullptr ? 0 : desc->struct_size, sizeof *desc,
                                   "qkv_merge_desc_init"));
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
  Placement placement;
  QKV_RETURN_IF_ERROR(check_device(desc->device, desc->device_index, tensors, cuda, &placement));
  m->device = placement.device;
  m->device_index = placement.index;
  return {};
}

// One row. All weights are known before O or LSE, which may be a part's, is written.
template <class Part, class Out>
void merge_row(const Merge& m, int64_t b, int64_t h, int64_t i) {
  std::array<float, QKV_MERGE_MAX_PARTS> weight{};
  std::array<const Part*, QKV_MERGE_MAX_PARTS> from{};
  size_t used = 0;
  float best = -kInf;
  for (size_t n = 0; n < static_cast<size_t>(m.parts); ++n) {
    const float lse = *m.lse_parts[n].at<float>(b, h, i);
    if (lse == -kInf) continue;
    weight[used] = lse;
    from[used++] = m.o_parts[n].at<Part>(b, h, i);
    best = std::fmax(best, lse);
  }
  float l = 0;
  for (size_t n = 0; n < used; ++n) l += weight[n] = kernels::part_weight(weight[n], best);
  Out* o = m.o.at<Out>(b, h, i);
  for (int64_t d = 0; d < m.dim; ++d) {
    float sum = used == 0 ? 0.0f : weight[0] * to_float(from[0][d]);  // a lone -0 stays -0
    for (size_t n = 1; n < used; ++n) sum += weight[n] * to_float(from[n][d]);
    o[d] = from_float<Out>(kernels::merged_o(sum, l));
  }
  if (m.lse.present()) *m.lse.at<float>(b, h, i) = kernels::merged_lse(best, l);
}

template <class Part, class Out>
void merge_rows(const Merge& m) {
  const int64_t rows = m.batch * m.heads * m.seq;
#pragma omp parallel for if (rows * m.dim > 4096)
  for (int64_t row = 0; row < rows; ++row)
    merge_row<Part, Out>(m, row / m.seq / m.heads, row / m.seq % m.heads, row % m.seq);
}

template <class Part>
void merge_to(const Merge& m) {
  if (m.o.type == QKV_TYPE_F32) return merge_rows<Part, float>(m);
  if (m.o.type == QKV_TYPE_F16) return merge_rows<Part, Half>(m);
  return merge_rows<Part, Bfloat>(m);
}

void merge_on_cpu(const Merge& m) {
  if (m.o_parts[0].type == QKV_TYPE_F32) return merge_to<float>(m);
  if (m.o_parts[0].type == QKV_TYPE_F16) return merge_to<Half>(m);
  return merge_to<Bfloat>(m);
}

}  // namespace

Status run_merge(const qkv_merge_desc* desc, const CudaRuntime& cuda, void* stream) {
  Merge m;
  QKV_RETURN_IF_ERROR(validate(desc, cuda, &m));
  if (m.batch == 0 || m.heads == 0 || m.seq == 0) return {};
  if (m.device == QKV_DEVICE_CPU) {
    merge_on_cpu(m);
    return {};
  }
  if (const std::string reason = decline_merge(m); !reason.empty())
    return Status(QKV_UNSUPPORTED_KERNEL, "merge: " + reason);
  QKV_RETURN_IF_ERROR(cuda.pending_error());
  CurrentDevice current(cuda);
  QKV_RETURN_IF_ERROR(current.set(m.device_index));
  Status status = cuda.merge(m, stream);
  Status restored = current.restore();
  return status.ok() ? std::move(restored) : status;
}

}  // namespace qkv::host
