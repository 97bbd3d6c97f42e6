// cpu_merge: parts in host memory, a row at a time.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "host/core/device.h"
#include "host/core/numeric.h"
#include "host/ops/merge/op.h"
#include "kernels/core/merge_math.h"

namespace qkv::host::merge {
namespace {

constexpr int64_t kWorkOfATask = 4096;  // elements of O
constexpr float kInf = std::numeric_limits<float>::infinity();

// One row. All weights are known before O or LSE, which may be a part's, is written.
template <class Part, class Out>
void merge_row(const Problem& m, int64_t b, int64_t h, int64_t i) {
  std::array<float, QKV_MERGE_MAX_PARTS> weight{};
  std::array<const Part*, QKV_MERGE_MAX_PARTS> from{};
  size_t used = 0;
  float best = -kInf;
  for (size_t n = 0; n < static_cast<size_t>(m.parts); ++n) {
    const float lse = *m.lse_parts[n].at<float>(b, h, i);
    if (lse == -kInf) continue;
    weight[used] = lse;
    from[used++] = m.o_parts[n].at<Part>(b, h, i);
    best = std::fmax(best, lse);
  }
  float l = 0;
  for (size_t n = 0; n < used; ++n) l += weight[n] = kernels::part_weight(weight[n], best);
  Out* o = m.o.at<Out>(b, h, i);
  for (int64_t d = 0; d < m.dim; ++d) {
    float sum = used == 0 ? 0.0f : weight[0] * to_float(from[0][d]);  // a lone -0 stays -0
    for (size_t n = 1; n < used; ++n) sum += weight[n] * to_float(from[n][d]);
    o[d] = from_float<Out>(kernels::merged_o(sum, l));
  }
  if (m.lse.present()) *m.lse.at<float>(b, h, i) = kernels::merged_lse(best, l);
}

template <class Part, class Out>
void merge_rows(const Problem& m) {
  const int64_t rows = m.batch * m.heads * m.seq;
  const int64_t together = kWorkOfATask / std::max<int64_t>(m.dim, 1) + 1;
  const int32_t threads = rows <= together ? 1 : cpu_threads(0);
  // Rows are handed out by number: a static schedule would ask the program's omp_get_thread_num(),
  // which need not be OpenMP's.
#pragma omp parallel for schedule(dynamic, together) num_threads(threads)
  for (int64_t row = 0; row < rows; ++row)
    merge_row<Part, Out>(m, row / m.seq / m.heads, row / m.seq % m.heads, row % m.seq);
}

template <class Part>
void merge_to(const Problem& m) {
  if (m.o.type == QKV_TYPE_F32) return merge_rows<Part, float>(m);
  if (m.o.type == QKV_TYPE_F16) return merge_rows<Part, Half>(m);
  return merge_rows<Part, Bfloat>(m);
}

void merge_on_cpu(const Problem& m) {
  if (m.o_parts[0].type == QKV_TYPE_F32) return merge_to<float>(m);
  if (m.o_parts[0].type == QKV_TYPE_F16) return merge_to<Half>(m);
  return merge_to<Bfloat>(m);
}

std::string cpu_decline(const Problem&, const DeviceInfo&) { return {}; }

void cpu_plan(const Problem&, const DeviceInfo&, KernelPlan*) {}

Status cpu_prepare(const Problem&, const CudaRuntime&, KernelPlan*) { return {}; }

Status cpu_launch(const Problem& m, const KernelPlan&, const CudaRuntime&, const Run&) {
  merge_on_cpu(m);
  return {};
}

}  // namespace

constexpr Kernel kCpuMerge =
    kernel_of<Problem, KernelPlan, cpu_decline, cpu_plan, cpu_prepare, cpu_launch>("cpu_merge",
                                                                                   QKV_DEVICE_CPU);

}  // namespace qkv::host::merge
