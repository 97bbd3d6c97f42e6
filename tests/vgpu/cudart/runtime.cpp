#include "cudart/runtime.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string_view>
#include <thread>
#include <utility>

#include "mutate/plant.h"
#include "nlohmann/json.hpp"

namespace vgpu {
namespace {

thread_local int t_device = 0;
thread_local cudaError_t t_last = cudaSuccess;
// The generation of contexts that this thread has one of, 0 for none: a context is current to a
// thread from its first call that needs one.
thread_local u64 t_context = 0;

// What a call has to do with the device's context. A fault spoils the context: whoever uses it gets
// the fault's error, the others work on. An H100 with driver 580 was asked about the first five
// after a trap; the rest are of their kind.
enum class ContextUse { kUses, kMakes, kNone };
ContextUse context_use(std::string_view call) {
  constexpr std::string_view kMakes[] = {"cudaSetDevice", "cudaInitDevice"};
  constexpr std::string_view kNone[] = {
      "cudaGetDevice",           "cudaGetDeviceCount",
      "cudaDeviceGetAttribute",  "cudaPointerGetAttributes",
      "cudaGetDeviceProperties", "cudaDeviceGetPCIBusId",
      "cudaDeviceCanAccessPeer", "cudaDriverGetVersion",
      "cudaRuntimeGetVersion",   "cudaGetDriverEntryPointByVersion"};
  if (std::ranges::find(kMakes, call) != std::end(kMakes)) return ContextUse::kMakes;
  if (std::ranges::find(kNone, call) != std::end(kNone)) return ContextUse::kNone;
  return ContextUse::kUses;
}

nlohmann::ordered_json to_json(const Finding& f) {
  return {{"kind", finding_name(f.kind)}, {"kernel", f.kernel},  {"cta", f.cta},
          {"thread", f.thread},           {"ptx_line", f.line},  {"text", f.text},
          {"source", f.source},           {"message", f.message}};
}

// What answers under a driver that is too old for the runtime.
bool is_version_query(std::string_view call) {
  return call == "cudaDriverGetVersion" || call == "cudaRuntimeGetVersion";
}

std::string env(const char* name) {
  const char* v = std::getenv(name);
  return v == nullptr ? "" : v;
}

}  // namespace

Runtime& Runtime::get() {
  // Never destroyed: programs call into the runtime from their own exit handlers.
  static Runtime* runtime = [] {
    auto* r = new Runtime;
    std::atexit([] { Runtime::get().finish(); });
    return r;
  }();
  return *runtime;
}

Runtime::Runtime() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    std::fputs("vgpu: this machine's processor lacks AVX2 or FMA\n", stderr);
    std::exit(2);
  }
  const std::string device = env("VGPU_DEVICE").empty() ? "h100" : env("VGPU_DEVICE");
  const DeviceModel* model = find_device(device);
  if (model == nullptr) {
    std::fprintf(stderr, "vgpu: there is no device '%s'\n", device.c_str());
    std::exit(2);
  }
  machine.device = *model;
  if (!env("VGPU_SMS").empty())
    machine.device.sms = std::max(1, std::atoi(env("VGPU_SMS").c_str()));
  machine.seed = std::strtoull(env("VGPU_SEED").c_str(), nullptr, 10);
  const unsigned cores = static_cast<unsigned>(std::atoi(env("VGPU_CORES").c_str()));
  machine.cores = cores != 0 ? cores : std::max(1u, std::thread::hardware_concurrency());
  machine.count = !env("VGPU_COUNTS").empty();
  if (!env("VGPU_TIMEOUT").empty()) machine.timeout_s = std::atof(env("VGPU_TIMEOUT").c_str());
  const std::string asynchrony = env("VGPU_ASYNC");
  if (!asynchrony.empty())
    machine.asynchrony = asynchrony == "early"  ? Asynchrony::kEarly
                         : asynchrony == "late" ? Asynchrony::kLate
                                                : Asynchrony::kAny;
  if (env("VGPU_MMA") == "truncate") machine.mma = MmaSums::kTruncate;
  counts_path_ = env("VGPU_COUNTS");
  report_path_ = env("VGPU_REPORT");
  mutants_path_ = env("VGPU_MUTANTS");
  mutation_.collect = !mutants_path_.empty();
  mutation_.key = env("VGPU_MUTANT");
  plant_ = env("VGPU_PLANT");
  fail_call_ = std::strtoull(env("VGPU_FAIL_CALL").c_str(), nullptr, 10);
  if (const std::string driver = env("VGPU_DRIVER"); !driver.empty()) {
    int major = 0, minor = 0;
    if (std::sscanf(driver.c_str(), "%d.%d", &major, &minor) != 2) {
      std::fprintf(stderr, "vgpu: VGPU_DRIVER is '%s', not a version as 12.2\n", driver.c_str());
      std::exit(2);
    }
    driver_version = major * 1000 + minor * 10;
  }
  device_count = std::max(1, std::atoi(env("VGPU_GPUS").c_str()));
  random_ = Random(machine.seed ^ 0x5712ea35ull);
  // Each goes to the report at once: the program may end without coming back here, by abort or
  // _exit.
  machine.findings.set_printer([this](const Finding& f) {
    std::fprintf(stderr, "vgpu: %s\n", f.str().c_str());
    if (!report_path_.empty() && f.kind != FindingKind::kHint)
      append_to_report({{"findings", {to_json(f)}}});
  });
  // The default stream of every device is stream number `device`.
  for (int d = 0; d < device_count; ++d) {
    new_stream(0, 0);
    streams.back()->device = d;
    streams.back()->is_default = true;
  }
}

