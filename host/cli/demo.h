// The parts of `qkv demo`.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "terminal.h"

namespace qkv::cli {

struct Demo {
  Terminal terminal;
  std::filesystem::path data;  // minilm.safetensors, books.safetensors
  std::filesystem::path out;   // for pictures
  bool quick = false;
};

// Attention over a real layer's Q, K, V, beside the model's own output; which word looks at which.
// Throws Failure if fp32 is further from the model than 1e-5.
void show_model(const Demo& demo);

// A query over books: soft and hard selection.
void show_books(const Demo& demo);

// One sentence of nine tokens step by step, with shapes; then with additive scores.
void show_nine(const Demo& demo);

// Throughput beside the unfused BLAS baseline. Throws Failure if a result is wrong.
void show_speed(const Demo& demo);

}  // namespace qkv::cli
