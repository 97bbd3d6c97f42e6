// The parts of `qkv demo`.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "layer_run.h"
#include "terminal.h"

namespace qkv::cli {

// How much part 5 measures. kTiny: so little that a simulated GPU is done with it in a minute.
enum class SpeedSizes { kFull, kQuick, kTiny };

struct Demo {
  Terminal terminal;
  std::filesystem::path data;  // the .safetensors files of tests/data
  std::filesystem::path out;   // for pictures
  SpeedSizes sizes = SpeedSizes::kFull;
  std::vector<Place> places;  // the CPU, then the GPU if there is one; texts show the last one's
  qkv_device_facts gpu{};     // if there is one
  std::string why_no_gpu;     // "" if there is one, or none was wanted

  bool has_gpu() const { return places.size() > 1; }
};

// Attention over a real layer's Q, K, V, beside the model's own output; which word looks at which.
// Throws Failure if fp32 is further from the model than 1e-5.
void show_model(const Demo& demo);

// A query over books: soft, hard and top-k selection.
void show_books(const Demo& demo);

// The same search over 100,000 generated titles, a part of show_books: hard and top-10, and the
// time they take. Throws Failure if another title is found than the one that was asked for.
void show_titles(const Demo& demo, Comparison* on);

// One sentence of nine tokens from its hidden states on, step by step, with shapes.
void show_nine(const Demo& demo);

// The same layer whole, in all heads: hidden states in and out, by one call. Throws Failure if fp32
// is further from the model than 1e-5.
void show_layer(const Demo& demo);

// A translator with additive attention: which letters of a written date each letter of its ISO form
// looks at. Throws Failure if weights are further from the model's own than 1e-5.
void show_dates(const Demo& demo);

// Throughput beside the unfused BLAS baseline: the GPU's, then the CPU's. Throws Failure if a
// result is wrong.
void show_speed(const Demo& demo);

}  // namespace qkv::cli
