#include "tests/device.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>

#include "async/tensor_map.h"
#include "common/error.h"
#include "machine/decoder.h"
#include "machine/launch.h"

namespace vgpu::test {
namespace {

TensorMap encode(const Tensor& t, u64 address) {
  TensorMap map;
  const std::string problem =
      TensorMap::encode({t.type, static_cast<u32>(t.dims.size()), address, t.dims.data(),
                         t.strides.data(), t.box.data(), t.steps.data(), 0, t.swizzle, 0, t.fill},
                        map);
  EXPECT_EQ(problem, "");
  return map;
}

// Runs the text on the machine itself, without the stand-in runtime.
std::string run_virtual(Machine& machine, const std::string& ptx, const std::string& kernel,
                        const LaunchSpec& spec, std::vector<Argument>& arguments) {
  try {
    const std::shared_ptr<const ptx::Module> module = ptx::parse_module(ptx);
    std::map<std::string, u64> variables;
    for (const ptx::Variable& v : module->variables) {
      if (v.space == ptx::Space::kShared) continue;
      Allocation* a = machine.memory.allocate(v.bytes(), Allocation::Kind::kModule, 0);
      std::memset(a->host, 0, a->size);
      for (size_t i = 0; i < v.init.size(); ++i) {
        const size_t width = static_cast<size_t>(ptx::type_bytes(v.type));
        std::memcpy(a->host + i * width, &v.init[i].value, width);
      }
      machine.memory.set_defined(*a, a->base, a->size);
      a->read_only = v.space == ptx::Space::kConst;
      variables[v.name] = a->base;
    }
    const SymbolTable symbols{[&](const std::string& name) -> std::optional<u64> {
      if (name.empty()) return machine.memory.function_window();
      const auto it = variables.find(name);
      if (it == variables.end()) return std::nullopt;
      return it->second;
    }};
    const std::shared_ptr<Program> program = link_program(module, kernel, symbols);
    std::vector<u8> params(program->param_bytes);
    std::vector<Allocation*> buffers;
    for (size_t i = 0; i < arguments.size(); ++i) {
      u64 value = arguments[i].scalar;
      Allocation* a = nullptr;
      if (arguments[i].buffer != nullptr) {
        a = machine.memory.allocate(arguments[i].buffer->size(), Allocation::Kind::kDevice, 0);
        if (!arguments[i].undefined) {
          std::memcpy(a->host, arguments[i].buffer->data(), a->size);
          machine.memory.set_defined(*a, a->base, a->size);
        }
        value = a->base;
      }
      buffers.push_back(a);
      if (arguments[i].tensor == nullptr)
        std::memcpy(params.data() + program->params.at(i).offset, &value, program->params[i].bytes);
    }
    for (size_t i = 0; i < arguments.size(); ++i) {
      if (arguments[i].tensor == nullptr) continue;
      const Tensor& t = *arguments[i].tensor;
      const TensorMap map = encode(t, buffers.at(t.argument)->base);
      std::memcpy(params.data() + program->params.at(i).offset, &map, sizeof map);
    }
    LaunchConfig config;
    config.grid[0] = spec.grid;
    config.block[0] = spec.block;
    config.dynamic_shared = spec.dynamic_shared;
    if (program->cluster[0] != 0) {
      std::copy(std::begin(program->cluster), std::end(program->cluster), config.cluster);
      config.clustered = true;
    }
    machine.asynchrony = spec.asynchrony;
    machine.mma = spec.mma;
    machine.seed = spec.seed;
    std::string error;
    try {
      Launch(machine, *program, config, params).run();
    } catch (const Fault& fault) {
      error = "fault " + std::to_string(fault.code()) + ": " + fault.what();
    }
    for (size_t i = 0; i < buffers.size(); ++i) {
      if (buffers[i] == nullptr) continue;
      std::memcpy(arguments[i].buffer->data(), buffers[i]->host, buffers[i]->size);
      machine.memory.release(buffers[i]->base);
    }
    return error;
  } catch (const std::exception& e) {
    return e.what();
  }
}

// With VGPU_TEXTS=FOLDER every kernel's text is also written there, for an assembler to read.
void keep_text(const std::string& ptx) {
  static const char* folder = std::getenv("VGPU_TEXTS");
  if (folder == nullptr) return;
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  std::string name = std::string(test->test_suite_name()) + "." + test->name();
  std::replace(name.begin(), name.end(), '/', '_');
  std::ofstream(std::string(folder) + "/" + name + ".ptx") << ptx;
}

class VirtualDevice : public TestDevice {
 public:
  VirtualDevice() {
    machine_.device = *find_device("h100");
    machine_.cores = 1;
    machine_.timeout_s = 20;
  }
  std::string run(const std::string& ptx, const std::string& kernel, const LaunchSpec& spec,
                  std::vector<Argument> arguments) override {
    keep_text(ptx);
    machine_.findings.clear();
    std::string error = run_virtual(machine_, ptx, kernel, spec, arguments);
    for (const Finding& f : machine_.findings.list()) error += f.str() + "\n";
    return error;
  }
  int capability() const override { return machine_.device.capability(); }

