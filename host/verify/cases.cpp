#include "host/verify/cases.h"

#include <functional>
#include <sstream>
#include <utility>

#include "host/core/view.h"
#include "host/verify/pairwise.h"

namespace qkv::verify {
namespace {

constexpr qkv_type kF32 = QKV_TYPE_F32, kF16 = QKV_TYPE_F16, kBf16 = QKV_TYPE_BF16;
constexpr qkv_type kFloats[] = {kF32, kF16, kBf16};

using Rows = std::vector<Case>;

std::string signed_label(int64_t x) { return x < 0 ? "m" + std::to_string(-x) : std::to_string(x); }

// The row in all three types.
void add(Rows* rows, Case row) {
  for (qkv_type type : kFloats) {
    Case typed = row;
    typed.type = type;
    typed.name += std::string("_") + type_label(type);
    if (row.weights != QKV_TYPE_NONE && row.weights != kF32) typed.weights = type;
    rows->push_back(std::move(typed));
  }
}

// Around every tile extent of the kernels (32, 48, 64, 128, 512), primes, and nothing at all.
void add_sizes(Rows* rows) {
  constexpr std::pair<int64_t, int64_t> kSizes[] = {
      {0, 5},     {5, 0},   {0, 0},   {1, 1},     {1, 2},     {2, 1},     {31, 33},   {33, 31},
      {47, 64},   {48, 63}, {49, 65}, {63, 63},   {63, 64},   {64, 64},   {65, 64},   {64, 65},
      {65, 65},   {1, 63},  {1, 64},  {1, 65},    {127, 128}, {128, 127}, {129, 129}, {128, 128},
      {127, 129}, {3, 511}, {5, 512}, {2, 513},   {511, 2},   {513, 3},   {1, 1025},  {97, 101},
      {131, 7},   {7, 131}, {16, 16}, {257, 127},
  };
  for (const auto& [s_q, s_kv] : kSizes) {
    add(rows, {.name = "sizes_q" + std::to_string(s_q) + "_kv" + std::to_string(s_kv),
               .heads_kv = 1,
               .s_q = s_q,
               .s_kv = s_kv,
               .d_qk = 16,
               .d_v = 24});
  }
  add(rows, {.name = "sizes_no_batch", .batch = 0});
  add(rows, {.name = "sizes_one_of_all",
             .batch = 1,
             .heads_q = 1,
             .heads_kv = 1,
             .s_q = 1,
             .s_kv = 1,
             .d_qk = 1,
             .d_v = 1});
}

void add_long(Rows* rows) {
  const Case one_head{.batch = 1, .heads_q = 1, .heads_kv = 1, .d_qk = 16, .d_v = 16};
  for (const auto& [s_q, s_kv] :
       {std::pair{1, 20011}, std::pair{3, 8192}, std::pair{2053, 3}, std::pair{1031, 1033}}) {
    Case row = one_head;
    row.name = "long_q" + std::to_string(s_q) + "_kv" + std::to_string(s_kv);
    row.s_q = s_q;
    row.s_kv = s_kv;
    add(rows, row);
  }
}

// Enough tiles that a large device, too, takes the tallest.
void add_wide(Rows* rows) {
  for (const qkv_type type : {kF16, kBf16}) {
    rows->push_back({.name = std::string("long_wide_") + type_label(type),
                     .type = type,
                     .batch = 1,
                     .heads_q = 320,
                     .heads_kv = 320,
                     .s_q = 128,
                     .s_kv = 16,
                     .d_qk = 128,
                     .d_v = 128});
  }
}

void add_layouts(Rows* rows) {
  constexpr std::pair<Layout, const char*> kLayouts[] = {
      {Layout::kBshd, "bshd"},          {Layout::kBhsd, "bhsd"},
      {Layout::kSbhd, "sbhd"},          {Layout::kPacked, "packed"},
      {Layout::kPadded, "padded"},      {Layout::kOddPadded, "odd_padded"},
      {Layout::kSharedKv, "shared_kv"}, {Layout::kRepeatedKv, "repeated_kv"},
  };
  for (const auto& [layout, label] : kLayouts) {
    Case row{.name = std::string("layouts_") + label, .heads_q = 4, .s_q = 67, .s_kv = 67};
    row.layout = layout;
    row.causal = true;
    add(rows, row);
    row.name += "_lengths";
    row.lengths = {31, 66};
    add(rows, row);
  }
  for (int64_t misalign : {1, 2, 3, 4, 8}) {
    add(rows, {.name = "layouts_misaligned_" + std::to_string(misalign),
               .d_qk = 40,
               .d_v = 40,
               .misalign = misalign});
    add(rows, {.name = "layouts_misaligned_odd_" + std::to_string(misalign),
               .layout = Layout::kOddPadded,
               .misalign = misalign});
  }
}

void add_heads(Rows* rows) {
  constexpr std::pair<int64_t, int64_t> kHeadCounts[] = {{1, 1}, {2, 1}, {8, 1},  {6, 2},
                                                         {6, 3}, {5, 5}, {12, 4}, {71, 1}};
  for (const auto& [heads_q, heads_kv] : kHeadCounts) {
    add(rows, {.name = "heads_" + std::to_string(heads_q) + "_" + std::to_string(heads_kv),
               .heads_q = heads_q,
               .heads_kv = heads_kv,
               .s_q = 19,
               .s_kv = 35,
               .causal = true});
  }
  add(rows, {.name = "heads_batch_7", .batch = 7, .heads_q = 3, .heads_kv = 3, .s_q = 5});
}

void add_dims(Rows* rows) {
  for (int64_t d : {1, 3, 8, 32, 40, 64, 72, 80, 96, 128, 256, 576}) {
    add(rows, {.name = "dims_" + std::to_string(d),
               .batch = 1,
               .s_q = 66,
               .s_kv = 70,
               .d_qk = d,
               .d_v = d});
  }
  constexpr std::pair<int64_t, int64_t> kPairs[] = {{192, 128}, {576, 512}, {1, 64}, {64, 1},
                                                    {65, 63},   {128, 257}, {7, 129}};
  for (const auto& [d_qk, d_v] : kPairs) {
    add(rows, {.name = "dims_" + std::to_string(d_qk) + "_" + std::to_string(d_v),
               .batch = 1,
               .s_q = 35,
               .s_kv = 70,
               .d_qk = d_qk,
               .d_v = d_v});
  }
  for (int64_t d : {100, 104, 200}) {  // with all that changes scores, aligned and not
    add(rows, {.name = "dims_" + std::to_string(d) + "_rules",
               .batch = 1,
               .s_q = 66,
               .s_kv = 70,
               .d_qk = d,
               .d_v = d,
               .softcap = 20,
               .causal = true,
               .mask = kKeys,
               .bias = kHeads | kQueries | kKeys,
               .alibi = true});
  }
  add(rows, {.name = "dims_120_100", .batch = 1, .s_q = 20, .s_kv = 70, .d_qk = 120, .d_v = 100});
  for (const auto& [d_qk, d_v] : {std::pair{577, 64}, {64, 577}, {1000, 1025}}) {
    add(rows, {.name = "dims_" + std::to_string(d_qk) + "_" + std::to_string(d_v),
               .batch = 1,
               .heads_q = 1,
               .heads_kv = 1,
               .s_q = 5,
               .s_kv = 9,
               .d_qk = d_qk,
               .d_v = d_v});
  }
}

void add_causal(Rows* rows) {
  constexpr std::pair<int64_t, int64_t> kSizes[] = {{37, 53}, {53, 37},  {128, 1},
                                                    {1, 65},  {64, 128}, {131, 131}};
  for (const auto& [s_q, s_kv] : kSizes) {
    const std::string size = "_q" + std::to_string(s_q) + "_kv" + std::to_string(s_kv);
    Case row{.name = "causal_bottom_right" + size, .s_q = s_q, .s_kv = s_kv, .causal = true};
    add(rows, row);
    row.name = "causal_top_left" + size;
    row.alignment = QKV_ALIGN_TOP_LEFT;
    add(rows, row);
  }
  constexpr int64_t kFar = int64_t{1} << 60;
  for (int64_t offset : {int64_t{-5}, int64_t{7}, int64_t{-36}, int64_t{52}, int64_t{-1000000},
                         int64_t{1} << 31, -(int64_t{1} << 40), kFar, -kFar}) {
    add(rows, {.name = "causal_offset_" + signed_label(offset),
               .causal = true,
               .alignment = QKV_ALIGN_EXPLICIT,
               .offset = offset});
  }
}

void add_windows(Rows* rows) {
  constexpr int64_t kFar = int64_t{1} << 60;
  struct Window {
    int64_t left, right;
    bool causal;
  };
  constexpr Window kWindows[] = {{0, 0, false},  {3, 5, false},    {0, -1, false},
                                 {-1, 0, false}, {7, -1, true},    {0, 0, true},
                                 {64, 1, false}, {100, 63, false}, {kFar, kFar, false},
                                 {5, 9, true},   {-1, 70, false}};
  for (const Window& w : kWindows) {
    Case row{.s_q = 133, .s_kv = 150, .d_qk = 16, .d_v = 16};
    row.name = "window_" + signed_label(w.left) + "_" + signed_label(w.right) +
               (w.causal ? "_causal" : "");
    row.causal = w.causal;
    row.left = w.left;
    row.right = w.right;
    add(rows, row);
  }
  for (int64_t offset : {int64_t{-200}, int64_t{-20}, int64_t{90}, kFar, -kFar}) {
    add(rows, {.name = "window_offset_" + signed_label(offset),
               .s_q = 70,
               .s_kv = 70,
               .alignment = QKV_ALIGN_EXPLICIT,
               .offset = offset,
               .left = 11,
               .right = 66});
  }
  add(rows, {.name = "window_top_left",
             .s_q = 90,
             .alignment = QKV_ALIGN_TOP_LEFT,
             .left = 9,
             .right = 2});
}

void add_lengths(Rows* rows) {
  const std::vector<int32_t> lengths[] = {
      {0}, {1}, {0, 65, 7, 64}, {130, 0, 129}, {63, 64, 65, 128}};
  int n = 0;
  for (const auto& some : lengths) {
    Case row{.name = "lengths_" + std::to_string(n++), .batch = 4, .s_q = 9, .s_kv = 130};
    row.lengths = some;
    add(rows, row);
    row.name += "_causal";
    row.causal = true;
    add(rows, row);
    row.name += "_window";
    row.left = 20;
    add(rows, row);
  }
}

// Every way to broadcast, alternately by an extent of 1 and by stride 0.
void add_masks_and_biases(Rows* rows) {
  for (int axes = 0; axes <= kAllAxes; ++axes) {
    Case mask{.name = "mask_" + std::to_string(axes), .s_q = 21};
    mask.mask = axes;
    mask.broadcast_by_stride = axes % 2 == 1;
    add(rows, mask);
    Case bias{.name = "bias_" + std::to_string(axes), .s_q = 21};
    bias.bias = axes;
    bias.bias_f32 = axes % 4 < 2;
    bias.broadcast_by_stride = axes % 2 == 0;
    add(rows, bias);
  }
  add(rows, {.name = "alibi", .heads_q = 4, .alibi = true});
  add(rows, {.name = "alibi_causal_lengths",
             .heads_q = 4,
             .causal = true,
             .alibi = true,
             .lengths = {11, 53}});
  add(rows, {.name = "alibi_top_left", .alignment = QKV_ALIGN_TOP_LEFT, .alibi = true});
  add(rows, {.name = "alibi_offset", .alignment = QKV_ALIGN_EXPLICIT, .offset = -3, .alibi = true});
}

void add_scores(Rows* rows) {
  for (float scale : {0.0f, 1.0f, -0.5f, 8.0f}) {
    Case row{.name = "scale_" + std::string(scale < 0 ? "negative" : std::to_string(int(scale)))};
    row.scale = scale;
    add(rows, row);
  }
  for (float softcap : {0.5f, 30.0f}) {
    Case row{.name = softcap < 1 ? "softcap_small" : "softcap_30", .softcap = softcap};
    row.scale = 2.0f;
    add(rows, row);
    row.name += "_causal_bias";
    row.causal = true;
    row.bias = kHeads | kQueries | kKeys;
    add(rows, row);
  }
  for (int64_t d : {1, 8, 40, 128}) {
    add(rows, {.name = "additive_" + std::to_string(d),
               .s_q = 20,
               .d_qk = d,
               .d_v = 24,
               .score = QKV_SCORE_ADDITIVE});
  }
  add(rows, {.name = "additive_gqa_causal_scale",
             .heads_q = 6,
             .heads_kv = 3,
             .score = QKV_SCORE_ADDITIVE,
             .scale = -1.5f,
             .causal = true});
  add(rows, {.name = "additive_softcap_lengths",
             .score = QKV_SCORE_ADDITIVE,
             .softcap = 1,
             .lengths = {0, 17}});
}

void add_hard(Rows* rows) {
  for (qkv_score score : {QKV_SCORE_DOT, QKV_SCORE_ADDITIVE}) {
    for (qkv_type index : {QKV_TYPE_NONE, QKV_TYPE_I32, QKV_TYPE_I64}) {
      Case row{.name = std::string("hard") + (score == QKV_SCORE_DOT ? "" : "_additive") +
                       (index == QKV_TYPE_I32   ? "_i32"
                        : index == QKV_TYPE_I64 ? "_i64"
                                                : "")};
      row.score = score;
      row.selection = QKV_SELECT_HARD;
      row.index = index;
      add(rows, row);
      row.name += "_causal_lengths";
      row.s_q = 70;
      row.causal = true;
      row.lengths = {5, 53};
      add(rows, row);
    }
  }
  Case row{.name = "hard_long", .s_q = 5, .s_kv = 1201, .selection = QKV_SELECT_HARD};
  row.index = QKV_TYPE_I64;
  add(rows, row);
  row.name = "hard_mask_bias_softcap";
  row.mask = kAllAxes;
  row.bias = kHeads | kKeys;
  row.softcap = 3;
  add(rows, row);
  row.name = "hard_window_padded";
  row.layout = Layout::kPadded;
  row.left = 4;
  row.right = 4;
  add(rows, row);
}

// Weights in four modes, in fp32 and in the type of q, over everything that shapes them.
void add_weights(Rows* rows) {
  constexpr const char* kModes[] = {"scores", "softcapped", "masked", "probabilities"};
  for (qkv_weights_mode mode = 0; mode < 4; ++mode) {
    for (bool narrow : {false, true}) {
      Case row{.name = std::string("weights_") + kModes[mode] + (narrow ? "_narrow" : "_wide")};
      row.weights = narrow ? kBf16 : kF32;
      row.weights_mode = mode;
      row.softcap = 2;
      add(rows, row);
      row.name += "_masked";
      row.layout = narrow ? Layout::kPadded : Layout::kBhsd;
      row.s_q = 67;
      row.causal = true;
      row.bias = kAllAxes;
      row.mask = kQueries | kKeys;
      row.lengths = {53, 20};
      row.alibi = true;
      add(rows, row);
      row.name += "_hard";
      row.selection = QKV_SELECT_HARD;
      row.index = QKV_TYPE_I32;
      add(rows, row);
    }
  }
  Case row{.name = "weights_long", .batch = 1, .s_q = 3, .s_kv = 1537};
  row.weights = kF32;
  add(rows, row);
  row.name = "weights_additive_no_lse";
  row.s_kv = 65;
  row.score = QKV_SCORE_ADDITIVE;
  row.lse = false;
  add(rows, row);
}

// Several tiles of queries and keys for the tensor-core kernels, whose tiles are up to 128 x 64,
// with every way in which blocks of keys are left out. Their counted work is held too.
void add_tiles(Rows* rows) {
  struct Pattern {
    const char* name;
    std::function<void(Case*)> apply;
    bool bf16 = false;  // too, and fp32 with the other width
  };
  const Pattern kPatterns[] = {
      {"full", [](Case*) {}},
      {"causal", [](Case* row) { row->causal = true; }, true},
      {"causal_top_left",
       [](Case* row) { row->causal = true, row->alignment = QKV_ALIGN_TOP_LEFT; }},
      {"window", [](Case* row) { row->left = 70, row->right = 40; }},
      {"blind",  // the first queries see no key
       [](Case* row) {
         row->causal = true, row->alignment = QKV_ALIGN_EXPLICIT, row->offset = -90;
       }},
      {"lengths",
       [](Case* row) {
         row->causal = true, row->lengths = {200, 129};
       }},
  };
  for (const Pattern& pattern : kPatterns) {
    for (int64_t d : {64, 128, 256}) {
      for (bool rules : {false, true}) {
        for (qkv_type type : {kF16, kBf16, kF32}) {
          if (type == kBf16 && (d != 128 || !pattern.bf16)) continue;
          if (type == kF32 && d != (rules ? 64 : 128) && (d == 256 || !pattern.bf16)) continue;
          Case row{.name = std::string("tiles_") + pattern.name + "_d" + std::to_string(d) +
                           (rules ? "_rules" : "") + "_" + type_label(type),
                   .type = type,
                   .batch = 1,
                   .heads_q = 1,
                   .heads_kv = 1,
                   .s_q = 250,
                   .s_kv = 200,
                   .d_qk = d,
                   .d_v = d};
          pattern.apply(&row);
          if (rules) row.bias = kHeads | kKeys;
          rows->push_back(row);
        }
      }
    }
  }
}

// Both bounds of a window at every place of a tensor-core kernel's fragments: each batch is eight
// keys further. On one multiprocessor in the tallest tiles.
void add_bounds(Rows* rows) {
  for (const qkv_type type : {kF16, kF32}) {
    for (const int64_t d : {64, 128}) {
      if (type == kF32 && d == 128) continue;
      for (const bool rules : {false, true}) {
        rows->push_back(
            {.name = "bounds_d" + std::to_string(d) + (rules ? "_rules_" : "_") + type_label(type),
             .type = type,
             .batch = 4,
             .heads_q = 1,
             .heads_kv = 1,
             .s_q = 126,
             .s_kv = 200,
             .d_qk = d,
             .d_v = d,
             .left = 70,
             .right = 40,
             .bias = rules ? kKeys : kAbsent,
             .lengths = {200, 192, 184, 176}});
      }
    }
  }
}

// Last rows, last keys and widths at every place of a tensor-core kernel's copies and fragments.
// The keys of tails_split_* are split: in short tiles by an A100, in the tallest ones by five of
// its multiprocessors.
void add_tails(Rows* rows) {
  constexpr int64_t kRows[] = {70, 76, 84, 92, 100, 110, 122};
  for (int64_t n = 0; n < 7; ++n) {
    Case row{.name = "tails_split_" + std::to_string(n) + "_f16",
             .type = kF16,
             .batch = 1,
             .heads_q = 1,
             .heads_kv = 1,
             .s_q = kRows[n],
             .s_kv = 516 + 16 * (n % 4),
             .d_qk = 8 * (n + 1),
             .d_v = 8 * (n + 1),
             .layout = Layout::kPadded};
    row.causal = true;
    rows->push_back(row);
    row.name = "tails_rules_" + std::to_string(n) + "_f16";
    row.s_kv -= 448;
    row.bias = kKeys;
    rows->push_back(row);
    row.name = "tails_rules_split_" + std::to_string(n) + "_f16";
    row.fixed_split = 64;
    rows->push_back(row);
  }
  for (const int64_t s_q : {278, 300, 310}) {
    rows->push_back({.name = "tails_q" + std::to_string(s_q) + "_f16",
                     .type = kF16,
                     .batch = 2,
                     .heads_q = 1,
                     .heads_kv = 1,
                     .s_q = s_q,
                     .s_kv = 70,
                     .d_qk = 56,
                     .d_v = 56,
                     .layout = Layout::kPadded});
  }
  // The same for sm80_tf32x3, which declines narrower ones.
  constexpr int64_t kWidths[][2] = {{64, 24}, {60, 28}, {56, 32}, {52, 36},
                                    {48, 40}, {44, 44}, {48, 52}, {40, 60}};
  for (int64_t n = 0; n < 8; ++n) {
    for (const bool rules : {false, true}) {
      rows->push_back({.name = "tails_" + std::to_string(n) + (rules ? "_rules_f32" : "_f32"),
                       .type = kF32,
                       .batch = 1,
                       .heads_q = 1,
                       .heads_kv = 1,
                       .s_q = 64 + 8 * n + 4,
                       .s_kv = 36 + 8 * (n % 4),
                       .d_qk = kWidths[n][0],
                       .d_v = kWidths[n][1],
                       .layout = Layout::kPadded,
                       .bias = rules ? kKeys : kAbsent});
    }
  }
  // Behind the last key, at the edge of a tile.
  for (const bool rules : {false, true}) {
    add(rows, {.name = rules ? "tails_unseen_rules" : "tails_unseen",
               .s_q = 3,
               .s_kv = 64,
               .d_qk = 64,
               .d_v = 64,
               .alignment = QKV_ALIGN_EXPLICIT,
               .offset = 90,
               .left = 11,
               .bias = rules ? kKeys : kAbsent});
  }
}

// Few queries and many keys, where kernels pack the rows of grouped heads and split the keys; and
// splits of a fixed size, whose edges lie everywhere in and around what is visible.
void add_splits(Rows* rows) {
  const Case decode{.s_q = 1, .s_kv = 300, .d_qk = 64, .d_v = 64};
  const auto add_one = [&](const char* name, qkv_type type, Case row) {
    row.type = type;
    row.name = std::string("splits_") + name + "_" + type_label(type);
    rows->push_back(std::move(row));
  };
  for (const auto& [heads_q, heads_kv] : {std::pair{3, 3}, {8, 2}, {16, 2}}) {
    for (const int64_t s_q : {1, 3}) {
      Case row = decode;
      row.heads_q = heads_q;
      row.heads_kv = heads_kv;
      row.s_q = s_q;
      row.causal = true;
      const std::string name =
          "group" + std::to_string(heads_q / heads_kv) + "_q" + std::to_string(s_q);
      add_one(name.c_str(), s_q == 1 ? kBf16 : kF16, row);
      row.fixed_split = 64;
      row.d_qk = row.d_v = 128;
      add_one((name + "_fixed").c_str(), s_q == 1 ? kF16 : kBf16, row);
    }
  }
  Case fixed = decode;
  fixed.batch = 1;
  fixed.heads_q = 4;
  fixed.s_q = 40;           // packed: 2 heads in tiles of 64 rows, the last one cut
  fixed.fixed_split = 100;  // 128 keys
  const auto change = [&](const char* name, qkv_type type, auto&& apply) {
    Case row = fixed;
    apply(&row);
    add_one(name, type, row);
  };
  change("tails", kF16, [](Case* row) { row->d_qk = 40, row->d_v = 72; });
  change("tails_256", kBf16, [](Case* row) { row->d_qk = 200, row->d_v = 136, row->s_kv = 200; });
  change("lengths", kBf16, [](Case* row) {
    row->batch = 5, row->s_q = 2, row->causal = true;
    row->lengths = {300, 0, 127, 128, 129};
  });
  change("window", kF16, [](Case* row) { row->left = 150, row->right = 3; });
  change("window_in_one", kBf16, [](Case* row) {
    row->left = 9, row->right = 0, row->alignment = QKV_ALIGN_EXPLICIT, row->offset = 140;
  });
  change("blind", kF16, [](Case* row) {
    row->causal = true, row->alignment = QKV_ALIGN_EXPLICIT, row->offset = -13;
  });
  change("mask", kBf16, [](Case* row) { row->batch = 2, row->mask = kAllAxes; });
  change("mask_window", kF16, [](Case* row) {
    row->mask = kHeads | kKeys, row->left = 60, row->broadcast_by_stride = true;
  });
  change("bias_alibi", kF16, [](Case* row) {
    row->batch = 2, row->bias = kAllAxes, row->alibi = true, row->causal = true;
    row->lengths = {290, 77};
  });
  change("bias_f32_softcap", kBf16, [](Case* row) {
    row->bias = kHeads | kQueries | kKeys, row->bias_f32 = true, row->softcap = 3;
  });
  change("alibi_128", kBf16, [](Case* row) { row->d_qk = row->d_v = 128, row->alibi = true; });
  change("rules_256", kF16, [](Case* row) {
    row->d_qk = row->d_v = 256, row->s_q = 5, row->s_kv = 140, row->alibi = true;
  });
  change("no_lse", kF16, [](Case* row) { row->lse = false; });
  change("padded", kBf16, [](Case* row) { row->layout = Layout::kPadded; });
  change("f32", kF32, [](Case* row) { row->causal = true; });
  change("many", kF16, [](Case* row) {  // splits
    row->batch = 1, row->heads_q = row->heads_kv = 1, row->s_q = 2, row->s_kv = 2100;
    row->fixed_split = 1;
  });
  // As many as each loop of combine takes in one pass; the last one has all visible keys. Nothing
  // lies between the partial results and the end of the workspace.
  for (const int64_t splits : {16, 128, 512}) {
    const auto last_one = [&](Case* row) {
      row->heads_q = row->heads_kv = 1, row->s_q = 4, row->s_kv = 64 * splits;
      row->d_qk = row->d_v = 8, row->left = 60, row->fixed_split = 64;
      if (splits == 128) row->bias = kKeys;
    };
    change(("of_" + std::to_string(splits)).c_str(), kF16, last_one);
  }
}

// What the kernel of warpgroups has to get right: several blocks of 128 keys, warpgroups of 64
// rows that see different ones, many tiles for each multiprocessor, tails that hold NaN.
void add_warpgroups(Rows* rows) {
  const auto add_both = [&](Case row) {
    row.d_qk = row.d_v = 128;
    for (qkv_type type : {kF16, kBf16}) {
      row.type = type;
      const std::string name = row.name;
      row.name = "warpgroups_" + name + "_" + type_label(type);
      rows->push_back(row);
      row.name = name;
    }
  };
  add_both({.name = "causal_gqa",
            .batch = 1,
            .heads_q = 4,
            .heads_kv = 2,
            .s_q = 390,
            .s_kv = 390,
            .causal = true});
  add_both({.name = "square",
            .batch = 1,
            .heads_q = 1,
            .heads_kv = 1,
            .s_q = 256,
            .s_kv = 256,
            .causal = true});
  add_both({.name = "causal_shifted", .batch = 1, .s_q = 256, .s_kv = 320, .causal = true});
  add_both({.name = "causal_lengths",
            .batch = 6,
            .heads_q = 1,
            .heads_kv = 1,
            .s_q = 140,
            .s_kv = 300,
            .layout = Layout::kBhsd,
            .causal = true,
            .lengths = {300, 0, 1, 129, 64, 257}});
  add_both({.name = "lengths",
            .batch = 4,
            .heads_q = 1,
            .heads_kv = 1,
            .s_q = 70,
            .s_kv = 390,
            .lengths = {65, 256, 128, 385},
            .lse = false});
  // 1 to 8 rows of V to be set to 0: the loop over them is unrolled.
  add_both({.name = "tail_rows",
            .batch = 8,
            .heads_q = 1,
            .heads_kv = 1,
            .s_q = 5,
            .s_kv = 130,
            .lengths = {127, 126, 125, 124, 123, 122, 121, 120}});
  add_both({.name = "window",
            .batch = 1,
            .s_q = 400,
            .s_kv = 400,
            .layout = Layout::kPacked,
            .left = 150,
            .right = 10});
  add_both({.name = "narrow_window", .batch = 1, .s_q = 300, .s_kv = 600, .left = 20, .right = 0});
  add_both({.name = "offset",
            .batch = 1,
            .s_q = 200,
            .s_kv = 500,
            .causal = true,
            .alignment = QKV_ALIGN_EXPLICIT,
            .offset = 190});
  add_both({.name = "one_row", .batch = 2, .s_q = 1, .s_kv = 700, .causal = true});
  add_both({.name = "softcap", .batch = 1, .s_q = 130, .s_kv = 300, .softcap = 2, .causal = true});
  add_both({.name = "softcap_lengths",
            .batch = 6,
            .heads_q = 1,
            .heads_kv = 1,
            .s_q = 60,
            .s_kv = 640,
            .softcap = 2,
            .lengths = {600, 0, 1, 100, 1, 1}});
  // The first block of keys is the first warpgroup's alone, and the next tile has one block.
  for (const float softcap : {0.0f, 2.0f})
    add_both({.name = softcap > 0 ? "softcap_window" : "short_window",
              .batch = 4,
              .heads_q = 1,
              .heads_kv = 1,
              .s_q = 200,
              .s_kv = 340,
              .softcap = softcap,
              .left = 20,
              .right = 0,
              .lengths = {340, 100, 300, 100}});
  // A tile without keys, or the end, is behind one of one or two blocks: V is loaded there without
  // a K before it, so that nothing but its own stage's barrier keeps it from coming too early.
  add_both({.name = "then_none",
            .batch = 4,
            .heads_q = 1,
            .heads_kv = 1,
            .s_q = 100,
            .s_kv = 256,
            .lengths = {256, 250, 0, 256}});
  for (const float softcap : {0.0f, 2.0f})
    add_both({.name = softcap > 0 ? "softcap_window_then_none" : "window_then_none",
              .batch = 6,
              .heads_q = 1,
              .heads_kv = 1,
              .s_q = 128,
              .s_kv = 256,
              .softcap = softcap,
              .left = 20,
              .right = 0,
              .lengths = {256, 180, 0, 256, 100, 0}});
  rows->push_back({.name = "warpgroups_many_f16",
                   .type = kF16,
                   .batch = 3,
                   .heads_q = 48,
                   .heads_kv = 12,
                   .s_q = 20,
                   .s_kv = 70,
                   .d_qk = 128,
                   .d_v = 128});
  rows->push_back({.name = "warpgroups_many_causal_bf16",
                   .type = kBf16,
                   .batch = 3,
                   .heads_q = 24,
                   .heads_kv = 24,
                   .s_q = 130,
                   .s_kv = 140,
                   .d_qk = 128,
                   .d_v = 128,
                   .layout = Layout::kPadded,
                   .causal = true});
}

void add_combinations(Rows* rows) {
  add(rows, {.name = "combined_causal_window_lengths_gqa",
             .batch = 3,
             .heads_q = 6,
             .s_q = 70,
             .s_kv = 135,
             .layout = Layout::kPadded,
             .causal = true,
             .left = 65,
             .lengths = {135, 69, 1}});
  add(rows, {.name = "combined_window_explicit_lengths",
             .batch = 3,
             .s_q = 66,
             .s_kv = 129,
             .layout = Layout::kOddPadded,
             .alignment = QKV_ALIGN_EXPLICIT,
             .offset = 40,
             .left = 30,
             .right = 30,
             .lengths = {129, 64, 0}});
  Case row{.name = "combined_everything",
           .batch = 3,
           .heads_q = 4,
           .s_q = 67,
           .s_kv = 130,
           .d_qk = 40,
           .d_v = 72,
           .layout = Layout::kPadded,
           .misalign = 1};
  row.scale = 0.3f;
  row.softcap = 5;
  row.causal = true;
  row.left = 70;
  row.mask = kBatch | kKeys;
  row.bias = kHeads | kQueries | kKeys;
  row.bias_f32 = true;
  row.alibi = true;
  row.lengths = {130, 64, 0};
  row.weights = kF32;
  add(rows, row);
  row.name = "combined_everything_additive_hard";
  row.score = QKV_SCORE_ADDITIVE;
  row.selection = QKV_SELECT_HARD;
  row.index = QKV_TYPE_I64;
  row.weights_mode = QKV_WEIGHTS_MASKED;
  add(rows, row);
  add(rows, {.name = "combined_no_lse", .causal = true, .lse = false});
}

}  // namespace

const char* type_label(qkv_type type) { return host::type_name(type); }

std::string describe(const Case& row) {
  constexpr const char* kLayouts[] = {"bshd",   "bhsd",       "sbhd",      "packed",
                                      "padded", "odd_padded", "shared_kv", "repeated_kv"};
  constexpr const char* kAlignments[] = {"bottom-right", "top-left", "explicit"};
  std::ostringstream out;
  out << type_label(row.type) << " b" << row.batch << " h" << row.heads_q << '/' << row.heads_kv
      << " s" << row.s_q << 'x' << row.s_kv << " d" << row.d_qk << '/' << row.d_v << ' '
      << kLayouts[static_cast<int>(row.layout)] << '+' << row.misalign;
  if (row.score == QKV_SCORE_ADDITIVE) out << " additive";
  if (row.selection == QKV_SELECT_HARD) out << " hard";
  if (row.scale) out << " scale " << *row.scale;
  if (row.softcap > 0) out << " softcap " << row.softcap;
  if (row.causal) out << " causal";
  if (row.left >= 0 || row.right >= 0) out << " window " << row.left << ',' << row.right;
  out << ' ' << kAlignments[row.alignment];
  if (row.alignment == QKV_ALIGN_EXPLICIT) out << ' ' << row.offset;
  if (row.mask != kAbsent) out << " mask axes " << row.mask;
  if (row.bias != kAbsent) out << " bias axes " << row.bias << (row.bias_f32 ? " f32" : "");
  if (row.broadcast_by_stride) out << " by stride";
  if (row.alibi) out << " alibi";
  for (size_t b = 0; b < row.lengths.size(); ++b) out << (b ? "," : " lengths ") << row.lengths[b];
  if (row.fixed_split > 0) out << " splits of " << row.fixed_split;
  if (row.index != QKV_TYPE_NONE) out << " index " << type_label(row.index);
  if (row.weights != QKV_TYPE_NONE) {
    out << " weights " << type_label(row.weights) << " mode " << row.weights_mode;
  }
  return std::move(out).str();
}

std::ostream& operator<<(std::ostream& out, const Case& row) { return out << describe(row); }

const std::vector<Case>& all_cases() {
  static const std::vector<Case> cases = [] {
    Rows rows;
    for (const auto& group :
         {add_sizes, add_long, add_wide, add_layouts, add_heads, add_dims, add_causal, add_windows,
          add_lengths, add_masks_and_biases, add_scores, add_hard, add_weights, add_tiles,
          add_bounds, add_tails, add_splits, add_warpgroups, add_combinations}) {
      group(&rows);
    }
    rows.insert(rows.end(), pairwise().rows.begin(), pairwise().rows.end());
    return rows;
  }();
  return cases;
}

}  // namespace qkv::verify
