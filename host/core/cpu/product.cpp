#include "host/core/cpu/product.h"

#include <array>
#include <mutex>
#include <vector>

#include "host/core/cpu/targets.h"

namespace qkv::cpu {
namespace {

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

void destroy(dnnl_primitive_attr* x) { onednn().primitive_attr_destroy(x); }
void destroy(dnnl_primitive_desc* x) { onednn().primitive_desc_destroy(x); }
void destroy(dnnl_memory* x) { onednn().memory_destroy(x); }
void destroy(dnnl_post_ops* x) { onednn().post_ops_destroy(x); }
void destroy(dnnl_primitive* x) { onednn().primitive_destroy(x); }
void destroy(dnnl_stream* x) { onednn().stream_destroy(x); }

// What `create(..., &object)` makes.
template <class Object, class Create, class... Arguments>
Owned<Object> make(Create create, Arguments... arguments) {
  Object* made = nullptr;
  check(create(&made, arguments...));
  return Owned<Object>(made);
}

dnnl_engine_t engine() {
  static dnnl_engine* const cpu = [] {
    dnnl_engine_t made = nullptr;
    check(onednn().engine_create(&made, dnnl_cpu, 0));
    return made;  // never destroyed: plans may outlive it
  }();
  return cpu;
}

dnnl_memory_desc_t describe(const Matrix& x) {
  const int64_t pitch = x.pitch != 0 ? x.pitch : x.transposed ? x.rows : x.columns;
  const dnnl_dims_t size{x.rows, x.columns};
  const dnnl_dims_t stride{x.transposed ? 1 : pitch, x.transposed ? pitch : 1};
  dnnl_memory_desc_t out;
  check(onednn().memory_desc_init_by_strides(&out, 2, size, x.type, stride));
  return out;
}

Owned<dnnl_primitive_attr> attributes(Into into, dnnl_scratchpad_mode_t scratch) {
  const OneDnn& dnn = onednn();
  auto out = make<dnnl_primitive_attr>(dnn.primitive_attr_create);
  if (into == Into::kAdd) {
    const auto add = make<dnnl_post_ops>(dnn.post_ops_create);
    check(dnn.post_ops_append_sum(add.get(), 1.0f));
    check(dnn.primitive_attr_set_post_ops(out.get(), add.get()));
  }
  check(dnn.primitive_attr_set_scratchpad_mode(out.get(), scratch));
  return out;
}

Owned<dnnl_memory> no_memory(const dnnl_memory_desc_t& desc) {
  return make<dnnl_memory>(onednn().memory_create, &desc, engine(), nullptr);
}

}  // namespace

template <class Object>
void Destroy<Object>::operator()(Object* object) const {
  if (onednn_alive())
    destroy(object);
  else
    keep(object);
}

template struct Destroy<dnnl_memory>;
template struct Destroy<dnnl_primitive>;
template struct Destroy<dnnl_stream>;

host::Status as_status(const Refusal& refusal, const char* what) {
  return host::Status(
      refusal.status == dnnl_out_of_memory ? QKV_RESOURCE_OUT_OF_MEMORY : QKV_INTERNAL,
      host::text("oneDNN refused ", what, " (status ", refusal.status, ")"));
}

host::Status require_onednn() {
  QKV_REQUIRE(onednn().missing.empty(), QKV_UNSUPPORTED_KERNEL,
              "oneDNN, which multiplies tiles, cannot be opened: ", onednn().missing);
  return {};
}

// Rates of the products of tiles, d 128, S 4096, two cores, in GFLOP/s: an AMD EPYC (Zen 4) 428 in
// bf16 and 220 in fp32; an Intel processor with vdpbf16ps but without AMX 153 and 282.
bool bf16_products_pay(unsigned isa, bool intel) {
  const auto has = [&](dnnl_cpu_isa_t wanted) {
    return (isa & static_cast<unsigned>(wanted)) == static_cast<unsigned>(wanted);
  };
  return has(intel ? dnnl_cpu_isa_avx512_core_amx : dnnl_cpu_isa_avx512_core_bf16);
}

bool has_bf16_products() {
  if (!onednn().missing.empty()) return false;
#if defined(__x86_64__)
  const bool intel = static_cast<bool>(__builtin_cpu_is("intel"));
#else
  const bool intel = false;
#endif
  return bf16_products_pay(static_cast<unsigned>(onednn().get_effective_cpu_isa()), intel);
}

Owned<dnnl_stream> make_stream() {
  return make<dnnl_stream>(onednn().stream_create, engine(), dnnl_stream_default_flags);
}

size_t product_scratch_bytes(int64_t m, int64_t n, int64_t k) {
  const int64_t padded_m = round_up(m, 64), padded_n = round_up(n, 64), padded_k = round_up(k, 64);
  const int64_t elements = padded_m * padded_k + padded_k * padded_n + padded_m * padded_n;
  return static_cast<size_t>(elements) * sizeof(float) + 16384;
}

Product::Product(const Matrix& a_matrix, const Matrix& b_matrix, Into into)
    : a(describe(a_matrix)), b(describe(b_matrix)) {
  const OneDnn& dnn = onednn();
  const int64_t m = a_matrix.rows, n = b_matrix.columns, k = a_matrix.columns;
  c = describe(Matrix{m, n, dnnl_f32});
  dnnl_matmul_desc_t matmul;
  check(dnn.matmul_desc_init(&matmul, &a, &b, nullptr, &c));
  const auto describe_code = [&](dnnl_scratchpad_mode_t mode) {
    return make<dnnl_primitive_desc>(dnn.primitive_desc_create, &matmul,
                                     attributes(into, mode).get(), engine(), nullptr);
  };
  auto desc = describe_code(dnnl_scratchpad_mode_user);
  scratch = *dnn.primitive_desc_query_md(desc.get(), dnnl_query_scratchpad_md, 0);
  own_scratch = dnn.memory_desc_get_size(&scratch) > product_scratch_bytes(m, n, k);
  if (own_scratch) desc = describe_code(dnnl_scratchpad_mode_library);
  code = make<dnnl_primitive>(dnn.primitive_create, desc.get());
}

Operands::Operands(const Product& product)
    : a(no_memory(product.a)), b(no_memory(product.b)), c(no_memory(product.c)) {
  if (!product.own_scratch) scratch = no_memory(product.scratch);
}

bool execute(const Product& product, const Operands& operands, dnnl_stream_t stream, const void* a,
             const void* b, float* c, void* scratch) {
  const OneDnn& dnn = onednn();
  std::array<dnnl_exec_arg_t, 4> arguments;
  int count = 0;
  bool ok = true;
  const auto pass = [&](int name, const Owned<dnnl_memory>& object, void* address) {
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

}  // namespace qkv::cpu
