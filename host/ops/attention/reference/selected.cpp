#include "host/ops/attention/reference/selected.h"

#include <cstddef>

namespace qkv::reference {

OverSelected::OverSelected(const host::attention::Problem& p, const std::vector<int64_t>& chosen)
    : mask(static_cast<size_t>(p.batch * p.heads_q * p.s_q * p.s_kv)), problem(p) {
  for (size_t at = 0; at < chosen.size(); ++at) {
    if (chosen[at] < 0 || chosen[at] >= p.s_kv) continue;
    const size_t row = at / static_cast<size_t>(p.top_k);
    mask[row * static_cast<size_t>(p.s_kv) + static_cast<size_t>(chosen[at])] = 1;
  }
  problem.selection = QKV_SELECT_SOFT;
  problem.top_k = 1;
  problem.index = problem.top_scores = {};
  if (p.weights_mode != QKV_WEIGHTS_PROBABILITIES) problem.weights = {};
  problem.mask = {.data = mask.data(),
                  .type = QKV_TYPE_BOOL,
                  .shape = {p.batch, p.heads_q, p.s_q, p.s_kv},
                  .stride = {p.heads_q * p.s_q * p.s_kv, p.s_q * p.s_kv, p.s_kv, 1}};
}

}  // namespace qkv::reference
