#include "host/core/verbose.h"

#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace qkv::host {
namespace {

constexpr std::pair<std::string_view, uint32_t> kWords[] = {
    {"error", kVerboseError},
    {"check", kVerboseCheck},
    {"dispatch", kVerboseDispatch},
    {"exec", kVerboseExec},
    {"repro", kVerboseRepro},
    {"all", 31},
    {"none", 0},
};

std::atomic<void (*)(const std::string&)> sink{nullptr};

// One write for a line: lines of several threads stay whole.
void print(const std::string& text) {
  const std::string line = "qkv:" + text + "\n";
  if (const auto to = sink.load(std::memory_order_acquire); to != nullptr) return to(line);
  for (size_t at = 0; at < line.size();) {
    const ssize_t written = ::write(STDERR_FILENO, line.data() + at, line.size() - at);
    if (written <= 0) return;  // nobody listens
    at += static_cast<size_t>(written);
  }
}

uint32_t parse(std::string_view list) {
  uint32_t words = 0;
  while (!list.empty()) {
    const size_t end = std::min(list.find(','), list.size());
    const std::string_view word = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    bool known = word.empty();
    for (const auto& [name, bits] : kWords) {
      if (word != name) continue;
      words |= bits;
      known = true;
    }
    if (!known)
      print(text("error: QKV_VERBOSE has '", word,
                 "'; known: error, check, dispatch, exec, repro, all, none"));
  }
  return words;
}

// --- the problem in one word

std::string number(double x) {
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.9g", x);
  return buffer.data();
}

// The axes on which a tensor over (query, key) pairs has elements of its own.
std::string axes(const View& view) {
  std::string letters;
  for (size_t axis = 0; axis < 4; ++axis)
    if (view.stride[axis] != 0) letters += "bhqk"[axis];
  return letters.empty() ? "1" : letters;
}

// Batch, head and row strides, unless they are those of a contiguous [batch, seq, heads, dim].
std::string strides(const char* name, const View& view) {
  const auto& n = view.shape;
  const std::array<int64_t, 3> plain{n[2] * n[1] * n[3], n[3], n[1] * n[3]};
  bool same = true;
  for (size_t axis = 0; axis < 3; ++axis) same &= n[axis] <= 1 || view.stride[axis] == plain[axis];
  if (same) return {};
  return text(":", name, "=", view.stride[0], ".", view.stride[1], ".", view.stride[2]);
}

}  // namespace

std::string repro(const Problem& p) {
  std::string out =
      text("fwd:", p.device == QKV_DEVICE_CUDA ? "cuda" : "cpu", ":", type_name(p.type), ":d",
           p.d_qk, p.d_v == p.d_qk ? "" : text(":dv", p.d_v), p.right == 0 ? ":causal" : ":full",
           ":b", p.batch, ":hq", p.heads_q, ":hkv", p.heads_kv, ":sq", p.s_q, ":skv", p.s_kv);
  if (p.score == QKV_SCORE_ADDITIVE) out += ":additive";
  if (p.selection == QKV_SELECT_HARD) out += ":hard";
  if (p.scale != default_scale(p.score, p.d_qk)) out += ":scale=" + number(p.scale);
  if (p.softcap > 0) out += ":softcap=" + number(p.softcap);
  if (p.alignment == QKV_ALIGN_TOP_LEFT) out += ":top-left";
  if (p.alignment == QKV_ALIGN_EXPLICIT) out += text(":offset=", p.explicit_offset);
  if (p.left != kUnbounded) out += text(":left=", p.left);
  if (p.right != kUnbounded && p.right != 0) out += text(":right=", p.right);
  if (p.mask.present()) out += ":mask=" + axes(p.mask);
  if (p.bias.present()) out += (p.bias.type == p.type ? ":bias=" : ":bias32=") + axes(p.bias);
  if (p.alibi_slopes.present()) out += ":alibi";
  if (p.kv_lengths.present()) out += ":lengths";
  if (p.lse.present()) out += ":lse";
  if (p.index.present()) out += p.index.type == QKV_TYPE_I32 ? ":index32" : ":index64";
  if (p.weights.present())
    out += text(p.weights.type == p.type ? ":weights=" : ":weights32=", p.weights_mode);
  if (p.fixed_split_size > 0) out += text(":split=", p.fixed_split_size);
  return out + strides("q", p.q) + strides("k", p.k) + strides("v", p.v) + strides("o", p.o);
}

void log_failure(const Status& status) {
  const qkv_status kind = qkv_status_class(status.code());
  const bool refused = kind == QKV_INVALID_ARGUMENT || kind == QKV_UNSUPPORTED ||
                       status.code() == QKV_RESOURCE_WORKSPACE;
  if (!verbose(refused ? kVerboseCheck : kVerboseError)) return;
  print(
      text(refused ? "check: " : "error: ", qkv_status_name(status.code()), ": ", status.reason()));
}

void log_plan(const Plan& plan, const Problem& problem) {
  const std::string line = repro(problem);
  if (verbose(kVerboseDispatch)) {
    print(text("dispatch: ", plan.kernel->name, " takes ", line));
    std::string_view rest = plan.declined;
    while (!rest.empty()) {
      const size_t end = rest.find('\n');
      print(text("dispatch:   declined by ", rest.substr(0, end)));
      rest.remove_prefix(end + 1);
    }
  }
  if (verbose(kVerboseRepro)) print("repro: attention_bench --problem " + line);
}

void log_run(const std::string& kernel, const std::string& problem, double microseconds) {
  print(text("exec: ", kernel, " ", number(std::round(microseconds * 10) / 10), " us ", problem));
}

namespace verbose_detail {

std::atomic<uint32_t> words{kUnread};

uint32_t read_environment() {
  static const uint32_t read = [] {
    const char* list = std::getenv("QKV_VERBOSE");
    return list == nullptr ? 0 : parse(list);
  }();
  uint32_t expected = kUnread;
  words.compare_exchange_strong(expected, read, std::memory_order_relaxed);
  return expected == kUnread ? read : expected;
}

}  // namespace verbose_detail

void set_verbose_for_test(const std::string& list, void (*to)(const std::string& line)) {
  sink.store(to, std::memory_order_release);
  verbose_detail::words.store(parse(list), std::memory_order_relaxed);
}

}  // namespace qkv::host
