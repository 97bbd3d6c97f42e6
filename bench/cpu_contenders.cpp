#include "bench/cpu_contenders.h"

#include <chrono>
#include <cmath>
#include <stdexcept>

#include "host/cpu/attention.h"
#include "host/cpu/tile_products.h"
#include "host/device.h"
#include "qkv/qkv.hpp"
#if QKV_BENCH_HAS_OPENBLAS
#include "bench/baselines/cpu_unfused.h"
#endif

namespace qkv::bench {
namespace {

template <class Run>
double wall_seconds(Run&& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// A contender that writes the tensors' own output.
class OnTensors : public Contender {
 public:
  explicit OnTensors(std::shared_ptr<const Tensors> tensors) : tensors_(std::move(tensors)) {}
  void poison() override { bench::poison(tensors_->o()); }
  const void* output() override { return tensors_->o().data(); }

 protected:
  const Tensors& tensors() const { return *tensors_; }

 private:
  std::shared_ptr<const Tensors> tensors_;
};

class CpuQkv : public OnTensors {
 public:
  explicit CpuQkv(const std::shared_ptr<const Tensors>& tensors)
      : OnTensors(tensors),
        plan_(tensors->attention()),
        workspace_(plan_.workspace_size()),
        flops_(flops(tensors->spec())) {}

  Measurement run() override {
    return {wall_seconds(
                [&] { plan_.run(tensors().attention(), workspace_.data(), workspace_.bytes()); }),
            flops_};
  }

 private:
  Plan plan_;
  Buffer workspace_;
  double flops_;
};

class TileProductsAlone : public Contender {
 public:
  explicit TileProductsAlone(const std::shared_ptr<const Tensors>& tensors)
      : tensors_(tensors),
        policy_(cpu::select_policy(tensors->problem(), host::cpu_device_info().threads)),
        workspace_(policy_.workspace_bytes) {
    const host::Status status = cpu::prepare(tensors->problem(), policy_, &products_);
    if (!status.ok()) throw std::runtime_error(status.reason());
  }

  Measurement run() override {
    Measurement out;
    out.seconds = wall_seconds([&] {
      out.flops =
          cpu::run_products_alone(tensors_->problem(), policy_, *products_, workspace_.data());
    });
    if (!(out.flops > 0)) throw std::runtime_error("oneDNN could not run the tile products");
    return out;
  }

 private:
  std::shared_ptr<const Tensors> tensors_;
  cpu::Policy policy_;
  std::shared_ptr<const cpu::TileProducts> products_;
  Buffer workspace_;
};

#if QKV_BENCH_HAS_OPENBLAS
Unfused unfused_problem(const Spec& s) {
  Unfused out;
  out.type = s.type;
  out.batch = s.batch;
  out.heads_q = s.heads_q;
  out.heads_kv = s.heads_kv;
  out.s_q = s.s_q;
  out.s_kv = s.s_kv;
  out.d_qk = s.d_qk;
  out.d_v = s.d_v;
  out.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(s.d_qk)));
  out.causal = s.causal;
  return out;
}

class UnfusedOnCpu : public OnTensors {
 public:
  explicit UnfusedOnCpu(const std::shared_ptr<const Tensors>& tensors)
      : OnTensors(tensors),
        unfused_(unfused_problem(tensors->spec()), host::cpu_device_info().threads),
        workspace_(unfused_.workspace_bytes()),
        flops_(flops(tensors->spec())) {}

  Measurement run() override {
    const Tensors& t = tensors();
    return {wall_seconds([&] {
              unfused_.run(t.q().data(), t.k().data(), t.v().data(), t.o().data(),
                           workspace_.data());
            }),
            flops_};
  }

 private:
  CpuUnfused unfused_;
  Buffer workspace_;
  double flops_;
};
#endif

}  // namespace

std::unique_ptr<Contender> make_cpu_qkv(const std::shared_ptr<const Tensors>& tensors) {
  return std::make_unique<CpuQkv>(tensors);
}

std::unique_ptr<Contender> make_tile_products(const std::shared_ptr<const Tensors>& tensors) {
  return std::make_unique<TileProductsAlone>(tensors);
}

#if QKV_BENCH_HAS_OPENBLAS
std::unique_ptr<Contender> make_cpu_unfused(const std::shared_ptr<const Tensors>& tensors) {
  return std::make_unique<UnfusedOnCpu>(tensors);
}
#endif

std::vector<Candidate> cpu_candidates(const std::shared_ptr<const Tensors>& tensors) {
  std::vector<Candidate> out;
  out.push_back({kQkv, [tensors] { return make_cpu_qkv(tensors); }});
#if QKV_BENCH_HAS_OPENBLAS
  out.push_back({kUnfused, [tensors] { return make_cpu_unfused(tensors); }});
#endif
  out.push_back({kTileProducts, [tensors] { return make_tile_products(tensors); }});
  return out;
}

}  // namespace qkv::bench
