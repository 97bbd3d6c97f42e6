// One product of matrices in host memory by oneDNN, C = A B or C += A B, with sums in fp32: what
// the kernels of the CPU are made of. Generated once, const and shared by all threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "host/core/cpu/onednn.h"
#include "host/core/status.h"

namespace qkv::cpu {

// A call of oneDNN that failed. What makes objects throws it; as_status() ends it.
struct Refusal {
  dnnl_status_t status;
};

// Whose reason begins "oneDNN refused", `what`.
host::Status as_status(const Refusal& refusal, const char* what);

// QKV_UNSUPPORTED_KERNEL where oneDNN cannot be opened: plans pass over a kernel for it, and say
// why.
host::Status require_onednn();

// Whether oneDNN's bf16 product is the fast one on such a processor, by its name and instructions,
// never by a measurement: results do not depend on a run's luck. Where it is not, operands are
// widened to fp32, as those of fp16 are everywhere: oneDNN 2 has no fp16 product on a CPU. `isa`:
// dnnl_cpu_isa_t.
bool bf16_products_pay(unsigned isa, bool intel);

// The same of this processor.
bool has_bf16_products();

// Owns an object of oneDNN's.
template <class Object>
struct Destroy {
  void operator()(Object* object) const;
};
template <class Object>
using Owned = std::unique_ptr<Object, Destroy<Object>>;

// For the calls of one thread.
Owned<dnnl_stream> make_stream();

struct Matrix {
  int64_t rows, columns;
  dnnl_data_type_t type;
  bool transposed = false;  // stored as [columns, rows]
  int64_t pitch = 0;        // elements between two rows as they are stored; 0: dense
};

enum class Into { kOverwrite, kAdd };

// Room for oneDNN's copies of an [m, k] x [k, n] product: no more than all three matrices, padded.
size_t product_scratch_bytes(int64_t m, int64_t n, int64_t k);

struct Product {
  dnnl_memory_desc_t a, b, c, scratch;
  bool own_scratch = false;  // oneDNN wants more than the workspace has and allocates by itself
  Owned<dnnl_primitive> code;

  Product() = default;
  // C is dense, in fp32.
  Product(const Matrix& a_matrix, const Matrix& b_matrix, Into into);

  explicit operator bool() const { return static_cast<bool>(code); }
};

// A thread's descriptions of memory for one product, pointed at other addresses in every call: made
// ahead, so that calls allocate nothing but what oneDNN's execution does by itself.
struct Operands {
  Owned<dnnl_memory> a, b, c, scratch;

  Operands() = default;
  explicit Operands(const Product& product);
};

// `scratch` has product_scratch_bytes(). False if oneDNN failed.
bool execute(const Product& product, const Operands& operands, dnnl_stream_t stream, const void* a,
             const void* b, float* c, void* scratch);

}  // namespace qkv::cpu
