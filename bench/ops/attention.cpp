// Attention as the benchmark measures it: qkv, the unfused baseline, oneDNN's products alone.
#include <memory>
#include <string>
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
    const bool by_series =
        spec_.additive && spec_.device == QKV_DEVICE_CUDA && spec_.type != QKV_TYPE_F32;
    const auto reference = std::make_shared<const Reference>(tensors->problem(), by_series);
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

// A line for each tensor that a problem may have or lack.
std::string tensor_fields() {
  std::string out;
  for (const host::attention::TensorRow& row : host::attention::kTensors) {
    std::string fields;
    for (const std::string& field : fields_of(row)) fields += "  " + field;
    if (fields.empty()) continue;
    constexpr size_t kColumn = 26;
    if (fields.size() > kColumn - 2) fields += '\n', out += fields, fields.clear();
    out += fields + std::string(kColumn - fields.size(), ' ') + row.about;
    if (row.element == host::attention::Element::kWide) out += "; in the type of Q, or in f32";
    if (row.values == host::attention::Values::kLengths) out += ": from skv / 2 to skv";
    out += '\n';
  }
  return out;
}

}  // namespace

std::unique_ptr<Workload> attention_workload(const Spec& spec) {
  return std::make_unique<AttentionWorkload>(spec);
}

extern const Family attention_family;
const Family attention_family{
    "fwd",
    "  cpu cuda  f32 f16 bf16  full causal\n"
    "  d<n> dv<n>              widths; dv: of V, default d\n"
    "  b<n> hq<n> hkv<n>       batches, query heads, key heads; h<n>: both heads\n"
    "  sq<n> skv<n>            lengths; s<n>: both\n"
    "  additive  hard          score, selection; default: dot, soft\n"
    "  top-k=<n>               selection: the best n keys\n"
    "  scale=<x> softcap=<x>\n"
    "  top-left  offset=<n>    alignment of the diagonal; default: bottom-right\n"
    "  left=<n> right=<n>      window\n" +
        tensor_fields() +
        "  split=<n>               fixed split size in keys\n"
        "  q= k= v= o=<b>.<h>.<r>  strides in elements of batch, head, row; default: contiguous\n"
        "                          [batch, seq, heads, dim]\n"
        "  <axes>                  of b, h, q, k those on which the tensor has elements of its\n"
        "                          own; 1: none\n"
        "  <0..3>                  weights_mode\n",
    [](const std::string& line) { return attention_workload(parse(line)); }};

}  // namespace qkv::bench
