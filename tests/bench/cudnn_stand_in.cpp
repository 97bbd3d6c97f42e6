// A stand-in for libcudnn: of its backend API what one graph of attention needs. It takes no less
// than cuDNN's documentation asks for, refuses what is wrong with a reason, and computes the graph
// that it was told, operation by operation, on memory of the host: whoever describes another
// problem than the one he has gets another result.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "bench/baselines/cudnn_backend.h"
#include "tests/support/elements.h"

#define STAND_IN extern "C" __attribute__((visibility("default")))

using namespace qkv::bench::cudnn;

namespace {

constexpr int kNotInitialized = 1001, kBadParam = 2000, kNotSupported = 3000;
constexpr int64_t kWorkspace = 64;

thread_local std::string last_error;

__attribute__((format(printf, 2, 3))) int refuse(int status, const char* words, ...) {
  std::array<char, 256> text{};
  va_list arguments;
  va_start(arguments, words);
  std::vsnprintf(text.data(), text.size(), words, arguments);
  va_end(arguments);
  last_error = text.data();
  return status;
}

// What tests ask for by the environment.
bool asked(const char* what) {
  const char* value = std::getenv("QKV_CUDNN_STAND_IN");
  return value != nullptr && std::strcmp(value, what) == 0;
}

struct Rule {
  int kind, attribute, type;
  int64_t least, most;  // elements; least 0: may be left out
};

constexpr Rule kRules[] = {
    {kPointwise, kPointwiseMode, kTypePointwiseMode, 1, 1},
    {kPointwise, kPointwiseMathPrecision, kTypeDataType, 1, 1},
    {kPointwise, kPointwiseAxis, kTypeInt64, 0, 1},
    {kEngineHeuristics, kHeuristicsMode, kTypeHeuristicsMode, 1, 1},
    {kEngineHeuristics, kHeuristicsOperationGraph, kTypeDescriptor, 1, 1},
    {kExecutionPlan, kPlanHandle, kTypeHandle, 1, 1},
    {kExecutionPlan, kPlanEngineConfig, kTypeDescriptor, 1, 1},
    {kOperationPointwise, kOperationPointwiseDescriptor, kTypeDescriptor, 1, 1},
    {kOperationPointwise, kOperationPointwiseX, kTypeDescriptor, 1, 1},
    {kOperationPointwise, kOperationPointwiseB, kTypeDescriptor, 0, 1},
    {kOperationPointwise, kOperationPointwiseT, kTypeDescriptor, 0, 1},
    {kOperationPointwise, kOperationPointwiseY, kTypeDescriptor, 1, 1},
    {kOperationGraph, kGraphHandle, kTypeHandle, 1, 1},
    {kOperationGraph, kGraphOperations, kTypeDescriptor, 1, 64},
    {kVariantPack, kPackUniqueIds, kTypeInt64, 1, 64},
    {kVariantPack, kPackDataPointers, kTypePointer, 1, 64},
    {kVariantPack, kPackWorkspace, kTypePointer, 1, 1},
    {kTensor, kTensorAlignment, kTypeInt64, 1, 1},
    {kTensor, kTensorDataType, kTypeDataType, 1, 1},
    {kTensor, kTensorDimensions, kTypeInt64, 4, 4},
    {kTensor, kTensorStrides, kTypeInt64, 4, 4},
    {kTensor, kTensorUniqueId, kTypeInt64, 1, 1},
    {kTensor, kTensorIsVirtual, kTypeBoolean, 0, 1},
    {kTensor, kTensorIsByValue, kTypeBoolean, 0, 1},
    {kMatmul, kMatmulComputeType, kTypeDataType, 1, 1},
    {kOperationMatmul, kOperationMatmulA, kTypeDescriptor, 1, 1},
    {kOperationMatmul, kOperationMatmulB, kTypeDescriptor, 1, 1},
    {kOperationMatmul, kOperationMatmulC, kTypeDescriptor, 1, 1},
    {kOperationMatmul, kOperationMatmulDescriptor, kTypeDescriptor, 1, 1},
    {kReduction, kReductionOperator, kTypeReductionOperator, 1, 1},
    {kReduction, kReductionComputeType, kTypeDataType, 1, 1},
    {kOperationReduction, kOperationReductionX, kTypeDescriptor, 1, 1},
    {kOperationReduction, kOperationReductionY, kTypeDescriptor, 1, 1},
    {kOperationReduction, kOperationReductionDescriptor, kTypeDescriptor, 1, 1},
};
constexpr int kKnownKinds[] = {kPointwise,      kEngineConfig,    kEngineHeuristics,
                               kExecutionPlan,  kVariantPack,     kOperationPointwise,
                               kOperationGraph, kTensor,          kMatmul,
                               kReduction,      kOperationMatmul, kOperationReduction};

size_t size_of(int type) {
  switch (type) {
    case kTypeBoolean:
      return sizeof(bool);
    case kTypeHandle:
    case kTypeInt64:
    case kTypePointer:
    case kTypeDescriptor:
      return 8;
    default:
      return sizeof(int);
  }
}

struct Handle_ {
  void* stream = nullptr;
  bool has_stream = false;
};

struct It {
  int kind = 0;
  bool final = false;
  std::map<int, std::vector<unsigned char>> set;
  It* graph = nullptr;  // of a configuration
  int rank = 0;         // of a configuration, 0 the heuristics' best

