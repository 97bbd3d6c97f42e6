// qkv demo: what attention does, on real data, and how fast.
#include "demo.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdlib>
#include <memory>

#include "commands.h"
#include "errors.h"
#include "host/io/array.h"
#include "machine.h"
#include "qkv/qkv.hpp"

namespace qkv::cli {
namespace {

namespace fs = std::filesystem;

struct DemoOptions {
  std::string out, data;
  bool quick = false;
  std::string speed = "full", device = "auto", color = "auto";
};

Color parse_color(const std::string& text) {
  if (text == "auto") return Color::kAuto;
  if (text == "always") return Color::kAlways;
  if (text == "never") return Color::kNever;
  throw BadInput(fmt::format("--color is {}; allowed: auto, always, never", io::quoted(text)));
}

SpeedSizes parse_speed(const std::string& text, bool quick) {
  if (text == "tiny") return SpeedSizes::kTiny;
  if (text == "quick" || (text == "full" && quick)) return SpeedSizes::kQuick;
  if (text == "full") return SpeedSizes::kFull;
  throw BadInput(fmt::format("--speed is {}; allowed: full, quick, tiny", io::quoted(text)));
}

// The CPU, then the GPU that --device names or, with auto, the first one.
void choose_places(const std::string& option, Demo* demo) {
  demo->places = {{"CPU", {}}};
  const DeviceChoice chosen = choose_device(option);
  if (chosen.device == QKV_DEVICE_CUDA) {
    demo->gpu.struct_size = sizeof demo->gpu;
    check(qkv_device_query(chosen.index, &demo->gpu));  // throws if there is none such
    demo->places.push_back({"GPU", chosen});
  } else if (option == "auto") {
    demo->why_no_gpu = !chosen.note.empty() ? chosen.note
                       : QKV_HAS_CUDA ? "there is no CUDA device here (`qkv info` says what is)"
                                      : "this build of qkv is without CUDA";
  }
}

fs::path data_folder(const std::string& option) {
  if (!option.empty()) return option;
  const char* named = std::getenv("QKV_DATA_DIR");
  return named != nullptr && named[0] != '\0' ? named : QKV_DEFAULT_DATA_DIR;
}

// Beside the program's own build if that is still there, else here.
fs::path out_folder(const std::string& option) {
  if (!option.empty()) return option;
  const fs::path built = QKV_DEFAULT_OUT_DIR;
  return fs::is_directory(built.parent_path()) ? built : fs::path("qkv-demo");
}

Demo prepare(const DemoOptions& options) {
  Demo demo;
  demo.terminal = find_terminal(parse_color(options.color));
  demo.data = data_folder(options.data);
  demo.out = out_folder(options.out);
  demo.sizes = parse_speed(options.speed, options.quick);
  choose_places(options.device, &demo);
  for (const char* name : {"minilm.safetensors", "minilm_layer.safetensors", "books.safetensors",
                           "dates.safetensors"}) {
    if (!fs::is_regular_file(demo.data / name)) {
      throw BadInput(fmt::format("there is no {} in {}; --data or QKV_DATA_DIR names its folder",
                                 name, demo.data.string()));
    }
  }
  std::error_code error;
  fs::create_directories(demo.out, error);
  if (!fs::is_directory(demo.out)) {
    throw Failure(fmt::format("--out: cannot make the folder {}: {}", demo.out.string(),
                              error ? error.message() : "something else has its name"));
  }
  return demo;
}

void introduce(const Demo& demo) {
  const Machine machine = this_machine();
  fmt::print("{}\n", bold(demo.terminal,
                          fmt::format("qkv {}.{}.{}: what attention does, and how "
                                      "fast",
                                      QKV_VERSION_MAJOR, QKV_VERSION_MINOR, QKV_VERSION_PATCH)));
  fmt::print("on {}\n", cpu_text(machine));
  for (const qkv_device_facts& gpu : machine.gpus) fmt::print("   {}\n", gpu_text(gpu));
  fmt::print("\n{}",
             wrap("The idea: a query is compared with all keys, and each comparison gives a "
                  "score. The scores become a probability vector: weights that are never "
                  "negative and sum to 1. The values are summed with these weights. That "
                  "sum is the answer."));
}

int run_demo(const DemoOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  const Demo demo = prepare(options);
  introduce(demo);
  show_model(demo);
  show_books(demo);
  show_nine(demo);
  show_layer(demo);
  show_dates(demo);
  show_speed(demo);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  fmt::print("\nAll checks passed. The demo took {:.0f} s.\n", time.count());
  return kDone;
}

}  // namespace

void add_demo(CLI::App* app, Command* chosen) {
  const auto options = std::make_shared<DemoOptions>();
  CLI::App* sub =
      app->add_subcommand("demo", "Shows attention on a real model's data, and its speed");
  sub->add_option("--out", options->out, "Folder for pictures (default demo/ in the build folder)")
      ->type_name("DIR");
  sub->add_option("--data", options->data,
                  "Folder of the demo's data (default QKV_DATA_DIR, else tests/data)")
      ->type_name("DIR");
  sub->add_option("--device", options->device,
                  "auto, cpu, cuda or cuda:N; with a GPU the demo computes on it as well as on the "
                  "CPU, and times it (default auto)")
      ->type_name("DEVICE");
  sub->add_flag("--quick", options->quick, "As --speed quick");
  sub->add_option("--speed", options->speed,
                  "Sizes of the throughput table: full, quick (leaves out the larger ones), tiny "
                  "(for a GPU that is simulated; default full)")
      ->type_name("SIZES");
  sub->add_option("--color", options->color, "auto, always, never (default auto)")
      ->type_name("WHEN");
  sub->final_callback([=] { *chosen = [=] { return run_demo(*options); }; });
}

}  // namespace qkv::cli
