// What the runtime and the driver do for Hopper: launches in clusters, tensor maps.
#include <cuda.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <thread>

#include "tests/runtime_kernels.h"

namespace vgpu::test {
namespace {

bool hopper() {
  int major = 0;
  EXPECT_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
  return major >= 9;
}

struct ClusterLaunch {
  explicit ClusterLaunch(unsigned size, unsigned grid) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {size, 1, 1};
    config.gridDim = grid;
    config.blockDim = 64;
    config.dynamicSmemBytes = 1024;
    config.attrs = &attribute;
    config.numAttrs = 1;
  }
  cudaLaunchAttribute attribute{};
  cudaLaunchConfig_t config{};
};

TEST(Clusters, AreLaunchedWhenTheyFit) {
  float* data = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&data), 4096), cudaSuccess);
  int words = 256;
  void* arguments[] = {&data, &words};
  const auto launch = [&](unsigned size, unsigned grid) {
    const ClusterLaunch l(size, grid);
    const cudaError_t e = cudaLaunchKernelExC(&l.config, shared_kernel(), arguments);
    (void)cudaGetLastError();
    return e;
  };
  EXPECT_EQ(launch(1, 1), cudaSuccess);
  if (hopper()) {
    EXPECT_EQ(launch(4, 8), cudaSuccess);
    EXPECT_NE(launch(4, 6), cudaSuccess);
    EXPECT_NE(launch(16, 16), cudaSuccess);
    ASSERT_EQ(
        cudaFuncSetAttribute(shared_kernel(), cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
        cudaSuccess);
    EXPECT_EQ(launch(16, 16), cudaSuccess);
    EXPECT_NE(launch(32, 32), cudaSuccess);
    const ClusterLaunch l(4, 8);
    int clusters = 0, blocks = 0, sms = 0;
    ASSERT_EQ(cudaOccupancyMaxActiveClusters(&clusters, shared_kernel(), &l.config), cudaSuccess);
    ASSERT_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, shared_kernel(), 64, 1024),
              cudaSuccess);
    ASSERT_EQ(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0), cudaSuccess);
    EXPECT_GT(clusters, 0);
    EXPECT_LE(clusters * 4, blocks * sms);
  } else {
    EXPECT_NE(launch(2, 2), cudaSuccess);
  }
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(cudaFree(data), cudaSuccess);
}

// The first grid lets the second start; the second reads what the first writes.
void run_dependent_grids(bool waits, bool programmatic) {
  if (!hopper())
    GTEST_SKIP() << "programmatic dependent launch needs sm_90; runs on the virtual GPU";
  int* data = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&data), 128 * sizeof(int)), cudaSuccess);
  launch_writer(data, nullptr);
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = programmatic ? 1 : 0;
  cudaLaunchConfig_t config{};
  config.gridDim = 1;
  config.blockDim = 64;
  config.attrs = &attribute;
  config.numAttrs = 1;
  void* arguments[] = {&data, &waits};
  ASSERT_EQ(cudaLaunchKernelExC(&config, reader_kernel(), arguments), cudaSuccess);
  int out[128] = {};
  ASSERT_EQ(cudaMemcpy(out, data, sizeof out, cudaMemcpyDeviceToHost), cudaSuccess);
  for (int i = 0; i < 64; ++i) ASSERT_EQ(out[64 + i], 2 * i);
  EXPECT_EQ(cudaFree(data), cudaSuccess);
}
TEST(DependentGrids, Wait) {
  run_dependent_grids(true, true);
  run_dependent_grids(false, false);
}
TEST(Pairs, DISABLED_BrokenGridOrder) { run_dependent_grids(false, true); }
TEST(Pairs, DISABLED_CleanGridOrder) { run_dependent_grids(true, true); }

