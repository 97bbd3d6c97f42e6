// vgpu-run: runs a program that uses CUDA on a virtual GPU.
//
// The program is not changed: it finds the stand-in libraries by LD_LIBRARY_PATH and what to be by
// environment variables (see README.md). The exit status is the program's own when that is not
// zero, and 99 when the program succeeded but the machine found fault with a kernel. Who ends
// vgpu-run ends the program.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace {

namespace fs = std::filesystem;

constexpr int kFindingsStatus = 99;

struct Options {
  std::string device = "h100", seed = "0", counts, gpus = "1", sms, cores, timeout, asynchrony, mma,
              driver, plant;
  bool mutate = false, quiet = false;
  std::vector<std::string> only;  // mutants whose kernel, line or text has one of these
  int limit = 0;                  // mutants to try, 0 for all
  std::vector<char*> program;
};

[[noreturn]] void usage(const std::string& problem) {
  std::fprintf(stderr,
               "%s%svgpu-run --device h100|a100|t4|rtx4090 [--seed N] [--gpus N] [--sms N]\n"
               "         [--cores N] [--async early|late|any] [--counts FILE.json]\n"
               "         [--mma exact|truncate] [--timeout SECONDS] [--driver CUDA]\n"
               "         [--plant FAULT:KERNEL] [--quiet]\n"
               "         [--mutate [--only TEXT]... [--limit N]] -- PROGRAM [ARGUMENTS]\n",
               problem.c_str(), problem.empty() ? "" : "\n");
  std::exit(2);
}

Options parse(int argc, char** argv) {
  Options o;
  int i = 1;
  const auto value = [&]() -> std::string {
    if (i + 1 >= argc) usage(std::string(argv[i]) + " needs a value");
    return argv[++i];
  };
  const auto number = [&] {
    const std::string option = argv[i];
    std::string text = value();
    if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos)
      usage(option + " takes a whole number, not '" + text + "'");
    return text;
  };
  for (; i < argc; ++i) {
    const std::string a = argv[i];
    if (a == "--") {
      ++i;
      break;
    }
    if (a == "--device") {
      o.device = value();
    } else if (a == "--seed") {
      o.seed = number();
    } else if (a == "--counts") {
      o.counts = value();
    } else if (a == "--gpus") {
      o.gpus = number();
    } else if (a == "--sms") {
      o.sms = number();
    } else if (a == "--cores") {
      o.cores = number();
    } else if (a == "--timeout") {
      o.timeout = value();
    } else if (a == "--driver") {
      o.driver = value();
    } else if (a == "--async") {
      o.asynchrony = value();
      if (o.asynchrony != "early" && o.asynchrony != "late" && o.asynchrony != "any")
        usage("--async takes early, late or any");
    } else if (a == "--mma") {
      o.mma = value();
      if (o.mma != "exact" && o.mma != "truncate") usage("--mma takes exact or truncate");
    } else if (a == "--plant") {
      o.plant = value();
    } else if (a == "--limit") {
      o.limit = std::atoi(number().c_str());
    } else if (a == "--only") {
      o.only.push_back(value());
    } else if (a == "--mutate") {
      o.mutate = true;
    } else if (a == "--quiet") {
      o.quiet = true;
    } else {
      usage("unknown option " + a);
    }
  }
  for (; i < argc; ++i) o.program.push_back(argv[i]);
  if (o.program.empty()) usage("no program given");
  o.program.push_back(nullptr);
  return o;
}

fs::path library_folder() {
  if (const char* given = std::getenv("VGPU_LIBS")) return given;
  return fs::read_symlink("/proc/self/exe").parent_path() / "lib";
}

struct Result {
  int status = 0;
  unsigned long long calls = 0, launches = 0, planted = 0;
  bool ended = false;  // it came to its end, and told how many
  std::vector<nlohmann::json> findings;
};

constexpr int kEndingSignals[] = {SIGINT, SIGTERM, SIGHUP};
volatile sig_atomic_t program_id = 0, ended_by = 0;

void pass_on(int signal) {
  ended_by = signal;
  if (program_id > 0) kill(static_cast<pid_t>(program_id), signal);
}

// What is ignored, as under nohup, stays so.
void handle_signals(void (*handler)(int)) {
  for (const int signal : kEndingSignals) {
    if (std::signal(signal, handler) == SIG_IGN) std::signal(signal, SIG_IGN);
  }
}

