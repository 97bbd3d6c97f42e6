#include "bench/options.h"

#include <benchmark/benchmark.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <string_view>

#include "bench/presets.h"

namespace qkv::bench {
namespace {

constexpr int64_t kGpuTokens = 16384;  // batch x length by default, as others measure

struct Sweep {
  std::vector<std::string> devices, types, problems, presets, masks{"full", "causal"};
  std::vector<int64_t> sizes, dims{128};
  int64_t batch = 0, heads = 0, heads_kv = 0;  // 0: the device's default
};

// Google Benchmark's own defaults, where they do not fit: medians of interleaved repetitions.
const char* const kBenchmarkDefaults[] = {"--benchmark_min_time=0.1",
                                          "--benchmark_enable_random_interleaving=true"};
constexpr int kRepetitions = 5;  // of all passes together

bool is_flag(const std::string& text, const std::string& name) {
  return text == name || text.rfind(name + "=", 0) == 0;
}

// A CPU's rate drifts by tens of per cent in seconds, by what else the machine does: there the
// repetitions of a problem stand in passes apart, so that their spread shows it. A GPU's drifts
// less, and a problem there costs more to set up.
void choose_passes(bool all_on_cpu, std::vector<std::string>* flags, Options* options) {
  const auto given = [&](const char* name) {
    return std::any_of(flags->begin(), flags->end(),
                       [&](const std::string& flag) { return is_flag(flag, name); });
  };
  const bool repeated = given("--benchmark_repetitions");
  const bool aggregates = given("--benchmark_report_aggregates_only");
  if (options->passes == 0)
    options->passes = all_on_cpu && !repeated && !aggregates ? kRepetitions : 1;
  if (options->passes > 1 && aggregates)
    throw std::invalid_argument(
        "--benchmark_report_aggregates_only is of one pass: --passes must be 1");
  if (!repeated)
    flags->push_back("--benchmark_repetitions=" +
                     std::to_string(options->passes > 1 ? 1 : kRepetitions));
}

Spec spec_of(const Sweep& sweep, qkv_device device, qkv_type type, int64_t dim, bool causal,
             int64_t size) {
  const bool gpu = device == QKV_DEVICE_CUDA;
  Spec spec;
  spec.device = device;
  spec.type = type;
  spec.causal = causal;
  spec.d_qk = spec.d_v = dim;
  spec.s_q = spec.s_kv = size;
  spec.batch = sweep.batch > 0 ? sweep.batch : gpu ? std::max<int64_t>(1, kGpuTokens / size) : 1;
  spec.heads_q = sweep.heads > 0 ? sweep.heads : gpu ? 16 : 8;
  spec.heads_kv = sweep.heads_kv > 0 ? sweep.heads_kv : spec.heads_q;
  if (spec.heads_q % spec.heads_kv != 0) {
    throw std::invalid_argument("--heads-kv must divide --heads");
  }
  set_bhsd(&spec);
  return spec;
}

std::vector<std::string> types_of(const Sweep& sweep, bool gpu) {
  if (!sweep.types.empty()) return sweep.types;
  return gpu ? std::vector<std::string>{"bf16", "f16"} : std::vector<std::string>{"f32", "bf16"};
}

using Problems = std::vector<std::unique_ptr<Workload>>;

void add_sweep(const Sweep& sweep, qkv_device device, Problems* out) {
  const bool gpu = device == QKV_DEVICE_CUDA;
  auto sizes = sweep.sizes;
  if (sizes.empty()) sizes = {512, 1024, 2048, 4096};
  if (sweep.sizes.empty() && gpu) sizes.insert(sizes.end(), {8192, 16384});
  for (const std::string& type : types_of(sweep, gpu)) {
    for (const int64_t dim : sweep.dims) {
      for (const std::string& mask : sweep.masks) {
        for (const int64_t size : sizes) {
          out->push_back(attention_workload(
              spec_of(sweep, device, parse_type(type), dim, mask == "causal", size)));
        }
      }
    }
  }
}

void add_presets(const Sweep& sweep, const std::string& device, Problems* out) {
  for (const std::string& name : sweep.presets) {
    for (const std::string& type : types_of(sweep, device == "cuda")) {
      for (const Spec& spec : preset_problems(name, device, type, sweep.sizes))
        out->push_back(attention_workload(spec));
    }
  }
}

Problems problems_of(const Sweep& sweep, bool has_gpu) {
  Problems out;
  for (const std::string& line : sweep.problems) out.push_back(parse_workload(line));
  if (!out.empty()) return out;
  auto devices = sweep.devices;
  if (devices.empty())
    devices = has_gpu ? std::vector<std::string>{"cpu", "cuda"} : std::vector<std::string>{"cpu"};
  for (const std::string& device : devices) {
    if (sweep.presets.empty()) add_sweep(sweep, parse_device(device), &out);
    add_presets(sweep, device, &out);
  }
  return out;
}

// Takes "--name=value" out of the arguments; the last one wins.
std::string take(std::vector<char*>* args, std::string_view flag) {
  std::string value;
  for (auto it = args->begin(); it != args->end();) {
    const std::string_view arg(*it);
    const bool bare = arg == flag;
    if (!bare && (arg.substr(0, flag.size()) != flag || arg[flag.size()] != '=')) {
      ++it;
      continue;
    }
    value = bare ? "true" : std::string(arg.substr(flag.size() + 1));
    it = args->erase(it);
  }
  return value;
}

void define(CLI::App* app, Sweep* sweep, Options* options) {
  const auto positive = CLI::Range(int64_t{1}, int64_t{1} << 31);
  app->add_option("--device", sweep->devices, "cpu, cuda; default: all that are there")
      ->delimiter(',')
      ->check(CLI::IsMember({"cpu", "cuda"}));
  app->add_option("--type", sweep->types,
                  "f32, f16, bf16; default: f32,bf16 (cpu), bf16,f16 (cuda)")
      ->delimiter(',')
      ->check(CLI::IsMember({"f32", "f16", "bf16"}));
  app->add_option("--mask", sweep->masks, "full, causal; default: both")
      ->delimiter(',')
      ->check(CLI::IsMember({"full", "causal"}));
  app->add_option("--dim", sweep->dims, "head widths; default: 128")
      ->delimiter(',')
      ->check(positive);
  app->add_option("--size", sweep->sizes,
                  "sequence lengths; default: 512,1024,2048,4096, on cuda 8192,16384 too")
      ->delimiter(',')
      ->check(positive);
  app->add_option("--batch", sweep->batch, "default: 1 (cpu), 16384 / size (cuda)")
      ->check(positive);
  app->add_option("--heads", sweep->heads, "query heads; default: 8 (cpu), 16 (cuda)")
      ->check(positive);
  app->add_option("--heads-kv", sweep->heads_kv, "key and value heads; default: as many")
      ->check(positive);
  app->add_option(
      "--problem", sweep->problems,
      "this problem instead of a sweep, in one word as QKV_VERBOSE=repro prints it; may "
      "be repeated:\n"
      "fwd:cpu:bf16:d128:causal:b1:hq8:hkv8:sq2048:skv2048:softcap=30:lse");
  app->add_option("--preset", sweep->presets,
                  "problems of these models instead of a sweep, listed below; --size gives them "
                  "other lengths")
      ->delimiter(',')
      ->check(CLI::IsMember(preset_names()));
  app->add_option("--passes", options->passes,
                  "measure all problems this many times over, each time with "
                  "--benchmark_repetitions; default: 5 with one repetition if all are on the cpu "
                  "and no repetitions are asked for, else 1")
      ->check(positive);
  app->add_option("--tsv", options->tsv, "also write the results as tab-separated values");
  app->add_flag("--no-ceiling{false}", options->ceiling,
                "skip what ceilings are measured with: on cuda the 8192^3 product that % "
                "ceiling is taken from, and reading memory");
  std::string fields = "Fields of a problem, its first word first, the rest in any order:\n";
  for (const Family* family : families())
    fields += "  " + std::string(family->word) + "\n" + family->fields;
  fields += "\nPresets:\n";
  for (const Preset& one : presets()) {
    std::string name = one.name;
    fields += "  " + name + std::string(std::max<size_t>(name.size(), 22) - name.size(), ' ') +
              one.about + "\n";
  }
  app->footer(fields +
              "\n"
              "Google Benchmark's flags work too, among them:\n"
              "  --benchmark_filter=<regex>  --benchmark_repetitions=<n> (default 5 / passes)\n"
              "  --benchmark_min_time=<seconds> (default 0.1)  --benchmark_out=<file> (JSON)\n"
              "  --benchmark_list_tests");
}

}  // namespace

Options parse_options(int argc, char** argv, bool has_gpu) {
  std::vector<char*> args(argv, argv + argc);
  Options options;
  options.passes = 0;  // not given
  Sweep sweep;
  options.json = take(&args, "--benchmark_out");
  options.list = take(&args, "--benchmark_list_tests") == "true";

  CLI::App app{
      "Times qkv's attention beside other implementations of the same problem, all checked"
      " against the same reference first."};
  define(&app, &sweep, &options);
  app.allow_extras();
  try {
    app.parse(static_cast<int>(args.size()), args.data());
  } catch (const CLI::CallForHelp& help) {
    std::exit(app.exit(help));
  }
  // What CLI11 does not know goes to Google Benchmark, after our defaults.
  options.problems = problems_of(sweep, has_gpu);
  std::vector<std::string> rest(std::begin(kBenchmarkDefaults), std::end(kBenchmarkDefaults));
  rest.insert(rest.begin(), argv[0]);
  for (const std::string& extra : app.remaining()) rest.push_back(extra);
  choose_passes(
      std::all_of(options.problems.begin(), options.problems.end(),
                  [](const auto& problem) { return problem->device() == QKV_DEVICE_CPU; }),
      &rest, &options);
  std::vector<char*> flags;
  for (std::string& text : rest) flags.push_back(text.data());
  int count = static_cast<int>(flags.size());
  benchmark::Initialize(&count, flags.data());
  if (count > 1) throw std::invalid_argument("unknown argument " + std::string(flags[1]));
  return options;
}

}  // namespace qkv::bench