 private:
  Machine machine_;
};

// The driver API by hand: no header and no import library, so the program starts anywhere.
class RealDevice : public TestDevice {
 public:
  RealDevice() {
    library_ = dlopen("libcuda.so.1", RTLD_NOW);
    if (library_ == nullptr) return;
    int device = 0;
    void* context = nullptr;
    call("cuInit", 0u);
    call("cuDeviceGet", &device, 0);
    call("cuDevicePrimaryCtxRetain", &context, device);
    call("cuCtxSetCurrent", context);
    int major = 0, minor = 0;
    call("cuDeviceGetAttribute", &major, 75, device);
    call("cuDeviceGetAttribute", &minor, 76, device);
    capability_ = major * 10 + minor;
  }
  std::string run(const std::string& ptx, const std::string& kernel, const LaunchSpec& spec,
                  std::vector<Argument> arguments) override {
    if (library_ == nullptr) return "libcuda.so.1 cannot be opened";
    error_.clear();
    void *module = nullptr, *function = nullptr;
    call("cuModuleLoadData", &module, ptx.c_str());
    if (!error_.empty()) return error_;
    call("cuModuleGetFunction", &function, module, kernel.c_str());
    std::vector<u64> values;
    std::vector<RealMap> maps(arguments.size());
    for (Argument& a : arguments) {
      u64 value = a.scalar;
      if (a.buffer != nullptr) {
        call("cuMemAlloc_v2", &value, a.buffer->size());
        call("cuMemcpyHtoD_v2", value, a.buffer->data(), a.buffer->size());
      }
      values.push_back(value);
    }
    std::vector<void*> pointers;
    for (size_t i = 0; i < arguments.size(); ++i) {
      pointers.push_back(&values[i]);
      if (arguments[i].tensor == nullptr) continue;
      const Tensor& t = *arguments[i].tensor;
      // Drivers refuse null strides, also of one dimension, which has none.
      const u64 none = 0;
      call("cuTensorMapEncodeTiled", &maps[i], t.type, static_cast<u32>(t.dims.size()),
           reinterpret_cast<void*>(values[t.argument]), t.dims.data(),
           t.strides.empty() ? &none : t.strides.data(), t.box.data(), t.steps.data(), 0, t.swizzle,
           0, t.fill);
      pointers.back() = &maps[i];
    }
    constexpr int kMaxDynamicShared = 8;
    if (spec.dynamic_shared > 48 * 1024)
      call("cuFuncSetAttribute", function, kMaxDynamicShared,
           static_cast<int>(spec.dynamic_shared));
    call("cuLaunchKernel", function, spec.grid, 1u, 1u, spec.block, 1u, 1u, spec.dynamic_shared,
         static_cast<void*>(nullptr), pointers.data(), static_cast<void**>(nullptr));
    call("cuCtxSynchronize");
    for (size_t i = 0; i < arguments.size(); ++i) {
      if (arguments[i].buffer == nullptr) continue;
      call("cuMemcpyDtoH_v2", arguments[i].buffer->data(), values[i], arguments[i].buffer->size());
      call("cuMemFree_v2", values[i]);
    }
    call("cuModuleUnload", module);
    return error_;
  }
  int capability() const override { return capability_; }

 private:
  struct alignas(128) RealMap {
    u64 words[16];
  };
  template <class... A>
  void call(const char* name, A... arguments) {
    auto f = reinterpret_cast<int (*)(A...)>(dlsym(library_, name));
    const int result = f == nullptr ? -1 : f(arguments...);
    if (result != 0 && error_.empty())
      error_ = std::string(name) + " returned " + std::to_string(result);
  }
  void* library_ = nullptr;
  std::string error_;
  int capability_ = 0;
};

}  // namespace

bool on_real_gpu() {
  const char* where = std::getenv("VGPU_TRUTH");
  return where != nullptr && std::string(where) == "gpu";
}

TestDevice& device() {
  static const std::unique_ptr<TestDevice> d = []() -> std::unique_ptr<TestDevice> {
    if (on_real_gpu()) return std::make_unique<RealDevice>();
    return std::make_unique<VirtualDevice>();
  }();
  return *d;
}

Observed observe(const std::string& ptx, const std::string& kernel, const LaunchSpec& spec,
                 std::vector<Argument> arguments, const std::string& device_key) {
  Machine machine;
  machine.device = *find_device(device_key);
  machine.cores = 2;
  machine.count = true;
  keep_text(ptx);
  Observed out;
  out.error = run_virtual(machine, ptx, kernel, spec, arguments);
  out.findings = machine.findings.list();
  out.hints = machine.findings.hints();
  if (!machine.launches.empty()) out.counts = machine.launches.back();
  return out;
}

}  // namespace vgpu::test
