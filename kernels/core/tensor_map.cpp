#include "kernels/core/tensor_map.h"

#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstring>
#include <mutex>

namespace qkv::kernels {
namespace {

// The driver's functions, opened on first use: the library itself does not need a driver.
struct Driver {
  PFN_cuTensorMapEncodeTiled_v12000 encode = nullptr;
  PFN_cuTensorMapReplaceAddress_v12000 replace_address = nullptr;
};

template <class Function>
cudaError_t find(const char* name, Function* function) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result);
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    return error;
  }
  if (result != cudaDriverEntryPointSuccess || found == nullptr) return cudaErrorNotSupported;
  *function = reinterpret_cast<Function>(found);
  return cudaSuccess;
}

// Kept once both functions are found. A failure is not: the next call asks again.
cudaError_t open_driver(const Driver** driver) {
  static std::atomic<const Driver*> known{nullptr};
  static Driver functions;
  static std::mutex mutex;
  *driver = known.load(std::memory_order_acquire);
  if (*driver != nullptr) return cudaSuccess;
  const std::lock_guard lock(mutex);
  if (known.load(std::memory_order_relaxed) == nullptr) {
    Driver found;
    cudaError_t error = find("cuTensorMapEncodeTiled", &found.encode);
    if (error == cudaSuccess) error = find("cuTensorMapReplaceAddress", &found.replace_address);
    if (error != cudaSuccess) return error;
    functions = found;
    known.store(&functions, std::memory_order_release);
  }
  *driver = &functions;
  return cudaSuccess;
}

// The runtime has the driver's numbers for these errors.
static_assert(static_cast<int>(cudaErrorInvalidValue) == CUDA_ERROR_INVALID_VALUE);
static_assert(static_cast<int>(cudaErrorMemoryAllocation) == CUDA_ERROR_OUT_OF_MEMORY);
static_assert(static_cast<int>(cudaErrorDeviceUninitialized) == CUDA_ERROR_INVALID_CONTEXT);
static_assert(static_cast<int>(cudaErrorIllegalAddress) == CUDA_ERROR_ILLEGAL_ADDRESS);
cudaError_t runtime_error(CUresult result) { return static_cast<cudaError_t>(result); }

constexpr cuuint32_t kPanel = 64;  // dims, as wide as the swizzle

// A tensor as its descriptor has it: [batch, heads, rows, group, dim].
struct Sizes {
  int32_t dim, group, rows, heads, batch;
};

// One copy moves a box of one panel of dims and `box_rows` rows of a tile: of a packed tile
// box_rows / group queries with all `group` heads.
int encode(const Driver& driver, Type type, const Tensor& tensor, const Sizes& sizes,
           int32_t box_rows, void* map) {
  constexpr int64_t kAnyStride = 16;  // of an axis with one element
  // A plan of shapes alone has no address yet: any aligned one, which each launch replaces.
  void* const address = tensor.data != nullptr ? tensor.data : reinterpret_cast<void*>(kAnyStride);
  const auto bytes = [](int32_t size, int64_t stride) {
    return static_cast<cuuint64_t>(size == 1 ? kAnyStride : stride * 2);
  };
  const auto size = [](int32_t n) { return static_cast<cuuint64_t>(n); };
  const auto box = [](int32_t n) { return static_cast<cuuint32_t>(n); };
  const cuuint64_t shape[] = {size(sizes.dim), size(sizes.group), size(sizes.rows),
                              size(sizes.heads), size(sizes.batch)};
  const cuuint64_t strides[] = {bytes(sizes.group, tensor.head), bytes(sizes.rows, tensor.row),
                                bytes(sizes.heads, tensor.head * sizes.group),
                                bytes(sizes.batch, tensor.batch)};
  const cuuint32_t boxes[] = {kPanel, box(sizes.group), box(box_rows / sizes.group), 1, 1};
  const cuuint32_t steps[] = {1, 1, 1, 1, 1};
  CUtensorMap made{};
  const CUresult result = driver.encode(
      &made,
      type == Type::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 5,
      address, shape, strides, boxes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  std::memcpy(map, &made, sizeof made);
  return runtime_error(result);
}

int set_address(const Driver& driver, CUtensorMap* map, void* data) {
  CUresult result = driver.replace_address(map, data);
  if (result == CUDA_ERROR_INVALID_CONTEXT) {  // the thread has not called CUDA yet
    int device = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaSetDevice(device);
    if (error != cudaSuccess) return error;
    result = driver.replace_address(map, data);
  }
  return runtime_error(result);
}

}  // namespace

int make_tensor_maps(Type type, const ForwardArgs& args, const BoxRows& rows, int32_t group,
                     TensorMaps* maps) {
  static_assert(sizeof maps->bytes[0] == sizeof(CUtensorMap));
  const Driver* driver = nullptr;
  if (const cudaError_t error = open_driver(&driver)) return error;
  const Sizes q{args.d_qk, group, args.s_q, args.heads_q / group, args.batch};
  const Sizes k{args.d_qk, 1, args.s_kv, args.heads_kv, args.batch};
  Sizes v = k, o = q;
  v.dim = o.dim = args.d_v;
  const struct {
    const Tensor& tensor;
    const Sizes& sizes;
    int32_t box_rows;
  } all[] = {{args.q, q, rows.q}, {args.k, k, rows.kv}, {args.v, v, rows.kv}, {args.o, o, rows.o}};
  for (int i = 0; i < 4; ++i) {
    const auto& [tensor, sizes, box_rows] = all[i];
    if (const int error = encode(*driver, type, tensor, sizes, box_rows, maps->bytes[i]))
      return error;
  }
  return cudaSuccess;
}

int set_addresses(const TensorMaps& maps, const ForwardArgs& args, void* q, void* k, void* v,
                  void* o) {
  const Driver* driver = nullptr;
  if (const cudaError_t error = open_driver(&driver)) return error;
  const struct {
    void* map;
    void* data;
  } all[] = {{q, args.q.data}, {k, args.k.data}, {v, args.v.data}, {o, args.o.data}};
  for (int i = 0; i < 4; ++i) {
    std::memcpy(all[i].map, maps.bytes[i], sizeof(CUtensorMap));
    if (const int error = set_address(*driver, static_cast<CUtensorMap*>(all[i].map), all[i].data))
      return error;
  }
  return cudaSuccess;
}

}  // namespace qkv::kernels
