#include "host/ops/attention/cpu/tile_products.h"

#include <omp.h>

#include <array>
#include <bit>
#include <new>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>

#include "host/ops/attention/cpu/scratch.h"

namespace qkv::cpu {
namespace {

using dnnl::memory;

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

// oneDNN splits its work for the number of threads that OpenMP has when the code is generated. The
// products run inside of tasks that keep all threads busy, so they are generated for one.
class OneThread {
 public:
  OneThread() : threads_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(threads_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int threads_;
};

struct Matrix {
  int64_t rows, columns;
  memory::data_type type;
  bool transposed = false;  // stored as [columns, rows]

  memory::desc desc() const {
    return {{rows, columns}, type, transposed ? memory::dims{1, rows} : memory::dims{columns, 1}};
  }
};

enum class Into { kOverwrite, kAdd };

// C = A B or C += A B, generated once, const and shared by all threads.
struct Product {
  memory::desc a, b, c, scratch;
  bool own_scratch = false;  // oneDNN wants more than the workspace has and allocates by itself
  dnnl::matmul code;

  Product() = default;
  Product(const Matrix& a_matrix, const Matrix& b_matrix, Into into)
      : a(a_matrix.desc()), b(b_matrix.desc()) {
    const int64_t m = a_matrix.rows, n = b_matrix.columns, k = a_matrix.columns;
    c = Matrix{m, n, memory::data_type::f32}.desc();
    dnnl::primitive_attr attr;
    if (into == Into::kAdd) {
      dnnl::post_ops add;
      add.append_sum(1.0f);
      attr.set_post_ops(add);
    }
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    dnnl::matmul::primitive_desc desc({a, b, c}, attr, engine());
    scratch = desc.scratchpad_desc();
    own_scratch = scratch.get_size() > product_scratch_bytes(m, n, k);
    if (own_scratch) {
      attr.set_scratchpad_mode(dnnl::scratchpad_mode::library);
      desc = {{a, b, c}, attr, engine()};
    }
    code = dnnl::matmul(desc);
  }

  explicit operator bool() const { return static_cast<bool>(code); }
};

// A thread's memory objects for one product.
struct Operands {
  memory a, b, c, scratch;

  Operands() = default;
  explicit Operands(const Product& product)
      : a(product.a, engine(), DNNL_MEMORY_NONE),
        b(product.b, engine(), DNNL_MEMORY_NONE),
        c(product.c, engine(), DNNL_MEMORY_NONE) {
    if (!product.own_scratch) scratch = memory(product.scratch, engine(), DNNL_MEMORY_NONE);
  }
};

// The C interface: it does not throw, and takes the arguments without building a map of them.
bool execute(const Product& product, const Operands& operands, dnnl_stream_t stream, const void* a,
             const void* b, float* c, void* scratch) {
  std::array<dnnl_exec_arg_t, 4> arguments;
  int count = 0;
  bool ok = true;
  const auto pass = [&](int name, const memory& object, void* address) {
    ok = ok && dnnl_memory_set_data_handle(object.get(), address) == dnnl_success;
    arguments[static_cast<size_t>(count++)] = {name, object.get()};
  };
  pass(DNNL_ARG_SRC, operands.a, const_cast<void*>(a));  // oneDNN does not write to sources
  pass(DNNL_ARG_WEIGHTS, operands.b, const_cast<void*>(b));
  pass(DNNL_ARG_DST, operands.c, c);
  if (!product.own_scratch) pass(DNNL_ARG_SCRATCHPAD, operands.scratch, scratch);
  return ok && dnnl_primitive_execute(product.code.get(), stream, count, arguments.data()) ==
                   dnnl_success;
}

host::Status status_of(const dnnl::error& error, const char* what) {
  return host::Status(
      error.status == dnnl_out_of_memory ? QKV_RESOURCE_OUT_OF_MEMORY : QKV_INTERNAL,
      host::text("oneDNN refused ", what, ": ", error.what(), " (status ", error.status, ")"));
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
  dnnl::stream stream{engine()};
  std::array<Operands, kWidths> scores, values;

  explicit Lane(const Code& code) {
    for (size_t i = 0; i < kWidths; ++i) {
      if (code.scores[i]) scores[i] = Operands(code.scores[i]);
      if (code.values[i]) values[i] = Operands(code.values[i]);
    }
  }
};

bool has_bf16_products() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  constexpr auto kNeeded = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (isa & kNeeded) == kNeeded;
}

TileProducts::TileProducts(const ProductShape& shape) : shape_(shape) {
  const OneThread one_thread;
  const auto type = shape.bf16 ? memory::data_type::bf16 : memory::data_type::f32;
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
  QKV_REQUIRE(shape.tile_kv <= kMaxTileKv, QKV_INTERNAL, "a tile of ", shape.tile_kv,
              " keys is wider than ", kMaxTileKv);
  products->reset(new TileProducts(shape));
  return {};
} catch (const dnnl::error& error) {
  return status_of(error, "a tile product");
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
} catch (const dnnl::error& error) {
  return status_of(error, "a stream or memory object");
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
} catch (const std::exception&) {
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
