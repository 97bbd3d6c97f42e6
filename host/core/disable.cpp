#include "host/core/disable.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

#include "host/core/op.h"
#include "host/core/verbose.h"

namespace qkv::host {
namespace {

std::atomic<const Disabled*> in_force{nullptr};

bool is_kernel(std::string_view name) {
  for (const Op* op : all_ops())
    for (const Kernel* kernel : op->kernels)
      if (name == kernel->name) return true;
  return false;
}

// Every list that was ever in force. Never destroyed: threads may outlive static destructors, and
// an address must not be another list's later.
const Disabled* keep(std::unique_ptr<const Disabled> list) {
  static std::mutex mutex;
  static auto* const kept = new std::vector<std::unique_ptr<const Disabled>>;
  const std::lock_guard<std::mutex> lock(mutex);
  return kept->emplace_back(std::move(list)).get();
}

const Disabled* parse(std::string_view list) {
  auto out = std::make_unique<Disabled>();
  while (!list.empty()) {
    const size_t end = std::min(list.find(','), list.size());
    std::string_view name = list.substr(0, end);
    name.remove_prefix(std::min(name.find_first_not_of(' '), name.size()));
    name = name.substr(0, name.find_last_not_of(' ') + 1);
    list.remove_prefix(std::min(end + 1, list.size()));
    if (!name.empty()) (is_kernel(name) ? out->kernels : out->unknown).emplace_back(name);
  }
  return keep(std::move(out));
}

const Disabled* read_environment() {
  static const Disabled* const read = [] {
    const char* list = std::getenv("QKV_DISABLE");
    const Disabled* parsed = parse(list == nullptr ? "" : list);
    log_unknown_kernels(parsed->unknown);
    return parsed;
  }();
  return read;
}

}  // namespace

bool Disabled::has(std::string_view kernel) const {
  return std::ranges::find(kernels, kernel) != kernels.end();
}

const Disabled& disabled() {
  const Disabled* const list = in_force.load(std::memory_order_acquire);
  return list != nullptr ? *list : *read_environment();
}

void set_disabled_for_test(const std::string& list) {
  const Disabled* const parsed = parse(list);
  log_unknown_kernels(parsed->unknown);
  in_force.store(parsed, std::memory_order_release);
}

}  // namespace qkv::host
