#include "bench/unfused_problem.h"

#include <utility>

namespace qkv::bench {

std::string unfused_declines(const Spec& s) {
  const bool cuda = s.device == QKV_DEVICE_CUDA;
  const bool shifted = s.causal && (s.alignment == QKV_ALIGN_EXPLICIT
                                        ? s.offset != s.s_kv - s.s_q
                                        : s.alignment == QKV_ALIGN_TOP_LEFT && s.s_q != s.s_kv);
  const std::pair<bool, const char*> beyond[] = {
      {cuda && s.additive, "additive scores"},
      {cuda && s.top, "top-k selection"},
      {s.softcap > 0, "softcap"},
      {shifted, "a causal mask that is not bottom-right"},
      {s.left.has_value() || s.right.has_value(), "a window"},
  };
  std::string out;
  const auto add = [&](bool asked, const char* what) {
    if (asked) out += (out.empty() ? "cannot do " : ", ") + std::string(what);
  };
  for (const auto& [asked, what] : beyond) add(asked, what);
  for (size_t part = kO + 1; part < kParts; ++part)
    add(part != kAdditive && s.given[part].there, host::attention::kTensors[part].word);
  return out;
}

std::string product_declines(const Spec& s) {
  if (s.additive) return "additive scores are no matrix product";
  Spec soft = s;
  soft.hard = soft.top = false;
  return unfused_declines(soft);
}

Unfused unfused_problem(const Spec& s, float scale) {
  Unfused out;
  out.type = s.type;
  out.batch = s.batch;
  out.heads_q = s.heads_q;
  out.heads_kv = s.heads_kv;
  out.s_q = s.s_q;
  out.s_kv = s.s_kv;
  out.d_qk = s.d_qk;
  out.d_v = s.d_v;
  out.scale = scale;
  out.causal = s.causal;
  if (s.hard) out.best = 1;
  if (s.top) out.best = s.top_k;
  return out;
}

}  // namespace qkv::bench
