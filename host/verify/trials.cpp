#include "host/verify/trials.h"

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "host/core/status.h"
#include "host/verify/probes.h"

namespace qkv::verify {
namespace {

const char* way_name(Trial::Way way) {
  constexpr const char* kNames[] = {"contract", "selection", "leak", "merge", "project", "layer"};
  return kNames[static_cast<int>(way)];
}

constexpr const char* kOtherBits =
    "the second run, with other bytes in unused memory, gave another result";

// With nothing more to judge.
std::function<Judgement()> known(std::string wrong, double worst) {
  return [judgement = Judgement{std::move(wrong), worst}] { return judgement; };
}
std::function<Judgement()> known(std::string wrong) {
  const double worst = wrong.empty() ? 0 : kInf;
  return known(std::move(wrong), worst);
}

// A device that failed a call fails all that follow.
void require(qkv_status status) {
  if (qkv_status_class(status) == QKV_DEVICE_ERROR) throw std::runtime_error(qkv_last_error());
}

// The case as built and run; what is wrong goes to *wrong.
std::shared_ptr<BuiltProblem> run(const Case& row, const BuildOptions& options, Api api,
                                  std::string* wrong) {
  auto built = std::make_shared<BuiltProblem>(row, options);
  const qkv_status status = built->run(api);
  require(status);
  *wrong = status == QKV_SUCCESS ? built->damage() : qkv_last_error();
  return built;
}

std::function<Judgement()> run_contract(const Case& row, uint64_t seed) {
  constexpr Fill kOthers[] = {Fill::kNaN, Fill::kPositiveInf, Fill::kNegativeInf, Fill::kMax};
  std::string wrong;
  auto first = run(row, {.seed = seed, .fill = Fill::kZero}, Api::kOneShot, &wrong);
  if (!wrong.empty()) return known(wrong);
  const auto again =
      run(row, {.seed = seed, .fill = kOthers[seed % 4], .poison = 0xa5}, Api::kPlan, &wrong);
  if (!wrong.empty()) return known(wrong);
  if (again->output_bits() != first->output_bits()) return known(kOtherBits);
  return [first] { return Tolerance(*first).judge(*first); };
}

// What is wrong with two runs of one call, whose unused memory differs; "" if nothing is.
template <class Call>
std::string run_twice(Call* first, Call* again) {
  for (Call* call : {first, again}) {
    const qkv_status status = call->run();
    require(status);
    if (status != QKV_SUCCESS) return qkv_last_error();
    if (std::string damage = call->damage(); !damage.empty()) return damage;
  }
  return first->output_bits() == again->output_bits() ? "" : kOtherBits;
}

std::function<Judgement()> run_merge(const MergeCase& merge, uint64_t seed) {
  const auto make = [&](const BuildOptions& options) {
    return std::make_unique<Parts>(merge.parts, merge.part_type, merge.type, merge.shape(),
                                   options);
  };
  const auto first = make({.seed = seed});
  const auto again = make({.seed = seed, .fill = Fill::kZero, .poison = 0xa5});
  double worst = 0;
  std::string wrong = run_twice(first.get(), again.get());
  if (!wrong.empty()) return known(std::move(wrong));
  wrong = merge_faults(*first, merge.type, &worst);
  return known(std::move(wrong), worst);
}

std::function<Judgement()> run_project(const ProjectCase& one, uint64_t seed) {
  Projection first(one, {.seed = seed});
  Projection again(one, {.seed = seed, .fill = Fill::kZero, .poison = 0xa5});
  double worst = 0;
  std::string wrong = run_twice(&first, &again);
  if (!wrong.empty()) return known(std::move(wrong));
  wrong = project_faults(first, &worst);
  return known(std::move(wrong), worst);
}

std::function<Judgement()> run_layer(const LayerCase& one, uint64_t seed) {
  const auto first = std::make_shared<BuiltLayer>(one, BuildOptions{.seed = seed});
  BuiltLayer again(one, {.seed = seed, .fill = Fill::kZero, .poison = 0xa5});
  std::string wrong = run_twice(first.get(), &again);
  if (!wrong.empty()) return known(std::move(wrong));
  return [first] { return first->judge(); };
}

}  // namespace

std::string Trial::name() const {
  return host::text(way_name(way), "/",
                    way == Way::kMerge     ? merge.name()
                    : way == Way::kProject ? project.name()
                    : way == Way::kLayer   ? layer.name()
                                           : row.name);
}

std::string Trial::group() const {
  return way == Way::kContract ? row.name.substr(0, row.name.find('_')) : way_name(way);
}

double Trial::cost() const {
  if (way == Way::kMerge) return 1e5 * merge.parts;
  if (way == Way::kProject) return project.work();
  if (way == Way::kLayer) return layer.work();
  const double scores =
      static_cast<double>(row.batch * row.heads_q * row.s_q) * static_cast<double>(row.s_kv);
  const double once = scores * static_cast<double>(row.d_qk + row.d_v);
  const double runs = way == Way::kContract ? 2
                      : way == Way::kSelection
                          ? 1
                          : std::ceil(static_cast<double>(row.s_kv) / static_cast<double>(row.d_v));
  return once * runs;
}

std::string Trial::kernel(qkv_device device) const {
  const bool cpu = device == QKV_DEVICE_CPU;
  if (way == Way::kMerge) return cpu ? "cpu_merge" : "merge";
  if (way == Way::kProject) return cpu ? "cpu_project" : "cublaslt";
  if (way == Way::kLayer) return cpu ? "cpu_layer" : "layer";
  return {};
}

std::vector<std::string> other_kernels(qkv_device device) {
  std::vector<std::string> out;
  for (const Trial& trial : all_trials()) {
    std::string kernel = trial.kernel(device);
    if (!kernel.empty() && std::ranges::find(out, kernel) == out.end())
      out.push_back(std::move(kernel));
  }
  return out;
}

const std::vector<Trial>& all_trials() {
  static const std::vector<Trial> trials = [] {
    std::vector<Trial> out;
    for (const Case& row : all_cases()) {
      if (row.batch > 0 && row.s_q > 0) out.push_back({.way = Trial::Way::kContract, .row = row});
    }
    for (const Case& row : probe_rows()) {
      out.push_back({.way = Trial::Way::kSelection, .row = row});
      out.push_back({.way = Trial::Way::kLeak, .row = row});
    }
    for (const MergeCase& merge : merge_cases())
      out.push_back({.way = Trial::Way::kMerge, .merge = merge});
    for (const ProjectCase& one : project_cases())
      if (one.on_cuda()) out.push_back({.way = Trial::Way::kProject, .project = one});
    for (const LayerCase& one : layer_cases())
      if (one.work() > 0) out.push_back({.way = Trial::Way::kLayer, .layer = one});
    return out;
  }();
  return trials;
}

std::function<Judgement()> run_trial(const Trial& trial, uint64_t seed) {
  switch (trial.way) {
    case Trial::Way::kSelection:
      return known(selection_faults(trial.row, seed));
    case Trial::Way::kLeak:
      return known(leak_faults(trial.row, seed));
    case Trial::Way::kMerge:
      return run_merge(trial.merge, seed);
    case Trial::Way::kProject:
      return run_project(trial.project, seed);
    case Trial::Way::kLayer:
      return run_layer(trial.layer, seed);
    default:
      return run_contract(trial.row, seed);
  }
}

}  // namespace qkv::verify
