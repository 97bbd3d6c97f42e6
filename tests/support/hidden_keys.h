// Problems under a window whose hidden keys score best, for tests of selection.
#pragma once

#include <cstdint>

#include "tests/support/verify.h"

namespace qkv::test {

// A window and lengths whose bounds lie at every place of a tensor-core kernel's fragments: each
// batch is eight keys further, the last one has none.
inline void hide_keys(Case& row) {
  row.batch = 5, row.scale = 1.0f;
  row.heads(1, 1).sizes(150, 200).dims(64, 8).window(70, 40).lengths = {200, 192, 184, 176, 0};
}

// s_ij = (j - c_i)^2 but for what is the same for all keys, from whole numbers that bf16 holds: the
// farther from c_i, which lies in the middle of the window, the better. Of the visible keys one of
// the ends is the best, and hidden ones beside it are better still. `side` -1 or 1: the end.
inline void fill_parabolas(BuiltProblem& built, int64_t side) {
  const Case& row = built.row();
  built.q.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    const int64_t twice = 2 * (i + row.diagonal(b)) + row.right - row.left + side;
    const int64_t high = twice / 256;
    const double of_dim[] = {256, 1, -256.0 * static_cast<double>(high),
                             static_cast<double>(high * 256 - twice)};
    built.q.set(b, h, i, d, d < 4 ? of_dim[d] : 0);
  });
  built.k.each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
    const auto x = static_cast<double>(j);
    const double of_dim[] = {static_cast<double>(j * j / 256), static_cast<double>(j * j % 256), x,
                             x};
    built.k.set(b, h, j, d, d < 4 ? of_dim[d] : 0);
  });
  built.poison_hidden_keys();
}

}  // namespace qkv::test
