#include "tests/support/fake_cuda.h"

#include <new>
#include <stdexcept>
#include <utility>

#include "host/core/known_devices.h"

namespace qkv::test {
namespace {

using host::Status;

FakeCuda* active = nullptr;

constexpr int kOutOfMemory = 2;  // cudaErrorMemoryAllocation

Status status_of(int code, const char* what) {
  if (code == 0) return {};
  return Status(code == kOutOfMemory ? QKV_RESOURCE_OUT_OF_MEMORY : QKV_DEVICE_ERROR_CALL,
                host::text(what, ": fake error ", code));
}

Status set_device(int32_t index, int32_t* previous) {
  if (!active->set_device_status.ok()) return active->set_device_status;
  const int32_t current = FakeCuda::current_device();
  if (index != current && index == active->fail_return_to) {
    active->fail_return_to = -1;
    return Status(QKV_DEVICE_ERROR_CALL, "cudaSetDevice: no");
  }
  *previous = current == index ? -1 : current;
  if (current == index) return {};
  FakeCuda::current_device() = index;
  if (active->record_launches) ++active->device_switches;
  return {};
}

Status allocate(size_t bytes, void*, void** pointer) {
  if (!active->allocate_status.ok()) return active->allocate_status;
  ++active->allocations;
  *pointer = ::operator new (bytes, std::align_val_t{256});
  return {};
}

Status release(void* pointer, void*) {
  ++active->releases;
  ::operator delete (pointer, std::align_val_t{256});
  return active->release_status;
}

// Whatever is to be loaded or queued is the test's word instead.
Status load(const char* what, host::CudaCall) {
  return active->record_load(FakeCuda::current_device(), what);
}

Status queue(const host::Run& run, host::CudaCall) {
  if (active->record_launches) {
    active->record({run.name, FakeCuda::current_device(), run.workspace, run.stream});
  }
  return status_of(active->launch_code, run.name);
}

const host::CudaRuntime kTable{
    .device_count =
        [](int32_t* count) {
          *count = active->count_status.ok() ? static_cast<int32_t>(active->devices.size()) : 0;
          return active->count_status;
        },
    .no_device = [] { return active->no_device; },
    .device_info = [](int32_t index) -> const host::DeviceInfo* {
      const auto at = static_cast<size_t>(index);
      return active->devices_answer && at < active->devices.size() ? &active->devices[at] : nullptr;
    },
    .pointer_info =
        [](const void* pointer, host::PointerInfo* info) {
          if (active->pointer_status.ok()) *info = active->info(pointer);
          return active->pointer_status;
        },
    .pending_error = [] { return active->pending; },
    .set_device = set_device,
    .allocate = allocate,
    .release = release,
    .load = load,
    .queue = queue};

}  // namespace

host::DeviceInfo fake_device(int32_t compute) {
  for (const char* key : {"v100", "t4", "a100", "a40", "l40s", "h100", "b200", "rtx5090"}) {
    const host::KnownDevice& known = *host::find_known_device(key);
    if (known.compute == compute) return device_info_of(known);
  }
  throw std::invalid_argument("no such fake device");
}

FakeCuda::FakeCuda(std::vector<host::DeviceInfo> given) : devices(std::move(given)) {
  if (active != nullptr) throw std::logic_error("a fake CUDA is in force already");
  active = this;
  current_device() = 0;
  host::set_cuda_runtime_for_test(&kTable);
}

FakeCuda::~FakeCuda() {
  host::set_cuda_runtime_for_test(nullptr);
  active = nullptr;
}

int32_t& FakeCuda::current_device() {
  thread_local int32_t device = 0;
  return device;
}

void FakeCuda::map(const void* first, size_t bytes, host::Memory memory, int32_t device) {
  ranges_.push_back({static_cast<const std::byte*>(first), bytes, {memory, device}});
}

void FakeCuda::map_everything(int32_t device) {
  all_device_ = true;
  everywhere_ = device;
}

std::vector<FakeCuda::Launch> FakeCuda::launches() const {
  const std::lock_guard lock(mutex_);
  return launches_;
}

Status FakeCuda::record_load(int32_t device, const char* what) {
  const std::lock_guard lock(mutex_);
  if (record_launches) prepared_on.push_back(device);
  if (load_results.empty()) return status_of(prepare_code, what);
  Status result = std::move(load_results.front());
  load_results.pop_front();
  return result;
}

void FakeCuda::record(const Launch& launch) {
  const std::lock_guard lock(mutex_);
  launches_.push_back(launch);
}

host::PointerInfo FakeCuda::info(const void* pointer) const {
  if (throws) throw std::runtime_error("the driver is on fire");
  if (exhausted) throw std::bad_alloc();
  if (all_device_) return {host::Memory::kDevice, everywhere_};
  const auto* at = static_cast<const std::byte*>(pointer);
  for (const Range& range : ranges_) {
    if (at >= range.first && at < range.first + range.bytes) return range.info;
  }
  return {};
}

}  // namespace qkv::test
