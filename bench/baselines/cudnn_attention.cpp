#include "bench/baselines/cudnn_attention.h"

#include <dlfcn.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <stdexcept>
#include <utility>

#include "bench/baselines/shared_library.h"
#include "host/ops/attention/problem.h"

namespace qkv::bench {
namespace {

using namespace cudnn;

constexpr int64_t kAlignment = 16;  // of every tensor, in bytes
constexpr int64_t kMaxPlans = 16;   // of each mode of the heuristics

// What the pack of a run binds, by the tensors' unique ids; scalars follow.
enum UniqueId : int64_t { kUidQ = 1, kUidK, kUidV, kUidO, kUidFirstFree };

// What cuDNN said of a call that failed.
void check(const Functions& f, int status, const char* what) {
  if (status == kSuccess) return;
  std::string reason;
  if (f.last_error != nullptr) {
    std::array<char, 1024> text{};
    f.last_error(text.data(), text.size());
    reason = text.data();
    while (!reason.empty() && reason.back() == '\n') reason.pop_back();
  }
  throw std::runtime_error("cuDNN: " + std::string(what) + ": " + f.error_string(status) +
                           (reason.empty() ? "" : " (" + reason + ")"));
}

template <class Value>
constexpr int kTypeOf = std::is_same_v<Value, bool>         ? kTypeBoolean
                        : std::is_same_v<Value, int64_t>    ? kTypeInt64
                        : std::is_same_v<Value, DataType>   ? kTypeDataType
                        : std::is_same_v<Value, Descriptor> ? kTypeDescriptor
                                                            : -1;

// A backend descriptor: made, given attributes, finalized.
class Owned {
 public:
  Owned(const Functions& f, Kind kind) : f_(&f) {
    check(f, f.create_descriptor(kind, &it_), "cudnnBackendCreateDescriptor");
  }
  ~Owned() {
    if (it_ != nullptr) (void)f_->destroy_descriptor(it_);
  }
  Owned(Owned&& other) noexcept : f_(other.f_), it_(std::exchange(other.it_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(f_, other.f_);
    std::swap(it_, other.it_);
    return *this;
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  Descriptor get() const { return it_; }

  void set(Attribute attribute, int type, int64_t count, const void* values) {
    check(*f_, f_->set(it_, attribute, type, count, values), "cudnnBackendSetAttribute");
  }
  template <class Value>
  void set(Attribute attribute, const Value& value, int type = kTypeOf<Value>) {
    set(attribute, type, 1, &value);
  }
  void finalize(const char* what) { check(*f_, f_->finalize(it_), what); }

 private:
  const Functions* f_;
  Descriptor it_ = nullptr;
};

DataType data_type(qkv_type type) { return type == QKV_TYPE_F16 ? kHalf : kBfloat16; }

CudnnTensor contiguous(const std::array<int64_t, 4>& n) {
  return {n, {n[1] * n[2] * n[3], n[2] * n[3], n[3], 1}};
}

// What a pointwise operation computes in, and the axis of an index.
struct Precision {
  DataType type = kFloat;
  std::optional<int64_t> axis = {};
};

// The graph, operation by operation. Tensors are named by descriptors that it keeps.
class Graph {
 public:
  Graph(const Functions& f, const CudnnProblem& p) : f_(f), p_(p) {
    const auto& [b, h, sq, d] = p.q.shape;
    const int64_t skv = p.k.shape[2];
    scores_ = contiguous({b, h, sq, skv});
    CudnnTensor k_transposed = p.k;
    std::swap(k_transposed.shape[2], k_transposed.shape[3]);
    std::swap(k_transposed.stride[2], k_transposed.stride[3]);

    const DataType type = data_type(p.type);
    Descriptor s = multiply(bound(kUidQ, p.q, type), bound(kUidK, k_transposed, type),
                            between(scores_, kFloat));
    s = pointwise(kMultiply, s, scalar(p.scale), between(scores_, kFloat));
    s = masked(s);
    multiply(softmax(s), bound(kUidV, p.v, type), bound(kUidO, p.o, type));
  }

  // The finalized graph. `handle` is null for a device that is not here.
  Owned operation_graph(Handle handle) const {
    Owned graph(f_, kOperationGraph);
    if (handle != nullptr) graph.set(kGraphHandle, handle, kTypeHandle);
    graph.set(kGraphOperations, kTypeDescriptor, static_cast<int64_t>(operations_.size()),
              operations_.data());
    graph.finalize("the operation graph");
    return graph;
  }

  struct Scalar {
    int64_t uid;
    float real;
    int32_t whole;
    DataType type;
    const void* at() const { return type == kFloat ? static_cast<const void*>(&real) : &whole; }
  };
  const std::deque<Scalar>& scalars() const { return scalars_; }

 private:
  Descriptor keep(Owned made, const char* what) {
    made.finalize(what);
    return kept_.emplace_back(std::move(made)).get();
  }

  Descriptor tensor(int64_t uid, const CudnnTensor& t, DataType type, bool is_virtual,
                    bool by_value) {
    Owned out(f_, kTensor);
    out.set(kTensorDataType, type);
    out.set(kTensorDimensions, kTypeInt64, 4, t.shape.data());
    out.set(kTensorStrides, kTypeInt64, 4, t.stride.data());
    out.set(kTensorUniqueId, uid);
    out.set(kTensorAlignment, kAlignment);
    if (is_virtual) out.set(kTensorIsVirtual, true);
    if (by_value) out.set(kTensorIsByValue, true);
    return keep(std::move(out), "a tensor");
  }
  // In memory; between two operations; a number.
  Descriptor bound(int64_t uid, const CudnnTensor& t, DataType type) {
    return tensor(uid, t, type, false, false);
  }
  Descriptor between(const CudnnTensor& t, DataType type) {
    return tensor(next_uid_++, t, type, true, false);
  }
  Descriptor scalar(float value) { return scalar({next_uid_++, value, 0, kFloat}); }
  Descriptor scalar(int32_t value) { return scalar({next_uid_++, 0, value, kInt32}); }
  Descriptor scalar(const Scalar& value) {
    scalars_.push_back(value);
    return tensor(value.uid, contiguous({1, 1, 1, 1}), value.type, false, true);
  }

  // The last operand, Y: what each returns.
  Descriptor multiply(Descriptor a, Descriptor b, Descriptor y) {
    Owned matmul(f_, kMatmul);
    matmul.set(kMatmulComputeType, kFloat);
    Owned operation(f_, kOperationMatmul);
    operation.set(kOperationMatmulA, a);
    operation.set(kOperationMatmulB, b);
    operation.set(kOperationMatmulC, y);
    operation.set(kOperationMatmulDescriptor, keep(std::move(matmul), "a product"));
    operations_.push_back(keep(std::move(operation), "a product's operation"));
    return y;
  }

  // `b` and `t` may be null.
  Descriptor pointwise(PointwiseMode mode, Descriptor x, Descriptor b, Descriptor y,
                       const Precision& how = Precision(), Descriptor t = nullptr) {
    Owned descriptor(f_, kPointwise);
    descriptor.set(kPointwiseMode, mode, kTypePointwiseMode);
    descriptor.set(kPointwiseMathPrecision, how.type);
    if (how.axis.has_value()) descriptor.set(kPointwiseAxis, *how.axis);
    Owned operation(f_, kOperationPointwise);
    operation.set(kOperationPointwiseDescriptor, keep(std::move(descriptor), "a pointwise mode"));
    operation.set(kOperationPointwiseX, x);
    if (b != nullptr) operation.set(kOperationPointwiseB, b);
    if (t != nullptr) operation.set(kOperationPointwiseT, t);
    operation.set(kOperationPointwiseY, y);
    operations_.push_back(keep(std::move(operation), "a pointwise operation"));
    return y;
  }

  // A number for each query.
  CudnnTensor rows() const {
    const auto& [b, h, sq, skv] = scores_.shape;
    return contiguous({b, h, sq, 1});
  }

  // Along the keys.
  Descriptor reduce(ReductionOperator how, Descriptor x) {
    const Descriptor y = between(rows(), kFloat);
    Owned reduction(f_, kReduction);
    reduction.set(kReductionOperator, how, kTypeReductionOperator);
    reduction.set(kReductionComputeType, kFloat);
    Owned operation(f_, kOperationReduction);
    operation.set(kOperationReductionDescriptor, keep(std::move(reduction), "a reduction"));
    operation.set(kOperationReductionX, x);
    operation.set(kOperationReductionY, y);
    operations_.push_back(keep(std::move(operation), "a reduction's operation"));
    return y;
  }

  // s where `a` compares with `b`, else -inf, or what cuDNN takes for it.
  Descriptor where(Descriptor s, PointwiseMode compare, Descriptor a, Descriptor b) {
    const Descriptor seen =
        pointwise(compare, a, b, between(scores_, cudnn::kBoolean), {cudnn::kBoolean});
    return pointwise(kSelect, s, scalar(std::numeric_limits<float>::lowest()),
                     between(scores_, kFloat), Precision(), seen);
  }

  Descriptor masked(Descriptor s) {
    const auto index = [&](int64_t axis) {
      return pointwise(kGenerateIndex, s, nullptr, between(scores_, kInt32), {kInt32, axis});
    };
    const auto plus = [&](Descriptor i, int64_t by) {
      if (by == 0) return i;
      return pointwise(kAdd, i, scalar(static_cast<int32_t>(by)), between(scores_, kInt32),
                       {kInt32});
    };
    if (p_.right.has_value()) {  // i + offset + right >= j
      const Descriptor i = index(2);
      const Descriptor j = index(3);
      s = where(s, kGreaterOrEqual, plus(i, p_.offset + *p_.right), j);
    }
    if (p_.left.has_value()) {  // j + left + 1 - offset > i
      const Descriptor i = index(2);
      const Descriptor j = index(3);
      s = where(s, kGreater, plus(j, *p_.left + 1 - p_.offset), i);
    }
    return s;
  }

  // P, rounded to the input type. cuDNN recognises the softmax by its LSE, wanted or not.
  Descriptor softmax(Descriptor s) {
    const Descriptor most = reduce(kMaximum, s);
    const Descriptor less = pointwise(kSubtract, s, most, between(scores_, kFloat));
    const Descriptor e = pointwise(kExponential, less, nullptr, between(scores_, kFloat));
    const Descriptor sum = reduce(kSum, e);
    const Descriptor log = pointwise(kLogarithm, sum, nullptr, between(rows(), kFloat));
    pointwise(kAdd, most, log, between(rows(), kFloat));
    return pointwise(kDivide, e, sum, between(scores_, data_type(p_.type)));
  }

  const Functions& f_;
  const CudnnProblem& p_;
  CudnnTensor scores_;
  int64_t next_uid_ = kUidFirstFree;
  std::deque<Owned> kept_;
  std::deque<Scalar> scalars_;
  std::vector<Descriptor> operations_;
};

// The configurations of engines that the heuristics name, best first. `device` may be null.
std::vector<Owned> engine_configs(const Functions& f, const Owned& graph, HeuristicsMode mode,
                                  Descriptor device) {
  Owned heuristics(f, kEngineHeuristics);
  heuristics.set(kHeuristicsOperationGraph, graph.get());
  heuristics.set(kHeuristicsMode, mode, kTypeHeuristicsMode);
  if (device != nullptr) heuristics.set(kHeuristicsDevice, device);
  heuristics.finalize("the heuristics");
  std::vector<Owned> configs;
  std::vector<Descriptor> at;
  for (int64_t n = 0; n < kMaxPlans; ++n)
    at.push_back(configs.emplace_back(f, kEngineConfig).get());
  int64_t found = 0;
  check(f,
        f.get(heuristics.get(), kHeuristicsResults, kTypeDescriptor, kMaxPlans, &found, at.data()),
        "the heuristics' results");
  configs.erase(configs.begin() + std::clamp<int64_t>(found, 0, kMaxPlans), configs.end());
  return configs;
}

}  // namespace

std::string cudnn_declines(const Spec& s) {
  const std::pair<bool, const char*> beyond[] = {
      {s.type == QKV_TYPE_F32, "f32"},
      {s.additive, "additive scores"},
      {s.hard, "hard selection"},
      {s.softcap > 0, "softcap"},
      {s.split > 0, "a fixed size of splits"},
  };
  std::string out;
  const auto add = [&](bool asked, const char* what) {
    if (asked) out += (out.empty() ? "cannot do " : ", ") + std::string(what);
  };
  for (const auto& [asked, what] : beyond) add(asked, what);
  for (size_t part = kO + 1; part < kParts; ++part)
    add(s.given[part].there, host::attention::kTensors[part].word);
  if (!out.empty()) return out;
  const CudnnProblem p = cudnn_problem(s, 1);
  // The first and the last query see the least.
  for (const int64_t i : {int64_t{0}, s.s_q - 1}) {
    const bool before = p.right.has_value() && i + p.offset + *p.right < 0;
    const bool behind = p.left.has_value() && i + p.offset - *p.left >= s.s_kv;
    if (before || behind) return "cannot do queries that see no key";
  }
  return "";
}

CudnnProblem cudnn_problem(const Spec& s, float scale) {
  const auto of = [&](Part part) {
    const qkv_tensor t = tensor(s, part);
    CudnnTensor out;
    std::copy(std::begin(t.shape), std::end(t.shape), out.shape.begin());
    std::copy(std::begin(t.stride), std::end(t.stride), out.stride.begin());
    return out;
  };
  CudnnProblem out;
  out.type = s.type;
  out.q = of(kQ), out.k = of(kK), out.v = of(kV), out.o = of(kO);
  out.scale = scale;
  if (s.alignment == QKV_ALIGN_BOTTOM_RIGHT) out.offset = s.s_kv - s.s_q;
  if (s.alignment == QKV_ALIGN_EXPLICIT) out.offset = s.offset;
  out.left = s.left;
  out.right = s.right;
  if (s.causal) out.right = 0;
  // A bound that hides nothing from the query that it would hide most from is none.
  if (out.right.has_value() && out.offset + *out.right >= s.s_kv - 1) out.right.reset();
  if (out.left.has_value() && s.s_q - 1 + out.offset - *out.left <= 0) out.left.reset();
  return out;
}

Cudnn::Cudnn(const std::vector<std::string>& files) {
  void* const library = open_library(files, &missing_);
  if (library == nullptr) {
    missing_ = "libcudnn not found (QKV_CUDNN names it): " + missing_;
    return;
  }
  const auto load = [&](const char* name, auto* function) {
    *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(dlsym(library, name));
    if (*function == nullptr) missing_ = "libcudnn has no " + std::string(name);
  };
  Functions& f = functions_;
  load("cudnnGetVersion", &f.version);
  load("cudnnCreate", &f.create);
  load("cudnnDestroy", &f.destroy);
  load("cudnnSetStream", &f.set_stream);
  load("cudnnGetErrorString", &f.error_string);
  load("cudnnGetLastErrorString", &f.last_error);
  load("cudnnBackendCreateDescriptor", &f.create_descriptor);
  load("cudnnBackendDestroyDescriptor", &f.destroy_descriptor);
  load("cudnnBackendSetAttribute", &f.set);
  load("cudnnBackendGetAttribute", &f.get);
  load("cudnnBackendFinalize", &f.finalize);
  load("cudnnBackendExecute", &f.execute);
}

const Cudnn& Cudnn::instance() {
  static const Cudnn it(library_files("QKV_CUDNN", {"libcudnn.so.9"}, "libcudnn.so.9", {"cudnn"}));
  return it;
}

std::string Cudnn::version() const {
  if (!missing_.empty()) return "";
  const size_t v = functions_.version();
  return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." +
         std::to_string(v % 100);
}

std::string cudnn_accepts(const Cudnn& library, const CudnnProblem& problem,
                          const std::string& device) {
  if (!library.missing().empty()) return library.missing();
  const Functions& f = library.functions();
  try {
    Owned properties(f, kDeviceProperties);
    properties.set(kDeviceJson, kTypeChar, static_cast<int64_t>(device.size()), device.data());
    properties.finalize("the device's properties");
    const Graph graph(f, problem);
    const Owned operations = graph.operation_graph(nullptr);
    const auto configs = engine_configs(f, operations, kHeuristicsA, properties.get());
    return configs.empty() ? "the heuristics name no engine" : "";
  } catch (const std::runtime_error& e) {
    return e.what();
  }
}

struct CudnnAttention::State {
  State(const Cudnn& library, const CudnnProblem& given)
      : f(library.functions()), problem(given), graph(f, problem) {}
  ~State() {
    plan.reset();
    config.reset();
    operations.reset();
    if (handle != nullptr) (void)f.destroy(handle);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  // The first configuration of which a plan can be made.
  void find_plan() {
    std::string reason = "no engine";
    for (const HeuristicsMode mode : {kHeuristicsA, kHeuristicsFallback}) {
      try {
        for (Owned& one : engine_configs(f, *operations, mode, nullptr)) {
          if (try_plan(one, &reason)) {
            config.emplace(std::move(one));  // which the plan refers to
            return;
          }
        }
      } catch (const std::runtime_error& e) {
        reason = e.what();
      }
    }
    throw std::runtime_error("cuDNN has no plan: " + reason);
  }

  bool try_plan(const Owned& of, std::string* reason) {
    try {
      Owned made(f, kExecutionPlan);
      made.set(kPlanHandle, handle, kTypeHandle);
      made.set(kPlanEngineConfig, of.get());
      made.finalize("a plan");
      int64_t count = 0;
      check(f, f.get(made.get(), kPlanWorkspaceSize, kTypeInt64, 1, &count, &workspace),
            "a plan's workspace");
      plan.emplace(std::move(made));
      return true;
    } catch (const std::runtime_error& e) {
      *reason = e.what();
      return false;
    }
  }

  const Functions& f;
  CudnnProblem problem;
  Graph graph;
  Handle handle = nullptr;
  std::optional<Owned> operations, config, plan;
  int64_t workspace = 0;
};

CudnnAttention::CudnnAttention(const Cudnn& library, const CudnnProblem& problem) {
  if (!library.missing().empty()) throw std::runtime_error(library.missing());
  state_ = std::make_unique<State>(library, problem);
  State& s = *state_;
  check(s.f, s.f.create(&s.handle), "cudnnCreate");
  s.operations.emplace(s.graph.operation_graph(s.handle));
  s.find_plan();
}

CudnnAttention::~CudnnAttention() = default;

size_t CudnnAttention::workspace_bytes() const { return static_cast<size_t>(state_->workspace); }

void CudnnAttention::run(void* q, void* k, void* v, void* o, void* workspace, void* stream) {
  State& s = *state_;
  check(s.f, s.f.set_stream(s.handle, stream), "cudnnSetStream");
  std::vector<int64_t> ids{kUidQ, kUidK, kUidV, kUidO};
  std::vector<const void*> at{q, k, v, o};
  for (const auto& scalar : s.graph.scalars()) {
    ids.push_back(scalar.uid);
    at.push_back(scalar.at());
  }
  const auto count = static_cast<int64_t>(ids.size());
  Owned pack(s.f, kVariantPack);
  pack.set(kPackUniqueIds, kTypeInt64, count, ids.data());
  pack.set(kPackDataPointers, kTypePointer, count, at.data());
  pack.set(kPackWorkspace, workspace, kTypePointer);
  pack.finalize("the addresses");
  check(s.f, s.f.execute(s.handle, s.plan->get(), pack.get()), "cudnnBackendExecute");
}

}  // namespace qkv::bench