double Runtime::now() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

u64 Runtime::calls_of(const std::string& name) const {
  const auto it = calls_by_name_.find(name);
  return it == calls_by_name_.end() ? 0 : it->second;
}

bool Runtime::fail_call(u64 from_now) {
  const bool failed = fail_call_ != 0 && calls_ >= fail_call_;
  fail_call_ = from_now == 0 ? 0 : calls_ + from_now;
  return failed;
}

int Runtime::device() { return t_device; }
void Runtime::set_device(int d) { t_device = d; }

cudaError_t Runtime::call(const char* name, cudaError_t injected,
                          const std::function<cudaError_t()>& body) {
  std::lock_guard lock(mutex);
  ++calls_;
  ++calls_by_name_[name];
  const ContextUse use = context_use(name);
  if (use != ContextUse::kNone) t_context = contexts_;
  cudaError_t result;
  if (calls_ == fail_call_) {
    std::fprintf(stderr, "vgpu: call %llu, %s, fails as asked\n",
                 static_cast<unsigned long long>(calls_), name);
    result = fail_with != cudaSuccess ? fail_with : injected;
  } else if (driver_version / 1000 < CUDART_VERSION / 1000 && !is_version_query(name)) {
    result = cudaErrorInsufficientDriver;
  } else if (sticky != cudaSuccess && use == ContextUse::kUses) {
    result = sticky;
  } else {
    try {
      result = body();
    } catch (const Fault& fault) {
      result = sticky = static_cast<cudaError_t>(fault.code());
    } catch (const std::exception& e) {
      std::fprintf(stderr, "vgpu: %s: %s\n", name, e.what());
      result = cudaErrorInvalidKernelImage;
    }
  }
  if (result != cudaSuccess && result != cudaErrorNotReady) t_last = result;
  return result;
}

cudaError_t Runtime::last_error(bool clear) {
  const cudaError_t e = t_last;
  if (clear) t_last = cudaSuccess;
  return e;
}

bool Runtime::has_context() {
  std::lock_guard lock(mutex);
  return t_context == contexts_;
}

void Runtime::reset_device() {
  ++contexts_;
  for (auto& s : streams) s->queue.clear();
  sticky = t_last = cudaSuccess;
  machine.memory.release_all();
  for (auto& m : modules) m->instances.clear();
}

LoadedModule* Runtime::add_module(const void* wrapper) {
  auto module = std::make_unique<LoadedModule>();
  try {
    module->images = read_fat_binary(wrapper);
    module->image = select_image(module->images, machine.device.capability());
    if (module->image == nullptr) {
      module->failure = "the fat binary has no PTX for sm_" +
                        std::to_string(machine.device.capability()) + ", only:";
      for (const PtxImage& image : module->images) module->failure += " " + image.target;
    }
  } catch (const std::exception& e) {
    module->failure = e.what();
  }
  modules.push_back(std::move(module));
  return modules.back().get();
}

// Reports at once: a process with a fault may not reach its end.
std::string Runtime::with_plant(const std::string& text) {
  if (plant_.empty()) return text;
  int count = 0;
  std::string out = planted(text, plant_, &count);
  if (count > 0 && !report_path_.empty())
    std::ofstream(report_path_, std::ios::app) << "{\"planted\":" + std::to_string(count) + "}\n";
  return out;
}

