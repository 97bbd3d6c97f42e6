#include "bench/cuda_bench.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <stdexcept>
#include <utility>

#include "bench/baselines/cublas_attention.h"
#include "bench/cuda_tools.h"
#include "bench/gemm_ceiling.h"
#include "bench/nvml.h"
#include "host/device.h"
#include "host/plan.h"
#include "host/run.h"

namespace qkv::bench {
namespace {

void require(const host::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.reason());
}

// One problem's tensors on the device, shared by its contenders.
class DeviceTensors {
 public:
  explicit DeviceTensors(const std::shared_ptr<const Tensors>& host)
      : host_(host),
        q_(upload(host->q())),
        k_(upload(host->k())),
        v_(upload(host->v())),
        o_(host->o().bytes()) {
    problem_ = make_problem(describe(host->spec(), QKV_DEVICE_CUDA, addresses()));
  }

  Addresses addresses() const { return {q_.data(), k_.data(), v_.data(), o_.data()}; }
  const host::Problem& problem() const { return problem_; }
  const Spec& spec() const { return host_->spec(); }

  void poison() const { cuda_check(cudaMemset(o_.data(), 0xff, o_.bytes()), "cudaMemset"); }
  const void* download() const {
    void* to = host_->o().data();
    cuda_check(cudaMemcpy(to, o_.data(), o_.bytes(), cudaMemcpyDeviceToHost), "download");
    return to;
  }

 private:
  static DeviceBuffer upload(const Buffer& from) {
    DeviceBuffer to(from.bytes());
    cuda_check(cudaMemcpy(to.data(), from.data(), from.bytes(), cudaMemcpyHostToDevice), "upload");
    return to;
  }

  std::shared_ptr<const Tensors> host_;
  DeviceBuffer q_, k_, v_, o_;
  host::Problem problem_;
};

class OnDevice : public Contender {
 public:
  OnDevice(std::shared_ptr<const DeviceTensors> tensors, DeviceTimer* timer)
      : tensors_(std::move(tensors)), timer_(timer), flops_(flops(tensors_->spec())) {}

  void poison() override { tensors_->poison(); }
  const void* output() override { return tensors_->download(); }
  Measurement run() override {
    return {timer_->seconds([this](cudaStream_t stream) { queue(stream); }), flops_};
  }

 protected:
  virtual void queue(cudaStream_t stream) = 0;
  const DeviceTensors& tensors() const { return *tensors_; }

 private:
  std::shared_ptr<const DeviceTensors> tensors_;
  DeviceTimer* timer_;
  double flops_;
};

// One kernel of the registry, planned and launched as the library does it.
class KernelContender : public OnDevice {
 public:
  KernelContender(const std::shared_ptr<const DeviceTensors>& tensors, DeviceTimer* timer,
                  const host::Kernel& kernel, const host::DeviceInfo& device)
      : OnDevice(tensors, timer), problem_(tensors->problem()) {
    plan_.kernel = &kernel;
    kernel.plan(problem_, device, &plan_);
    require(kernel.prepare(problem_, host::cuda_runtime(), &plan_));
    workspace_ = DeviceBuffer(plan_.workspace_bytes);
    problem_.workspace = workspace_.data();
    problem_.workspace_size = workspace_.bytes();
  }

 protected:
  void queue(cudaStream_t stream) override {
    require(host::run_plan(plan_, problem_, host::cuda_runtime(), stream));
  }

 private:
  host::Problem problem_;
  host::Plan plan_;
  DeviceBuffer workspace_;
};

class CublasContender : public OnDevice {
 public:
  CublasContender(const std::shared_ptr<const DeviceTensors>& tensors, DeviceTimer* timer)
      : OnDevice(tensors, timer),
        attention_(problem_of(tensors->spec(), tensors->problem().scale)),
        workspace_(attention_.workspace_bytes()) {}

  bool rounds_scores() const override { return true; }

 protected:
  void queue(cudaStream_t stream) override {
    const Addresses at = tensors().addresses();
    const std::string wrong = attention_.run(at.q, at.k, at.v, at.o, workspace_.data(), stream);
    if (!wrong.empty()) throw std::runtime_error(wrong);
  }

 private:
  static Unfused problem_of(const Spec& s, float scale) {
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
    return out;
  }

  CublasAttention attention_;
  DeviceBuffer workspace_;
};

std::string cuda_version(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::string mhz(unsigned value) { return value == 0 ? "unknown" : fmt::format("{} MHz", value); }

}  // namespace

struct CudaBench::State {
  const host::DeviceInfo* device = host::cuda_runtime().device_info(0);
  DeviceTimer timer{static_cast<size_t>(device->l2_bytes)};
  std::string pci;
  GpuState gpu;  // clocks as they were after the ceiling's products, 0 before
  std::map<qkv_type, double> ceilings;
  std::weak_ptr<const DeviceTensors> uploaded;  // of the problem being measured

