// A product of matrices by cuBLAS, then a kernel that copies it. With an argument, a part of one
// factor is never written: the kernel then stores undefined data, and only then.
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <cstdio>
#include <vector>

__global__ void copy(float* out, const float* in) { out[threadIdx.x] = in[threadIdx.x]; }

int main(int argc, char**) {
  constexpr int kSize = 8, kElements = kSize * kSize;
  std::vector<float> ones(kElements, 1.0f), out(kElements);
  float *a = nullptr, *b = nullptr, *c = nullptr, *d = nullptr;
  for (float** p : {&a, &b, &c, &d}) cudaMalloc(reinterpret_cast<void**>(p), kElements * 4);
  cudaMemcpy(a, ones.data(), kElements * 4, cudaMemcpyHostToDevice);
  cudaMemcpy(b, ones.data(), (argc > 1 ? kElements - 1 : kElements) * 4, cudaMemcpyHostToDevice);
  cublasHandle_t handle;
  if (cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS) return 2;
  const float one = 1, zero = 0;
  cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, kSize, kSize, kSize, &one, a, kSize, b, kSize,
              &zero, c, kSize);
  // Seven columns are fine in any case.
  copy<<<1, kElements - kSize>>>(d, c);
  copy<<<1, kSize>>>(d + kElements - kSize, c + kElements - kSize);
  cudaMemcpy(out.data(), d, kElements * 4, cudaMemcpyDeviceToHost);
  int wrong = 0;
  for (int i = 0; i < kElements - kSize; ++i) wrong += out[i] != kSize;
  std::printf("%d wrong\n", wrong);
  cublasDestroy(handle);
  return wrong != 0;
}
