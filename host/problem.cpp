#include "host/problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "host/device.h"

namespace qkv::host {
namespace {

constexpr int64_t kMaxExtent = int64_t{1} << 48;
constexpr int64_t kMaxBound = int64_t{1} << 60;  // of offset and window

using Shape = std::array<int64_t, 4>;

// The types a tensor may have, as text for the refusal and as a set for the check.
struct Types {
  const char* allowed;
  std::array<qkv_type, 2> types;

  bool has(qkv_type type) const { return type == types[0] || type == types[1]; }
};

constexpr const char* kAxis[4] = {"batch", "heads", "seq", "dim"};

std::string shape_text(const int64_t* shape) {
  return text("[", shape[0], ", ", shape[1], ", ", shape[2], ", ", shape[3], "]");
}

int64_t element_count(const Shape& shape) {
  for (int64_t extent : shape) {
    if (extent == 0) return 0;
  }
  int64_t count = 1;
  for (int64_t extent : shape) {
    if (__builtin_mul_overflow(count, extent, &count)) return INT64_MAX;
  }
  return count;
}

// An absent tensor has type NONE and nothing else set.
Status check_presence(const char* name, const qkv_tensor& tensor, bool required) {
  if (tensor.type != QKV_TYPE_NONE) {
    QKV_REQUIRE(tensor.reserved == 0, QKV_INVALID_VALUE, name, ".reserved is ", tensor.reserved,
                "; it must be 0");
    return {};
  }
  QKV_REQUIRE(tensor.data == nullptr, QKV_INVALID_TYPE, name,
              ".type is none although its data pointer is set");
  QKV_REQUIRE(!required, QKV_INVALID_NULL, name, " is absent (type none); it is required");
  return {};
}

Status check_type(const char* name, qkv_type type, const Types& allowed) {
  QKV_REQUIRE(type >= QKV_TYPE_F32 && type <= QKV_TYPE_BOOL, QKV_INVALID_ENUM, name, ".type is ",
              type, "; no such type");
  QKV_REQUIRE(allowed.has(type), QKV_INVALID_TYPE, name, ".type is ", type_name(type),
              "; allowed: ", allowed.allowed);
  return {};
}

// Extents against what the problem wants; an extent of 1 stands for a whole axis where broadcasting
// is allowed.
Status check_shape(const char* name, const qkv_tensor& tensor, const Shape& want, int broadcast) {
  for (int axis = 0; axis < 4; ++axis) {
    const bool broadcasts = (broadcast >> axis & 1) != 0;
    QKV_REQUIRE(tensor.shape[axis] == want[axis] || (broadcasts && tensor.shape[axis] == 1),
                QKV_INVALID_SHAPE, name, ".shape[", axis, "] (", kAxis[axis], ") is ",
                tensor.shape[axis], "; it must be ", want[axis], broadcasts ? " or 1" : "");
  }
  return {};
}

Status check_extents(const char* name, const qkv_tensor& tensor) {
  for (int axis = 0; axis < 4; ++axis) {
    QKV_REQUIRE(tensor.shape[axis] >= 0, QKV_INVALID_SIZE, name, ".shape[", axis, "] is ",
                tensor.shape[axis], "; it must not be negative");
    QKV_REQUIRE(tensor.shape[axis] <= kMaxExtent, QKV_INVALID_SIZE, name, ".shape[", axis, "] is ",
                tensor.shape[axis], "; at most 2^48 is allowed");
  }
  return {};
}

enum class Innermost { kOne, kAny };

// Strides of axes longer than 1, and the bytes they span.
Status check_strides(const char* name, const qkv_tensor& tensor, Innermost innermost) {
  int64_t last = 0;  // element offset of the last element
  for (int axis = 0; axis < 4; ++axis) {
    if (tensor.shape[axis] <= 1) continue;
    const int64_t stride = tensor.stride[axis];
    QKV_REQUIRE(stride >= 0, QKV_INVALID_STRIDE, name, ".stride[", axis, "] is ", stride,
                "; negative strides are not allowed");
    QKV_REQUIRE(axis != 3 || innermost == Innermost::kAny || stride == 1, QKV_INVALID_STRIDE, name,
                ".stride[3] is ", stride, "; the innermost stride must be 1");
    int64_t span = 0;
    QKV_REQUIRE(!__builtin_mul_overflow(tensor.shape[axis] - 1, stride, &span) &&
                    !__builtin_add_overflow(last, span, &last),
                QKV_INVALID_SIZE, name, ".stride[", axis, "] is ", stride, " over ",
                tensor.shape[axis], " elements; the tensor spans more than 2^63 elements");
  }
  int64_t bytes = 0;
  QKV_REQUIRE(!__builtin_add_overflow(last, int64_t{1}, &bytes) &&
                  !__builtin_mul_overflow(bytes, type_size(tensor.type), &bytes),
              QKV_INVALID_SIZE, name, " spans more than 2^63 bytes");
  return {};
}

// Writing two elements to one address would make the result depend on the order of the writes.
Status check_no_overlap(const char* name, const View& view) {
  if (element_count(view.shape) == 0) return {};
  std::array<int, 4> axes{0, 1, 2, 3};
  std::sort(axes.begin(), axes.end(),
            [&](int a, int b) { return view.stride[a] < view.stride[b]; });
  int64_t reach = 0;  // offset of the last element over the axes seen so far
  for (int axis : axes) {
    if (view.shape[axis] <= 1) continue;
    QKV_REQUIRE(view.stride[axis] > reach, QKV_INVALID_STRIDE, name, ".stride[", axis, "] is ",
                view.stride[axis], "; elements of an output must not overlap, at least ", reach + 1,
                " is needed");
    reach += (view.shape[axis] - 1) * view.stride[axis];
  }
  return {};
}

Status check_address(const char* name, const qkv_tensor& tensor, const View& view, Need need) {
  if (element_count(view.shape) == 0) return {};
  QKV_REQUIRE(tensor.data != nullptr || need == Need::kShapes, QKV_INVALID_NULL, name,
              ".data is null; it must point to ", type_name(tensor.type), " ",
              shape_text(tensor.shape));
  const auto address = reinterpret_cast<uintptr_t>(tensor.data);
  QKV_REQUIRE(address % static_cast<uintptr_t>(type_size(tensor.type)) == 0, QKV_INVALID_ALIGNMENT,
              name, ".data is not aligned to its element size of ", type_size(tensor.type),
              " bytes");
  return {};
}

enum class Use { kInput, kOutput };

struct Spec {
  const char* name;
  Shape shape;
  Types types;
  Use use;
  Innermost innermost;
  int broadcast;  // bit of an axis: an extent of 1 serves the whole axis
};

Status check_tensor(const Spec& spec, const qkv_tensor& tensor, Need need, View* view) {
  QKV_RETURN_IF_ERROR(check_type(spec.name, tensor.type, spec.types));
  QKV_RETURN_IF_ERROR(check_extents(spec.name, tensor));
  QKV_RETURN_IF_ERROR(check_shape(spec.name, tensor, spec.shape, spec.broadcast));
  QKV_RETURN_IF_ERROR(check_strides(spec.name, tensor, spec.innermost));
  view->data = tensor.data;
  view->type = tensor.type;
  view->shape = spec.shape;
  for (int axis = 0; axis < 4; ++axis) {
    view->stride[axis] = tensor.shape[axis] <= 1 ? 0 : tensor.stride[axis];
  }
  if (spec.use == Use::kOutput) QKV_RETURN_IF_ERROR(check_no_overlap(spec.name, *view));
  return check_address(spec.name, tensor, *view, need);
}

Status check_optional(const Spec& spec, const qkv_tensor& tensor, Need need, View* view) {
  QKV_RETURN_IF_ERROR(check_presence(spec.name, tensor, false));
  return tensor.type == QKV_TYPE_NONE ? Status() : check_tensor(spec, tensor, need, view);
}

Status check_struct(const qkv_attention_desc* desc) {
  QKV_REQUIRE(desc != nullptr, QKV_INVALID_NULL, "the descriptor is null");
  constexpr size_t kKnown = sizeof(qkv_attention_desc);
  QKV_REQUIRE(desc->struct_size >= kKnown && desc->struct_size <= 16 * kKnown,
              QKV_INVALID_STRUCT_SIZE, "struct_size is ", desc->struct_size,
              "; this library knows ", kKnown, " (call qkv_attention_desc_init first)");
  // A caller with a newer header may pass a longer struct, as long as it asks for nothing new.
  const auto* bytes = reinterpret_cast<const unsigned char*>(desc);
  const bool clean = std::all_of(bytes + kKnown, bytes + desc->struct_size,
                                 [](unsigned char byte) { return byte == 0; });
  QKV_REQUIRE(clean, QKV_INVALID_STRUCT_SIZE, "struct_size is ", desc->struct_size,
              " and fields past this library's ", kKnown,
              " bytes are set; it needs a newer libqkv");
  return {};
}

Status check_enum(const char* name, int32_t value, int32_t last) {
  QKV_REQUIRE(value >= 0 && value <= last, QKV_INVALID_ENUM, name, " is ", value,
              "; allowed: 0 to ", last);
  return {};
}

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
  QKV_REQUIRE(desc.fixed_split_size == 0, QKV_UNSUPPORTED_RESERVED, "fixed_split_size is ",
              desc.fixed_split_size, "; it is reserved for a later version and must be 0");
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
    p->scale = desc.score == QKV_SCORE_DOT
                   ? static_cast<float>(1 / std::sqrt(static_cast<double>(p->d_qk)))
                   : 1.0f;
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

struct Named {
  const char* name;
  const View& view;
};

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

std::string device_text(Memory memory, int32_t device) {
  switch (memory) {
    case Memory::kDevice:
      return text("memory of cuda:", device);
    case Memory::kManaged:
      return "managed memory";
    case Memory::kPinned:
      return "pinned host memory";
    default:
      return "host memory";
  }
}

// AUTO: all pointers must lie on one device, and none may be usable from both sides.
Status infer_device(const CudaRuntime& cuda, Problem* p) {
  p->device = QKV_DEVICE_CPU;
  p->device_index = 0;
  int32_t count = 0;
  QKV_RETURN_IF_ERROR(cuda.device_count(&count));
  if (count == 0) return {};
  const char* first = nullptr;
  for (const auto& [name, view] : tensors(*p)) {
    if (view.data == nullptr || element_count(view.shape) == 0) continue;
    PointerInfo info;
    QKV_RETURN_IF_ERROR(cuda.pointer_info(view.data, &info));
    QKV_REQUIRE(info.memory == Memory::kHost || info.memory == Memory::kDevice, QKV_INVALID_DEVICE,
                name, " is in ", device_text(info.memory, info.device),
                ", usable from CPU and GPU alike; set device explicitly instead of auto");
    const qkv_device device = info.memory == Memory::kHost ? QKV_DEVICE_CPU : QKV_DEVICE_CUDA;
    const int32_t index = device == QKV_DEVICE_CPU ? 0 : info.device;
    if (first == nullptr) {
      first = name;
      p->device = device;
      p->device_index = index;
    }
    QKV_REQUIRE(device == p->device && index == p->device_index, QKV_INVALID_DEVICE, name,
                " is in ", device_text(info.memory, info.device), ", but ", first, " is in ",
                p->device == QKV_DEVICE_CPU ? std::string("host memory")
                                            : text("memory of cuda:", p->device_index),
                "; all tensors must be on one device");
  }
  return {};
}

Status check_pointers(const CudaRuntime& cuda, const Problem& p) {
  for (const auto& [name, view] : tensors(p)) {
    if (view.data == nullptr || element_count(view.shape) == 0) continue;
    PointerInfo info;
    const Status known = cuda.pointer_info(view.data, &info);
    if (p.device == QKV_DEVICE_CPU) {
      if (!known.ok()) return {};  // the CPU needs no CUDA; the caller's word stands
      QKV_REQUIRE(info.memory != Memory::kDevice, QKV_INVALID_DEVICE, name, " is in ",
                  device_text(info.memory, info.device), "; device cpu needs host memory");
    } else {
      QKV_RETURN_IF_ERROR(known);
      QKV_REQUIRE(info.memory != Memory::kHost, QKV_INVALID_DEVICE, name,
                  " is in host memory; device cuda:", p.device_index, " needs device memory");
      QKV_REQUIRE(info.memory != Memory::kDevice || info.device == p.device_index,
                  QKV_INVALID_DEVICE, name, " is in ", device_text(info.memory, info.device),
                  "; device is cuda:", p.device_index);
    }
  }
  return {};
}

Status check_device(const qkv_attention_desc& desc, const CudaRuntime& cuda, Problem* p) {
  if (desc.device == QKV_DEVICE_AUTO) return infer_device(cuda, p);
  p->device = desc.device;
  p->device_index = desc.device == QKV_DEVICE_CUDA ? desc.device_index : 0;
  int32_t count = 0;
  const Status counted = cuda.device_count(&count);
  if (desc.device == QKV_DEVICE_CUDA) {
    QKV_RETURN_IF_ERROR(counted);
    QKV_REQUIRE(count > 0, QKV_DEVICE_ERROR_NONE,
                "device is cuda, but this process has no CUDA device");
    QKV_REQUIRE(desc.device_index >= 0 && desc.device_index < count, QKV_DEVICE_ERROR_NONE,
                "device_index is ", desc.device_index, "; this process has ", count,
                " CUDA devices");
  }
  return count == 0 ? Status() : check_pointers(cuda, *p);
}

}  // namespace

const char* type_name(qkv_type type) {
  switch (type) {
    case QKV_TYPE_NONE:
      return "none";
    case QKV_TYPE_F32:
      return "f32";
    case QKV_TYPE_F16:
      return "f16";
    case QKV_TYPE_BF16:
      return "bf16";
    case QKV_TYPE_F8_E4M3:
      return "f8_e4m3";
    case QKV_TYPE_F8_E5M2:
      return "f8_e5m2";
    case QKV_TYPE_I32:
      return "i32";
    case QKV_TYPE_I64:
      return "i64";
    case QKV_TYPE_BOOL:
      return "bool";
    default:
      return "unknown";
  }
}

Status validate(const qkv_attention_desc* desc, Need need, const CudaRuntime& cuda, Problem* p) {
  QKV_RETURN_IF_ERROR(check_struct(desc));
  QKV_RETURN_IF_ERROR(check_enums(*desc));
  QKV_RETURN_IF_ERROR(check_reserved(*desc));
  QKV_RETURN_IF_ERROR(check_main_tensors(*desc, need, p));
  QKV_RETURN_IF_ERROR(check_options(*desc, p));
  QKV_RETURN_IF_ERROR(check_other_tensors(*desc, need, p));
  QKV_RETURN_IF_ERROR(check_device(*desc, cuda, p));
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
