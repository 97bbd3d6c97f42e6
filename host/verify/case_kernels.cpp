// Cases of what kernels have to get right inside: tiles, their tails, splits.
// case_warpgroups.cpp has those of Hopper's.
#include <utility>

#include "host/verify/case_group.h"

namespace qkv::verify {
namespace {

using host::text;

const char* rules_label(bool rules) { return rules ? "_rules" : ""; }

// Several tiles of queries and keys for the tensor-core kernels, whose tiles are up to 128 x 64,
// with every way in which blocks of keys are left out. Their counted work is held too.
void add_tiles(Rows* rows) {
  struct Pattern {
    const char* name;
    void (*apply)(Case&);
    bool in_all = false;  // in bf16 too, and in fp32 with the other width
  };
  constexpr Pattern kPatterns[] = {
      {"full", [](Case&) {}},
      {"causal", [](Case& c) { c.causal = true; }, true},
      {"causal_top_left", [](Case& c) { c.top_left().causal = true; }},
      {"window", [](Case& c) { c.window(70, 40); }},
      // The first queries see no key.
      {"blind", [](Case& c) { c.shifted(-90).causal = true; }},
      {"lengths",
       [](Case& c) {
         c.causal = true, c.lengths = {200, 129};
       }},
  };
  for (const Pattern& pattern : kPatterns) {
    for (const int64_t d : {64, 128, 256}) {
      for (const bool rules : {false, true}) {
        Group group{rows,
                    text("tiles_", pattern.name, "_d", d, rules_label(rules)),
                    Case().one_head().sizes(250, 200).dims(d, d),
                    {kF16}};
        if (d == 128 && pattern.in_all) group.types.push_back(kBf16);
        if (d == (rules ? 64 : 128) || (d != 256 && pattern.in_all)) group.types.push_back(kF32);
        if (rules) group.base.inputs = {{kBias, kHeads | kKeys}};
        group.add("", pattern.apply);
      }
    }
  }
}

// Both bounds of a window at every place of a tensor-core kernel's fragments: each batch is eight
// keys further. On one multiprocessor in the tallest tiles.
void add_bounds(Rows* rows) {
  Group group{rows, "bounds_", Case().heads(1, 1).sizes(126, 200).window(70, 40)};
  group.base.batch = 4;
  group.base.lengths = {200, 192, 184, 176};
  for (const auto& [type, d] : {std::pair{kF16, 64}, {kF16, 128}, {kF32, 64}}) {
    group.base.dims(d, d);
    group.add(text("d", d), {type}, [](Case&) {});
    group.add(text("d", d, "_rules"), {type}, [](Case& c) { c.inputs = {{kBias, kKeys}}; });
  }
}

// Last rows, last keys and widths at every place of a tensor-core kernel's copies and fragments.
// The keys of tails_split_* are split: in the tallest tiles by an A100, in short ones by eight of
// its multiprocessors.
void add_tails(Rows* rows) {
  Group f16{rows, "tails_", Case().one_head(), {kF16}};
  f16.base.layout = Layout::kPadded;
  constexpr int64_t kRows[] = {70, 76, 84, 92, 100, 110, 122};
  for (int64_t n = 0; n < 7; ++n) {
    Group group = f16;
    group.base.sizes(kRows[n], 516 + 16 * (n % 4)).dims(8 * (n + 1), 8 * (n + 1)).causal = true;
    group.add(text("split_", n));
    group.base.s_kv -= 448;
    group.base.inputs = {{kBias, kKeys}};
    group.add(text("rules_", n));
    group.add(text("rules_split_", n), [](Case& c) { c.fixed_split = 64; });
  }
  for (const int64_t s_q : {278, 300, 310}) {
    f16.add(text("q", s_q), [&](Case& c) { c.batch = 2, c.sizes(s_q, 70).dims(56, 56); });
  }
  // The same for sm80_tf32x3, which declines narrower ones.
  constexpr int64_t kWidths[][2] = {{64, 24}, {60, 28}, {56, 32}, {52, 36},
                                    {48, 40}, {44, 44}, {48, 52}, {40, 60}};
  Group f32{rows, "tails_", f16.base, {kF32}};
  for (int64_t n = 0; n < 8; ++n) {
    f32.base.sizes(64 + 8 * n + 4, 36 + 8 * (n % 4)).dims(kWidths[n][0], kWidths[n][1]);
    f32.add(text(n));
    f32.add(text(n, "_rules"), [](Case& c) { c.inputs = {{kBias, kKeys}}; });
  }
  // Behind the last key, at the edge of a tile.
  Group unseen{rows, "tails_unseen", Case().sizes(3, 64).dims(64, 64).shifted(90).window(11, -1)};
  unseen.add("");
  unseen.add("_rules", [](Case& c) { c.inputs = {{kBias, kKeys}}; });
}

// Few queries and many keys, where kernels pack the rows of grouped heads and split the keys; and
// splits of a fixed size, whose edges lie everywhere in and around what is visible.
void add_splits(Rows* rows) {
  Group decode{rows, "splits_", Case().sizes(1, 300).dims(64, 64)};
  for (const auto& [heads_q, heads_kv] : {std::pair{3, 3}, {8, 2}, {16, 2}}) {
    for (const int64_t s_q : {1, 3}) {
      decode.base.heads(heads_q, heads_kv).s_q = s_q;
      decode.base.causal = true;
      const std::string name = text("group", heads_q / heads_kv, "_q", s_q);
      decode.add(name, {s_q == 1 ? kBf16 : kF16}, [](Case&) {});
      decode.add(name + "_fixed", {s_q == 1 ? kF16 : kBf16},
                 [](Case& c) { c.dims(128, 128).fixed_split = 64; });
    }
  }
  // Packed: 2 heads in tiles of 64 rows, the last one cut. Splits of 128 keys.
  Group fixed{rows, "splits_", Case().heads(4, 2).sizes(40, 300).dims(64, 64)};
  fixed.base.batch = 1;
  fixed.base.fixed_split = 100;
  fixed.add("tails", {kF16}, [](Case& c) { c.dims(40, 72); });
  fixed.add("tails_256", {kBf16}, [](Case& c) { c.dims(200, 136).s_kv = 200; });
  fixed.add("lengths", {kBf16}, [](Case& c) {
    c.batch = 5, c.s_q = 2, c.causal = true, c.lengths = {300, 0, 127, 128, 129};
  });
  fixed.add("window", {kF16}, [](Case& c) { c.window(150, 3); });
  fixed.add("window_in_one", {kBf16}, [](Case& c) { c.window(9, 0).shifted(140); });
  fixed.add("blind", {kF16}, [](Case& c) { c.shifted(-13).causal = true; });
  fixed.add("mask", {kBf16}, [](Case& c) { c.batch = 2, c.inputs = {{kMask, kAllAxes}}; });
  fixed.add("mask_window", {kF16}, [](Case& c) {
    c.inputs = {{kMask, kHeads | kKeys}}, c.left = 60, c.broadcast_by_stride = true;
  });
  fixed.add("bias_alibi", {kF16}, [](Case& c) {
    c.batch = 2, c.inputs = {{kBias, kAllAxes}, {kAlibi, kHeads}};
    c.causal = true, c.lengths = {290, 77};
  });
  fixed.add("bias_f32_softcap", {kBf16}, [](Case& c) {
    c.inputs = {{kBias, kHeads | kQueries | kKeys, true}}, c.softcap = 3;
  });
  fixed.add("alibi_128", {kBf16}, [](Case& c) { c.dims(128, 128).inputs = {{kAlibi, kHeads}}; });
  fixed.add("rules_256", {kF16}, [](Case& c) {
    c.sizes(5, 140).dims(256, 256).inputs = {{kAlibi, kHeads}};
  });
  fixed.add("no_lse", {kF16}, [](Case& c) { c.lse = false; });
  fixed.add("padded", {kBf16}, [](Case& c) { c.layout = Layout::kPadded; });
  fixed.add("f32", {kF32}, [](Case& c) { c.causal = true; });
  fixed.add("many", {kF16}, [](Case& c) { c.heads(1, 1).sizes(2, 2100).fixed_split = 1; });
  // As many as each loop of combine takes in one pass; the last one has all visible keys. Nothing
  // lies between the partial results and the end of the workspace.
  for (const int64_t splits : {16, 128, 512}) {
    fixed.add(text("of_", splits), {kF16}, [&](Case& c) {
      c.heads(1, 1).sizes(4, 64 * splits).dims(8, 8).left = 60, c.fixed_split = 64;
      if (splits == 128) c.inputs = {{kBias, kKeys}};
    });
  }
}

// For the kernels of hard and top-k selection: last rows, keys and widths at every place of their
// copies, in the first block of keys, in the second and behind them. Padding is NaN where it
// counts.
void add_selection_tails(Rows* rows) {
  for (int64_t n = 0; n < 12; ++n) {
    for (const bool rules : {false, true}) {
      Group group{rows, "tails_", Case().one_head(), {kF16}};
      group.base.layout = Layout::kPadded;
      group.base.sizes(16 * n + 5, 16 * (11 - n) + 15);
      group.base.dims(8 * (n % 7 + 1), 8 * (n % 3 + 1 + n % 2 * 12));
      if (rules) group.base.inputs = {{kBias, kKeys}};
      group.add(text("hard_", n, rules_label(rules)),
                [](Case& c) { c.selection = QKV_SELECT_HARD, c.index = QKV_TYPE_I32; });
      group.add(text("top_k_", n, rules_label(rules)), [](Case& c) { c.select_top(40); });
    }
  }
}

// Hard selection on tensor cores: each instance, with several tiles of queries and blocks of keys,
// the last ones cut, and all that hides keys; packed heads and split keys; keys that are equally
// good, in one block of keys and in many.
void add_hard_tiles(Rows* rows) {
  Group tiles{rows, "tiles_hard_", Case().one_head().sizes(150, 200), {kF16}};
  tiles.base.selection = QKV_SELECT_HARD;
  tiles.base.index = QKV_TYPE_I32;
  for (const int64_t d : {64, 128, 256}) {
    for (const bool rules : {false, true}) {
      Group group = tiles;
      group.prefix += text("d", d, rules_label(rules), "_");
      group.base.dims(d, d);
      if (rules) group.base.inputs = {{kBias, kHeads | kKeys}};
      group.add("full", {kF32, kF16}, [](Case&) {});
      group.add("causal", {kBf16}, [](Case& c) { c.causal = true; });
      if (d != 128) continue;
      group.add("window", {kF32, kF16}, [](Case& c) { c.window(70, 40); });
      group.add("blind", {kF32, kBf16}, [](Case& c) { c.shifted(-90).causal = true; });
      group.add("lengths", {kF32, kF16}, [](Case& c) {
        c.batch = 4, c.lengths = {200, 129, 64, 0};
      });
    }
  }
  Group one{rows, "hard_", tiles.base, {kF16}};
  one.base.dims(64, 64).index = QKV_TYPE_I64;
  one.add("scale_negative", {kF32, kF16}, [](Case& c) { c.scale = -0.7f, c.causal = true; });
  one.add("scale_zero", {kF32, kBf16}, [](Case& c) { c.scale = 0.0f, c.window(9, 3); });
  one.add("width_40_to_1024", [](Case& c) { c.dims(40, 1024).layout = Layout::kPadded; });
  one.add("width_44_to_1036", {kF32}, [](Case& c) { c.dims(44, 1036).layout = Layout::kPadded; });
  one.add("softcap_mask", {kF32, kBf16}, [](Case& c) {
    c.softcap = 3, c.inputs = {{kMask, kAllAxes}, {kAlibi, kHeads}}, c.lengths = {200, 70};
    c.batch = 2, c.heads(4, 2).layout = Layout::kPadded;
  });
  // Last rows, last keys and widths at every place of the copies in fp32.
  constexpr int64_t kWidths[] = {4, 12, 20, 28, 36, 52, 60, 44};
  Group tails{rows, "tails_hard_", one.base, {kF32}};
  tails.base.layout = Layout::kPadded;
  for (int64_t n = 0; n < 8; ++n) {
    tails.base.sizes(64 + 8 * n + 4, 36 + 8 * (n % 4)).dims(kWidths[n], 4 * (n + 1));
    tails.add(text(n));
    tails.add(text(n, "_rules"), [](Case& c) { c.inputs = {{kBias, kKeys}}; });
    if (n >= 4) continue;
    // The first block of keys is the last one, and the third.
    tails.add(text(n, "_few"), [](Case& c) { c.s_kv -= 32; });
    tails.add(text(n, "_more"), [](Case& c) { c.s_kv += 32; });
  }
  Group splits{rows, "splits_hard_", one.base, {kF16}};
  splits.base.heads(8, 2).sizes(3, 2100).causal = true;
  const Types with_f32{kF32, kF16};
  splits.add("packed", with_f32, [](Case&) {});
  splits.add("wide", {kF32, kBf16}, [](Case& c) { c.dims(256, 1048).sizes(1, 1500).batch = 1; });
  splits.add("lengths", {kF32, kBf16}, [](Case& c) { c.batch = 3, c.lengths = {2100, 0, 65}; });
  splits.add("rules", with_f32, [](Case& c) {
    c.sizes(1, 1100).inputs = {{kBias, kKeys}}, c.lse = false;
  });
  splits.add("fixed", with_f32, [](Case& c) { c.fixed_split = 64, c.index = QKV_TYPE_NONE; });
  splits.add("ties", with_f32, [](Case& c) { c.scale = 0.0f, c.one_head().sizes(3, 1300); });
  // Few queries of each width, as Hopper's warpgroups leave them to others.
  splits.add("d128", {kF16, kBf16}, [](Case& c) { c.dims(128, 64).s_kv = 700; });
  splits.add("d256", [](Case& c) { c.dims(256, 64).s_kv = 500; });
}

// Top-k selection on tensor cores: the same, and lists that are longer than what a row sees, than
// what waits beside them, and than the 32 keys that a warp moves at a time.
void add_top_k_tiles(Rows* rows) {
  Group tiles{rows, "tiles_top_k_", Case().one_head().sizes(150, 200), {kF16}};
  tiles.base.select_top(10);
  for (const int64_t d : {64, 128, 256}) {
    for (const bool rules : {false, true}) {
      Group group = tiles;
      group.prefix += text("d", d, rules_label(rules), "_");
      group.base.dims(d, d);
      if (rules) group.base.inputs = {{kBias, kHeads | kKeys}};
      group.add("full", [](Case&) {});
      // 99 KiB have room for lists of 17 keys beside 256 dims.
      group.add("causal", {kBf16},
                [&](Case& c) { c.select_top(d == 256 ? 17 : 40).causal = true; });
      if (d != 128) continue;
      group.add("window", [](Case& c) { c.select_top(33).window(70, 40); });
      group.add("blind", {kBf16}, [](Case& c) { c.shifted(-90).causal = true; });
      group.add("lengths", [](Case& c) {
        c.select_top(65).batch = 4, c.lengths = {200, 129, 64, 0};
      });
    }
  }
  Group one{rows, "top_k_", tiles.base, {kF16}};
  one.base.dims(64, 64).index = QKV_TYPE_I64;
  one.add("scale_negative", [](Case& c) { c.scale = -0.7f, c.causal = true; });
  one.add("scale_zero", {kBf16}, [](Case& c) { c.scale = 0.0f, c.window(9, 3); });
  one.add("width_40_to_1024", [](Case& c) { c.dims(40, 1024).layout = Layout::kPadded; });
  one.add("softcap_mask", {kBf16}, [](Case& c) {
    c.softcap = 3, c.inputs = {{kMask, kAllAxes}, {kAlibi, kHeads}}, c.lengths = {200, 70};
    c.batch = 2, c.heads(4, 2).layout = Layout::kPadded;
  });
  Group splits{rows, "splits_top_k_", one.base, {kF16}};
  splits.base.heads(8, 2).sizes(3, 2100).causal = true;
  splits.add("packed", [](Case&) {});
  splits.add("wide", {kBf16}, [](Case& c) { c.dims(256, 1048).sizes(1, 1500).batch = 1; });
  splits.add("lengths", {kBf16}, [](Case& c) { c.batch = 3, c.lengths = {2100, 0, 65}; });
  splits.add("rules", [](Case& c) { c.sizes(1, 1100).inputs = {{kBias, kKeys}}, c.lse = false; });
  splits.add("fixed", [](Case& c) { c.select_top(128).fixed_split = 64; });
  splits.add("best", {kBf16}, [](Case& c) { c.select_top(1).top_scores = false; });
  splits.add("ties", [](Case& c) { c.scale = 0.0f, c.one_head().sizes(3, 1300).select_top(40); });
  // Lists as long as what four lanes write at once, and shorter; in tiles of many rows.
  for (const int64_t k : {3, 4, 16})
    splits.add(text("tall_", k), [&](Case& c) { c.one_head().sizes(70, 700).select_top(k); });
}

// Additive scores on tensor cores: each instance, with several tiles of queries and blocks of keys,
// the last ones cut; widths below the instance's; packed heads, which share their weights; splits.
void add_additive_tiles(Rows* rows) {
  Group tiles{rows, "tiles_additive_", Case().one_head().sizes(150, 200), {kF16}};
  tiles.base.score = QKV_SCORE_ADDITIVE;
  for (const int64_t d : {64, 128}) {
    for (const bool rules : {false, true}) {
      Group group = tiles;
      group.prefix += text("d", d, rules_label(rules), "_");
      group.base.dims(d, d);
      if (rules) group.base.inputs = {{kBias, kHeads | kKeys}};
      group.add("full", [](Case&) {});
      group.add("causal", {kBf16}, [](Case& c) { c.causal = true; });
    }
  }
  Group one{rows, "additive_", tiles.base, {kF16}};
  one.base.dims(24, 40);
  one.add("window", [](Case& c) { c.window(70, 40); });
  one.add("blind", {kBf16}, [](Case& c) { c.shifted(-90).causal = true; });
  one.add("lengths", [](Case& c) { c.batch = 4, c.lengths = {200, 129, 64, 0}; });
  one.add("scale_negative", {kBf16}, [](Case& c) { c.scale = -0.7f, c.causal = true; });
  one.add("one_chunk", [](Case& c) { c.dims(8, 128).layout = Layout::kPadded; });
  one.add("softcap_mask", {kBf16}, [](Case& c) {
    c.softcap = 3, c.inputs = {{kMask, kAllAxes}, {kAlibi, kHeads}}, c.lengths = {200, 70};
    c.batch = 2, c.heads(4, 2).layout = Layout::kPadded;
  });
  // The key behind the last one at every place of a thread's, in steps of 64 keys and of 48; one
  // chunk of dims and more.
  constexpr int64_t kTails[][2] = {{72, 16}, {80, 24}, {96, 32}, {112, 48}, {104, 8}};
  for (const auto& [keys, d_qk] : kTails) {
    Group tails{rows, "tails_additive_", one.base, {kF16}};
    tails.base.layout = Layout::kPadded;
    tails.base.sizes(70 + d_qk, keys).dims(d_qk, 64);
    tails.add(text(keys));
    tails.add(text(keys, "_rules"), [](Case& c) { c.inputs = {{kBias, kKeys}}; });
    tails.base.s_kv = keys - 16;
    tails.add(text(keys - 16, "_wide"), [](Case& c) { c.d_v = 128; });
  }
  // The last row at every place of the copies of Q and O; keys that end one ahead of a block.
  for (const int64_t s_q : {130, 155, 170, 177}) {
    Group tails{rows, text("tails_additive_q", s_q), one.base, {kF16}};
    tails.base.sizes(s_q, 63).dims(8, 8).layout = Layout::kPadded;
    tails.add("");
    tails.add("_split", [](Case& c) { c.s_kv = 127, c.fixed_split = 64; });
  }
  Group splits{rows, "splits_additive_", one.base, {kF16}};
  splits.base.heads(4, 2).sizes(3, 700).causal = true;
  splits.add("plain", [](Case&) {});
  splits.add("lengths", {kBf16}, [](Case& c) { c.batch = 3, c.lengths = {700, 0, 65}; });
  splits.add("fixed", [](Case& c) { c.fixed_split = 128; });
}

// Additive scores on plain CUDA cores: several tiles, the last ones cut; rows that can be read four
// elements at a time and such that cannot; chunks of dims and of columns that are cut.
void add_rational_tiles(Rows* rows) {
  Group tiles{rows, "rational_", Case().one_head().sizes(150, 200).dims(64, 64), {kF32}};
  tiles.base.score = QKV_SCORE_ADDITIVE;
  tiles.add("full", [](Case&) {});
  tiles.add("wide", [](Case& c) { c.dims(128, 128).causal = true; });
  tiles.add("deep", [](Case& c) { c.sizes(70, 70).dims(300, 100); });
  tiles.add("odd_dims", [](Case& c) { c.dims(37, 67).layout = Layout::kPadded; });
  tiles.add("four_dims", [](Case& c) { c.dims(36, 12).causal = true; });
  tiles.add("window", [](Case& c) { c.window(70, 40); });
  tiles.add("blind", [](Case& c) { c.shifted(-90).causal = true; });
  tiles.add("lengths", [](Case& c) { c.batch = 4, c.lengths = {200, 129, 64, 0}; });
  tiles.add("gqa_scale", [](Case& c) { c.heads(6, 2).scale = -0.7f, c.causal = true; });
  tiles.add("bias", [](Case& c) { c.inputs = {{kBias, kHeads | kKeys}}; });
  tiles.add("softcap_mask", [](Case& c) {
    c.softcap = 3, c.inputs = {{kMask, kAllAxes}, {kAlibi, kHeads}}, c.lengths = {200, 70};
    c.batch = 2, c.heads(4, 2).layout = Layout::kPadded;
  });
  for (const int64_t keys : {1, 31, 33, 63, 65, 100})
    tiles.add(text("keys_", keys), [&](Case& c) { c.sizes(65, keys).dims(33, 65); });
}

}  // namespace

void add_kernel_cases(Rows* rows) {
  for (const auto& add :
       {add_tiles, add_bounds, add_tails, add_splits, add_warpgroup_cases, add_selection_tails,
        add_hard_tiles, add_top_k_tiles, add_additive_tiles, add_rational_tiles})
    add(rows);
}

}  // namespace qkv::verify
