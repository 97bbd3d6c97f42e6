// Attention as the benchmark measures it: qkv, the unfused baseline, oneDNN's products alone.
#include <memory>
#include <utility>

#include "bench/check.h"
#include "bench/cpu_contenders.h"
#include "bench/cuda_bench.h"
#include "bench/tensors.h"
#include "bench/workload.h"

namespace qkv::bench {
namespace {

class AttentionWorkload : public Workload {
 public:
  explicit AttentionWorkload(Spec spec) : spec_(std::move(spec)) {}

  Subject subject() const override { return subject_of(spec_); }
  qkv_device device() const override { return spec_.device; }
  qkv_type ceiling_type() const override { return spec_.type; }

  std::vector<Candidate> names(CudaBench* cuda) const override { return candidates(cuda, nullptr); }

  Ready ready(CudaBench* cuda) const override {
    const auto tensors = std::make_shared<const Tensors>(spec_);
    const auto reference = std::make_shared<const Reference>(tensors->problem());
    return {candidates(cuda, tensors),
            [reference](bool rounds_scores) { return reference->check(rounds_scores); }};
  }

 private:
  std::vector<Candidate> candidates(CudaBench* cuda,
                                    const std::shared_ptr<const Tensors>& tensors) const {
    return device() == QKV_DEVICE_CUDA ? cuda->candidates(spec_, tensors)
                                       : cpu_candidates(spec_, tensors);
  }

  Spec spec_;
};

}  // namespace

std::unique_ptr<Workload> attention_workload(const Spec& spec) {
  return std::make_unique<AttentionWorkload>(spec);
}

extern const Family kAttentionFamily;
const Family kAttentionFamily{
    "fwd",
    "  cpu cuda  f32 f16 bf16  full causal\n"
    "  d<n> dv<n>              widths; dv: of V, default d\n"
    "  b<n> hq<n> hkv<n>       batches, query heads, key heads; h<n>: both heads\n"
    "  sq<n> skv<n>            lengths; s<n>: both\n"
    "  additive  hard          score, selection; default: dot, soft\n"
    "  scale=<x> softcap=<x>\n"
    "  top-left  offset=<n>    alignment of the diagonal; default: bottom-right\n"
    "  left=<n> right=<n>      window\n"
    "  mask=<axes>             boolean mask with elements of its own on these of b, h, q, k;\n"
    "                          1: on none\n"
    "  bias=<axes>             in the type of Q; bias32=<axes>: in f32\n"
    "  alibi  lengths          slopes; key lengths from skv / 2 to skv\n"
    "  lse  index32 index64    outputs; index: with hard\n"
    "  weights=<0..3>          output in the type of Q, by mode; weights32=<0..3>: in f32\n"
    "  split=<n>               fixed split size in keys\n"
    "  q= k= v= o=<b>.<h>.<r>  strides in elements of batch, head, row; default: contiguous\n"
    "                          [batch, seq, heads, dim]\n",
    [](const std::string& line) { return attention_workload(parse(line)); }};

}  // namespace qkv::bench