// The status of the program, as a shell tells it. Signals that end vgpu-run go to the program
// first, and then end vgpu-run too.
int wait_for(pid_t program, const fs::path& report) {
  program_id = program;
  handle_signals(pass_on);
  if (ended_by != 0) kill(program, ended_by);
  int status = 0;
  while (waitpid(program, &status, 0) < 0 && errno == EINTR) {
  }
  program_id = 0;
  handle_signals(SIG_DFL);
  if (ended_by != 0) {
    fs::remove(report);
    std::raise(ended_by);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

using Environment = std::map<std::string, std::string>;

Result run_once(const Options& o, const Environment& extra, bool silent) {
  const fs::path report =
      fs::temp_directory_path() / ("vgpu-" + std::to_string(getpid()) + ".report");
  fs::remove(report);
  const pid_t runner = getpid();
  const pid_t child = fork();
  if (child < 0) {
    std::perror("vgpu-run: fork");
    std::exit(2);
  }
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // where vgpu-run is killed and passes nothing on
    if (getppid() != runner) _exit(127);
    const char* before = std::getenv("LD_LIBRARY_PATH");
    const std::string path =
        library_folder().string() + (before == nullptr ? "" : ":" + std::string(before));
    setenv("LD_LIBRARY_PATH", path.c_str(), 1);
    setenv("VGPU_DEVICE", o.device.c_str(), 1);
    setenv("VGPU_SEED", o.seed.c_str(), 1);
    setenv("VGPU_GPUS", o.gpus.c_str(), 1);
    setenv("VGPU_REPORT", report.c_str(), 1);
    if (!o.sms.empty()) setenv("VGPU_SMS", o.sms.c_str(), 1);
    if (!o.cores.empty()) setenv("VGPU_CORES", o.cores.c_str(), 1);
    if (!o.asynchrony.empty()) setenv("VGPU_ASYNC", o.asynchrony.c_str(), 1);
    if (!o.mma.empty()) setenv("VGPU_MMA", o.mma.c_str(), 1);
    if (!o.plant.empty()) setenv("VGPU_PLANT", o.plant.c_str(), 1);
    if (!o.driver.empty()) setenv("VGPU_DRIVER", o.driver.c_str(), 1);
    if (!o.timeout.empty()) setenv("VGPU_TIMEOUT", o.timeout.c_str(), 1);
    // A launch frees gigabytes that the next one wants: pages returned would be cleared each time.
    setenv("MALLOC_MMAP_THRESHOLD_", "33554432", 0);
    setenv("MALLOC_TRIM_THRESHOLD_", "17179869184", 0);
    for (const auto& [name, v] : extra) setenv(name.c_str(), v.c_str(), 1);
    if (silent) {
      if (std::freopen("/dev/null", "w", stdout) == nullptr ||
          std::freopen("/dev/null", "w", stderr) == nullptr)
        _exit(127);
    }
    execvp(o.program[0], o.program.data());
    std::perror(o.program[0]);
    _exit(127);
  }
  Result r;
  r.status = wait_for(child, report);
  std::ifstream in(report);
  for (std::string line; std::getline(in, line);) {
    const auto j = nlohmann::json::parse(line, nullptr, false);
    if (j.is_discarded()) continue;
    r.ended = r.ended || j.contains("calls");
    r.calls += j.value("calls", 0ull);
    r.launches += j.value("launches", 0ull);
    r.planted += j.value("planted", 0ull);
    for (const auto& f : j.value("findings", nlohmann::json::array())) r.findings.push_back(f);
  }
  fs::remove(report);
  return r;
}

// Every mutant of every kernel that the program launches, one run each. A mutant survives when the
// program succeeds and nothing is found.
int mutate(const Options& o) {
  const fs::path list =
      fs::temp_directory_path() / ("vgpu-" + std::to_string(getpid()) + ".mutants");
  fs::remove(list);
  const Result clean = run_once(o, {{"VGPU_MUTANTS", list.string()}}, true);
  if (clean.status != 0 || !clean.findings.empty()) {
    std::fprintf(stderr,
                 "vgpu-run: the program fails without a mutation: status %d, %zu findings\n",
                 clean.status, clean.findings.size());
    return clean.status != 0 ? clean.status : kFindingsStatus;
  }
  std::map<std::string, std::string> mutants;
  std::ifstream in(list);
  for (std::string line; std::getline(in, line);) {
    const size_t tab = line.find('\t');
    const bool wanted = std::any_of(o.only.begin(), o.only.end(), [&](const std::string& text) {
      return line.find(text) != std::string::npos;
    });
    if (tab != std::string::npos && (o.only.empty() || wanted))
      mutants[line.substr(0, tab)] = line.substr(tab + 1);
  }
  fs::remove(list);
  int tried = 0;
  std::vector<std::string> survivors;
  for (const auto& [key, text] : mutants) {
    if (o.limit != 0 && tried >= o.limit) break;
    ++tried;
    const Result r = run_once(o, {{"VGPU_MUTANT", key}, {"VGPU_TIMEOUT", "60"}}, true);
    const bool survived = r.status == 0 && r.findings.empty();
    if (survived) survivors.push_back(text);
    if (!o.quiet) std::printf("%s  %s\n", survived ? "SURVIVED" : "killed  ", text.c_str());
    std::fflush(stdout);
  }
  std::printf("vgpu-run: %d of %zu mutants tried, %d killed, %zu survived\n", tried, mutants.size(),
              tried - static_cast<int>(survivors.size()), survivors.size());
  for (const std::string& s : survivors) std::printf("  %s\n", s.c_str());
  return survivors.empty() ? 0 : kFindingsStatus;
}

int run(int argc, char** argv) {
  const Options o = parse(argc, argv);
  if (!fs::exists(library_folder() / VGPU_CUDART))
    usage("no " VGPU_CUDART " in " + library_folder().string());
  if (o.mutate) return mutate(o);
  Environment extra;
  if (!o.counts.empty()) extra["VGPU_COUNTS"] = fs::absolute(o.counts).string();
  const Result r = run_once(o, extra, false);
  if (!o.quiet || !r.findings.empty()) {
    const std::string calls =
        r.ended ? std::to_string(r.calls) + " calls, " + std::to_string(r.launches) + " launches"
                : "the program was cut off";
    std::fprintf(stderr, "vgpu-run: %s, seed %s: %s, %zu findings\n", o.device.c_str(),
                 o.seed.c_str(), calls.c_str(), r.findings.size());
  }
  const bool idle_plant = !o.plant.empty() && r.ended && r.planted == 0;
  if (idle_plant)
    std::fprintf(stderr,
                 "vgpu-run: --plant %s: nothing that the program loaded has such a kernel\n",
                 o.plant.c_str());
  if (r.status != 0) return r.status;
  if (idle_plant) return 2;
  return r.findings.empty() ? 0 : kFindingsStatus;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "vgpu-run: %s\n", error.what());
    return 2;
  }
}
