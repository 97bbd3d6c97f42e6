#include "host/ops/attention/problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "host/core/device.h"
#include "host/core/tensor_check.h"

namespace qkv::host {
namespace {

constexpr int64_t kMaxBound = int64_t{1} << 60;  // of offset and window

Status check_enums(const qkv_attention_desc& desc) {
  QKV_RETURN_IF_ERROR(check_enum("device", desc.device, QKV_DEVICE_CUDA));
  QKV_RETURN_IF_ERROR(check_enum("score", desc.score, QKV_SCORE_ADDITIVE));
  QKV_RETURN_IF_ERROR(check_enum("selection", desc.selection, QKV_SELECT_HARD));
  QKV_RETURN_IF_ERROR(check_enum("weights_mode", desc.weights_mode, QKV_WEIGHTS_PROBABILITIES));
  QKV_RETURN_IF_ERROR(check_enum("alignment", desc.alignment, QKV_ALIGN_EXPLICIT));
  return {};
}

Status check_reserved(const qkv_attention_desc& desc) {
  const struct {
    const char* name;
    const qkv_tensor& tensor;
  } reserved[] = {
      {"q_lengths", desc.q_lengths},   {"q_offsets", desc.q_offsets},
      {"kv_offsets", desc.kv_offsets}, {"page_table", desc.page_table},
      {"q_segments", desc.q_segments}, {"kv_segments", desc.kv_segments},
      {"block_mask", desc.block_mask}, {"sinks", desc.sinks},
  };
  for (const auto& [name, tensor] : reserved) {
    QKV_REQUIRE(tensor.type == QKV_TYPE_NONE && tensor.data == nullptr, QKV_UNSUPPORTED_RESERVED,
                name, " is set; it is reserved for a later version and must be absent");
  }
  QKV_REQUIRE(desc.reserved0 == 0, QKV_INVALID_VALUE, "reserved0 is ", desc.reserved0,
              "; it must be 0");
  constexpr uint64_t kFlags = QKV_FLAG_ALLOW_ALLOCATION;
  QKV_REQUIRE((desc.flags & ~kFlags) == 0, QKV_INVALID_ENUM, "flags is ", desc.flags,
              "; only the bits ", kFlags, " are known");
  return {};
}

Status check_options(const qkv_attention_desc& desc, Problem* p) {
  p->score = desc.score;
  p->selection = desc.selection;
  p->weights_mode = desc.weights_mode;
  p->alignment = desc.alignment;

  if (desc.scale_set != 0) {
    QKV_REQUIRE(std::isfinite(desc.scale), QKV_INVALID_VALUE, "scale is ", desc.scale,
                "; it must be finite");
    p->scale = desc.scale;
  } else {
    p->scale = default_scale(desc.score, p->d_qk);
  }
  QKV_REQUIRE(std::isfinite(desc.softcap) && desc.softcap >= 0, QKV_INVALID_VALUE, "softcap is ",
              desc.softcap, "; it must be finite and positive, or 0 for none");
  p->softcap = desc.softcap;

  if (desc.alignment == QKV_ALIGN_EXPLICIT) {
    QKV_REQUIRE(desc.offset >= -kMaxBound && desc.offset <= kMaxBound, QKV_INVALID_VALUE,
                "offset is ", desc.offset, "; allowed: -2^60 to 2^60");
    p->explicit_offset = desc.offset;
  }
  for (const auto& [name, value] :
       {std::pair{"window_left", desc.window_left}, std::pair{"window_right", desc.window_right}}) {
    QKV_REQUIRE(value >= -1 && value <= kMaxBound, QKV_INVALID_VALUE, name, " is ", value,
                "; allowed: 0 to 2^60, or -1 for unbounded");
  }
  p->left = desc.window_left < 0 ? kUnbounded : desc.window_left;
  p->right = desc.window_right < 0 ? kUnbounded : desc.window_right;
  if (desc.causal != 0) p->right = std::min<int64_t>(p->right, 0);
  QKV_REQUIRE(desc.fixed_split_size >= 0, QKV_INVALID_VALUE, "fixed_split_size is ",
              desc.fixed_split_size, "; it must be a number of keys, or 0 for none");
  p->fixed_split_size = desc.fixed_split_size;
  return {};
}

// q, k, v and o: these define the sizes.
Status check_main_tensors(const qkv_attention_desc& desc, Need need, Problem* p) {
  const struct {
    const char* name;
    const qkv_tensor& tensor;
  } main[] = {{"q", desc.q}, {"k", desc.k}, {"v", desc.v}, {"o", desc.o}};
  for (const auto& [name, tensor] : main) {
    QKV_RETURN_IF_ERROR(check_presence(name, tensor, true));
    QKV_RETURN_IF_ERROR(check_extents(name, tensor));
    QKV_REQUIRE(tensor.type != QKV_TYPE_F8_E4M3 && tensor.type != QKV_TYPE_F8_E5M2,
                QKV_UNSUPPORTED_RESERVED, name, ".type is ", type_name(tensor.type),
                "; it is reserved for a later version, allowed: f32, f16, bf16");
    QKV_REQUIRE(tensor.shape[1] >= 1, QKV_INVALID_SHAPE, name,
                ".shape[1] (heads) is 0; at least 1 is needed");
    QKV_REQUIRE(tensor.shape[3] >= 1, QKV_INVALID_SHAPE, name,
                ".shape[3] (dim) is 0; at least 1 is needed");
  }
  p->batch = desc.q.shape[0];
  p->heads_q = desc.q.shape[1];
  p->s_q = desc.q.shape[2];
  p->d_qk = desc.q.shape[3];
  p->heads_kv = desc.k.shape[1];
  p->s_kv = desc.k.shape[2];
  p->d_v = desc.v.shape[3];
  p->type = desc.q.type;
  QKV_REQUIRE(p->heads_q % p->heads_kv == 0, QKV_INVALID_SHAPE, "k.shape[1] (heads) is ",
              p->heads_kv, "; it must divide the ", p->heads_q, " heads of q");

  const Types floats{"f32, f16, bf16", {p->type, p->type}};
  if (p->type != QKV_TYPE_F32 && p->type != QKV_TYPE_F16 && p->type != QKV_TYPE_BF16) {
    return check_type("q", p->type, {floats.allowed, {QKV_TYPE_F32, QKV_TYPE_F32}});
  }
  const Types same{type_name(p->type), {p->type, p->type}};  // k, v and o: the type of q
  const Shape q{p->batch, p->heads_q, p->s_q, p->d_qk};
  const Shape k{p->batch, p->heads_kv, p->s_kv, p->d_qk};
  const Shape v{p->batch, p->heads_kv, p->s_kv, p->d_v};
  const Shape o{p->batch, p->heads_q, p->s_q, p->d_v};
  constexpr auto kOne = Innermost::kOne;
  QKV_RETURN_IF_ERROR(check_tensor({"q", q, same, Use::kInput, kOne, 0}, desc.q, need, &p->q));
  QKV_RETURN_IF_ERROR(check_tensor({"k", k, same, Use::kInput, kOne, 0}, desc.k, need, &p->k));
  QKV_RETURN_IF_ERROR(check_tensor({"v", v, same, Use::kInput, kOne, 0}, desc.v, need, &p->v));
  QKV_RETURN_IF_ERROR(check_tensor({"o", o, same, Use::kOutput, kOne, 0}, desc.o, need, &p->o));
  return {};
}

Status check_other_tensors(const qkv_attention_desc& desc, Need need, Problem* p) {
  constexpr int kB = 1, kH = 2, kQ = 4, kKey = 8;  // broadcast bits: batch, heads, seq, dim
  const Shape row{p->batch, p->heads_q, p->s_q, 1};
  const Shape pair{p->batch, p->heads_q, p->s_q, p->s_kv};
  const Types f32{"f32", {QKV_TYPE_F32, QKV_TYPE_F32}};
  const Types wide{p->type == QKV_TYPE_F32   ? "f32"
                   : p->type == QKV_TYPE_F16 ? "f32, f16"
                                             : "f32, bf16",
                   {QKV_TYPE_F32, p->type}};
  constexpr auto kOut = Use::kOutput;
  constexpr auto kIn = Use::kInput;
  constexpr auto kOne = Innermost::kOne;
  constexpr auto kAny = Innermost::kAny;

  QKV_RETURN_IF_ERROR(check_optional({"lse", row, f32, kOut, kAny, 0}, desc.lse, need, &p->lse));
  QKV_RETURN_IF_ERROR(
      check_optional({"index", row, {"i32, i64", {QKV_TYPE_I32, QKV_TYPE_I64}}, kOut, kAny, 0},
                     desc.index, need, &p->index));
  QKV_RETURN_IF_ERROR(
      check_optional({"weights", pair, wide, kOut, kOne, 0}, desc.weights, need, &p->weights));
  QKV_RETURN_IF_ERROR(check_optional(
      {"mask", pair, {"bool", {QKV_TYPE_BOOL, QKV_TYPE_BOOL}}, kIn, kAny, kB | kH | kQ | kKey},
      desc.mask, need, &p->mask));
  QKV_RETURN_IF_ERROR(check_optional({"bias", pair, wide, kIn, kAny, kB | kH | kQ | kKey},
                                     desc.bias, need, &p->bias));
  QKV_RETURN_IF_ERROR(
      check_optional({"alibi_slopes", {p->batch, p->heads_q, 1, 1}, f32, kIn, kAny, kB | kH},
                     desc.alibi_slopes, need, &p->alibi_slopes));
  QKV_RETURN_IF_ERROR(
      check_optional({"additive_weight", {1, p->heads_q, 1, p->d_qk}, f32, kIn, kOne, kH},
                     desc.additive_weight, need, &p->additive_weight));
  QKV_RETURN_IF_ERROR(check_optional(
      {"kv_lengths", {p->batch, 1, 1, 1}, {"i32", {QKV_TYPE_I32, QKV_TYPE_I32}}, kIn, kAny, 0},
      desc.kv_lengths, need, &p->kv_lengths));

  QKV_REQUIRE(!p->index.present() || p->selection == QKV_SELECT_HARD, QKV_INVALID_COMBINATION,
              "index is set; only hard selection has an index");
  QKV_REQUIRE(p->index.type != QKV_TYPE_I32 || p->s_kv <= INT32_MAX, QKV_INVALID_TYPE,
              "index.type is i32, but k has ", p->s_kv, " keys; i64 is needed");
  const bool additive = p->score == QKV_SCORE_ADDITIVE;
  QKV_REQUIRE(
      p->additive_weight.present() == additive, QKV_INVALID_COMBINATION, "additive_weight ",
      additive ? "is absent; additive scores need it" : "is set; only additive scores use it");
  return {};
}

std::array<Named, 12> tensors(const Problem& p) {
  return {{{"q", p.q},
           {"k", p.k},
           {"v", p.v},
           {"o", p.o},
           {"lse", p.lse},
           {"index", p.index},
           {"weights", p.weights},
           {"mask", p.mask},
           {"bias", p.bias},
           {"alibi_slopes", p.alibi_slopes},
           {"additive_weight", p.additive_weight},
           {"kv_lengths", p.kv_lengths}}};
}

}  // namespace

float default_scale(qkv_score score, int64_t d_qk) {
  if (score == QKV_SCORE_ADDITIVE) return 1;
  return static_cast<float>(1 / std::sqrt(static_cast<double>(d_qk)));
}

Status validate(const qkv_attention_desc* desc, Need need, const CudaRuntime& cuda, Problem* p) {
  QKV_RETURN_IF_ERROR(check_struct(desc, desc == nullptr ? 0 : desc->struct_size, sizeof *desc,
                                   "qkv_attention_desc_init"));
  QKV_RETURN_IF_ERROR(check_enums(*desc));
  QKV_RETURN_IF_ERROR(check_reserved(*desc));
  QKV_RETURN_IF_ERROR(check_main_tensors(*desc, need, p));
  QKV_RETURN_IF_ERROR(check_options(*desc, p));
  QKV_RETURN_IF_ERROR(check_other_tensors(*desc, need, p));
  Placement placement;
  QKV_RETURN_IF_ERROR(
      check_device(desc->device, desc->device_index, tensors(*p), cuda, &placement));
  p->device = placement.device;
  p->device_index = placement.index;
  QKV_REQUIRE(desc->workspace != nullptr || desc->workspace_size == 0, QKV_INVALID_NULL,
              "workspace is null, but workspace_size is ", desc->workspace_size);
  QKV_REQUIRE(reinterpret_cast<uintptr_t>(desc->workspace) % 256 == 0, QKV_INVALID_ALIGNMENT,
              "workspace is not aligned to 256 bytes");
  p->workspace = desc->workspace;
  p->workspace_size = desc->workspace_size;
  p->allow_allocation = (desc->flags & QKV_FLAG_ALLOW_ALLOCATION) != 0;
  return {};
}

Status check_lengths(const Problem& p) {
  if (!p.kv_lengths.present()) return {};
  for (int64_t b = 0; b < p.batch; ++b) {
    const int32_t length = *p.kv_lengths.at<int32_t>(b, 0, 0);
    QKV_REQUIRE(length >= 0 && length <= p.s_kv, QKV_INVALID_VALUE, "kv_lengths[", b, "] is ",
                length, "; k has ", p.s_kv, " keys");
  }
  return {};
}

}  // namespace qkv::host
