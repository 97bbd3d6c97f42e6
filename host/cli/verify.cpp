// qkv verify: checks the library on the machine's own device, a process for each kernel.
#include "verify.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/prctl.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <random>
#include <thread>

#include "commands.h"
#include "errors.h"
#include "host/io/array.h"
#include "host/verify/assignments.h"
#include "host/verify/instances.h"
#include "host/verify/place.h"
#include "host/verify/trials.h"
#include "host/verify/worker.h"
#include "machine.h"
#include "output_files.h"
#include "qkv/qkv.hpp"

namespace qkv::verify {
namespace {

Place* chosen = nullptr;  // the workers' device; the supervisor's problems are never run

}  // namespace

Place& place() { return chosen != nullptr ? *chosen : host_place(); }

}  // namespace qkv::verify

namespace qkv::cli {
namespace {

using verify::Assignment;
using verify::KernelReport;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int threads() { return static_cast<int>(std::max(std::thread::hardware_concurrency(), 1U)); }

void choose_place([[maybe_unused]] const DeviceChoice& where) {
  if (where.device == QKV_DEVICE_CPU) return;
#if QKV_HAS_CUDA
  verify::chosen = &verify::cuda_place(where.index);
  if (const std::string missing = verify::place().missing(); !missing.empty())
    throw Failure(missing);
#else
  throw Failure("this build of qkv has no CUDA");
#endif
}

// One kernel's process: it reads names of trials and says what came of them.
int work(const VerifyOptions& options) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // a kernel that hangs must not outlive who would notice
  choose_place(choose_device(options.device));
  return verify::serve({options.kernel, options.seed, threads()}, std::cin, std::cout);
}

// combine, hard_combine, top_k_combine and mask_summary are queued by others, and other operations
// have one kernel each.
bool computes_attention(const std::string& kernel) {
  const auto is = [&](const std::string& other) { return other == kernel; };
  return kernel != "combine" && kernel != "hard_combine" && kernel != "top_k_combine" &&
         kernel != "mask_summary" &&
         std::ranges::none_of(verify::other_kernels(QKV_DEVICE_CPU), is) &&
         std::ranges::none_of(verify::other_kernels(QKV_DEVICE_CUDA), is);
}

verify::Supervision supervision(const VerifyOptions& options, const DeviceChoice& where,
                                const std::string& kernel, double seconds) {
  verify::Supervision how;
  how.command = {"/proc/self/exe",
                 "verify",
                 "--worker",
                 "--device",
                 device_option(where),
                 "--seed",
                 std::to_string(options.seed)};
  if (computes_attention(kernel)) {
    how.command.insert(how.command.end(), {"--kernel", kernel});
    if (where.device == QKV_DEVICE_CUDA)
      how.environment.push_back("QKV_DISABLE=" + verify::all_but(kernel));
  }
  how.seconds = seconds;
  how.watchdog = options.watchdog;
  how.pending = 2 * static_cast<size_t>(threads());
  return how;
}

// Refuses names that nothing has.
void check_names(const VerifyOptions& options, const DeviceChoice& where) {
  const std::vector<std::string> kernels = verify::kernels_of(where.device, where.index);
  if (!options.kernel.empty() && std::ranges::find(kernels, options.kernel) == kernels.end())
    throw BadInput(fmt::format("--kernel is {}; allowed on {}: {}", io::quoted(options.kernel),
                               device_option(where), fmt::join(kernels, ", ")));
  const auto named = [&](const verify::Trial& trial) { return trial.name() == options.trial; };
  if (!options.trial.empty() && std::ranges::none_of(verify::all_trials(), named))
    throw BadInput(fmt::format("--trial is {}; allowed: a problem as a failure names it",
                               io::quoted(options.trial)));
}

std::vector<Assignment> assignments_of(const VerifyOptions& options, const DeviceChoice& where) {
  std::vector<Assignment> all =
      verify::assignments(where.device, where.index, {options.kernel, options.trial, options.seed});
  if (!options.trial.empty())
    std::erase_if(all, [](const Assignment& one) { return one.items.empty(); });
  if (!all.empty()) return all;
  throw BadInput(options.trial.empty()
                     ? fmt::format("{} has no kernel to verify", device_option(where))
                     : fmt::format("--trial {}: {} takes this problem on {}", options.trial,
                                   options.kernel.empty() ? "no kernel"
                                                          : "another kernel than " + options.kernel,
                                   device_option(where)));
}

// CLI::Range takes NaN.
CLI::Validator in_range(double least, double most) {
  const auto check = [=](const std::string& text) {
    char* end = nullptr;
    const double x = std::strtod(text.c_str(), &end);
    if (*end == '\0' && x >= least && x <= most) return std::string();
    return fmt::format("{} is no number from {} to {}", text, least, most);
  };
  return {check, ""};
}

// CLI11 takes -1 for 2^64 - 1.
uint64_t whole_number(const std::string& option, const std::string& text) {
  uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc() && stop == end) return value;
  throw BadInput(fmt::format("{} is {}; allowed: a whole number from 0 to 2^64 - 1", option,
                             io::quoted(text)));
}

