#include "host/ops/merge/op.h"

#include <array>

#include "host/core/plan.h"

namespace qkv::host::merge {
namespace {

constexpr std::array<const Kernel*, 2> kKernels{&kCpuMerge, &kCudaMerge};

bool is_empty(const Problem& m) { return m.empty(); }

// No kernel's plan asks for strides or alignment.
void add_key(const Problem& m, PlanKey* key) {
  for (const int64_t word : {int64_t{m.parts}, m.batch, m.heads, m.seq, m.dim,
                             int64_t{m.o_parts[0].type}, int64_t{m.o.type}, int64_t{m.lse.type}})
    key->add(word);
}

std::string text(const Problem& m) {
  return text_line("problem", m.parts, " parts, batch ", m.batch, ", heads ", m.heads, ", seq ",
                   m.seq, ", dim ", m.dim, ", ", type_name(m.o_parts[0].type), " to ",
                   type_name(m.o.type), m.lse.present() ? ", lse" : "");
}

// No kernel has a workspace.
const char* sharing(const Problem&, const View&) { return nullptr; }

}  // namespace

std::string repro(const Problem& m) {
  const qkv_type from = m.o_parts[0].type;
  return host::text("merge:", m.device == QKV_DEVICE_CUDA ? "cuda" : "cpu", ":", type_name(from),
                    ":d", m.dim, ":b", m.batch, ":h", m.heads, ":s", m.seq, ":parts", m.parts,
                    m.o.type == from ? "" : host::text(":to=", type_name(m.o.type)),
                    m.lse.present() ? ":lse" : "");
}

const Op kOp = op_of<Problem, is_empty, add_key, repro, text, sharing>("merge", kKernels,
                                                                       "attention_bench --problem");

}  // namespace qkv::host::merge