  bool has(int attribute) const { return set.count(attribute) > 0; }
  int64_t count(int attribute, int type) const {
    return has(attribute) ? static_cast<int64_t>(set.at(attribute).size() / size_of(type)) : 0;
  }
  template <class Value>
  Value get(int attribute, int64_t n = 0) const {
    Value out;
    std::memcpy(&out, set.at(attribute).data() + n * static_cast<int64_t>(sizeof(Value)),
                sizeof out);
    return out;
  }
  It* to(int attribute, int64_t n = 0) const { return get<It*>(attribute, n); }
  bool flag(int attribute) const { return has(attribute) && get<bool>(attribute); }
};

std::set<It*>& living() {
  static std::set<It*> all;
  return all;
}

using Index = std::array<int64_t, 4>;

Index extents(const It* tensor, int attribute = kTensorDimensions) {
  Index out;
  for (size_t axis = 0; axis < 4; ++axis)
    out[axis] = tensor->get<int64_t>(attribute, static_cast<int64_t>(axis));
  return out;
}

int64_t uid(const It* tensor) { return tensor->get<int64_t>(kTensorUniqueId); }
int data_type(const It* tensor) { return tensor->get<int>(kTensorDataType); }

// --- what is wrong with a description

int check_tensor(const It* t) {
  const Index n = extents(t), stride = extents(t, kTensorStrides);
  for (size_t axis = 0; axis < 4; ++axis)
    if (n[axis] < 1 || stride[axis] < 0) return refuse(kBadParam, "a dimension or stride");
  const int type = data_type(t);
  if (type != kFloat && type != kHalf && type != kBfloat16 && type != kInt32 && type != kBoolean)
    return refuse(kBadParam, "data type %d", type);
  if (t->flag(kTensorIsVirtual) && t->flag(kTensorIsByValue))
    return refuse(kBadParam, "virtual and by value");
  if (t->flag(kTensorIsByValue) && n != Index{1, 1, 1, 1})
    return refuse(kBadParam, "by value, and more than a number");
  return kSuccess;
}

int check_pointwise(const It* op) {
  const It* how = op->to(kOperationPointwiseDescriptor);
  const int mode = how->get<int>(kPointwiseMode),
            precision = how->get<int>(kPointwiseMathPrecision);
  const It *x = op->to(kOperationPointwiseX), *y = op->to(kOperationPointwiseY);
  const bool two = mode != kExponential && mode != kLogarithm && mode != kGenerateIndex;
  const bool compares = mode == kGreater || mode == kGreaterOrEqual;
  if (op->has(kOperationPointwiseB) != two) return refuse(kBadParam, "mode %d: operand B", mode);
  if (op->has(kOperationPointwiseT) != (mode == kSelect))
    return refuse(kBadParam, "mode %d: operand T", mode);
  if (how->has(kPointwiseAxis) != (mode == kGenerateIndex))
    return refuse(kBadParam, "mode %d: axis", mode);
  if ((data_type(y) == kBoolean) != compares || (precision == kBoolean) != compares)
    return refuse(kBadParam, "mode %d: a boolean", mode);
  if (mode == kGenerateIndex && data_type(y) != kInt32) return refuse(kBadParam, "index type");
  Index n = extents(x);
  for (const int operand : {int{kOperationPointwiseB}, int{kOperationPointwiseT}}) {
    if (!op->has(operand)) continue;
    const Index m = extents(op->to(operand));
    for (size_t axis = 0; axis < 4; ++axis) {
      if (m[axis] != n[axis] && m[axis] != 1 && n[axis] != 1)
        return refuse(kBadParam, "mode %d: shapes", mode);
      n[axis] = std::max(n[axis], m[axis]);
    }
    if (operand == kOperationPointwiseT && data_type(op->to(operand)) != kBoolean)
      return refuse(kBadParam, "select by what is no boolean");
  }
  if (n != extents(y)) return refuse(kBadParam, "mode %d: shape of Y", mode);
  return kSuccess;
}

int check_matmul(const It* op) {
  const Index a = extents(op->to(kOperationMatmulA)), b = extents(op->to(kOperationMatmulB)),
              c = extents(op->to(kOperationMatmulC));
  const bool fits =
      a[0] == b[0] && a[1] % b[1] == 0 && a[3] == b[2] && c == Index{a[0], a[1], a[2], b[3]};
  if (!fits) return refuse(kBadParam, "shapes of a product");
  if (op->to(kOperationMatmulDescriptor)->get<int>(kMatmulComputeType) != kFloat)
    return refuse(kNotSupported, "a product that does not sum in fp32");
  return kSuccess;
}

int check_reduction(const It* op) {
  Index n = extents(op->to(kOperationReductionX));
  n[3] = 1;
  if (n != extents(op->to(kOperationReductionY))) return refuse(kBadParam, "shape of a reduction");
  return kSuccess;
}

struct Operands {
  std::vector<const It*> in;
  const It* out;
};

Operands operands(const It* op) {
  if (op->kind == kOperationMatmul)
    return {{op->to(kOperationMatmulA), op->to(kOperationMatmulB)}, op->to(kOperationMatmulC)};
  if (op->kind == kOperationReduction)
    return {{op->to(kOperationReductionX)}, op->to(kOperationReductionY)};
  Operands out{{op->to(kOperationPointwiseX)}, op->to(kOperationPointwiseY)};
  for (const int operand : {int{kOperationPointwiseB}, int{kOperationPointwiseT}})
    if (op->has(operand)) out.in.push_back(op->to(operand));
  return out;
}

// Virtual tensors are written once and before they are read; ids name one tensor each; and it is
// attention as cuDNN recognises it.
int check_graph(const It* graph) {
  std::set<const It*> written;
  std::map<int64_t, const It*> names;
  int products = 0, logarithms = 0;
  for (int64_t n = 0; n < graph->count(kGraphOperations, kTypeDescriptor); ++n) {
    const It* op = graph->to(kGraphOperations, n);
    const Operands of = operands(op);
    products += op->kind == kOperationMatmul ? 1 : 0;
    if (op->kind == kOperationPointwise &&
        op->to(kOperationPointwiseDescriptor)->get<int>(kPointwiseMode) == kLogarithm)
      ++logarithms;
    for (const It* t : of.in)
      if (t->flag(kTensorIsVirtual) && written.count(t) == 0)
        return refuse(kBadParam, "tensor %ld is read before it is written",
                      static_cast<long>(uid(t)));
    if (!written.insert(of.out).second || of.out->flag(kTensorIsByValue))
      return refuse(kBadParam, "tensor %ld is written twice", static_cast<long>(uid(of.out)));
    auto all = of.in;
    all.push_back(of.out);
    for (const It* t : all)
      if (!names.emplace(uid(t), t).second && names[uid(t)] != t)
        return refuse(kBadParam, "two tensors have id %ld", static_cast<long>(uid(t)));
  }
  if (products != 2 || logarithms != 1) return refuse(kNotSupported, "not recognised as attention");
  return kSuccess;
}

int check_description(const It* it) {
  for (const Rule& rule : kRules) {
    if (rule.kind != it->kind) continue;
    const int64_t count = it->count(rule.attribute, rule.type);
    if (count < rule.least || count > rule.most)
      return refuse(kBadParam, "attribute %d of %d has %ld elements", rule.attribute, rule.kind,
                    static_cast<long>(count));
    if (rule.type != kTypeDescriptor) continue;
    for (int64_t n = 0; n < count; ++n)
      if (living().count(it->to(rule.attribute, n)) == 0 || !it->to(rule.attribute, n)->final)
        return refuse(kBadParam, "attribute %d is not finalized", rule.attribute);
  }
  switch (it->kind) {
    case kTensor:
      return check_tensor(it);
    case kOperationPointwise:
      return check_pointwise(it);
    case kOperationMatmul:
      return check_matmul(it);
    case kOperationReduction:
      return check_reduction(it);
    case kOperationGraph:
      return check_graph(it);
    case kExecutionPlan:
      // The heuristics' best is one that no plan can be made of.
      if (it->to(kPlanEngineConfig)->rank == 0) return refuse(kNotSupported, "this engine");
      return kSuccess;
    default:
      return kSuccess;
  }
}

// --- computing

qkv_type element(int type) {
  return type == kHalf ? QKV_TYPE_F16 : type == kBfloat16 ? QKV_TYPE_BF16 : QKV_TYPE_F32;
}

struct Values {
  Index n{};
  std::vector<float> at;

