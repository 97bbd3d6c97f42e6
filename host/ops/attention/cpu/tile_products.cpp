#include "host/ops/attention/cpu/tile_products.h"

#include <array>
#include <bit>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "host/ops/attention/cpu/onednn.h"
#include "host/ops/attention/cpu/scratch.h"

namespace qkv::cpu {
namespace {

// A call of oneDNN that failed.
struct Refusal {
  dnnl_status_t status;
};

void check(dnnl_status_t status) {
  if (status != dnnl_success) throw Refusal{status};
}

// Where the process ends and oneDNN has ended before, its objects stay: reachable, so that nobody
// takes them for leaks.
void keep(void* object) {
  static std::mutex& mutex = *new std::mutex;
  static std::vector<void*>& kept = *new std::vector<void*>;
  const std::lock_guard lock(mutex);
  kept.push_back(object);
}

// Owns an object of oneDNN's.
template <auto kDestroy>
struct Destroy {
  template <class Object>
  void operator()(Object* object) const {
    if (onednn_alive())
      (onednn().*kDestroy)(object);
    else
      keep(object);
  }
};
template <class Object, auto kDestroy>
using Owned = std::unique_ptr<Object, Destroy<kDestroy>>;
using Attributes = Owned<dnnl_primitive_attr, &OneDnn::primitive_attr_destroy>;
using Description = Owned<dnnl_primitive_desc, &OneDnn::primitive_desc_destroy>;
using Memory = Owned<dnnl_memory, &OneDnn::memory_destroy>;
using PostOps = Owned<dnnl_post_ops, &OneDnn::post_ops_destroy>;
using Primitive = Owned<dnnl_primitive, &OneDnn::primitive_destroy>;
using Stream = Owned<dnnl_stream, &OneDnn::stream_destroy>;

// What `create(..., &object)` makes.
template <class Handle, class Create, class... Arguments>
Handle make(Create create, Arguments... arguments) {
  typename Handle::pointer made = nullptr;
  check(create(&made, arguments...));
  return Handle(made);
}

dnnl_engine_t engine() {
  static const dnnl_engine_t cpu = [] {
    dnnl_engine_t made = nullptr;
    check(onednn().engine_create(&made, dnnl_cpu, 0));
    return made;  // never destroyed: plans may outlive it
  }();
  return cpu;
}

struct Matrix {
  int64_t rows, columns;
  dnnl_data_type_t type;
  bool transposed = false;  // stored as [columns, rows]

  dnnl_memory_desc_t desc() const {
    const dnnl_dims_t size{rows, columns}, stride{transposed ? 1 : columns, transposed ? rows : 1};
    dnnl_memory_desc_t out;
    check(onednn().memory_desc_init_by_strides(&out, 2, size, type, stride));
    return out;
  }
};

enum class Into { kOverwrite, kAdd };

Attributes attributes(Into into, dnnl_scratchpad_mode_t scratch) {
  const OneDnn& dnn = onednn();
  auto out = make<Attributes>(dnn.primitive_attr_create);
  if (into == Into::kAdd) {
    const auto add = make<PostOps>(dnn.post_ops_create);
    check(dnn.post_ops_append_sum(add.get(), 1.0f));
    check(dnn.primitive_attr_set_post_ops(out.get(), add.get()));
  }
  check(dnn.primitive_attr_set_scratchpad_mode(out.get(), scratch));
  return out;
}

// C = A B or C += A B, generated once, const and shared by all threads.
struct Product {
  dnnl_memory_desc_t a, b, c, scratch;
  bool own_scratch = false;  // oneDNN wants more than the workspace has and allocates by itself
  Primitive code;

  Product() = default;
  Product(const Matrix& a_matrix, const Matrix& b_matrix, Into into)
      : a(a_matrix.desc()), b(b_matrix.desc()) {
    const OneDnn& dnn = onednn();
    const int64_t m = a_matrix.rows, n = b_matrix.columns, k = a_matrix.columns;
    c = Matrix{m, n, dnnl_f32}.desc();
    dnnl_matmul_desc_t matmul;
    check(dnn.matmul_desc_init(&matmul, &a, &b, nullptr, &c));
    const auto describe = [&](dnnl_scratchpad_mode_t mode) {
      return make<Description>(dnn.primitive_desc_create, &matmul, attributes(into, mode).get(),
                               engine(), nullptr);
    };
    auto desc = describe(dnnl_scratchpad_mode_user);
    scratch = *dnn.primitive_desc_query_md(desc.get(), dnnl_query_scratchpad_md, 0);
    own_scratch = dnn.memory_desc_get_size(&scratch) > product_scratch_bytes(m, n, k);
    if (own_scratch) desc = describe(dnnl_scratchpad_mode_library);
    code = make<Primitive>(dnn.primitive_create, desc.get());
  }

  explicit operator bool() const { return static_cast<bool>(code); }
};

// A thread's memory objects for one product.
struct Operands {
  Memory a, b, c, scratch;

  Operands() = default;
  explicit Operands(const Product& product)
      : a(describe(product.a)), b(describe(product.b)), c(describe(product.c)) {
    if (!product.own_scratch) scratch = describe(product.scratch);
  }

