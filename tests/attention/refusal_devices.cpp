// Refusals that devices are the cause of, under devices that are not there.
#include <gtest/gtest.h>

#include <string_view>

#include "host/core/plan_cache.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/full_problem.h"
#include "tests/support/refusals.h"

namespace qkv::test {
namespace {

using F = FullProblem;
using host::Memory;
using host::Status;

template <class T>
void map(FakeCuda& cuda, const std::vector<T>& data, Memory memory, int32_t device) {
  cuda.map(data.data(), data.size() * sizeof(T), memory, device);
}

void map_main(FakeCuda& cuda, const F& f, Memory memory, int32_t device) {
  for (const auto* data : {&f.q, &f.k, &f.v, &f.o, &f.lse}) map(cuda, *data, memory, device);
}

// Two devices, the problem in the memory of cuda:0 unless `edit` says otherwise; nothing may be
// launched, and the caller's device must be current afterwards.
struct Edit {
  const char* name;
  qkv_status status;
  std::vector<std::string> says;
  void (*edit)(F&, FakeCuda&);
  bool launches = false;  // fails by the launch, or after it
};

const Edit kEdits[] = {
    {"auto_mixed_host_and_device",
     QKV_INVALID_DEVICE,
     {"k is in host memory, but q is in memory of cuda:0", "one device"},
     [](F& f, FakeCuda& cuda) { map(cuda, f.q, Memory::kDevice, 0); }},
    {"auto_mixed_devices",
     QKV_INVALID_DEVICE,
     {"v is in memory of cuda:1, but q is in memory of cuda:0"},
     [](F& f, FakeCuda& cuda) {
       map(cuda, f.v, Memory::kDevice, 1);
       map_main(cuda, f, Memory::kDevice, 0);
     }},
    {"auto_optional_elsewhere",
     QKV_INVALID_DEVICE,
     {"kv_lengths is in host memory, but q is in"},
     [](F& f, FakeCuda& cuda) {
       map_main(cuda, f, Memory::kDevice, 0);
       f.desc.kv_lengths = f.kv_lengths;
     }},
    {"auto_pinned",
     QKV_INVALID_DEVICE,
     {"q is in pinned host memory", "instead of auto"},
     [](F& f, FakeCuda& cuda) { map_main(cuda, f, Memory::kPinned, 0); }},
    {"auto_managed",
     QKV_INVALID_DEVICE,
     {"q is in managed memory", "set device explicitly"},
     [](F& f, FakeCuda& cuda) { map_main(cuda, f, Memory::kManaged, 0); }},
    {"cpu_with_device_memory",
     QKV_INVALID_DEVICE,
     {"q is in memory of cuda:0; device cpu needs host memory"},
     [](F& f, FakeCuda& cuda) {
       map_main(cuda, f, Memory::kDevice, 0);
       f.desc.device = QKV_DEVICE_CPU;
     }},
    {"cuda_with_host_memory",
     QKV_INVALID_DEVICE,
     {"q is in host memory; device cuda:0 needs device memory"},
     [](F& f, FakeCuda&) { f.desc.device = QKV_DEVICE_CUDA; }},
    {"cuda_of_another_index",
     QKV_INVALID_DEVICE,
     {"q is in memory of cuda:0; device is cuda:1"},
     [](F& f, FakeCuda& cuda) {
       map_main(cuda, f, Memory::kDevice, 0);
       f.desc.device = QKV_DEVICE_CUDA;
       f.desc.device_index = 1;
     }},
    {"device_index_high",
     QKV_DEVICE_ERROR_NONE,
     {"device_index is 2", "has 2 CUDA devices"},
     [](F& f, FakeCuda&) { f.desc.device = QKV_DEVICE_CUDA, f.desc.device_index = 2; }},
    {"device_index_negative",
     QKV_DEVICE_ERROR_NONE,
     {"device_index is -1"},
     [](F& f, FakeCuda&) { f.desc.device = QKV_DEVICE_CUDA, f.desc.device_index = -1; }},
    {"no_device",
     QKV_DEVICE_ERROR_NONE,
     {"device is cuda, but this process has no CUDA device"},
     [](F& f, FakeCuda& cuda) { f.desc.device = QKV_DEVICE_CUDA, cuda.devices.clear(); }},
    {"old_driver",
     QKV_DEVICE_ERROR_NONE,
     {"device is cuda, but this process has no CUDA device: the driver is old"},
     [](F& f, FakeCuda& cuda) {
       f.desc.device = QKV_DEVICE_CUDA, cuda.devices.clear();
       cuda.no_device = "the driver is old";
     }},
    {"auto_with_device_memory_under_an_old_driver",
     QKV_DEVICE_ERROR_NONE,
     {"q is in device memory, but this process has no CUDA device: the driver is old"},
     [](F&, FakeCuda& cuda) {
       cuda.map_everything(0), cuda.devices.clear();
       cuda.no_device = "the driver is old";
     }},
    {"cpu_with_device_memory_under_an_old_driver",
     QKV_DEVICE_ERROR_NONE,
     {"k is in device memory, but this process has no CUDA device: the driver is old"},
     [](F& f, FakeCuda& cuda) {
       map(cuda, f.k, Memory::kDevice, 0), cuda.devices.clear();
       f.desc.device = QKV_DEVICE_CPU;
       cuda.no_device = "the driver is old";
     }},
    {"device_silent",
     QKV_DEVICE_ERROR_NONE,
     {"cuda:0 does not answer"},
     [](F&, FakeCuda& cuda) { cuda.map_everything(0), cuda.devices_answer = false; }},
    {"declined",
     QKV_UNSUPPORTED_KERNEL,
     {"no kernel runs this problem", "simt_forward: needs sm_75 or newer, the device is sm_70",
      "simt_general: needs sm_75 or newer, the device is sm_70"},
     [](F&, FakeCuda& cuda) { cuda.map_everything(0), cuda.devices[0].compute = 70; }},
    {"loading_fails",
     QKV_DEVICE_ERROR_CALL,
     {"loading simt_forward: fake error 98"},
     [](F&, FakeCuda& cuda) { cuda.map_everything(0), cuda.prepare_code = 98; }},
    {"earlier_error_is_pending",
     QKV_DEVICE_ERROR_PRIOR,
     {"an earlier call failed"},
     [](F&, FakeCuda& cuda) {
       cuda.map_everything(0);
       cuda.pending = Status(QKV_DEVICE_ERROR_PRIOR, "an earlier call failed");
     }},
    {"set_device_fails",
     QKV_DEVICE_ERROR_CALL,
     {"cudaSetDevice failed"},
     [](F&, FakeCuda& cuda) {
       cuda.map_everything(1);
       cuda.set_device_status = Status(QKV_DEVICE_ERROR_CALL, "cudaSetDevice failed");
     }},
    {"launch_fails",
     QKV_DEVICE_ERROR_CALL,
     {"simt_forward: fake error 700"},
     [](F&, FakeCuda& cuda) { cuda.map_everything(1), cuda.launch_code = 700; },
     true},
    {"launch_out_of_memory",
     QKV_RESOURCE_OUT_OF_MEMORY,
     {"simt_forward: fake error 2"},
     [](F&, FakeCuda& cuda) { cuda.map_everything(1), cuda.launch_code = 2; },
     true},
    {"exception",
     QKV_INTERNAL,
     {"internal error: the driver is on fire"},
     [](F&, FakeCuda& cuda) { cuda.throws = true; }},
    {"host_memory_exhausted",
     QKV_RESOURCE_OUT_OF_MEMORY,
     {"out of host memory"},
     [](F&, FakeCuda& cuda) { cuda.exhausted = true; }},
};

qkv_status refuse(const Edit& row) {
  host::clear_plan_cache();
  FakeCuda cuda({fake_device(90), fake_device(90)});
  F f;
  f.desc.device = QKV_DEVICE_AUTO;
  row.edit(f, cuda);
  const F::Outputs before = f.outputs();
  const qkv_status status = qkv_attention(&f.desc, nullptr);
  EXPECT_EQ(f.outputs(), before);
  EXPECT_EQ(cuda.launches().size(), row.launches ? 1u : 0u);
  EXPECT_EQ(FakeCuda::current_device(), 0);
  host::clear_plan_cache();
  return status;
}

}  // namespace

std::vector<Refusal> device_refusals() {
  std::vector<Refusal> rows;
  const bool loads_kernels =
      std::string(qkv_build_info()).find("\"cuda\": null") == std::string::npos;
  for (const Edit& edit : kEdits) {
    if (std::string_view(edit.name) == "loading_fails" && !loads_kernels) continue;
    rows.push_back({edit.name, edit.status, edit.says, [&edit] { return refuse(edit); }});
  }
  rows.push_back(
      {"facts_of_no_device", QKV_DEVICE_ERROR_NONE, {"index is 5", "has 1 CUDA devices"}, [] {
         const FakeCuda cuda({fake_device(80)});
         qkv_device_facts facts{};
         facts.struct_size = sizeof facts;
         return qkv_device_query(5, &facts);
       }});
  return rows;
}

}  // namespace qkv::test
