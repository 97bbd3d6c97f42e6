#include "host/core/plan.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace qkv::host {
namespace {

std::array<const View*, PlanKey::kViews> views(const Problem& p) {
  return {&p.q,
          &p.k,
          &p.v,
          &p.o,
          &p.lse,
          &p.index,
          &p.weights,
          &p.mask,
          &p.bias,
          &p.alibi_slopes,
          &p.additive_weight,
          &p.kv_lengths};
}

// 16 for null: a problem without addresses is planned for aligned ones.
int64_t alignment(const void* data) {
  const uintptr_t bits = reinterpret_cast<uintptr_t>(data) | 16;
  return static_cast<int64_t>(bits & (~bits + 1));
}

const char* score_name(qkv_score score) { return score == QKV_SCORE_DOT ? "dot" : "additive"; }

std::string mask_text(const Problem& p) {
  if (!p.windowed() && !p.mask.present()) return "none";
  std::string out = p.mask.present() ? "tensor " : "";
  if (p.left == kUnbounded && p.right == 0) out += "causal ";
  if (p.windowed() && !(p.left == kUnbounded && p.right == 0)) {
    const auto bound = [](int64_t x) { return x == kUnbounded ? std::string("inf") : text(x); };
    out += text("window(", bound(p.left), ", ", bound(p.right), ") ");
  }
  if (p.windowed()) {
    out += p.alignment == QKV_ALIGN_BOTTOM_RIGHT ? "bottom-right"
           : p.alignment == QKV_ALIGN_TOP_LEFT   ? "top-left"
                                                 : text("offset ", p.explicit_offset);
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

std::string cut_text(const Plan& plan) {
  const kernels::TileSchedule& cut = plan.schedule;
  std::string out = cut.group.divisor == 1 ? std::string("heads apart")
                                           : text(cut.group.divisor, " heads packed into a tile");
  out += text(", ", cut.splits, cut.splits == 1 ? " split" : " splits");
  if (cut.split_keys > 0) out += text(" of ", cut.split_keys, " keys");
  const auto tenths = [](double x) {
    return text(std::llround(x * 10) / 10, ".", std::llround(x * 10) % 10);
  };
  return out + text("; predicted ", tenths(plan.predicted_waves), " waves, ",
                    std::llround(plan.predicted_cycles), " cycles");
}

}  // namespace

PlanKey plan_key(const Problem& p, const DeviceInfo& device) {
  PlanKey key;
  int64_t* out = key.shape.data();
  for (int64_t field : {int64_t{p.device},
                        int64_t{p.device_index},
                        int64_t{device.threads},
                        int64_t{p.score},
                        int64_t{p.selection},
                        p.batch,
                        p.heads_q,
                        p.heads_kv,
                        p.s_q,
                        p.s_kv,
                        p.d_qk,
                        p.d_v,
                        int64_t{p.type},
                        int64_t{p.weights_mode},
                        int64_t{p.softcap > 0 ? 1 : 0},
                        int64_t{p.scale > 0 ? 1 : 0},
                        int64_t{p.alignment},
                        p.explicit_offset,
                        p.left,
                        p.right,
                        p.fixed_split_size}) {
    *out++ = field;
  }
  const auto all = views(p);
  for (size_t i = 0; i < PlanKey::kViews; ++i) {
    const View& view = *all[i];
    *out++ = view.type;
    if (view.present()) {
      out = std::copy(view.shape.begin(), view.shape.end(), out);
      out = std::copy(view.stride.begin(), view.stride.end(), out);
    }
    key.alignment[i] = alignment(view.data);
  }
  return key;
}

bool PlanKey::serves(const PlanKey& call) const {
  return shape == call.shape &&
         std::equal(alignment.begin(), alignment.end(), call.alignment.begin(),
                    [](int64_t planned, int64_t given) { return given >= planned; });
}

uint64_t PlanKey::hash() const {
  // FNV-1a over 64-bit words; the final mix spreads the high bits.
  uint64_t h = 0xcbf29ce484222325u;
  for (int64_t word : shape) h = (h ^ static_cast<uint64_t>(word)) * 0x100000001b3u;
  for (int64_t word : alignment) h = (h ^ static_cast<uint64_t>(word)) * 0x100000001b3u;
  return h ^ h >> 32;
}

Status make_plan(const Problem& problem, const DeviceInfo& device, Plan* plan) {
  for (const Kernel* kernel : kernels()) {
    if (kernel->device != problem.device) continue;
    std::string reason = kernel->decline(problem, device);
    if (reason.empty()) {
      plan->kernel = kernel;
      kernel->plan(problem, device, plan);
      return {};
    }
    plan->declined += text(kernel->name, ": ", reason, "\n");
  }
  QKV_REQUIRE(!plan->declined.empty(), QKV_UNSUPPORTED_BUILD,
              "this build of qkv has no kernel for the tensors' device");
  std::string reasons = plan->declined;
  reasons.pop_back();
  return Status(QKV_UNSUPPORTED_KERNEL, "no kernel runs this problem; " + reasons);
}

std::string plan_text(const Plan& plan, const Problem& p, const DeviceInfo& device) {
  std::string out;
  const auto line = [&](const char* name, const auto&... values) {
    std::string label = name;
    label.resize(12, ' ');
    out += text(label, values..., "\n");
  };
  line("kernel", plan.kernel->name);
  line("device", device.name);
  line("problem", "batch ", p.batch, ", heads ", p.heads_q, "/", p.heads_kv, ", s_q ", p.s_q,
       ", s_kv ", p.s_kv, ", d_qk ", p.d_qk, ", d_v ", p.d_v, ", ", type_name(p.type));
  line("options", "score ", score_name(p.score), ", selection ",
       p.selection == QKV_SELECT_SOFT ? "soft" : "hard", ", scale ", p.scale, ", mask ",
       mask_text(p), p.kv_lengths.present() ? ", lengths" : "",
       p.softcap > 0 ? text(", softcap ", p.softcap) : "", p.bias.present() ? ", bias" : "",
       p.alibi_slopes.present() ? ", alibi" : "");
  if (p.device == QKV_DEVICE_CPU) {
    line("tiles", plan.cpu.tile_q, " queries x ", plan.cpu.tile_kv, " keys");
    line("tasks", plan.cpu.tasks, " on ", plan.cpu.threads, " threads");
  } else {
    line("tiles", plan.tile_q, " queries x ", plan.tile_kv, " keys");
    line("grid", plan.blocks, " blocks of ", plan.threads, " threads, ", plan.smem_bytes,
         " bytes of shared memory each");
    if (plan.predicted_cycles > 0) line("cut", cut_text(plan));
  }
  line("workspace", plan.workspace_bytes, " bytes");
  if (!plan.declined.empty()) out += "declined\n";
  for (size_t at = 0; at < plan.declined.size();) {
    const size_t end = plan.declined.find('\n', at);
    out += "  " + plan.declined.substr(at, end - at) + "\n";
    at = end + 1;
  }
  return out;
}

}  // namespace qkv::host
