// qkv for C++17 and later: the C ABI of qkv.h with types, defaults and exceptions. Header-only;
// link libqkv.
//
//   std::vector<float> q(...), k(...), v(...), o(...);
//   qkv::attention({.q = qkv::bshd(q.data(), batch, s_q, heads, dim),
//                   .k = qkv::bshd(k.data(), batch, s_kv, heads, dim),
//                   .v = qkv::bshd(v.data(), batch, s_kv, heads, dim),
//                   .o = qkv::bshd(o.data(), batch, s_q, heads, dim),
//                   .causal = true});                        // C++17: a.q = ..., qkv::attention(a)
//
// The memory is the caller's. Shapes, units and rules are those of qkv.h.
#ifndef QKV_QKV_HPP_
#define QKV_QKV_HPP_

#if __cplusplus < 201703L
#error "qkv.hpp needs C++17 (-std=c++17); qkv.h, the C interface, does with any C or C++"
#else

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "qkv/qkv.h"

struct __half;         // cuda_fp16.h
struct __nv_bfloat16;  // cuda_bf16.h

namespace qkv {

/// A failed call: the status and the library's reason.
class Error : public std::runtime_error {
 public:
  Error(qkv_status status, const std::string& reason)
      : std::runtime_error(std::string(qkv_status_name(status)) + ": " + reason), status_(status) {}

  qkv_status status() const noexcept { return status_; }
  /// QKV_INVALID_ARGUMENT, QKV_UNSUPPORTED, QKV_RESOURCE, QKV_DEVICE_ERROR or QKV_INTERNAL.
  qkv_status status_class() const noexcept { return qkv_status_class(status_); }