std::vector<std::string> other_instances(const DeviceChoice& where, int32_t compute) {
  std::vector<std::string> names;
  for (const verify::Instance& instance : verify::all_instances()) {
    if (where.device == QKV_DEVICE_CUDA && !instance.runs_on(compute))
      names.push_back(instance.name);
  }
  return names;
}

int verify_device(VerifyOptions options) {
  if (!options.has_seed) options.seed = std::random_device{}();
  // Whoever keeps a kernel out of plans wants to know about that kernel most of all.
  const bool had_disabled = std::getenv("QKV_DISABLE") != nullptr;
  unsetenv("QKV_DISABLE");
  const DeviceChoice where = choose_device(options.device);
  check_names(options, where);
  const bool to_file = !options.json.empty() && options.json != "-";
  // What the file holds stays until there is a new report.
  if (to_file && !std::ofstream(options.json, std::ios::app))
    throw BadInput(fmt::format("--json: cannot write {}", options.json));
  std::FILE* const people = options.json == "-" ? stderr : stdout;
  qkv_device_facts facts{};
  facts.struct_size = sizeof facts;
  std::string name = "the CPU";
  if (where.device == QKV_DEVICE_CUDA) {
    check(qkv_device_query(where.index, &facts));
    name = gpu_text(facts);
  }
  fmt::print(people, "qkv verify: {}, {}, seed {}, about {} seconds\n\n", device_option(where),
             name, options.seed, options.seconds);
  if (!where.note.empty()) fmt::print(people, "No GPU: {}.\n\n", where.note);
  if (had_disabled)
    fmt::print(people, "QKV_DISABLE is set; all kernels are verified all the same.\n\n");
  print_head(people);
  std::fflush(people);

  const double begin = now();
  const std::vector<Assignment> all = assignments_of(options, where);
  std::vector<KernelReport> reports;
  for (size_t n = 0; n < all.size(); ++n) {
    const double left = std::max(options.seconds - (now() - begin), 0.0);
    const double share = left / static_cast<double>(all.size() - n);
    reports.push_back(verify::supervise(all[n], supervision(options, where, all[n].kernel, share)));
    print_kernel(people, reports.back());
  }
  const std::vector<std::string> others =
      other_instances(where, facts.compute_major * 10 + facts.compute_minor);
  print_faults(people, options, where, reports);
  fmt::print(people, "\n");
  print_left_out(people, reports, others);
  const bool passed = std::all_of(reports.begin(), reports.end(),
                                  [](const KernelReport& report) { return report.ok(); });
  fmt::print(people, "{} in {:.1f} seconds.\n", passed ? "All passed" : "FAILED", now() - begin);
  if (!options.json.empty()) {
    const auto json = json_of(options, where, name, reports, others);
    const std::string text =
        json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    if (to_file)
      write_text_file(options.json, text);
    else
      fmt::print("{}", text);
  }
  return passed ? kDone : kFailed;
}

}  // namespace

void add_verify(CLI::App* app, Command* chosen) {
  const auto options = std::make_shared<VerifyOptions>();
  CLI::App* sub =
      app->add_subcommand("verify", "Checks every kernel of this build on a device against fp64");
  sub->footer(
      "Each kernel runs in a process of its own, every instance of it that the device can run:\n"
      "random problems, hidden and unused memory poisoned, twice for the same bits, results\n"
      "compared with fp64; probes in which one wrong key shows. A kernel that is wrong, crashes "
      "or\n"
      "hangs is named with the command that repeats the trial; the others go on.\n"
      "error/allowed is the largest error over what the contract allows it to be: at most 1.\n"
      "The least that tries every instance is done however little time is given.\n"
      "Exit code 0: all passed; 1: something failed, or an instance was not reached.");
  sub->add_option("--device", options->device,
                  "auto (the first GPU, else the CPU), cpu, cuda or cuda:N")
      ->type_name("NAME");
  sub->add_option("--seconds", options->seconds, "More time tries more problems (default 60)")
      ->check(in_range(0, 1e6))
      ->type_name("N");
  sub->add_option("--kernel", options->kernel, "Only this kernel")->type_name("NAME");
  sub->add_option("--trial", options->trial, "Only this problem, as a failure names it")
      ->type_name("NAME");
  const CLI::Option* seed =
      sub->add_option_function<std::string>(
             "--seed",
             [options](const std::string& given) { options->seed = whole_number("--seed", given); },
             "The same inputs again (default: new ones)")
          ->type_name("N");
  sub->add_option("--watchdog", options->watchdog,
                  "Seconds without an answer after which a kernel hangs (default 30)")
      ->check(in_range(0.1, 1e6))
      ->type_name("N");
  sub->add_option(
         "--json", options->json,
         "Write all of it to a file; -: to standard output, and what people read to standard error")
      ->type_name("FILE");
  sub->add_flag("--worker", options->worker, "One kernel's process (host/verify/README.md)")
      ->group("");
  sub->final_callback([=] {
    options->has_seed = seed->count() > 0;
    *chosen = [=] { return options->worker ? work(*options) : verify_device(*options); };
  });
}

}  // namespace qkv::cli
