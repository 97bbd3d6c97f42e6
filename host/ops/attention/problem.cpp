#include "host/ops/attention/problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <utility>

#include "host/core/device.h"
#include "host/core/overlap.h"
#include "host/core/tensor_check.h"

namespace qkv::host::attention {
namespace {

constexpr int64_t kMaxBound = int64_t{1} << 60;  // of offset and window

constexpr qkv_attention_desc kDefaults = [] {
  qkv_attention_desc desc{};
  desc.weights_mode = QKV_WEIGHTS_PROBABILITIES;
  desc.window_left = -1;
  desc.window_right = -1;
  return desc;
}();

constexpr size_t kSizes[] = {
    offsetof(qkv_attention_desc, threads),  // 0.1.0
    sizeof(qkv_attention_desc),
};

Status check_enums(const qkv_attention_desc& desc) {
  QKV_RETURN_IF_ERROR(check_enum("device", desc.device, QKV_DEVICE_CUDA));
  QKV_RETURN_IF_ERROR(check_enum("score", desc.score, QKV_SCORE_ADDITIVE));
  QKV_RETURN_IF_ERROR(check_enum("selection", desc.selection, QKV_SELECT_TOP_K));
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
  constexpr uint64_t kFlags = QKV_FLAG_ALLOW_ALLOCATION;
  QKV_REQUIRE((desc.flags & ~kFlags) == 0, QKV_INVALID_ENUM, "flags is ", desc.flags,
              "; only the bits ", kFlags, " are known");
  return {};
}

// Settings without effect: the caller means something else than what it would get. 0.1.0 did not
// look.
Status check_unused(const qkv_attention_desc& desc) {
  QKV_REQUIRE(desc.scale == 0 || desc.scale_set != 0, QKV_INVALID_COMBINATION, "scale is ",
              desc.scale, ", but scale_set is 0; set it to 1, or leave scale 0 for the default");
  QKV_REQUIRE(desc.offset == 0 || desc.alignment == QKV_ALIGN_EXPLICIT, QKV_INVALID_COMBINATION,
              "offset is ", desc.offset, ", but alignment is ", desc.alignment,
              "; only QKV_ALIGN_EXPLICIT (2) reads it");
  QKV_REQUIRE(desc.weights_mode == QKV_WEIGHTS_PROBABILITIES || desc.weights.type != QKV_TYPE_NONE,
              QKV_INVALID_COMBINATION, "weights_mode is ", desc.weights_mode,
              ", but weights is absent; without it only the default, ", QKV_WEIGHTS_PROBABILITIES,
              ", is allowed");
  return {};
}

// Slopes for each batch and not for each head make no ALiBi; 0.1.0 did not look.
Status check_slopes(const qkv_attention_desc& desc) {
  const qkv_tensor& slopes = desc.alibi_slopes;
  if (slopes.type == QKV_TYPE_NONE) return {};
  const bool by_batch = slopes.shape[0] > 1 && slopes.stride[0] != 0;
  QKV_REQUIRE(!by_batch || slopes.shape[1] != 1 || desc.q.shape[1] == 1, QKV_INVALID_SHAPE,
              "alibi_slopes.shape is [", slopes.shape[0],
              ", 1, 1, 1], a slope for each batch; heads are axis 1: [1, ", desc.q.shape[1],
              ", 1, 1], or [", desc.q.shape[0], ", ", desc.q.shape[1],
              ", 1, 1] with stride 0 over heads");
  return {};
}

// Kernels multiply scale and softcap with log2(e), the scores and each other. In these ranges no
// such product overflows, which would make NaN of a score of 0, or is so small that it counts as 0.
constexpr double kLeastFactor = 0x1p-126, kMostFactor = 0x1p127;
constexpr float kLeastSoftcap = 0x1p-100f, kMostSoftcap = 0x1p100f;

bool is_factor(double x) {
  return x == 0 || (std::abs(x) >= kLeastFactor && std::abs(x) <= kMostFactor);
}

Status check_factors(const qkv_attention_desc& desc, Problem* p) {
  p->scale = desc.scale_set != 0 ? desc.scale : default_scale(desc.score, p->d_qk);
  p->softcap = desc.softcap;
  QKV_REQUIRE(is_factor(p->scale), QKV_INVALID_VALUE, "scale is ", p->scale,
              "; it must be finite: 0, or of magnitude 2^-126 to 2^127");
  QKV_REQUIRE(p->softcap == 0 || (p->softcap >= kLeastSoftcap && p->softcap <= kMostSoftcap),
              QKV_INVALID_VALUE, "softcap is ", p->softcap,
              "; it must be 2^-100 to 2^100, or 0 for none");
  const double ratio = p->softcap > 0 ? static_cast<double>(p->scale) / p->softcap : 0;
  QKV_REQUIRE(is_factor(ratio), QKV_INVALID_VALUE, "scale / softcap is ", ratio,
              "; its magnitude must be 2^-126 to 2^127");
  return {};
}

Status check_top_k(const qkv_attention_desc& desc, Problem* p) {
  if (desc.selection != QKV_SELECT_TOP_K) {
    QKV_REQUIRE(desc.top_k == 0, QKV_INVALID_COMBINATION, "top_k is ", desc.top_k,
                ", but selection is ", desc.selection, "; only QKV_SELECT_TOP_K (",
                QKV_SELECT_TOP_K, ") reads it");
    return {};
  }
  QKV_REQUIRE(desc.top_k >= 1 && desc.top_k <= QKV_TOP_K_MAX, QKV_INVALID_VALUE, "top_k is ",
              desc.top_k, "; it must be 1 to ", QKV_TOP_K_MAX, " keys");
  p->top_k = desc.top_k;
  return {};
}

Status check_options(const qkv_attention_desc& desc, Problem* p) {
  p->score = desc.score;
  p->selection = desc.selection;
  QKV_RETURN_IF_ERROR(check_top_k(desc, p));
  p->weights_mode = desc.weights_mode;
  p->alignment = desc.alignment;

  QKV_RETURN_IF_ERROR(check_factors(desc, p));
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
  QKV_REQUIRE(desc.threads >= 0, QKV_INVALID_VALUE, "threads is ", desc.threads,
              "; it must be the most threads to use, or 0 for as many as OpenMP says");
  p->threads = desc.threads;
  return {};
}

// The text of a refusal, and the set.
Types allowed_types(Element element, qkv_type main) {
  const auto types = types_of(element, main);
  switch (element) {
    case Element::kWide:
      return {main == QKV_TYPE_F32   ? "f32"
              : main == QKV_TYPE_F16 ? "f32, f16"
                                     : "f32, bf16",
              types};
    case Element::kLength:
    case Element::kIndex:
      return {"i32, i64", types};
    default:
      return {type_name(types[0]), types};
  }
}

Spec spec_of(const TensorRow& row, const Extents& extents, qkv_type main) {
  return {row.name,
          shape_of(row, extents),
          allowed_types(row.element, main),
          row.use,
          row.innermost,
          row.broadcast,
          row.shape[3] == Extent::kSkv    ? "keys"
          : row.shape[3] == Extent::kTopK ? "top_k"
                                          : "dim"};
}

// q, k and v give the problem its sizes and type.
Status check_main_tensors(const qkv_attention_desc& desc, Need need, Problem* p) {
  for (const TensorId id : kRequired) {
    const char* const name = kTensors[id].name;
    const qkv_tensor& tensor = desc.*kTensors[id].given;
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

  if (p->type != QKV_TYPE_F32 && p->type != QKV_TYPE_F16 && p->type != QKV_TYPE_BF16) {
    return check_type("q", p->type, {"f32, f16, bf16", {QKV_TYPE_F32, QKV_TYPE_F32}});
  }
  const Extents extents = extents_of(*p);
  for (const TensorId id : kRequired) {
    const TensorRow& row = kTensors[id];
    QKV_RETURN_IF_ERROR(
        check_tensor(spec_of(row, extents, p->type), desc.*row.given, need, &(p->*row.view)));
  }
  return {};
}

Status check_other_tensors(const qkv_attention_desc& desc, Need need, Problem* p) {
  const Extents extents = extents_of(*p);
  for (size_t id = std::size(kRequired); id < kTensorCount; ++id) {
    const TensorRow& row = kTensors[id];
    const qkv_tensor& tensor = desc.*row.given;
    QKV_RETURN_IF_ERROR(check_presence(row.name, tensor, false));
    if (tensor.type == QKV_TYPE_NONE) continue;
    QKV_REQUIRE(id != kBias || tensor.type != QKV_TYPE_BOOL, QKV_INVALID_TYPE,
                "bias.type is bool; allowed: ", allowed_types(row.element, p->type).allowed,
                " (a boolean mask goes into the field mask)");
    QKV_RETURN_IF_ERROR(
        check_tensor(spec_of(row, extents, p->type), tensor, need, &(p->*row.view)));
  }

  QKV_REQUIRE(!p->index.present() || p->selection != QKV_SELECT_SOFT, QKV_INVALID_COMBINATION,
              "index is set; only hard selection and top-k selection have one");
  QKV_REQUIRE(!p->top_scores.present() || p->selection == QKV_SELECT_TOP_K, QKV_INVALID_COMBINATION,
              "top_scores is set; only top-k selection has them");
  QKV_REQUIRE(p->index.type != QKV_TYPE_I32 || p->s_kv <= INT32_MAX, QKV_INVALID_TYPE,
              "index.type is i32, but k has ", p->s_kv, " keys; i64 is needed");
  const bool additive = p->score == QKV_SCORE_ADDITIVE;
  QKV_REQUIRE(
      p->additive_weight.present() == additive, QKV_INVALID_COMBINATION, "additive_weight ",
      additive ? "is absent; additive scores need it" : "is set; only additive scores use it");
  return {};
}

template <size_t... kId>
std::array<Named, kTensorCount> named(const Problem& p, std::index_sequence<kId...>) {
  return {{{kTensors[kId].name, p.*kTensors[kId].view}...}};
}

template <size_t... kId>
Status check_overlaps(const Problem& p, std::index_sequence<kId...>) {
  const auto placed = [&](size_t id) {
    const TensorRow& row = kTensors[id];
    return Placed{row.name, p.*row.view, row.use == Use::kOutput, id == kQ || id == kO ? 1 : 0};
  };
  const std::array<Placed, kTensorCount> tensors{{placed(kId)...}};
  return check_apart(tensors);
}

}  // namespace

constinit const DescriptorForm kAttentionForm{"qkv_attention_desc_init", kSizes, &kDefaults,
                                              "reserved0", offsetof(qkv_attention_desc, reserved0)};

float default_scale(qkv_score score, int64_t d_qk) {
  if (score == QKV_SCORE_ADDITIVE) return 1;
  return static_cast<float>(1 / std::sqrt(static_cast<double>(d_qk)));
}

Status check_problem(const qkv_attention_desc& desc, bool of_first_release, Need need, Problem* p) {
  QKV_RETURN_IF_ERROR(check_enums(desc));
  QKV_RETURN_IF_ERROR(check_reserved(desc));
  QKV_RETURN_IF_ERROR(check_main_tensors(desc, need, p));
  QKV_RETURN_IF_ERROR(check_options(desc, p));
  QKV_RETURN_IF_ERROR(check_other_tensors(desc, need, p));
  if (of_first_release) return {};
  QKV_RETURN_IF_ERROR(check_unused(desc));
  return check_slopes(desc);
}

Status validate(const qkv_attention_desc* given, Need need, const CudaRuntime& cuda, Problem* p) {
  Descriptor<qkv_attention_desc> desc;
  QKV_RETURN_IF_ERROR(desc.read(kAttentionForm, given));
  QKV_RETURN_IF_ERROR(check_problem(*desc, desc.of_first_release(), need, p));
  // Plans and queries may come with any addresses.
  if (need == Need::kAddresses)
    QKV_RETURN_IF_ERROR(check_overlaps(*p, std::make_index_sequence<kTensorCount>()));
  Placement placement;
  QKV_RETURN_IF_ERROR(check_device(desc->device, desc->device_index,
                                   named(*p, std::make_index_sequence<kTensorCount>()), cuda,
                                   &placement));
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
    const int64_t length = p.length(b);
    QKV_REQUIRE(length >= 0 && length <= p.s_kv, QKV_INVALID_VALUE, "kv_lengths[", b, "] is ",
                length, "; k has ", p.s_kv, " keys");
  }
  return {};
}

}  // namespace qkv::host::attention
