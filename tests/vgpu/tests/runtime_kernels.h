// The kernels of runtime_test.cpp, behind plain functions.
#pragma once

#include <cuda_runtime_api.h>

namespace vgpu::test {

void launch_add(const float* a, const float* b, float* out, int n, cudaStream_t stream);
void launch_scale(float* data, float factor, int n, cudaStream_t stream);
void launch_constant(float* out, cudaStream_t stream);
void launch_out_of_bounds(float* data, cudaStream_t stream);
void launch_too_many_threads(float* data, cudaStream_t stream);
void launch_bounded(float* data, int threads, cudaStream_t stream);  // at most 64 of them
void launch_recursion(int* out, int n, cudaStream_t stream);
void launch_grid_sync(int* counter, int* out, int blocks, cudaStream_t stream);
cudaError_t launch_cooperative(int* data, int blocks, cudaStream_t stream);
void launch_shapes(cudaStream_t stream);
int& shape_scale();
const int* shape_areas();
void launch_exhaust(int* out, size_t bytes, cudaStream_t stream);
void launch_shared(float* data, size_t bytes, cudaStream_t stream);
void launch_writer(int* data, cudaStream_t stream);
const void* reader_kernel();
const void* shared_kernel();
const void* table_symbol();
const void* counter_symbol();

}  // namespace vgpu::test