  explicit Values(const Index& extents)
      : n(extents), at(static_cast<size_t>(n[0] * n[1] * n[2] * n[3])) {}
  Values() = default;
  // An axis of extent 1 is broadcast.
  float operator()(const Index& i) const { return at[place(i)]; }
  float& ref(const Index& i) { return at[place(i)]; }

 private:
  size_t place(const Index& i) const {
    int64_t out = 0;
    for (size_t axis = 0; axis < 4; ++axis) out = out * n[axis] + (n[axis] == 1 ? 0 : i[axis]);
    return static_cast<size_t>(out);
  }
};

template <class Body>
void each(const Index& n, const Body& body) {
  for (int64_t b = 0; b < n[0]; ++b)
    for (int64_t h = 0; h < n[1]; ++h)
      for (int64_t i = 0; i < n[2]; ++i)
        for (int64_t j = 0; j < n[3]; ++j) body(Index{b, h, i, j});
}

void* address(const It* t, void* base, const Index& i) {
  const Index stride = extents(t, kTensorStrides);
  int64_t at = 0;
  for (size_t axis = 0; axis < 4; ++axis) at += i[axis] * stride[axis];
  const int type = data_type(t);
  return static_cast<char*>(base) + at * (type == kHalf || type == kBfloat16 ? 2 : 4);
}

float pointwise(int mode, float x, float b, bool t) {
  switch (mode) {
    case kAdd:
      return x + b;
    case kMultiply:
      return x * b;
    case kDivide:
      return x / b;
    case kSubtract:
      return x - b;
    case kExponential:
      return std::exp(x);
    case kLogarithm:
      return std::log(x);
    case kGreater:
      return x > b ? 1 : 0;
    case kGreaterOrEqual:
      return x >= b ? 1 : 0;
    case kSelect:
      return t ? x : b;
    default:
      return NAN;
  }
}

class Machine {
 public:
  explicit Machine(std::map<int64_t, void*> bound) : bound_(std::move(bound)) {}

