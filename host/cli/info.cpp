// qkv info: what this build is and what it finds on the machine.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "errors.h"
#include "host/core/disable.h"
#include "machine.h"

namespace qkv::cli {
namespace {

using Json = nlohmann::ordered_json;

void print_json(const Machine& machine, const Json& build) {
  Json out;
  out["version"] = build.at("version");
  out["build"] = build;
  out["build"].erase("version");
  out["disabled"] = {{"kernels", host::disabled().kernels}, {"unknown", host::disabled().unknown}};
  out["cpu"] = {{"name", machine.cpu},
                {"engine", machine.engine},
                {"isa", machine.isa},
                {"threads", machine.threads}};
  out["cuda_devices"] = Json::array();
  for (const qkv_device_facts& gpu : machine.gpus) {
    out["cuda_devices"].push_back(
        {{"name", gpu.name},
         {"compute", fmt::format("{}.{}", gpu.compute_major, gpu.compute_minor)},
         {"sm_count", gpu.sm_count},
         {"smem_per_block", gpu.smem_per_block},
         {"l2_bytes", gpu.l2_bytes},
         {"memory_bytes", gpu.memory_bytes}});
  }
  if (!machine.no_gpu.empty()) out["no_cuda_device"] = machine.no_gpu;
  fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
}

void print_text(const Machine& machine, const Json& build) {
  fmt::print("qkv       {}\n", build.at("version").get<std::string>());
  fmt::print("compiler  {}\n", build.at("compiler").get<std::string>());
  std::string names;
  for (const Json& kernel : build.at("kernels")) {
    names += (names.empty() ? "" : ", ") + kernel.get<std::string>();
  }
  fmt::print("kernels   {}\n", names);
  const host::Disabled& off = host::disabled();
  if (!off.kernels.empty())
    fmt::print("          disabled by QKV_DISABLE: {}\n", fmt::join(off.kernels, ", "));
  if (!off.unknown.empty())
    fmt::print("          no such kernel, named by QKV_DISABLE: {}\n",
               fmt::join(off.unknown, ", "));
  fmt::print("CPU       {}\n", cpu_text(machine));
  fmt::print("engine    {}\n", machine.engine);
  const Json& cuda = build.at("cuda");
  fmt::print("CUDA      {}\n",
             cuda.is_null()
                 ? "built without"
                 : fmt::format("built for {}, with the runtime of CUDA {}", cuda.get<std::string>(),
                               build.at("cuda_runtime").get<std::string>()));
  if (!cuda.is_null() && machine.gpus.empty())
    fmt::print("          no device found{}\n",
               machine.no_gpu.empty() ? "" : ": " + machine.no_gpu);
  for (size_t i = 0; i < machine.gpus.size(); ++i) {
    fmt::print("cuda:{}    {}\n", i, gpu_text(machine.gpus[i]));
  }
}

}  // namespace

void add_info(CLI::App* app, Command* chosen) {
  const auto json = std::make_shared<bool>(false);
  CLI::App* sub = app->add_subcommand("info", "Says what this build is and what it runs on");
  sub->add_flag("--json", *json, "Print one JSON object");
  sub->final_callback([=] {
    *chosen = [=]() -> int {
      const Machine machine = this_machine();
      const Json build = Json::parse(qkv_build_info());
      if (*json) {
        print_json(machine, build);
      } else {
        print_text(machine, build);
      }
      return kDone;
    };
  });
}

}  // namespace qkv::cli
