#include "host/core/plan_cache.h"

#include <array>
#include <atomic>
#include <list>
#include <mutex>
#include <unordered_map>

#include "host/core/current_device.h"
#include "host/core/verbose.h"

namespace qkv::host {
namespace {

class PlanCache {
 public:
  SharedPlan find(uint64_t hash, const PlanKey& key) {
    const std::lock_guard lock(mutex_);
    const auto [first, last] = by_hash_.equal_range(hash);
    for (auto it = first; it != last; ++it) {
      if (!((*it->second)->key == key)) continue;
      recent_.splice(recent_.begin(), recent_, it->second);
      return recent_.front();
    }
    return nullptr;
  }

  void insert(uint64_t hash, SharedPlan plan) {
    const std::lock_guard lock(mutex_);
    recent_.push_front(std::move(plan));
    by_hash_.emplace(hash, recent_.begin());
    if (recent_.size() > kPlanCacheCapacity) evict();
  }

  void clear() {
    const std::lock_guard lock(mutex_);
    by_hash_.clear();
    recent_.clear();
  }

 private:
  void evict() {
    const auto oldest = std::prev(recent_.end());
    const auto [first, last] = by_hash_.equal_range((*oldest)->key.hash());
    for (auto it = first; it != last; ++it) {
      if (it->second == oldest) {
        by_hash_.erase(it);
        break;
      }
    }
    recent_.erase(oldest);
  }

  std::mutex mutex_;
  std::list<SharedPlan> recent_;  // most recent first; two threads may have added equal plans
  std::unordered_multimap<uint64_t, std::list<SharedPlan>::iterator> by_hash_;
};

PlanCache& cache() {
  static auto* instance = new PlanCache;  // never destroyed: threads may outlive static destructors
  return *instance;
}

// The thread's last plans. A cleared cache invalidates all fronts by its generation.
struct Front {
  struct Slot {
    uint64_t hash = 0;
    SharedPlan plan;
  };
  std::array<Slot, 8> slots;
  uint64_t generation = 0;
};

std::atomic<uint64_t> generation{1};

Front& front() {
  thread_local Front instance;
  const uint64_t now = generation.load(std::memory_order_acquire);
  if (instance.generation != now) {
    instance = Front{};
    instance.generation = now;
  }
  return instance;
}

}  // namespace

Status find_device(const AnyProblem& problem, const CudaRuntime& cuda, const DeviceInfo** device) {
  if (problem.device == QKV_DEVICE_CPU) {
    thread_local DeviceInfo cpu;
    cpu = cpu_device_info(problem.threads);
    *device = &cpu;
    return {};
  }
  *device = cuda.device_info(problem.device_index);
  if (*device == nullptr) QKV_RETURN_IF_ERROR(cuda.pending_error());
  QKV_REQUIRE(*device != nullptr, QKV_DEVICE_ERROR_NONE, "cuda:", problem.device_index,
              " does not answer");
  return {};
}

Status prepare_plan(const Op& op, const AnyProblem& problem, const DeviceInfo& device,
                    const CudaRuntime& cuda, Plan* plan) {
  for (;;) {
    Status prepared = plan->kernel->prepare(problem, cuda, plan->own.get());
    const bool missing = prepared.code() == QKV_UNSUPPORTED;
    if (!missing && prepared.code() != QKV_UNSUPPORTED_KERNEL) return prepared;
    Status next = pass_over(op, problem, device, prepared.reason(), plan);
    if (!next.ok()) return missing ? next : Status(QKV_DEVICE_ERROR_CALL, next.reason());
  }
}

Status new_plan(const Op& op, const AnyProblem& problem, const PlanKey& key,
                const DeviceInfo& device, const CudaRuntime& cuda,
                std::unique_ptr<qkv_plan>* plan) {
  auto made = std::make_unique<qkv_plan>(qkv_plan{&op, key, device, {}, nullptr});
  QKV_RETURN_IF_ERROR(make_plan(op, problem, device, &made->plan));
  if (op.empty(problem)) {
    // Nothing is ever launched: there is nothing to load, and TMA describes no empty tensors.
  } else if (problem.device == QKV_DEVICE_CPU) {
    QKV_RETURN_IF_ERROR(prepare_plan(op, problem, device, cuda, &made->plan));
  } else {
    CurrentDevice current(cuda);
    QKV_RETURN_IF_ERROR(current.set(problem.device_index));
    QKV_RETURN_IF_ERROR(prepare_plan(op, problem, device, cuda, &made->plan));
    QKV_RETURN_IF_ERROR(current.restore());
  }
  if (verbose(kVerboseDispatch | kVerboseRepro)) log_plan(op, made->plan, problem);
  *plan = std::move(made);
  return {};
}

Status cached_plan(const Op& op, const AnyProblem& problem, const CudaRuntime& cuda,
                   SharedPlan* plan) {
  const DeviceInfo* device = nullptr;
  QKV_RETURN_IF_ERROR(find_device(problem, cuda, &device));
  const PlanKey key = plan_key(op, problem, *device);
  const uint64_t hash = key.hash();
  Front::Slot& slot = front().slots[hash % front().slots.size()];
  if (slot.plan != nullptr && slot.hash == hash && slot.plan->key == key) {
    *plan = slot.plan;
    return {};
  }
  SharedPlan found = cache().find(hash, key);
  if (found == nullptr) {
    std::unique_ptr<qkv_plan> made;
    QKV_RETURN_IF_ERROR(new_plan(op, problem, key, *device, cuda, &made));
    found = std::move(made);
    cache().insert(hash, found);
  }
  slot = {hash, found};
  *plan = std::move(found);
  return {};
}

SharedPlan known_plan(const Op& op, const AnyProblem& problem, const DeviceInfo& device) {
  const PlanKey key = plan_key(op, problem, device);
  return cache().find(key.hash(), key);
}

void clear_plan_cache() {
  cache().clear();
  generation.fetch_add(1, std::memory_order_acq_rel);
}

}  // namespace qkv::host