  std::shared_ptr<const DeviceTensors> upload(const std::shared_ptr<const Tensors>& tensors) {
    auto there = uploaded.lock();
    if (there == nullptr) {
      there = std::make_shared<const DeviceTensors>(tensors);
      uploaded = there;
    }
    return there;
  }
};

bool CudaBench::available() { return why_not().empty(); }

std::string CudaBench::why_not() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  int driver = 0;
  if (error != cudaSuccess && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
    return "no NVIDIA driver is installed";
  }
  if (error != cudaSuccess) return cudaGetErrorString(error);
  if (host::cuda_runtime().device_info(0) == nullptr) return "the driver lists no device";
  return "";
}

CudaBench::CudaBench() {
  if (!available()) throw std::runtime_error("no CUDA device: " + why_not());
  state_ = std::make_unique<State>();
  char pci[32] = {};
  cuda_check(cudaDeviceGetPCIBusId(pci, sizeof pci, 0), "cudaDeviceGetPCIBusId");
  state_->pci = pci;
  state_->gpu = gpu_state(pci);
  state_->gpu.sm_mhz = state_->gpu.memory_mhz = 0;  // idle clocks say nothing
}

CudaBench::~CudaBench() = default;

double CudaBench::ceiling_tflops(qkv_type type) {
  const auto known = state_->ceilings.find(type);
  if (known != state_->ceilings.end()) return known->second;
  const double tflops = gemm_ceiling_tflops(type, &state_->timer);
  state_->gpu = gpu_state(state_->pci);
  return state_->ceilings[type] = tflops;
}

Facts CudaBench::facts() const {
  const host::DeviceInfo& device = *state_->device;
  const GpuState& now = state_->gpu;
  int driver = 0, runtime = 0;
  cuda_check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  cuda_check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  Facts out{
      {"gpu", device.name},
      {"gpu_architecture", fmt::format("sm_{}", device.compute)},
      {"gpu_multiprocessors", fmt::format("{}", device.sm_count)},
      {"gpu_l2", fmt::format("{} MiB", device.l2_bytes >> 20)},
      {"gpu_memory", fmt::format("{} MiB", device.memory_bytes >> 20)},
      {"gpu_driver", now.driver.empty() ? "unknown" : now.driver},
      {"cuda_driver_version", cuda_version(driver)},
      {"cuda_runtime_version", cuda_version(runtime)},
      {"gpu_sm_clock_under_load", mhz(now.sm_mhz)},
      {"gpu_sm_clock_limit", mhz(now.sm_max_mhz)},
      {"gpu_memory_clock_under_load", mhz(now.memory_mhz)},
      {"gpu_power_limit", now.power_limit_watts > 0 ? fmt::format("{:.0f} W", now.power_limit_watts)
                                                    : std::string("unknown")},
  };
  for (const auto& [type, tflops] : state_->ceilings) {
    out.emplace_back(
        fmt::format("gemm_8192_{}", type_name(type)),
        std::isnan(tflops) ? CublasAttention::available() : fmt::format("{:.0f} TFLOP/s", tflops));
  }
  return out;
}

std::vector<Candidate> CudaBench::candidates(const Spec& spec,
                                             const std::shared_ptr<const Tensors>& tensors) {
  const host::DeviceInfo& device = *state_->device;
  State* const state = state_.get();
  const host::Problem problem = make_problem(describe(spec, QKV_DEVICE_CUDA, {}));
  std::vector<Candidate> out;
  // The registry is in order of preference: the first kernel that takes the problem is qkv's own
  // choice.
  for (const host::Kernel* kernel : host::kernels()) {
    if (kernel->device != QKV_DEVICE_CUDA || !kernel->decline(problem, device).empty()) continue;
    const bool chosen = out.empty();
    out.push_back({chosen ? kQkv : kernel->name,
                   [state, tensors, kernel]() -> std::unique_ptr<Contender> {
                     return std::make_unique<KernelContender>(state->upload(tensors), &state->timer,
                                                              *kernel, *state->device);
                   },
                   chosen ? kernel->name : ""});
  }
  if (CublasAttention::available().empty()) {
    out.push_back({kUnfused,
                   [state, tensors]() -> std::unique_ptr<Contender> {
                     return std::make_unique<CublasContender>(state->upload(tensors),
                                                              &state->timer);
                   },
                   "cuBLAS"});
  }
  return out;
}

}  // namespace qkv::bench
