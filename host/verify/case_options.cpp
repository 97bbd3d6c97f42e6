// Cases of each option of the contract.
#include <utility>

#include "host/verify/case_group.h"

namespace qkv::verify {
namespace {

using host::text;

std::string signed_label(int64_t x) { return x < 0 ? text("m", -x) : text(x); }

struct Pair {
  int64_t q, kv;
};

// Around every tile extent of the kernels (32, 48, 64, 128, 512), primes, and nothing at all.
void add_sizes(Rows* rows) {
  constexpr Pair kSizes[] = {
      {0, 5},     {5, 0},   {0, 0},   {1, 1},     {1, 2},     {2, 1},     {31, 33},   {33, 31},
      {47, 64},   {48, 63}, {49, 65}, {63, 63},   {63, 64},   {64, 64},   {65, 64},   {64, 65},
      {65, 65},   {1, 63},  {1, 64},  {1, 65},    {127, 128}, {128, 127}, {129, 129}, {128, 128},
      {127, 129}, {3, 511}, {5, 512}, {2, 513},   {511, 2},   {513, 3},   {1, 1025},  {97, 101},
      {131, 7},   {7, 131}, {16, 16}, {257, 127},
  };
  const Group group{rows, "sizes_", Case().heads(2, 1).dims(16, 24)};
  for (const Pair n : kSizes)
    group.add(text("q", n.q, "_kv", n.kv), [&](Case& c) { c.sizes(n.q, n.kv); });
  const Group whole{rows, "sizes_"};
  whole.add("no_batch", [](Case& c) { c.batch = 0; });
  whole.add("one_of_all", [](Case& c) { c.one_head().sizes(1, 1).dims(1, 1); });
}

void add_long(Rows* rows) {
  const Group group{rows, "long_", Case().one_head().dims(16, 16)};
  for (const Pair n : {Pair{1, 20011}, {3, 8192}, {2053, 3}, {1031, 1033}})
    group.add(text("q", n.q, "_kv", n.kv), [&](Case& c) { c.sizes(n.q, n.kv); });
  // Enough tiles that a large device, too, takes the tallest.
  group.add("wide", {kF16, kBf16},
            [](Case& c) { c.heads(320, 320).sizes(128, 16).dims(128, 128); });
}

void add_layouts(Rows* rows) {
  constexpr std::pair<Layout, const char*> kLayouts[] = {
      {Layout::kBshd, "bshd"},          {Layout::kBhsd, "bhsd"},
      {Layout::kSbhd, "sbhd"},          {Layout::kPacked, "packed"},
      {Layout::kPadded, "padded"},      {Layout::kOddPadded, "odd_padded"},
      {Layout::kSharedKv, "shared_kv"}, {Layout::kRepeatedKv, "repeated_kv"},
  };
  Group group{rows, "layouts_", Case().heads(4, 2).sizes(67, 67)};
  group.base.causal = true;
  for (const auto& [layout, label] : kLayouts) {
    group.base.layout = layout;
    group.add(label);
    group.add(text(label, "_lengths"), [](Case& c) { c.lengths = {31, 66}; });
  }
  for (const int64_t misalign : {1, 2, 3, 4, 8}) {
    const Group away{rows, "layouts_misaligned_", {.misalign = misalign}};
    away.add(text(misalign), [](Case& c) { c.dims(40, 40); });
    away.add(text("odd_", misalign), [](Case& c) { c.layout = Layout::kOddPadded; });
  }
}

void add_heads(Rows* rows) {
  Group group{rows, "heads_", Case().sizes(19, 35)};
  group.base.causal = true;
  for (const Pair n : {Pair{1, 1}, {2, 1}, {8, 1}, {6, 2}, {6, 3}, {5, 5}, {12, 4}, {71, 1}})
    group.add(text(n.q, "_", n.kv), [&](Case& c) { c.heads(n.q, n.kv); });
  Group{rows, "heads_"}.add("batch_7", [](Case& c) { c.heads(3, 3).batch = 7, c.s_q = 5; });
}

void add_dims(Rows* rows) {
  struct Dims {
    int64_t qk, v;
  };
  Group group{rows, "dims_", Case().sizes(66, 70)};
  group.base.batch = 1;
  for (const int64_t d : {1, 3, 8, 32, 40, 64, 72, 80, 96, 128, 256, 576})
    group.add(text(d), [&](Case& c) { c.dims(d, d); });
  for (const Dims d :
       {Dims{192, 128}, {576, 512}, {1, 64}, {64, 1}, {65, 63}, {128, 257}, {7, 129}})
    group.add(text(d.qk, "_", d.v), [&](Case& c) { c.dims(d.qk, d.v).s_q = 35; });
  for (const int64_t d : {100, 104, 200}) {  // with all that changes scores, aligned and not
    group.add(text(d, "_rules"), [&](Case& c) {
      c.dims(d, d).softcap = 20, c.causal = true;
      c.inputs = {{kMask, kKeys}, {kBias, kHeads | kQueries | kKeys}, {kAlibi, kHeads}};
    });
  }
  group.add("120_100", [](Case& c) { c.dims(120, 100).s_q = 20; });
  for (const Dims d : {Dims{577, 64}, {64, 577}, {1000, 1025}})
    group.add(text(d.qk, "_", d.v), [&](Case& c) { c.one_head().sizes(5, 9).dims(d.qk, d.v); });
}

void add_causal(Rows* rows) {
  Group group{rows, "causal_"};
  group.base.causal = true;
  for (const Pair n : {Pair{37, 53}, {53, 37}, {128, 1}, {1, 65}, {64, 128}, {131, 131}}) {
    const std::string size = text("_q", n.q, "_kv", n.kv);
    group.add("bottom_right" + size, [&](Case& c) { c.sizes(n.q, n.kv); });
    group.add("top_left" + size, [&](Case& c) { c.sizes(n.q, n.kv).top_left(); });
  }
  for (const int64_t offset :
       {int64_t{-5}, int64_t{7}, int64_t{-36}, int64_t{52}, int64_t{-1000000}, int64_t{1} << 31,
        -(int64_t{1} << 40), kFar, -kFar})
    group.add("offset_" + signed_label(offset), [&](Case& c) { c.shifted(offset); });
}

void add_windows(Rows* rows) {
  struct Window {
    int64_t left, right;
    bool causal = false;
  };
  const Group group{rows, "window_", Case().sizes(133, 150).dims(16, 16)};
  for (const Window w : {Window{0, 0},
                         {3, 5},
                         {0, -1},
                         {-1, 0},
                         {7, -1, true},
                         {0, 0, true},
                         {64, 1},
                         {100, 63},
                         {kFar, kFar},
                         {5, 9, true},
                         {-1, 70}}) {
    const char* causal = w.causal ? "_causal" : "";
    group.add(text(signed_label(w.left), "_", signed_label(w.right), causal),
              [&](Case& c) { c.window(w.left, w.right).causal = w.causal; });
  }
  const Group square{rows, "window_offset_", Case().sizes(70, 70).window(11, 66)};
  for (const int64_t offset : {int64_t{-200}, int64_t{-20}, int64_t{90}, kFar, -kFar})
    square.add(signed_label(offset), [&](Case& c) { c.shifted(offset); });
  Group{rows, "window_"}.add("top_left", [](Case& c) { c.window(9, 2).top_left().s_q = 90; });
}

void add_lengths(Rows* rows) {
  const std::vector<int32_t> lengths[] = {
      {0}, {1}, {0, 65, 7, 64}, {130, 0, 129}, {63, 64, 65, 128}};
  int n = 0;
  for (const auto& some : lengths) {
    Group group{rows, text("lengths_", n++), Case().sizes(9, 130)};
    group.base.batch = 4;
    group.base.lengths = some;
    group.add("");
    group.base.causal = true;
    group.add("_causal");
    group.add("_causal_window", [](Case& c) { c.left = 20; });
  }
  Group wide{rows, "lengths_i64", Case().sizes(9, 130)};
  wide.base.long_lengths = true;
  wide.base.lengths = {0, 65};
  wide.add("");
  wide.add("_wide_heads", [](Case& c) { c.dims(128, 128).causal = true; });
  wide.add("_rules", [](Case& c) { c.inputs = {{kBias, kKeys}}; });
}

// Every way to broadcast, alternately by an extent of 1 and by stride 0.
void add_inputs(Rows* rows) {
  for (int axes = 0; axes <= kAllAxes; ++axes) {
    const bool is_odd = axes % 2 == 1, f32 = axes % 4 < 2;
    const Group group{rows, "", {.s_q = 21}};
    group.add(text("mask_", axes), [&](Case& c) {
      c.inputs = {{kMask, axes}}, c.broadcast_by_stride = is_odd;
    });
    group.add(text("bias_", axes), [&](Case& c) {
      c.inputs = {{kBias, axes, f32}}, c.broadcast_by_stride = !is_odd;
    });
  }
  const Group alibi{rows, "alibi", {.inputs = {{kAlibi, kHeads}}}};
  alibi.add("", [](Case& c) { c.heads(4, 2); });
  alibi.add("_causal_lengths", [](Case& c) { c.heads(4, 2).causal = true, c.lengths = {11, 53}; });
  alibi.add("_top_left", [](Case& c) { c.top_left(); });
  alibi.add("_offset", [](Case& c) { c.shifted(-3); });
}

void add_scores(Rows* rows) {
  const Group scale{rows, "scale_"};
  for (const float factor : {0.0f, 1.0f, -0.5f, 8.0f})
    scale.add(factor < 0 ? "negative" : text(factor), [&](Case& c) { c.scale = factor; });
  Group softcap{rows, "softcap_", {.scale = 2.0f}};
  for (const float cap : {0.5f, 30.0f, 5000.0f}) {
    const std::string label = cap < 1 ? "small" : text(cap);
    softcap.base.softcap = cap;
    softcap.add(label);
    softcap.add(label + "_causal_bias", [](Case& c) {
      c.causal = true, c.inputs = {{kBias, kHeads | kQueries | kKeys}};
    });
  }
  const Group additive{rows, "additive_", {.score = QKV_SCORE_ADDITIVE}};
  for (const int64_t d : {1, 8, 40, 128})
    additive.add(text(d), [&](Case& c) { c.dims(d, 24).s_q = 20; });
  additive.add("gqa_causal_scale", [](Case& c) { c.heads(6, 3).scale = -1.5f, c.causal = true; });
  additive.add("softcap_lengths", [](Case& c) { c.softcap = 1, c.lengths = {0, 17}; });
}

void add_hard(Rows* rows) {
  for (const qkv_score score : {QKV_SCORE_DOT, QKV_SCORE_ADDITIVE}) {
    for (const qkv_type index : {QKV_TYPE_NONE, QKV_TYPE_I32, QKV_TYPE_I64}) {
      const std::string label = index == QKV_TYPE_NONE ? "" : text("_", type_label(index));
      const Group group{rows,
                        "hard" + std::string(score == QKV_SCORE_DOT ? "" : "_additive") + label,
                        {.score = score, .selection = QKV_SELECT_HARD, .index = index}};
      group.add("");
      group.add("_causal_lengths", [](Case& c) {
        c.s_q = 70, c.causal = true, c.lengths = {5, 53};
      });
    }
  }
  Group group{
      rows, "hard_", {.s_q = 5, .s_kv = 1201, .selection = QKV_SELECT_HARD, .index = QKV_TYPE_I64}};
  group.add("long");
  group.base.inputs = {{kMask, kAllAxes}, {kBias, kHeads | kKeys}};
  group.base.softcap = 3;
  group.add("mask_bias_softcap");
  group.add("window_padded", [](Case& c) { c.window(4, 4).layout = Layout::kPadded; });
}

// From one key to more than a query sees, over each option that shapes scores or hides keys.
void add_top_k(Rows* rows) {
  for (const qkv_score score : {QKV_SCORE_DOT, QKV_SCORE_ADDITIVE}) {
    const Group group{
        rows, score == QKV_SCORE_DOT ? "top_k_" : "top_k_additive_", {.score = score}};
    for (const int64_t k : {1, 2, 7, 64, 128}) {
      group.add(text(k), [&](Case& c) { c.select_top(k).sizes(21, 150); });
      group.add(text(k, "_causal_lengths"), [&](Case& c) {
        c.select_top(k).s_q = 70, c.causal = true, c.lengths = {5, 53};
      });
    }
  }
  Group group{rows, "top_k_", {.s_q = 5, .s_kv = 1201}};
  group.base.select_top(64).index = QKV_TYPE_I64;
  group.add("long");
  group.add("no_scores", [](Case& c) { c.top_scores = false; });
  group.add("no_lse", [](Case& c) { c.lse = false; });
  group.add("fixed_split", [](Case& c) { c.fixed_split = 100; });
  group.add("wide", [](Case& c) { c.dims(40, 300).s_kv = 70; });
  group.base.inputs = {{kMask, kAllAxes}, {kBias, kHeads | kKeys}};
  group.base.softcap = 3;
  group.add("mask_bias_softcap");
  group.add("window_padded",
            [](Case& c) { c.select_top(7).window(4, 4).layout = Layout::kPadded; });
  group.add("window_right", [](Case& c) { c.window(300, 5).top_k = 128; });
  group.add("gqa_alibi", [](Case& c) {
    c.heads(6, 2).select_top(10).inputs = {{kAlibi, kHeads}};
    c.layout = Layout::kBhsd;
  });
  const Group decode{rows, "top_k_decode_", Case().one_head().sizes(1, 4200)};
  for (const int64_t k : {1, 10, 128}) {
    decode.add(text(k), [&](Case& c) { c.select_top(k); });
    decode.add(text(k, "_gqa_lengths"),
               [&](Case& c) { c.select_top(k).heads(8, 2).lengths = {4099}; });
  }
  decode.add("no_keys", [](Case& c) { c.select_top(3).heads(8, 2).lengths = {0}; });
}

// Weights in four modes, in fp32 and in the type of q, over everything that shapes them.
void add_weights(Rows* rows) {
  constexpr const char* kModes[] = {"scores", "softcapped", "masked", "probabilities"};
  for (qkv_weights_mode mode = 0; mode < 4; ++mode) {
    for (const bool narrow : {false, true}) {
      Group group{rows,
                  text("weights_", kModes[mode], narrow ? "_narrow" : "_wide"),
                  {.softcap = 2, .weights = narrow ? kBf16 : kF32, .weights_mode = mode}};
      group.add("");
      Case& masked = group.base;
      masked.layout = narrow ? Layout::kPadded : Layout::kBhsd;
      masked.s_q = 67;
      masked.causal = true;
      masked.inputs = {{kBias, kAllAxes}, {kMask, kQueries | kKeys}, {kAlibi, kHeads}};
      masked.lengths = {53, 20};
      group.add("_masked");
      group.add("_masked_hard",
                [](Case& c) { c.selection = QKV_SELECT_HARD, c.index = QKV_TYPE_I32; });
      group.add("_masked_top_k", [](Case& c) { c.select_top(9); });
    }
  }
  const Group group{rows, "weights_", {.batch = 1, .s_q = 3, .weights = kF32}};
  group.add("long", [](Case& c) { c.s_kv = 1537; });
  group.add("additive_no_lse",
            [](Case& c) { c.s_kv = 65, c.score = QKV_SCORE_ADDITIVE, c.lse = false; });
}

}  // namespace

// O in the place of Q: every kernel has read a tile's rows of Q when it writes them.
void add_in_place(Rows* rows) {
  Group group{rows, "in_place_", Case().heads(4, 2).sizes(67, 131)};
  group.base.in_place = true;
  for (const int64_t d : {31, 64, 128, 264}) {
    group.base.dims(d, d);
    group.add(text("d", d));
  }
  group.base.dims(128, 128).causal = true;
  group.add("packed", [](Case& c) { c.layout = Layout::kPacked, c.s_q = c.s_kv; });
  group.add("many_tiles", {kF16}, [](Case& c) { c.sizes(300, 70); });
  group.add("splits", {kF16}, [](Case& c) { c.heads(2, 1).sizes(1, 2100).batch = 1; });
  group.add("splits_narrow", {kBf16},
            [](Case& c) { c.heads(2, 1).sizes(1, 2100).dims(64, 64).batch = 1; });
  group.base.dims(64, 64).layout = Layout::kPadded;
  group.add("rules", [](Case& c) { c.softcap = 3, c.inputs = {{kBias, kAllAxes}}; });
  group.add("additive", [](Case& c) { c.score = QKV_SCORE_ADDITIVE; });
  group.add("hard", [](Case& c) {
    c.selection = QKV_SELECT_HARD, c.index = QKV_TYPE_I64, c.dims(200, 200);
  });
  group.add("top_k", [](Case& c) { c.select_top(20).dims(200, 200); });
}

void add_option_cases(Rows* rows) {
  for (const auto& add :
       {add_sizes, add_long, add_layouts, add_heads, add_dims, add_causal, add_windows, add_lengths,
        add_inputs, add_scores, add_hard, add_top_k, add_weights, add_in_place})
    add(rows);
}

void add_combined_cases(Rows* rows) {
  Group group{rows, "combined_"};
  group.add("causal_window_lengths_gqa", [](Case& c) {
    c.batch = 3, c.heads(6, 2).sizes(70, 135).layout = Layout::kPadded;
    c.causal = true, c.left = 65, c.lengths = {135, 69, 1};
  });
  group.add("window_explicit_lengths", [](Case& c) {
    c.batch = 3, c.sizes(66, 129).layout = Layout::kOddPadded;
    c.shifted(40).window(30, 30).lengths = {129, 64, 0};
  });
  group.base = {.batch = 3, .layout = Layout::kPadded, .misalign = 1, .scale = 0.3f, .softcap = 5};
  Case& everything = group.base.heads(4, 2).sizes(67, 130).dims(40, 72).window(70, -1);
  everything.causal = true;
  everything.inputs = {
      {kMask, kBatch | kKeys}, {kBias, kHeads | kQueries | kKeys, true}, {kAlibi, kHeads}};
  everything.lengths = {130, 64, 0};
  everything.weights = kF32;
  group.add("everything");
  group.add("everything_additive_hard", [](Case& c) {
    c.score = QKV_SCORE_ADDITIVE, c.selection = QKV_SELECT_HARD, c.index = QKV_TYPE_I64;
    c.weights_mode = QKV_WEIGHTS_MASKED;
  });
  group.add("everything_additive_top_k",
            [](Case& c) { c.select_top(11).score = QKV_SCORE_ADDITIVE; });
  Group{rows, "combined_"}.add("no_lse", [](Case& c) { c.causal = true, c.lse = false; });
}

}  // namespace qkv::verify