  void run(const It* op) {
    const Operands of = operands(op);
    Values y(extents(of.out));
    if (op->kind == kOperationMatmul) multiply(read(of.in[0]), read(of.in[1]), &y);
    if (op->kind == kOperationReduction) reduce(op, read(of.in[0]), &y);
    if (op->kind == kOperationPointwise) each_of(op, &y);
    write(of.out, std::move(y));
  }

 private:
  Values read(const It* t) {
    if (t->flag(kTensorIsVirtual)) return between_[uid(t)];
    Values out(extents(t));
    each(out.n, [&](const Index& i) {
      const void* at = address(t, bound_.at(uid(t)), i);
      int32_t whole = 0;
      std::memcpy(&whole, at, data_type(t) == kInt32 ? sizeof whole : 0);
      out.ref(i) = data_type(t) == kInt32
                       ? static_cast<float>(whole)
                       : static_cast<float>(qkv::test::load(element(data_type(t)), at));
    });
    return out;
  }

  // Rounded to the tensor's type.
  void write(const It* t, Values y) {
    const int type = data_type(t);
    if (!t->flag(kTensorIsVirtual)) {
      each(y.n, [&](const Index& i) {
        qkv::test::store(element(type), address(t, bound_.at(uid(t)), i), y(i));
      });
      return;
    }
    if (type == kHalf || type == kBfloat16) {
      for (float& value : y.at) {
        uint32_t bits = 0;
        qkv::test::store(element(type), &bits, value);
        value = static_cast<float>(qkv::test::load(element(type), &bits));
      }
    }
    between_[uid(t)] = std::move(y);
  }

