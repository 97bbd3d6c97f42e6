#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include "tests/runtime_kernels.h"

namespace vgpu::test {
namespace {

__constant__ float table[4];
__device__ int counter;
extern __shared__ float dynamic[];

__global__ void add(const float* a, const float* b, float* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = a[i] + b[i];
}
__global__ void scale(float* data, float factor, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) data[i] *= factor;
}
__global__ void constant(float* out) {
  out[threadIdx.x] = table[threadIdx.x];
  atomicAdd(&counter, 1);
}
__global__ void out_of_bounds(float* data) { data[1 << 20] = 1; }

__device__ __noinline__ int fibonacci(int n) {
  return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}
__global__ void recursion(int* out, int n) {
  out[threadIdx.x] = fibonacci(n + static_cast<int>(threadIdx.x));
}

__global__ void __launch_bounds__(64) bounded(float* data) { data[threadIdx.x] = 1; }

// Every block waits for all others: only works when blocks make progress together.
__global__ void grid_sync(int* arrivals, int* out) {
  if (threadIdx.x == 0) {
    atomicAdd(arrivals, 1);
    while (*reinterpret_cast<volatile int*>(arrivals) < static_cast<int>(gridDim.x)) {
    }
    out[blockIdx.x] = *reinterpret_cast<volatile int*>(arrivals);
  }
}
// The blocks pass a sum around: the barrier of the grid is what makes it right.
__global__ void cooperative(int* data) {
  const cooperative_groups::grid_group grid = cooperative_groups::this_grid();
  for (int round = 0; round < 3; ++round) {
    const int i = static_cast<int>(grid.thread_rank()), n = static_cast<int>(grid.size());
    const int next = data[(i + 33) % n];
    grid.sync();
    data[i] = next + 1;
    grid.sync();
  }
}
// Objects that one kernel makes, another calls through their tables, a third deletes.
struct Shape {
  __device__ virtual ~Shape() {}
  __device__ virtual int area(int scale) const = 0;
};
struct Square : Shape {
  __device__ explicit Square(int a) : a(a) {}
  __device__ int area(int scale) const override { return a * a * scale; }
  int a;
};
struct Box : Shape {
  __device__ Box(int a, int b) : a(a), b(b) {}
  __device__ int area(int scale) const override { return a * b * scale; }
  int a, b;
};
__device__ Shape* shapes[32];
__managed__ int managed_scale = 3;
__managed__ int managed_areas[32];

using Operation = int (*)(int, int);
__device__ int plus(int a, int b) { return a + b; }
__device__ int times(int a, int b) { return a * b; }
__device__ Operation operations[2] = {plus, times};

__global__ void make_shapes() {
  const int t = threadIdx.x;
  shapes[t] = t % 3 == 0 ? static_cast<Shape*>(new Square(t)) : new Box(t, 2);
}
__global__ void use_shapes() {
  const int t = threadIdx.x;
  managed_areas[t] = operations[t % 2](shapes[t]->area(managed_scale), 10);
}
__global__ void delete_shapes() { delete shapes[threadIdx.x]; }
__global__ void exhaust(int* out, size_t bytes) {
  void* p = malloc(bytes);
  out[threadIdx.x] = p != nullptr;
  free(p);
}

__global__ void shared(float* data, int words) {
  for (int i = threadIdx.x; i < words; i += blockDim.x) dynamic[i] = static_cast<float>(i);
  __syncthreads();
  if (blockIdx.x == 0) data[threadIdx.x] = dynamic[words - 1 - static_cast<int>(threadIdx.x)];
}

// A grid that lets its dependents start at once, and one that depends on it.
__global__ void writer(int* data) {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
  data[threadIdx.x] = static_cast<int>(threadIdx.x);
}
__global__ void reader(int* data, bool waits) {
#if __CUDA_ARCH__ >= 900
  if (waits) cudaGridDependencySynchronize();
#endif
  data[threadIdx.x + blockDim.x] = 2 * data[threadIdx.x];
}

}  // namespace

void launch_add(const float* a, const float* b, float* out, int n, cudaStream_t stream) {
  add<<<(n + 127) / 128, 128, 0, stream>>>(a, b, out, n);
}
void launch_scale(float* data, float factor, int n, cudaStream_t stream) {
  scale<<<(n + 127) / 128, 128, 0, stream>>>(data, factor, n);
}
void launch_constant(float* out, cudaStream_t stream) { constant<<<1, 4, 0, stream>>>(out); }
void launch_out_of_bounds(float* data, cudaStream_t stream) {
  out_of_bounds<<<1, 1, 0, stream>>>(data);
}
void launch_too_many_threads(float* data, cudaStream_t stream) {
  scale<<<1, 2048, 0, stream>>>(data, 1.0f, 1);
}
void launch_bounded(float* data, int threads, cudaStream_t stream) {
  bounded<<<1, threads, 0, stream>>>(data);
}
void launch_recursion(int* out, int n, cudaStream_t stream) {
  recursion<<<1, 8, 0, stream>>>(out, n);
}
void launch_grid_sync(int* arrivals, int* out, int blocks, cudaStream_t stream) {
  grid_sync<<<blocks, 32, 0, stream>>>(arrivals, out);
}
cudaError_t launch_cooperative(int* data, int blocks, cudaStream_t stream) {
  void* args[] = {&data};
  return cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(cooperative), dim3(blocks),
                                     dim3(32), args, 0, stream);
}
void launch_shapes(cudaStream_t stream) {
  make_shapes<<<1, 32, 0, stream>>>();
  use_shapes<<<1, 32, 0, stream>>>();
  delete_shapes<<<1, 32, 0, stream>>>();
}
int& shape_scale() { return managed_scale; }
const int* shape_areas() { return managed_areas; }
void launch_exhaust(int* out, size_t bytes, cudaStream_t stream) {
  exhaust<<<1, 32, 0, stream>>>(out, bytes);
}
void launch_shared(float* data, size_t bytes, cudaStream_t stream) {
  shared<<<1, 64, bytes, stream>>>(data, static_cast<int>(bytes / 4));
}
void launch_writer(int* data, cudaStream_t stream) { writer<<<1, 64, 0, stream>>>(data); }
const void* reader_kernel() { return reinterpret_cast<const void*>(reader); }
const void* shared_kernel() { return reinterpret_cast<const void*>(shared); }
const void* table_symbol() { return table; }
const void* counter_symbol() { return &counter; }

}  // namespace vgpu::test