// The driver's functions, as programs that do not link with it find them.
struct MapFunctions {
  decltype(&cuTensorMapEncodeTiled) encode = nullptr;
  decltype(&cuTensorMapReplaceAddress) move = nullptr;
};
MapFunctions map_functions() {
  const auto find = [](const char* name) {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult status{};
    EXPECT_EQ(cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &status),
              cudaSuccess);
    EXPECT_EQ(status, cudaDriverEntryPointSuccess) << name;
    return function;
  };
  return {
      reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(find("cuTensorMapEncodeTiled")),
      reinterpret_cast<decltype(&cuTensorMapReplaceAddress)>(find("cuTensorMapReplaceAddress"))};
}
CUresult encode_at(const MapFunctions& driver, CUtensorMap& map, void* address,
                   bool with_strides = true) {
  const cuuint64_t dims[] = {64, 256}, strides[] = {128};
  const cuuint32_t box[] = {64, 64}, steps[] = {1, 1};
  return driver.encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, with_strides ? 2 : 1, address, dims,
                       with_strides ? strides : nullptr, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                       CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                       CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

TEST(TensorMaps, AreEncodedByTheDriver) {
  if (!hopper()) GTEST_SKIP() << "tensor maps need sm_90; runs on the virtual GPU";
  const MapFunctions driver = map_functions();
  const auto encode = driver.encode;
  const auto move = driver.move;
  ASSERT_NE(encode, nullptr);
  ASSERT_NE(move, nullptr);
  char* data = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&data), 65536), cudaSuccess);
  CUtensorMap map;
  const cuuint64_t dims[] = {64, 256}, strides[] = {128};
  const cuuint32_t box[] = {64, 64}, wide[] = {128, 64}, steps[] = {1, 1};
  const auto make = [&](const cuuint32_t* size, void* address, CUtensorMapSwizzle swizzle) {
    return encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, address, dims, strides, size, steps,
                  CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  };
  EXPECT_EQ(make(box, data, CU_TENSOR_MAP_SWIZZLE_128B), CUDA_SUCCESS);
  EXPECT_EQ(move(&map, data + 1024), CUDA_SUCCESS);
  EXPECT_EQ(move(&map, data + 8), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(make(wide, data, CU_TENSOR_MAP_SWIZZLE_NONE), CUDA_SUCCESS);
  EXPECT_EQ(make(wide, data, CU_TENSOR_MAP_SWIZZLE_128B), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(make(box, data + 8, CU_TENSOR_MAP_SWIZZLE_128B), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(make(box, nullptr, CU_TENSOR_MAP_SWIZZLE_128B), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(encode_at(driver, map, data, false), CUDA_ERROR_INVALID_VALUE) << "null strides";
  // A map of any address, moved, is the map of the address that it was moved to.
  CUtensorMap moved;
  EXPECT_EQ(encode_at(driver, moved, reinterpret_cast<void*>(16)), CUDA_SUCCESS);
  EXPECT_EQ(move(&moved, data), CUDA_SUCCESS);
  EXPECT_EQ(encode_at(driver, map, data), CUDA_SUCCESS);
  EXPECT_EQ(std::memcmp(&moved, &map, sizeof map), 0);
  EXPECT_EQ(cudaFree(data), cudaSuccess);
}

// Only when asked for, in a process of its own: until a call of this thread has made a context
// current to it, the driver encodes nothing. What asks about devices and drivers makes none.
TEST(TensorMaps, DISABLED_NeedAContext) {
  const MapFunctions driver = map_functions();
  ASSERT_NE(driver.encode, nullptr);
  const auto encode = [&] {
    CUtensorMap map;
    return encode_at(driver, map, reinterpret_cast<void*>(16));
  };
  int value = 0;
  EXPECT_EQ(cudaGetDeviceCount(&value), cudaSuccess);
  EXPECT_EQ(cudaGetDevice(&value), cudaSuccess);
  EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0), cudaSuccess);
  EXPECT_EQ(encode(), CUDA_ERROR_INVALID_CONTEXT);

  const auto makes_one = [&](const char* what, const std::function<cudaError_t()>& call) {
    std::thread([&] {
      EXPECT_EQ(encode(), CUDA_ERROR_INVALID_CONTEXT) << "before " << what;
      EXPECT_EQ(call(), cudaSuccess) << what;
      EXPECT_EQ(encode(), CUDA_SUCCESS) << what;
    }).join();
  };
  void* data = nullptr;
  cudaStream_t stream = nullptr;
  cudaFuncAttributes attributes{};
  makes_one("cudaFree", [] { return cudaFree(nullptr); });
  makes_one("cudaMalloc", [&] { return cudaMalloc(&data, 4096); });
  makes_one("cudaFuncGetAttributes",
            [&] { return cudaFuncGetAttributes(&attributes, shared_kernel()); });
  makes_one("cudaFuncSetAttribute", [] {
    return cudaFuncSetAttribute(shared_kernel(), cudaFuncAttributeMaxDynamicSharedMemorySize, 1024);
  });
  makes_one("cudaStreamCreate", [&] { return cudaStreamCreate(&stream); });
  makes_one("a launch", [&] {
    launch_constant(static_cast<float*>(data), stream);
    return cudaGetLastError();
  });
  EXPECT_EQ(encode(), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(encode(), CUDA_SUCCESS);
  EXPECT_EQ(cudaFree(data), cudaSuccess);
}

}  // namespace
}  // namespace vgpu::test
