#include "bench/cuda_bench.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <map>
#include <stdexcept>
#include <utility>

#include "bench/baselines/cublas_attention.h"
#include "bench/baselines/cudnn_attention.h"
#include "bench/baselines/read_stream.h"
#include "bench/cuda_tools.h"
#include "bench/gemm_ceiling.h"
#include "bench/nvml.h"
#include "bench/unfused_problem.h"
#include "host/core/device.h"
#include "host/core/plan.h"
#include "host/core/run.h"
#include "host/ops/attention/op.h"

namespace qkv::bench {
namespace {

void require(const host::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.reason());
}

DeviceBuffer upload(const Buffer& from) { return bench::upload(from.data(), from.bytes()); }

void download(const DeviceBuffer& from, void* to) {
  if (from.bytes() > 0)
    cuda_check(cudaMemcpy(to, from.data(), from.bytes(), cudaMemcpyDeviceToHost), "download");
}

void fill(const DeviceBuffer& buffer, int byte) {
  if (buffer.bytes() > 0) cuda_check(cudaMemset(buffer.data(), byte, buffer.bytes()), "cudaMemset");
}

// One problem's tensors on the device, shared by its contenders.
class DeviceTensors {
 public:
  explicit DeviceTensors(const std::shared_ptr<const Tensors>& host) : host_(host) {
    Addresses at{};
    for (size_t part = 0; part < kParts; ++part) {
      buffers_[part] = upload((*host)[static_cast<Part>(part)]);
      at[part] = buffers_[part].data();
    }
    problem_ = make_problem(describe(host->spec(), QKV_DEVICE_CUDA, at));
  }

  const host::attention::Problem& problem() const { return problem_; }
  const Spec& spec() const { return host_->spec(); }

  const Tensors& host() const { return *host_; }

  size_t bytes() const {
    size_t sum = 0;
    for (const DeviceBuffer& buffer : buffers_) sum += buffer.bytes();
    return sum;
  }

  void poison() const {
    for (const Part part : kOutputs) fill(buffers_[part], poison_byte(part));
  }
  void download() const {
    for (const Part part : kOutputs) bench::download(buffers_[part], (*host_)[part].data());
  }

 private:
  std::shared_ptr<const Tensors> host_;
  std::array<DeviceBuffer, kParts> buffers_;
  host::attention::Problem problem_;
};

class OnDevice : public Contender {
 public:
  OnDevice(std::shared_ptr<const DeviceTensors> tensors, DeviceTimer* timer)
      : tensors_(std::move(tensors)), timer_(timer), flops_(flops(tensors_->spec())) {}

  void poison() override { tensors_->poison(); }
  bool fetch() override {
    tensors_->download();
    return true;
  }
  Measurement run() override {
    return {timer_->seconds([this](cudaStream_t stream) { queue(stream); }), flops_};
  }
  size_t memory_bytes() const override { return tensors_->bytes() + own_bytes(); }

 protected:
  // Of copies and workspace.
  virtual size_t own_bytes() const = 0;
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
    plan_.own = kernel.plan(problem_, device);
    require(kernel.prepare(problem_, host::cuda_runtime(), plan_.own.get()));
    workspace_ = DeviceBuffer(plan_.workspace_bytes());
    problem_.workspace = workspace_.data();
    problem_.workspace_size = workspace_.bytes();
  }

 protected:
  size_t own_bytes() const override { return workspace_.bytes(); }
  void queue(cudaStream_t stream) override {
    require(host::run_plan(host::attention::kOp, plan_, problem_, host::cuda_runtime(), stream));
  }

 private:
  host::attention::Problem problem_;
  host::Plan plan_;
  DeviceBuffer workspace_;
};

// On the tensors themselves where they are contiguous [batch, heads, seq, dim], else on copies.
class CublasContender : public OnDevice {
 public:
  CublasContender(const std::shared_ptr<const DeviceTensors>& tensors, DeviceTimer* timer)
      : OnDevice(tensors, timer),
        attention_(unfused_problem(tensors->spec(), tensors->problem().scale),
                   {.fp32_scores = tensors->spec().hard}),
        workspace_(attention_.workspace_bytes()) {
    const host::attention::Problem& there = tensors->problem();
    at_ = {there.q.data, there.k.data, there.v.data, there.o.data};
    if (is_bhsd(tensors->spec())) return;
    const host::attention::Problem& here = tensors->host().problem();
    const host::View* const views[] = {&here.q, &here.k, &here.v, &here.o};
    for (size_t part = 0; part < copies_.size(); ++part) {
      copies_[part] = upload(packed(*views[part]));
      at_[part] = copies_[part].data();
    }
  }