  static void multiply(const Values& a, const Values& b, Values* c) {
    each(c->n, [&](const Index& i) {
      const int64_t head = i[1] / (a.n[1] / b.n[1]);
      float sum = 0;
      for (int64_t k = 0; k < a.n[3]; ++k)
        sum += a({i[0], i[1], i[2], k}) * b({i[0], head, k, i[3]});
      c->ref(i) = sum;
    });
  }

  static void reduce(const It* op, const Values& x, Values* y) {
    const bool most =
        op->to(kOperationReductionDescriptor)->get<int>(kReductionOperator) == kMaximum;
    std::fill(y->at.begin(), y->at.end(), most ? -INFINITY : 0.0f);
    each(x.n, [&](const Index& i) {
      float& out = y->ref(i);
      out = most ? std::max(out, x(i)) : out + x(i);
    });
  }

  void each_of(const It* op, Values* y) {
    const It* how = op->to(kOperationPointwiseDescriptor);
    const int mode = how->get<int>(kPointwiseMode);
    if (mode == kGenerateIndex) {
      const auto axis = static_cast<size_t>(how->get<int64_t>(kPointwiseAxis));
      each(y->n, [&](const Index& i) { y->ref(i) = static_cast<float>(i[axis]); });
      return;
    }
    const Values x = read(op->to(kOperationPointwiseX));
    const Values none({1, 1, 1, 1});
    const Values b = op->has(kOperationPointwiseB) ? read(op->to(kOperationPointwiseB)) : none;
    const Values t = op->has(kOperationPointwiseT) ? read(op->to(kOperationPointwiseT)) : none;
    each(y->n, [&](const Index& i) { y->ref(i) = pointwise(mode, x(i), b(i), t(i) != 0); });
  }

  std::map<int64_t, void*> bound_;
  std::map<int64_t, Values> between_;
};

}  // namespace

STAND_IN size_t cudnnGetVersion() { return 90807; }

STAND_IN const char* cudnnGetErrorString(int status) {
  if (status == kNotInitialized) return "CUDNN_STATUS_NOT_INITIALIZED";
  return status == kBadParam ? "CUDNN_STATUS_BAD_PARAM" : "CUDNN_STATUS_NOT_SUPPORTED";
}

STAND_IN void cudnnGetLastErrorString(char* text, size_t size) {
  std::snprintf(text, size, "%s\n", last_error.c_str());
  last_error.clear();
}

STAND_IN int cudnnCreate(void** handle) {
  if (asked("no device")) return refuse(kNotInitialized, "there is no device");
  *handle = new Handle_;
  return kSuccess;
}

STAND_IN int cudnnDestroy(void* handle) {
  delete static_cast<Handle_*>(handle);
  return kSuccess;
}

STAND_IN int cudnnSetStream(void* handle, void* stream) {
  auto* it = static_cast<Handle_*>(handle);
  it->stream = stream;
  it->has_stream = true;
  return kSuccess;
}

STAND_IN int cudnnBackendCreateDescriptor(int kind, void** out) {
  if (std::find(std::begin(kKnownKinds), std::end(kKnownKinds), kind) == std::end(kKnownKinds))
    return refuse(kNotSupported, "descriptor %d", kind);
  auto* it = new It;
  it->kind = kind;
  living().insert(it);
  *out = it;
  return kSuccess;
}

STAND_IN int cudnnBackendDestroyDescriptor(void* descriptor) {
  living().erase(static_cast<It*>(descriptor));
  delete static_cast<It*>(descriptor);
  return kSuccess;
}

// How many live, for the test: none may be left.
STAND_IN size_t cudnn_stand_in_living() { return living().size(); }