 private:
  qkv_status status_;
};

/// Throws Error unless the call succeeded.
inline void check(qkv_status status) {
  if (status != QKV_SUCCESS) throw Error(status, qkv_last_error());
}

/// 16-bit elements as bits, for programs without a type of their own for them.
struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

/// The qkv_type of a C++ element type.
template <class T>
inline constexpr qkv_type type_of = QKV_TYPE_NONE;
template <>
inline constexpr qkv_type type_of<float> = QKV_TYPE_F32;
template <>
inline constexpr qkv_type type_of<f16> = QKV_TYPE_F16;
template <>
inline constexpr qkv_type type_of<bf16> = QKV_TYPE_BF16;
template <>
inline constexpr qkv_type type_of<::__half> = QKV_TYPE_F16;
template <>
inline constexpr qkv_type type_of<::__nv_bfloat16> = QKV_TYPE_BF16;
template <>
inline constexpr qkv_type type_of<int32_t> = QKV_TYPE_I32;
template <>
inline constexpr qkv_type type_of<int64_t> = QKV_TYPE_I64;
template <>
inline constexpr qkv_type type_of<bool> = QKV_TYPE_BOOL;
template <>
inline constexpr qkv_type type_of<uint8_t> = QKV_TYPE_BOOL;

/// A strided view, [batch, heads, seq, dim]; absent when default-constructed.
using Tensor = qkv_tensor;

/// Any layout: strides in elements, innermost stride 1.
inline Tensor strided(const void* data, qkv_type type, std::array<int64_t, 4> shape,
                      std::array<int64_t, 4> stride) {
  Tensor t{};
  t.data = const_cast<void*>(data);
  t.type = type;
  for (int axis = 0; axis < 4; ++axis) {
    t.shape[axis] = shape[static_cast<size_t>(axis)];
    t.stride[axis] = stride[static_cast<size_t>(axis)];
  }
  return t;
}

template <class T>
Tensor strided(T* data, std::array<int64_t, 4> shape, std::array<int64_t, 4> stride) {
  static_assert(type_of<std::remove_cv_t<T>> != QKV_TYPE_NONE, "qkv has no such element type");
  return strided(data, type_of<std::remove_cv_t<T>>, shape, stride);
}

/// Contiguous [batch, seq, heads, dim].
template <class T>
Tensor bshd(T* data, int64_t batch, int64_t seq, int64_t heads, int64_t dim) {
  return strided(data, {batch, heads, seq, dim}, {seq * heads * dim, dim, heads * dim, 1});
}

/// Contiguous [batch, heads, seq, dim]. Also serves LSE and index (dim 1; top_k), bias, mask and
/// weights (dim s_kv).
template <class T>
Tensor bhsd(T* data, int64_t batch, int64_t heads, int64_t seq, int64_t dim) {
  return strided(data, {batch, heads, seq, dim}, {heads * seq * dim, seq * dim, dim, 1});
}

/// One value per batch (kv_lengths).
template <class T>
Tensor per_batch(T* data, int64_t batch) {
  return strided(data, {batch, 1, 1, 1}, {1, 1, 1, 1});
}

/// A projection's weight as [out, in] memory, as PyTorch's Linear has it, or as [in, out].
template <class T>
Tensor out_in(T* data, int64_t out, int64_t in) {
  return strided(data, {1, 1, out, in}, {out * in, out * in, in, 1});
}
template <class T>
Tensor in_out(T* data, int64_t in, int64_t out) {
  return strided(data, {1, 1, out, in}, {out * in, out * in, 1, out});
}

/// A projection's bias, one value for each column of its output.
template <class T>
Tensor per_out(T* data, int64_t out) {
  return strided(data, {1, 1, 1, out}, {out, out, out, 1});
}

struct PackedQkv {
  Tensor q, k, v;
};

/// Contiguous [batch, seq, heads_q + 2 heads_kv, dim]: in each row the heads of Q, then K, then V.
template <class T>
PackedQkv packed_qkv(T* data, int64_t batch, int64_t seq, int64_t heads_q, int64_t heads_kv,
                     int64_t dim) {
  const int64_t row = (heads_q + 2 * heads_kv) * dim;
  const std::array<int64_t, 4> stride{seq * row, dim, row, 1};
  return {strided(data, {batch, heads_q, seq, dim}, stride),
          strided(data + heads_q * dim, {batch, heads_kv, seq, dim}, stride),
          strided(data + (heads_q + heads_kv) * dim, {batch, heads_kv, seq, dim}, stride)};
}

enum class Device : int32_t {
  kAuto = QKV_DEVICE_AUTO,
  kCpu = QKV_DEVICE_CPU,
  kCuda = QKV_DEVICE_CUDA
};
enum class Score : int32_t { kDot = QKV_SCORE_DOT, kAdditive = QKV_SCORE_ADDITIVE };
enum class Selection : int32_t {
  kSoft = QKV_SELECT_SOFT,
  kHard = QKV_SELECT_HARD,
  kTopK = QKV_SELECT_TOP_K
};
enum class Alignment : int32_t {
  kBottomRight = QKV_ALIGN_BOTTOM_RIGHT,
  kTopLeft = QKV_ALIGN_TOP_LEFT,
  kExplicit = QKV_ALIGN_EXPLICIT
};
enum class WeightsMode : int32_t {
  kScores = QKV_WEIGHTS_SCORES,
  kSoftcapped = QKV_WEIGHTS_SOFTCAPPED,
  kMasked = QKV_WEIGHTS_MASKED,
  kProbabilities = QKV_WEIGHTS_PROBABILITIES
};

/// One attention problem; the fields are those of qkv_attention_desc. As there, what would have no
/// effect is refused: `offset` without Alignment::kExplicit, `weights_mode` without `weights`.
struct Attention {
  Tensor q{}, k{}, v{}, o{};
  Tensor lse{}, index{}, weights{};
  WeightsMode weights_mode = WeightsMode::kProbabilities;

  Score score = Score::kDot;
  Selection selection = Selection::kSoft;
  int32_t top_k = 0;    ///< of Selection::kTopK: so many keys
  Tensor top_scores{};  ///< of Selection::kTopK: their scores
  std::optional<float> scale{};
  float softcap = 0;

  bool causal = false;
  Alignment alignment = Alignment::kBottomRight;
  int64_t offset = 0;
  std::optional<int64_t> window_left{}, window_right{};

  Tensor mask{}, bias{}, alibi_slopes{}, additive_weight{}, kv_lengths{};
  std::int64_t fixed_split_size = 0;  ///< > 0: batch invariance, see qkv.h

  Device device = Device::kAuto;
  int32_t device_index = 0;
  int32_t threads = 0;  ///< CPU: at most so many; 0: as OpenMP says