 private:
  static Memory describe(const dnnl_memory_desc_t& desc) {
    return make<Memory>(onednn().memory_create, &desc, engine(), nullptr);  // no memory
  }
};

bool execute(const Product& product, const Operands& operands, dnnl_stream_t stream, const void* a,
             const void* b, float* c, void* scratch) {
  const OneDnn& dnn = onednn();
  std::array<dnnl_exec_arg_t, 4> arguments;
  int count = 0;
  bool ok = true;
  const auto pass = [&](int name, const Memory& object, void* address) {
    ok = ok && dnn.memory_set_data_handle(object.get(), address) == dnnl_success;
    arguments[static_cast<size_t>(count++)] = {name, object.get()};
  };
  pass(DNNL_ARG_SRC, operands.a, const_cast<void*>(a));  // oneDNN does not write to sources
  pass(DNNL_ARG_WEIGHTS, operands.b, const_cast<void*>(b));
  pass(DNNL_ARG_DST, operands.c, c);
  if (!product.own_scratch) pass(DNNL_ARG_SCRATCHPAD, operands.scratch, scratch);
  return ok &&
         dnn.primitive_execute(product.code.get(), stream, count, arguments.data()) == dnnl_success;
}

host::Status status_of(const Refusal& refusal, const char* what) {
  return host::Status(
      refusal.status == dnnl_out_of_memory ? QKV_RESOURCE_OUT_OF_MEMORY : QKV_INTERNAL,
      host::text("oneDNN refused ", what, " (status ", refusal.status, ")"));
}

// Products are kept by the width of the tile of keys: tile_kv, tile_kv / 2, ... down to kTailKeys.
constexpr size_t kWidths = std::countr_zero(static_cast<uint64_t>(kMaxTileKv / kTailKeys)) + 1;

size_t width_index(int64_t tile_kv, int64_t keys) {
  return static_cast<size_t>(std::countr_zero(static_cast<uint64_t>(tile_kv / keys)));
}

}  // namespace

struct TileProducts::Code {
  std::array<Product, kWidths> scores, values;
};

struct TileProducts::Lane {
  Stream stream = make<Stream>(onednn().stream_create, engine(), dnnl_stream_default_flags);
  std::array<Operands, kWidths> scores, values;

  explicit Lane(const Code& code) {
    for (size_t i = 0; i < kWidths; ++i) {
      if (code.scores[i]) scores[i] = Operands(code.scores[i]);
      if (code.values[i]) values[i] = Operands(code.values[i]);
    }
  }
};

bool has_bf16_products() {
  if (!onednn().missing.empty()) return false;
  const auto isa = static_cast<unsigned>(onednn().get_effective_cpu_isa());
  constexpr auto kNeeded = static_cast<unsigned>(dnnl_cpu_isa_avx512_core_bf16);
  return (isa & kNeeded) == kNeeded;
}

TileProducts::TileProducts(const ProductShape& shape) : shape_(shape) {
  const OneThread one_thread;
  const auto type = shape.bf16 ? dnnl_bf16 : dnnl_f32;
  auto code = std::make_unique<Code>();
  for (size_t i = 0; i < kWidths; ++i) {
    const int64_t keys = shape.tile_kv >> i;
    if (i > 0 && keys < kTailKeys) break;
    const Matrix q{shape.tile_q, shape.d_qk, type}, k_transposed{shape.d_qk, keys, type, true};
    const Matrix p{shape.tile_q, keys, type}, v{keys, shape.d_v, type};
    if (shape.scores) code->scores[i] = Product(q, k_transposed, Into::kOverwrite);
    if (shape.values) code->values[i] = Product(p, v, Into::kAdd);
  }
  code_ = std::move(code);
}

TileProducts::~TileProducts() = default;

host::Status TileProducts::create(const ProductShape& shape,
                                  std::shared_ptr<const TileProducts>* products) try {
  // Plans pass over a kernel for this, and say why.
  QKV_REQUIRE(onednn().missing.empty(), QKV_UNSUPPORTED_KERNEL,
              "oneDNN, which multiplies tiles, cannot be opened: ", onednn().missing);
  QKV_REQUIRE(shape.tile_kv <= kMaxTileKv, QKV_INTERNAL, "a tile of ", shape.tile_kv,
              " keys is wider than ", kMaxTileKv);
  products->reset(new TileProducts(shape));
  return {};
} catch (const Refusal& refusal) {
  return status_of(refusal, "a tile product");
} catch (const std::bad_alloc&) {
  return host::Status(QKV_RESOURCE_OUT_OF_MEMORY, "no host memory for the tile products");
}

host::Status TileProducts::reserve(int32_t threads) const try {
  const std::lock_guard lock(mutex_);
  free_.reserve(static_cast<size_t>(threads));
  for (; lanes_ < static_cast<size_t>(threads); ++lanes_) {
    free_.push_back(std::make_unique<Lane>(*code_));
  }
  return {};
} catch (const Refusal& refusal) {
  return status_of(refusal, "a stream or memory object");
} catch (const std::bad_alloc&) {
  return host::Status(QKV_RESOURCE_OUT_OF_MEMORY, "no host memory for the tile products");
}

TileProducts::BorrowedLane TileProducts::borrow() const try {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) {
    free_.reserve(lanes_ + 1);
    auto lane = std::make_unique<Lane>(*code_);
    ++lanes_;
    return {lane.release(), Return{this}};
  }
  BorrowedLane lane(free_.back().release(), Return{this});
  free_.pop_back();
  return lane;
} catch (...) {
  return {nullptr, Return{this}};
}

void TileProducts::give_back(Lane* lane) const noexcept {
  const std::lock_guard lock(mutex_);
  free_.emplace_back(lane);  // within capacity: cannot fail
}

bool TileProducts::scores(Lane& lane, int64_t keys, const void* q, const void* k, float* s,
                          void* scratch) const {
  const size_t i = width_index(shape_.tile_kv, keys);
  return execute(code_->scores[i], lane.scores[i], lane.stream.get(), q, k, s, scratch);
}

bool TileProducts::values(Lane& lane, int64_t keys, const void* p, const void* v, float* o,
                          void* scratch) const {
  const size_t i = width_index(shape_.tile_kv, keys);
  return execute(code_->values[i], lane.values[i], lane.stream.get(), p, v, o, scratch);
}

}  // namespace qkv::cpu