  bool rounds_scores() const override { return !tensors().spec().hard; }
  void poison() override {
    OnDevice::poison();
    fill(copies_[kO], poison_byte(kO));
  }
  bool fetch() override {
    if (copies_[kO].bytes() == 0) return OnDevice::fetch();
    const Buffer elements(copies_[kO].bytes());
    download(copies_[kO], elements.data());
    unpack(elements.data(), tensors().host().problem().o);
    return true;
  }

 protected:
  size_t own_bytes() const override {
    size_t sum = workspace_.bytes();
    for (const DeviceBuffer& copy : copies_) sum += copy.bytes();
    return sum;
  }
  void queue(cudaStream_t stream) override {
    const std::string wrong =
        attention_.run(at_[kQ], at_[kK], at_[kV], at_[kO], workspace_.data(), stream);
    if (!wrong.empty()) throw std::runtime_error(wrong);
  }
  // Q K^T alone.
  void queue_scores(cudaStream_t stream) {
    const std::string wrong = attention_.run_scores(at_[kQ], at_[kK], workspace_.data(), stream);
    if (!wrong.empty()) throw std::runtime_error(wrong);
  }

 private:
  CublasAttention attention_;
  DeviceBuffer workspace_;
  std::array<DeviceBuffer, 4> copies_;
  std::array<void*, 4> at_{};
};

// Its first product and nothing else: what a search costs whose scores nobody looks at.
class CublasProduct : public CublasContender {
 public:
  using CublasContender::CublasContender;
  bool fetch() override { return false; }

 protected:
  void queue(cudaStream_t stream) override { queue_scores(stream); }
};

// cuDNN's plan, on the tensors themselves, whatever their strides.
class CudnnContender : public OnDevice {
 public:
  CudnnContender(const std::shared_ptr<const DeviceTensors>& tensors, DeviceTimer* timer,
                 std::shared_ptr<CudnnAttention> attention)
      : OnDevice(tensors, timer),
        attention_(std::move(attention)),
        workspace_(attention_->workspace_bytes()) {}

  // Nothing is known of it.
  bool rounds_scores() const override { return true; }

 protected:
  size_t own_bytes() const override { return workspace_.bytes(); }
  void queue(cudaStream_t stream) override {
    const host::attention::Problem& p = tensors().problem();
    attention_->run(p.q.data, p.k.data, p.v.data, p.o.data, workspace_.data(), stream);
  }

 private:
  std::shared_ptr<CudnnAttention> attention_;
  DeviceBuffer workspace_;
};

// cuDNN's plan of a problem, or why it has none.
struct CudnnChoice {
  std::shared_ptr<CudnnAttention> attention;
  std::string declined;
};

CudnnChoice choose_cudnn(const Spec& spec) {
  const Cudnn& library = Cudnn::instance();
  if (!library.missing().empty()) return {nullptr, "libcudnn was not found, see \"cudnn\" above"};
  if (std::string why = cudnn_declines(spec); !why.empty()) return {nullptr, std::move(why)};
  try {
    const float scale = make_problem(describe(spec, QKV_DEVICE_CUDA, {})).scale;
    return {std::make_shared<CudnnAttention>(library, cudnn_problem(spec, scale)), ""};
  } catch (const std::runtime_error& e) {
    return {nullptr, e.what()};
  }
}

// What CudaBench::contender() returns.
class QueuedContender : public Contender {
 public:
  QueuedContender(const std::vector<HostBuffer>& host, DeviceTimer* timer,
                  std::function<void(std::span<void* const>, void*)> queue, double flops)
      : host_(host), timer_(timer), queue_(std::move(queue)), flops_(flops) {
    for (const HostBuffer& buffer : host_) {
      copies_.push_back(bench::upload(buffer.data, buffer.bytes));
      addresses_.push_back(copies_.back().data());
    }
  }

