#include "bench/cpu_contenders.h"

#include <array>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>

#include "host/core/device.h"
#include "host/ops/attention/cpu/attention.h"
#include "host/ops/attention/cpu/tile_products.h"
#include "qkv/qkv.hpp"
#if QKV_BENCH_HAS_OPENBLAS
#include "bench/baselines/cpu_unfused.h"
#include "bench/unfused_problem.h"
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
  void poison() override { tensors_->poison(); }
  bool fetch() override { return true; }
  size_t memory_bytes() const override {
    size_t sum = own_bytes();
    for (size_t part = 0; part < kParts; ++part)
      sum += (*tensors_)[static_cast<Part>(part)].bytes();
    return sum;
  }

 protected:
  // Of copies and workspace.
  virtual size_t own_bytes() const = 0;
  const Tensors& tensors() const { return *tensors_; }

 private:
  std::shared_ptr<const Tensors> tensors_;
};

class CpuQkv : public OnTensors {
 public:
  explicit CpuQkv(const std::shared_ptr<const Tensors>& tensors)
      : OnTensors(tensors),
        plan_(made(tensors->desc())),
        workspace_(workspace_bytes(*plan_)),
        flops_(flops(tensors->spec())) {}

  Measurement run() override {
    qkv_attention_desc desc = tensors().desc();
    desc.workspace = workspace_.data();
    desc.workspace_size = workspace_.bytes();
    return {wall_seconds([&] { check(qkv_plan_run(plan_.get(), &desc, nullptr)); }), flops_};
  }

 protected:
  size_t own_bytes() const override { return workspace_.bytes(); }

 private:
  struct Destroy {
    void operator()(qkv_plan* plan) const { qkv_plan_destroy(plan); }
  };
  using Plan = std::unique_ptr<qkv_plan, Destroy>;

  static Plan made(const qkv_attention_desc& desc) {
    qkv_plan* plan = nullptr;
    check(qkv_plan_create(&desc, &plan));
    return Plan(plan);
  }
  static size_t workspace_bytes(const qkv_plan& plan) {
    size_t bytes = 0;
    check(qkv_plan_workspace_size(&plan, &bytes));
    return bytes;
  }

  Plan plan_;
  Buffer workspace_;
  double flops_;
};

class TileProductsAlone : public Contender {
 public:
  explicit TileProductsAlone(const std::shared_ptr<const Tensors>& tensors)
      : tensors_(tensors),
        policy_(cpu::select_policy(
            tensors->problem(),
            cpu::useful_threads(tensors->problem(), host::cpu_threads(tensors->spec().threads)))),
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
// The tensors themselves where they are contiguous [batch, heads, seq, dim], else copies that are.
class UnfusedOnCpu : public OnTensors {
 public:
  explicit UnfusedOnCpu(const std::shared_ptr<const Tensors>& tensors)
      : OnTensors(tensors),
        unfused_(problem_of(*tensors), host::cpu_threads(tensors->spec().threads)),
        workspace_(unfused_.workspace_bytes()),
        flops_(flops(tensors->spec())) {
    const host::attention::Problem& p = tensors->problem();
    at_ = {p.q.data, p.k.data, p.v.data, p.o.data};
    if (is_bhsd(tensors->spec())) return;
    const host::View* const views[] = {&p.q, &p.k, &p.v, &p.o};
    for (size_t part = 0; part < copies_.size(); ++part) {
      copies_[part] = packed(*views[part]);
      at_[part] = copies_[part].data();
    }
  }

  Measurement run() override {
    return {
        wall_seconds([&] { unfused_.run(at_[kQ], at_[kK], at_[kV], at_[kO], workspace_.data()); }),
        flops_};
  }

  void poison() override {
    OnTensors::poison();
    if (copies_[kO].bytes() > 0)
      std::memset(copies_[kO].data(), poison_byte(kO), copies_[kO].bytes());
  }
  bool fetch() override {
    const host::View& o = tensors().problem().o;
    if (at_[kO] != o.data) unpack(at_[kO], o);
    return true;
  }

 protected:
  size_t own_bytes() const override {
    size_t sum = workspace_.bytes();
    for (const Buffer& copy : copies_) sum += copy.bytes();
    return sum;
  }

  // Q K^T alone.
  void run_scores() { unfused_.run_scores(at_[kQ], at_[kK], workspace_.data()); }

 private:
  static Unfused problem_of(const Tensors& tensors) {
    Unfused out = unfused_problem(tensors.spec(), tensors.problem().scale);
    out.additive_weight = static_cast<const float*>(tensors.problem().additive_weight.data);
    return out;
  }

  CpuUnfused unfused_;
  Buffer workspace_;
  double flops_;
  std::array<Buffer, 4> copies_;
  std::array<void*, 4> at_{};
};

// Its first product and nothing else: what a search costs whose scores nobody looks at.
class ProductAlone : public UnfusedOnCpu {
 public:
  explicit ProductAlone(const std::shared_ptr<const Tensors>& tensors)
      : UnfusedOnCpu(tensors), flops_(flops(tensors->spec())) {}

  Measurement run() override {
    return {wall_seconds([&] { run_scores(); }), flops_};
  }
  bool fetch() override { return false; }

 private:
  double flops_;
};
#endif

// Why oneDNN's products are no measure of the problem.
std::string products_decline(const Spec& spec) {
  if (spec.additive) return "additive scores are no matrix product";
  return visible_pairs(spec) > 0 ? "" : "no key is visible";
}

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

std::vector<Candidate> cpu_candidates(const Spec& spec,
                                      const std::shared_ptr<const Tensors>& tensors) {
  std::vector<Candidate> out;
  out.push_back({kQkv, [tensors] { return make_cpu_qkv(tensors); }});
#if QKV_BENCH_HAS_OPENBLAS
  out.push_back(
      {kUnfused, [tensors] { return make_cpu_unfused(tensors); }, "", unfused_declines(spec)});
  if (spec.hard || spec.top) {
    out.push_back({kProduct, [tensors] { return std::make_unique<ProductAlone>(tensors); }, "",
                   product_declines(spec)});
  }
#endif
  out.push_back({kTileProducts, [tensors] { return make_tile_products(tensors); }, "",
                 products_decline(spec)});
  return out;
}

}  // namespace qkv::bench