  qkv_attention_desc desc() const {
    qkv_attention_desc d;
    check(qkv_attention_desc_init(&d, sizeof d));
    d.device = static_cast<qkv_device>(device);
    d.device_index = device_index;
    d.score = static_cast<qkv_score>(score);
    d.selection = static_cast<qkv_selection>(selection);
    d.q = q;
    d.k = k;
    d.v = v;
    d.o = o;
    d.lse = lse;
    d.index = index;
    d.weights = weights;
    d.weights_mode = static_cast<qkv_weights_mode>(weights_mode);
    d.scale_set = scale.has_value() ? 1 : 0;
    d.scale = scale.value_or(0.0f);
    d.softcap = softcap;
    d.causal = causal ? 1 : 0;
    d.alignment = static_cast<qkv_alignment>(alignment);
    d.offset = offset;
    d.window_left = window_left.value_or(-1);
    d.window_right = window_right.value_or(-1);
    d.mask = mask;
    d.bias = bias;
    d.alibi_slopes = alibi_slopes;
    d.additive_weight = additive_weight;
    d.kv_lengths = kv_lengths;
    d.fixed_split_size = fixed_split_size;
    d.threads = threads;
    d.top_k = top_k;
    d.top_scores = top_scores;
    return d;
  }
};

/// Computes; scratch memory, where needed, is allocated for the call (CUDA: from the device's
/// stream-ordered pool). `stream` is a CUDA stream.
inline void attention(const Attention& problem, void* stream = nullptr) {
  qkv_attention_desc d = problem.desc();
  d.flags |= QKV_FLAG_ALLOW_ALLOCATION;
  check(qkv_attention(&d, stream));
}

/// Tensors that stand one after another in a vector, an array or what else has data and size; they
/// are not copied.
class TensorList {
 public:
  template <class List, class = decltype(std::data(std::declval<const List&>()))>
  TensorList(const List& list) : data_(std::data(list)), size_(std::size(list)) {}

  const Tensor* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  const Tensor* data_;
  size_t size_;
};

/// Soft attention over all keys from the O and LSE of parts over disjoint sets of keys. `o` and
/// `lse` may be one of the parts.
inline void merge(TensorList o_parts, TensorList lse_parts, Tensor o, Tensor lse = {},
                  void* stream = nullptr, Device device = Device::kAuto, int32_t device_index = 0) {
  if (o_parts.size() != lse_parts.size() || o_parts.size() > QKV_MERGE_MAX_PARTS)
    throw Error(QKV_INVALID_SHAPE, "merge: as many lse_parts as o_parts, at most " +
                                       std::to_string(QKV_MERGE_MAX_PARTS));
  qkv_merge_desc d;
  check(qkv_merge_desc_init(&d, sizeof d));
  d.device = static_cast<qkv_device>(device);
  d.device_index = device_index;
  d.parts = static_cast<int32_t>(o_parts.size());
  d.o_parts = o_parts.data();
  d.lse_parts = lse_parts.data();
  d.o = o;
  d.lse = lse;
  check(qkv_merge(&d, stream));
}

/// One projection, y = x W^T + bias; the fields are those of qkv_project_desc.
struct Projection {
  Tensor x{}, weight{}, bias{}, y{};

  Device device = Device::kAuto;
  int32_t device_index = 0;
  int32_t threads = 0;  ///< CPU: at most so many; 0: as OpenMP says

  qkv_project_desc desc() const {
    qkv_project_desc d;
    check(qkv_project_desc_init(&d, sizeof d));
    d.device = static_cast<qkv_device>(device);
    d.device_index = device_index;
    d.x = x;
    d.weight = weight;
    d.bias = bias;
    d.y = y;
    d.threads = threads;
    return d;
  }
};

/// Computes, as attention() does.
inline void project(const Projection& problem, void* stream = nullptr) {
  qkv_project_desc d = problem.desc();
  d.flags |= QKV_FLAG_ALLOW_ALLOCATION;
  check(qkv_project(&d, stream));
}

/// Contiguous hidden states, [batch, seq, width].
template <class T>
Tensor states(T* data, int64_t batch, int64_t seq, int64_t width) {
  return bshd(data, batch, seq, 1, width);
}

/// A multi-head layer from hidden states; the fields are those of qkv_layer_desc. Of `attention`,
/// q, k, v, o, device, device_index and threads stay as they are.
struct Layer {
  int32_t heads_q = 0;
  int32_t heads_kv = 0;  ///< 0: heads_q

  Tensor x_q{}, x_kv{};
  Tensor w_q{}, w_k{}, w_v{}, bias_q{}, bias_k{}, bias_v{};
  Tensor w_qkv{}, bias_qkv{};
  Tensor w_o{}, bias_o{};
  Tensor y{};

  Attention attention{};

  Device device = Device::kAuto;
  int32_t device_index = 0;
  int32_t threads = 0;  ///< CPU: at most so many; 0: as OpenMP says