  void poison() override {
    for (size_t n = 0; n < host_.size(); ++n)
      if (host_[n].output) fill(copies_[n], 0xff);
  }
  bool fetch() override {
    for (size_t n = 0; n < host_.size(); ++n)
      if (host_[n].output) download(copies_[n], host_[n].data);
    return true;
  }
  Measurement run() override {
    return {timer_->seconds([this](cudaStream_t stream) { queue_(addresses_, stream); }), flops_};
  }

 private:
  std::vector<HostBuffer> host_;
  std::vector<DeviceBuffer> copies_;
  std::vector<void*> addresses_;
  DeviceTimer* timer_;
  std::function<void(std::span<void* const>, void*)> queue_;
  double flops_;
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
  std::map<std::string, CudnnChoice> cudnn;     // by the problems' lines
  double memory_rate = 0;                       // bytes a second, 0: not measured

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
  if (std::string why = host::cuda_runtime().no_device(); !why.empty()) return why;
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

void CudaBench::measure_memory() {
  state_->memory_rate = device_read_rate(state_->device->memory_bytes, &state_->timer);
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
  const Cudnn& cudnn = Cudnn::instance();
  out.emplace_back("cudnn", cudnn.missing().empty() ? cudnn.version() : cudnn.missing());
  if (state_->memory_rate > 0)
    out.emplace_back("memory_rate_cuda", fmt::format("{:.0f} GB/s", state_->memory_rate * 1e-9));
  for (const auto& [type, tflops] : state_->ceilings) {
    out.emplace_back(
        fmt::format("gemm_8192_{}", type_name(type)),
        std::isnan(tflops) ? CublasAttention::available() : fmt::format("{:.0f} TFLOP/s", tflops));
  }
  return out;
}

std::unique_ptr<Contender> CudaBench::contender(
    const std::vector<HostBuffer>& buffers,
    std::function<void(std::span<void* const>, void*)> queue, double flops) {
  return std::make_unique<QueuedContender>(buffers, &state_->timer, std::move(queue), flops);
}

Candidate CudaBench::candidate(const std::string& name, const host::Kernel& kernel,
                               const Spec& spec, const std::shared_ptr<const Tensors>& tensors) {
  State* const state = state_.get();
  const host::attention::Problem problem = make_problem(describe(spec, QKV_DEVICE_CUDA, {}));
  return {name,
          [state, tensors, &kernel]() -> std::unique_ptr<Contender> {
            return std::make_unique<KernelContender>(state->upload(tensors), &state->timer, kernel,
                                                     *state->device);
          },
          "", kernel.decline(problem, *state->device)};
}

std::vector<Candidate> CudaBench::candidates(const Spec& spec,
                                             const std::shared_ptr<const Tensors>& tensors) {
  State* const state = state_.get();
  std::vector<Candidate> out;
  // The registry is in order of preference: the first kernel that takes the problem is qkv's own
  // choice.
  std::string reasons;
  for (const host::Kernel* kernel : host::attention::kOp.kernels) {
    if (kernel->device != QKV_DEVICE_CUDA) continue;
    Candidate one = candidate(out.empty() ? kQkv : kernel->name, *kernel, spec, tensors);
    if (!one.declined.empty()) {
      reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", kernel->name, one.declined);
      continue;
    }
    if (out.empty()) one.label = kernel->name;
    out.push_back(std::move(one));
  }
  if (out.empty()) out.push_back({kQkv, nullptr, "", reasons});
  if (CublasAttention::available().empty()) {
    out.push_back({kUnfused,
                   [state, tensors]() -> std::unique_ptr<Contender> {
                     return std::make_unique<CublasContender>(state->upload(tensors),
                                                              &state->timer);
                   },
                   "cuBLAS", unfused_declines(spec)});
    if (spec.hard || spec.top) {
      out.push_back({kProduct,
                     [state, tensors]() -> std::unique_ptr<Contender> {
                       return std::make_unique<CublasProduct>(state->upload(tensors),
                                                              &state->timer);
                     },
                     "cuBLAS", product_declines(spec)});
    }
  }
  const auto [at, added] = state->cudnn.try_emplace(line(spec));
  if (added) at->second = choose_cudnn(spec);
  const CudnnChoice& cudnn = at->second;
  out.push_back({kCudnn,
                 [state, tensors, attention = cudnn.attention]() -> std::unique_ptr<Contender> {
                   return std::make_unique<CudnnContender>(state->upload(tensors), &state->timer,
                                                           attention);
                 },
                 "", cudnn.declined});
  return out;
}

}  // namespace qkv::bench
