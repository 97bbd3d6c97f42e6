// CUDA graph: attention captured once, replayed with new inputs. A planned run neither allocates
// nor synchronises, so that it can be captured; the workspace is yours.
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdio>
#include <qkv/qkv.hpp>
#include <vector>

int main() {
  if (qkv_device_count() == 0) {
    std::puts("skipped: no CUDA device");
    return 77;
  }
  const int64_t seq = 40, heads = 2, dim = 32;
  const size_t count = seq * heads * dim, bytes = count * sizeof(float);
  float *x = nullptr, *o = nullptr;
  void* workspace = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&x), bytes);
  cudaMalloc(reinterpret_cast<void**>(&o), bytes);
  const auto problem_on = [&](float* in, float* out) {
    const qkv::Tensor t = qkv::bshd(in, 1, seq, heads, dim);
    return qkv::Attention{
        .q = t, .k = t, .v = t, .o = qkv::bshd(out, 1, seq, heads, dim), .causal = true};
  };
  const qkv::Attention problem = problem_on(x, o);
  const qkv::Plan plan(problem);  // outside of the capture: it may load the kernel
  if (plan.workspace_size() > 0) cudaMalloc(&workspace, plan.workspace_size());

  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  cudaStreamCreate(&stream);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  plan.run(problem, workspace, plan.workspace_size(), stream);
  cudaStreamEndCapture(stream, &graph);
  cudaGraphInstantiate(&replay, graph, 0);

  float worst = 0;
  for (int step = 1; step <= 3; ++step) {
    std::vector<float> in(count), out(count, NAN), expected(count);
    for (size_t n = 0; n < count; ++n) in[n] = std::sin(static_cast<float>(n * step % 911));
    cudaMemcpyAsync(x, in.data(), bytes, cudaMemcpyHostToDevice, stream);
    cudaGraphLaunch(replay, stream);
    cudaMemcpyAsync(out.data(), o, bytes, cudaMemcpyDeviceToHost, stream);
    if (cudaStreamSynchronize(stream) != cudaSuccess) return 1;
    qkv::attention(problem_on(in.data(), expected.data()));  // host memory: the CPU computes
    for (size_t n = 0; n < count; ++n) {
      const float error = std::fabs(out[n] - expected[n]);
      if (error > worst || std::isnan(error)) worst = error;
    }
  }
  std::printf("one graph, three replays; largest difference from the CPU: %.1e\n", worst);
  return worst < 1e-5f ? 0 : 1;
}
