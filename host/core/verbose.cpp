#include "host/core/verbose.h"

#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace qkv::host {
namespace {

constexpr uint32_t kEveryWord = 31;
constexpr std::pair<std::string_view, uint32_t> kWords[] = {
    {"error", kVerboseError},
    {"check", kVerboseCheck},
    {"dispatch", kVerboseDispatch},
    {"exec", kVerboseExec},
    {"repro", kVerboseRepro},
    {"all", kEveryWord},
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

}  // namespace

std::string number(double x) {
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.9g", x);
  return buffer.data();
}

void log_failure(const Status& status) {
  const qkv_status kind = qkv_status_class(status.code());
  const bool refused = kind == QKV_INVALID_ARGUMENT || kind == QKV_UNSUPPORTED ||
                       status.code() == QKV_RESOURCE_WORKSPACE;
  if (!verbose(refused ? kVerboseCheck : kVerboseError)) return;
  print(
      text(refused ? "check: " : "error: ", qkv_status_name(status.code()), ": ", status.reason()));
}

void log_plan(const Op& op, const Plan& plan, const AnyProblem& problem) {
  const std::string line = op.repro(problem);
  if (verbose(kVerboseDispatch)) {
    print(text("dispatch: ", plan.kernel->name, " takes ", line));
    std::string_view rest = plan.declined;
    while (!rest.empty()) {
      const size_t end = rest.find('\n');
      print(text("dispatch:   declined by ", rest.substr(0, end)));
      rest.remove_prefix(end + 1);
    }
  }
  if (verbose(kVerboseRepro)) print(text("repro: ", op.replay, " ", line));
}

void log_unknown_kernels(const std::vector<std::string>& names) {
  if (!verbose(kEveryWord)) return;
  for (const std::string& name : names)
    print(text("error: QKV_DISABLE has '", name, "', which is no kernel; see qkv_build_info"));
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