  /// Points to *middle, which it fills in from `attention`.
  qkv_layer_desc desc(qkv_attention_desc* middle) const {
    *middle = attention.desc();
    qkv_layer_desc d;
    check(qkv_layer_desc_init(&d, sizeof d));
    d.device = static_cast<qkv_device>(device);
    d.device_index = device_index;
    d.heads_q = heads_q;
    d.heads_kv = heads_kv;
    d.x_q = x_q;
    d.x_kv = x_kv;
    d.w_q = w_q;
    d.w_k = w_k;
    d.w_v = w_v;
    d.bias_q = bias_q;
    d.bias_k = bias_k;
    d.bias_v = bias_v;
    d.w_qkv = w_qkv;
    d.bias_qkv = bias_qkv;
    d.w_o = w_o;
    d.bias_o = bias_o;
    d.y = y;
    d.attention = middle;
    d.threads = threads;
    return d;
  }
};

/// Computes, as attention() does.
inline void layer(const Layer& problem, void* stream = nullptr) {
  qkv_attention_desc middle;
  qkv_layer_desc d = problem.desc(&middle);
  d.flags |= QKV_FLAG_ALLOW_ALLOCATION;
  check(qkv_layer(&d, stream));
}

/// What would run, or why nothing would.
struct Answer {
  bool supported;
  std::string kernel;
  size_t workspace_size;
  std::string reasons;
};

inline Answer query(const Attention& problem) {
  const qkv_attention_desc d = problem.desc();
  qkv_query_result r{};
  r.struct_size = sizeof r;
  check(qkv_query(&d, &r));
  return {r.supported != 0, r.kernel, r.workspace_size, r.reasons};
}

inline Answer query(const Projection& problem) {
  const qkv_project_desc d = problem.desc();
  qkv_query_result r{};
  r.struct_size = sizeof r;
  check(qkv_project_query(&d, &r));
  return {r.supported != 0, r.kernel, r.workspace_size, r.reasons};
}

inline Answer query(const Layer& problem) {
  qkv_attention_desc middle;
  const qkv_layer_desc d = problem.desc(&middle);
  qkv_query_result r{};
  r.struct_size = sizeof r;
  check(qkv_layer_query(&d, &r));
  return {r.supported != 0, r.kernel, r.workspace_size, r.reasons};
}

/// Choose once, run often: no allocation and no synchronisation in run(). A run may be shared
/// between threads.
class Plan {
 public:
  explicit Plan(const Attention& problem) {
    const qkv_attention_desc d = problem.desc();
    qkv_plan* made = nullptr;
    check(qkv_plan_create(&d, &made));
    plan_.reset(made);
  }
  explicit Plan(const Projection& problem) {
    const qkv_project_desc d = problem.desc();
    qkv_plan* made = nullptr;
    check(qkv_project_plan_create(&d, &made));
    plan_.reset(made);
  }
  explicit Plan(const Layer& problem) {
    qkv_attention_desc middle;
    const qkv_layer_desc d = problem.desc(&middle);
    qkv_plan* made = nullptr;
    check(qkv_layer_plan_create(&d, &made));
    plan_.reset(made);
  }

  size_t workspace_size() const {
    size_t bytes = 0;
    check(qkv_plan_workspace_size(plan_.get(), &bytes));
    return bytes;
  }

  std::string text() const {
    size_t length = 0;
    check(qkv_plan_print(plan_.get(), nullptr, 0, &length));
    std::string out(length + 1, '\0');
    check(qkv_plan_print(plan_.get(), out.data(), out.size(), nullptr));
    out.resize(length);
    return out;
  }

  /// `workspace`: workspace_size() bytes on the tensors' device, 256-byte aligned. The problem is
  /// of the kind that the plan was made for.
  void run(const Attention& problem, void* workspace, size_t bytes, void* stream = nullptr) const {
    qkv_attention_desc d = problem.desc();
    d.workspace = workspace;
    d.workspace_size = bytes;
    check(qkv_plan_run(plan_.get(), &d, stream));
  }
  void run(const Projection& problem, void* workspace, size_t bytes, void* stream = nullptr) const {
    qkv_project_desc d = problem.desc();
    d.workspace = workspace;
    d.workspace_size = bytes;
    check(qkv_project_plan_run(plan_.get(), &d, stream));
  }
  void run(const Layer& problem, void* workspace, size_t bytes, void* stream = nullptr) const {
    qkv_attention_desc middle;
    qkv_layer_desc d = problem.desc(&middle);
    d.workspace = workspace;
    d.workspace_size = bytes;
    check(qkv_layer_plan_run(plan_.get(), &d, stream));
  }

 private:
  struct Destroy {
    void operator()(qkv_plan* plan) const { qkv_plan_destroy(plan); }
  };
  std::unique_ptr<qkv_plan, Destroy> plan_;
};

}  // namespace qkv

#endif  // C++17
#endif  // QKV_QKV_HPP_