// Parses the module when it is first needed, and gives its variables memory on the device.
void Runtime::prepare(LoadedModule& module, int device) {
  if (!module.failure.empty()) throw PtxError(0, module.failure);
  if (!module.ast) module.ast = ptx::parse_module(with_plant(module.image->text));
  if (module.instances.size() <= static_cast<size_t>(device))
    module.instances.resize(static_cast<size_t>(device) + 1);
  LoadedModule::Instance& instance = module.instances[static_cast<size_t>(device)];
  if (!instance.variables.empty()) return;
  for (const ptx::Variable& v : module.ast->variables) {
    if (v.space == ptx::Space::kShared || v.external) continue;
    const auto managed = module.managed.find(v.name);
    if (managed != module.managed.end()) {
      instance.variables[v.name] = managed->second;
      continue;
    }
    Allocation* a = machine.memory.allocate(std::max<u64>(1, v.bytes()), Allocation::Kind::kModule,
                                            device, std::max<u64>(256, v.align));
    a->name = v.name;
    a->read_only = v.space == ptx::Space::kConst;
    std::memset(a->host, 0, a->size);
    machine.memory.set_defined(*a, a->base, a->size);  // without an initialiser they are zero
    instance.variables[v.name] = a;
  }
  for (const ptx::Variable& v : module.ast->variables) {
    const auto it = instance.variables.find(v.name);
    if (it == instance.variables.end()) continue;
    if (module.managed.contains(v.name) && std::exchange(module.managed_ready[v.name], true))
      continue;
    const u64 width = static_cast<u64>(ptx::type_bytes(v.type));
    for (size_t i = 0; i < v.init.size() && i < v.count; ++i) {
      u64 value = v.init[i].value;
      if (!v.init[i].symbol.empty()) {
        const auto target = instance.variables.find(v.init[i].symbol);
        const u32 function = module.ast->function_number(v.init[i].symbol);
        if (target == instance.variables.end() && function == 0)
          throw PtxError(v.line, "initialiser '" + v.init[i].symbol + "' is not supported");
        value += function != 0 ? machine.memory.function_window() + function : target->second->base;
      }
      std::memcpy(it->second->host + i * width, &value, width);
    }
  }
}

Kernel* Runtime::find_kernel(const void* host_or_handle) {
  const auto it = kernels.find(host_or_handle);
  if (it != kernels.end()) return it->second.get();
  // A cudaKernel_t or cudaFunction_t is the Kernel itself.
  for (auto& [host, kernel] : kernels)
    if (kernel.get() == host_or_handle) return kernel.get();
  return nullptr;
}

std::shared_ptr<Program> Runtime::program(Kernel& kernel, int device) {
  prepare(*kernel.module, device);
  LoadedModule::Instance& instance = kernel.module->instances[static_cast<size_t>(device)];
  auto& slot = instance.programs[kernel.name];
  if (slot) return slot;
  const SymbolTable symbols{[&](const std::string& name) -> std::optional<u64> {
    if (name.empty()) return machine.memory.function_window();
    const auto it = instance.variables.find(name);
    if (it == instance.variables.end()) return std::nullopt;
    return it->second->base;
  }};
  slot = link_program(kernel.module->ast, kernel.name, symbols);
  if (mutation_.collect || !mutation_.key.empty()) {
    std::ofstream list;
    if (mutation_.collect) list.open(mutants_path_, std::ios::app);
    for (const Mutant& m : find_mutants(*slot)) {
      if (mutation_.collect) list << key_of(m) << '\t' << m.str() << '\n';
      if (key_of(m) == mutation_.key) apply(m, *slot);
    }
  }
  return slot;
}

Allocation* Runtime::variable(const HostVariable& v, int device) {
  prepare(*v.module, device);
  const auto& names = v.module->instances[static_cast<size_t>(device)].variables;
  const auto it = names.find(v.name);
  return it == names.end() ? nullptr : it->second;
}

u8* Runtime::host_view(const void* pointer, size_t bytes, Allocation*& a) {
  a = machine.memory.find(reinterpret_cast<u64>(pointer));
  if (a == nullptr) return static_cast<u8*>(const_cast<void*>(pointer));
  if (a->freed || !a->contains(reinterpret_cast<u64>(pointer), bytes)) return nullptr;
  return a->at(reinterpret_cast<u64>(pointer));
}

void Runtime::finish() {
  std::lock_guard lock(mutex);
  if (reported_) return;
  reported_ = true;
  if (sticky == cudaSuccess) {
    try {
      drain_all();
    } catch (const std::exception&) {
      // The finding has been printed; there is no caller left to tell.
    }
  }
  if (!counts_path_.empty()) {
    std::ofstream(counts_path_) << to_json(machine.launches);
    std::ofstream(counts_path_ + ".txt") << to_table(machine.launches);
  }
  if (!report_path_.empty())
    append_to_report({{"calls", calls_}, {"launches", machine.launch_index}});
}

// Processes that the program starts append theirs.
void Runtime::append_to_report(const nlohmann::ordered_json& line) const {
  std::ofstream(report_path_, std::ios::app) << line.dump() << '\n';
}

}  // namespace vgpu
