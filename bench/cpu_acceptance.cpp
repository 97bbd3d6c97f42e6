// cpu_acceptance: holds the CPU backend to what it promises, in one run, on all cores.
//   speed   non-causal, d=128, S=2048: against oneDNN's own rate on the same tiles and against the
//           unfused baseline; repetitions interleaved, medians compared
//   memory  S=16384, d=128: peak resident memory within inputs + outputs + 64 MiB
// Exits with the number of promises broken.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/check.h"
#include "bench/cpu_contenders.h"
#include "bench/machine.h"
#include "bench/tensors.h"

namespace qkv::bench {
namespace {

constexpr int kRepetitions = 15;
constexpr double kMiB = 1 << 20;
constexpr double kAllowedMiB = 64;

// Prints one line; 1 if the promise is broken.
int verdict(bool kept, const std::string& text) {
  fmt::print("{} {}\n", kept ? "PASS" : "FAIL", text);
  std::fflush(stdout);
  return kept ? 0 : 1;
}

struct Lane {
  const char* name;
  std::unique_ptr<Contender> contender;
  std::vector<double> gflops;

  double median() const {
    std::vector<double> sorted = gflops;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
};

void check(const Reference& reference, Lane* lane) {
  lane->contender->poison();
  lane->contender->run();
  const std::string wrong = lane->contender->fetch() ? reference.check() : std::string();
  if (!wrong.empty()) throw std::runtime_error(std::string(lane->name) + ": " + wrong);
}

// qkv, tile products, unfused: median GFLOP/s of each.
std::array<double, 3> rates(qkv_type type) {
  Spec spec;
  spec.type = type;
  set_bhsd(&spec);
  const auto tensors = std::make_shared<const Tensors>(spec);
  const Reference reference(tensors->problem());
  std::array<Lane, 3> lanes{Lane{"qkv", make_cpu_qkv(tensors), {}},
                            Lane{"oneDNN tile products", make_tile_products(tensors), {}},
                            Lane{"unfused", make_cpu_unfused(tensors), {}}};
  for (Lane& lane : lanes) check(reference, &lane);
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    for (Lane& lane : lanes) {
      const Measurement once = lane.contender->run();
      lane.gflops.push_back(once.flops / once.seconds * 1e-9);
    }
  }
  fmt::print("{}, {} interleaved repetitions, median (lowest to highest) GFLOP/s\n", name(spec),
             kRepetitions);
  for (const Lane& lane : lanes) {
    const auto [low, high] = std::minmax_element(lane.gflops.begin(), lane.gflops.end());
    fmt::print("  {:<22} {:>7.1f}  ({:.1f} to {:.1f})\n", lane.name, lane.median(), *low, *high);
  }
  return {lanes[0].median(), lanes[1].median(), lanes[2].median()};
}

int check_speed() {
  int broken = 0;
  const auto at_least = [&](double got, double wanted, const char* what) {
    broken += verdict(got >= wanted, fmt::format("{}: {:.3f}, at least {:.2f}", what, got, wanted));
  };
  const auto f32 = rates(QKV_TYPE_F32);
  const auto bf16 = rates(QKV_TYPE_BF16);
  at_least(f32[0] / f32[1], 0.80, "f32, share of oneDNN's own rate on the same tiles");
  at_least(bf16[0] / bf16[1], 0.40, "bf16, share of oneDNN's own rate on the same tiles");
  at_least(f32[0] / f32[2], 1.3, "f32, times the rate of the unfused baseline");
  return broken;
}

// Runs in a process of its own, whose peak is that of one run alone. The number of promises broken.
int check_memory_here(qkv_type type) {
  Spec spec;
  spec.type = type;
  spec.heads_q = spec.heads_kv = 2;
  spec.s_q = spec.s_kv = 16384;
  set_bhsd(&spec);
  const Tensors tensors(spec);
  run(tensors.desc());
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) throw std::runtime_error("getrusage failed");
  const double peak = static_cast<double>(usage.ru_maxrss) * 1024 / kMiB;
  const double tensors_mib = compulsory_bytes(spec) / kMiB;
  const std::string wrong = Reference(tensors.problem()).check();
  if (!wrong.empty()) return verdict(false, name(spec) + ": " + wrong);
  return verdict(peak <= tensors_mib + kAllowedMiB,
                 fmt::format("{}: peak {:.1f} MiB, inputs and outputs {:.1f} MiB, beyond them "
                             "{:.1f} MiB, at most {:.0f}",
                             name(spec), peak, tensors_mib, peak - tensors_mib, kAllowedMiB));
}

int check_memory(qkv_type type) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    int broken = 1;
    try {
      broken = check_memory_here(type);
    } catch (const std::exception& e) {
      fmt::print(stderr, "cpu_acceptance: {}\n", e.what());
    }
    std::fflush(stdout);
    _exit(broken);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child) throw std::runtime_error("waitpid failed");
  if (WIFSIGNALED(status)) {
    return verdict(false, fmt::format("{} memory run: killed by signal {}", type_name(type),
                                      WTERMSIG(status)));
  }
  return WEXITSTATUS(status);
}

int run_program(const std::string& what) {
  int broken = 0;
  // Memory first: this process must fork before it has threads.
  if (what != "speed") broken += check_memory(QKV_TYPE_F32) + check_memory(QKV_TYPE_BF16);
  if (what != "memory") {
    const Facts facts = machine_facts();
    fmt::print("{}, {} threads\n", fact(facts, "cpu"), fact(facts, "threads"));
    broken += check_speed();
  }
  return broken;
}

}  // namespace
}  // namespace qkv::bench

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "all";
  if (argc > 2 || (what != "all" && what != "speed" && what != "memory")) {
    fmt::print(stderr, "usage: cpu_acceptance [all|speed|memory]\n");
    return 64;
  }
  try {
    return qkv::bench::run_program(what);
  } catch (const std::exception& e) {
    fmt::print(stderr, "cpu_acceptance: {}\n", e.what());
    return 65;
  }
}