STAND_IN int cudnnBackendSetAttribute(void* descriptor, int attribute, int type, int64_t count,
                                      const void* values) {
  auto* it = static_cast<It*>(descriptor);
  if (it->final) return refuse(kBadParam, "set after it was finalized");
  for (const Rule& rule : kRules) {
    if (rule.kind != it->kind || rule.attribute != attribute) continue;
    if (rule.type != type)
      return refuse(kBadParam, "attribute %d has type %d", attribute, rule.type);
    const auto* bytes = static_cast<const unsigned char*>(values);
    it->set[attribute].assign(bytes, bytes + static_cast<size_t>(count) * size_of(type));
    return kSuccess;
  }
  return refuse(kBadParam, "descriptor %d has no attribute %d", it->kind, attribute);
}

STAND_IN int cudnnBackendFinalize(void* descriptor) {
  auto* it = static_cast<It*>(descriptor);
  if (it->final) return refuse(kBadParam, "finalized twice");
  const int status = check_description(it);
  it->final = status == kSuccess;
  return status;
}

STAND_IN int cudnnBackendGetAttribute(void* descriptor, int attribute, int type, int64_t capacity,
                                      int64_t* count, void* values) {
  auto* it = static_cast<It*>(descriptor);
  if (!it->final) return refuse(kBadParam, "asked before it was finalized");
  if (it->kind == kEngineHeuristics && attribute == kHeuristicsResults && type == kTypeDescriptor) {
    *count = asked("no engine") || it->get<int>(kHeuristicsMode) != kHeuristicsA
                 ? 0
                 : std::min<int64_t>(capacity, 2);
    for (int64_t n = 0; n < *count; ++n) {
      It* config = static_cast<It**>(values)[n];
      config->graph = it->to(kHeuristicsOperationGraph);
      config->rank = static_cast<int>(n);
      config->final = true;
    }
    return kSuccess;
  }
  if (it->kind == kExecutionPlan && attribute == kPlanWorkspaceSize && type == kTypeInt64) {
    *count = 1;
    std::memcpy(values, &kWorkspace, sizeof kWorkspace);
    return kSuccess;
  }
  return refuse(kBadParam, "descriptor %d does not tell attribute %d", it->kind, attribute);
}

STAND_IN int cudnnBackendExecute(void* handle, void* plan_, void* pack_) {
  const auto *plan = static_cast<It*>(plan_), *pack = static_cast<It*>(pack_);
  It* const config = plan->to(kPlanEngineConfig);
  if (living().count(config) == 0 || living().count(config->graph) == 0)
    return refuse(kBadParam, "the plan's configuration or graph is gone");
  const It* graph = config->graph;
  if (!plan->final || !pack->final) return refuse(kBadParam, "plan or pack is not finalized");
  if (plan->get<void*>(kPlanHandle) != handle || graph->get<void*>(kGraphHandle) != handle)
    return refuse(kBadParam, "another handle");
  if (!static_cast<Handle_*>(handle)->has_stream) return refuse(kBadParam, "no stream was set");
  if (pack->get<void*>(kPackWorkspace) == nullptr) return refuse(kBadParam, "no workspace");
  std::map<int64_t, void*> bound;
  const int64_t count = pack->count(kPackUniqueIds, kTypeInt64);
  if (count != pack->count(kPackDataPointers, kTypePointer))
    return refuse(kBadParam, "ids and pointers");
  for (int64_t n = 0; n < count; ++n)
    bound[pack->get<int64_t>(kPackUniqueIds, n)] = pack->get<void*>(kPackDataPointers, n);
  std::set<int64_t> needed;
  const int64_t operations = graph->count(kGraphOperations, kTypeDescriptor);
  for (int64_t n = 0; n < operations; ++n) {
    Operands of = operands(graph->to(kGraphOperations, n));
    of.in.push_back(of.out);
    for (const It* t : of.in)
      if (!t->flag(kTensorIsVirtual)) needed.insert(uid(t));
  }
  for (const int64_t id : needed) {
    if (bound.count(id) == 0)
      return refuse(kBadParam, "tensor %ld has no memory", static_cast<long>(id));
  }
  if (bound.size() != needed.size())
    return refuse(kBadParam, "memory for tensors that are not there");
  Machine machine(std::move(bound));
  for (int64_t n = 0; n < operations; ++n) machine.run(graph->to(kGraphOperations, n));
  return kSuccess;
}
