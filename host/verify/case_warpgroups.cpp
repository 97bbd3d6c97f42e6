// Cases of what Hopper's kernels have to get right inside: warpgroups that see different keys,
// rings of buffers, tails that hold NaN.
#include <utility>

#include "host/verify/case_group.h"

namespace qkv::verify {
namespace {

using host::text;

// What the kernel of warpgroups has to get right: several blocks of 128 keys, warpgroups of 64
// rows that see different ones, many tiles for each multiprocessor, tails that hold NaN.
void add_warpgroups(Rows* rows) {
  Group group{rows, "warpgroups_", Case().dims(128, 128), {kF16, kBf16}};
  group.base.batch = 1;
  Group one_head = group;
  one_head.base.one_head();
  group.add("causal_gqa", [](Case& c) { c.heads(4, 2).sizes(390, 390).causal = true; });
  one_head.add("square", [](Case& c) { c.sizes(256, 256).causal = true; });
  group.add("causal_shifted", [](Case& c) { c.sizes(256, 320).causal = true; });
  one_head.add("causal_lengths", [](Case& c) {
    c.batch = 6, c.sizes(140, 300).layout = Layout::kBhsd;
    c.causal = true, c.lengths = {300, 0, 1, 129, 64, 257};
  });
  one_head.add("lengths", [](Case& c) {
    c.batch = 4, c.sizes(70, 390).lengths = {65, 256, 128, 385}, c.lse = false;
  });
  // 1 to 8 rows of V to be set to 0: the loop over them is unrolled.
  one_head.add("tail_rows", [](Case& c) {
    c.batch = 8, c.sizes(5, 130).lengths = {127, 126, 125, 124, 123, 122, 121, 120};
  });
  group.add("window", [](Case& c) { c.sizes(400, 400).window(150, 10).layout = Layout::kPacked; });
  group.add("narrow_window", [](Case& c) { c.sizes(300, 600).window(20, 0); });
  group.add("offset", [](Case& c) { c.sizes(200, 500).shifted(190).causal = true; });
  group.add("one_row", [](Case& c) { c.batch = 2, c.sizes(1, 700).causal = true; });
  group.add("softcap", [](Case& c) { c.sizes(130, 300).softcap = 2, c.causal = true; });
  one_head.add("softcap_lengths", [](Case& c) {
    c.batch = 6, c.sizes(60, 640).softcap = 2, c.lengths = {600, 0, 1, 100, 1, 1};
  });
  // The largest softcap of the short formula, and one that goes by the rules.
  one_head.add("softcap_128", {kF16}, [](Case& c) {
    c.batch = 2, c.sizes(130, 300).softcap = 128, c.scale = 8, c.lengths = {300, 131};
  });
  one_head.add("softcap_129", {kBf16},
               [](Case& c) { c.sizes(130, 300).softcap = 129, c.causal = true; });
  // The first block of keys is the first warpgroup's alone, and the next tile has one block.
  for (const float softcap : {0.0f, 2.0f}) {
    one_head.add(softcap > 0 ? "softcap_window" : "short_window", [&](Case& c) {
      c.batch = 4, c.sizes(200, 340).window(20, 0).softcap = softcap;
      c.lengths = {340, 100, 300, 100};
    });
  }
  // A tile without keys, or the end, is behind one of one or two blocks: V is loaded there without
  // a K before it, so that nothing but its own stage's barrier keeps it from coming too early.
  one_head.add("then_none", [](Case& c) {
    c.batch = 4, c.sizes(100, 256).lengths = {256, 250, 0, 256};
  });
  // Three blocks: the V that is loaded so goes into the place of the tile's first K.
  one_head.add("three_then_none", [](Case& c) {
    c.batch = 8, c.sizes(100, 384).lengths = {384, 0, 384, 384, 0, 384, 320, 0};
  });
  for (const float softcap : {0.0f, 2.0f}) {
    one_head.add(softcap > 0 ? "softcap_window_then_none" : "window_then_none", [&](Case& c) {
      c.batch = 6, c.sizes(128, 256).window(20, 0).softcap = softcap;
      c.lengths = {256, 180, 0, 256, 100, 0};
    });
  }
  group.base.batch = 3;
  group.add("many", {kF16}, [](Case& c) { c.heads(48, 12).sizes(20, 70); });
  group.add("many_causal", {kBf16}, [](Case& c) {
    c.heads(24, 24).sizes(130, 140).layout = Layout::kPadded, c.causal = true;
  });
}

// The same for the other widths, whose tiles, blocks and buffers differ: each with what its
// protocol decides, in its own width and in a smaller one that is padded.
void add_warpgroup_widths(Rows* rows) {
  const struct {
    const char* name;
    int64_t d_qk, d_v, smaller_qk, smaller_v;
  } widths[] = {{"64", 64, 64, 40, 8},
                {"96", 96, 96, 72, 88},
                {"192", 192, 128, 136, 104},
                {"256", 256, 256, 200, 216}};
  for (const auto& width : widths) {
    Group group{rows,
                text("warpgroups", width.name, "_"),
                Case().dims(width.d_qk, width.d_v),
                {kF16, kBf16}};
    group.base.batch = 1;
    Group one_head = group;
    one_head.base.one_head();
    one_head.add("square", {kF16}, [](Case& c) { c.sizes(256, 256).causal = true; });
    group.add("gqa_smaller", [&](Case& c) {
      c.heads(4, 2).sizes(200, 390).dims(width.smaller_qk, width.smaller_v).causal = true;
    });
    one_head.add("lengths", {kF16}, [](Case& c) {
      c.batch = 5, c.sizes(70, 390).lengths = {65, 256, 128, 385, 0}, c.lse = false;
    });
    one_head.add("tail_rows", [](Case& c) {
      c.batch = 8, c.sizes(5, 130).lengths = {127, 126, 125, 124, 123, 122, 121, 120};
    });
    group.add("window", [](Case& c) {
      c.sizes(400, 400).window(150, 10).layout =
          c.d_qk == c.d_v ? Layout::kPacked : Layout::kPadded;
    });
    group.add("one_row", [](Case& c) { c.batch = 2, c.sizes(1, 700).causal = true; });
    one_head.add("softcap_lengths", [&](Case& c) {
      c.batch = 6, c.sizes(60, 640).dims(width.smaller_qk, width.smaller_v).softcap = 2;
      c.lengths = {600, 0, 1, 100, 1, 1};
    });
    for (const float softcap : {0.0f, 2.0f}) {
      one_head.add(softcap > 0 ? "softcap_window_then_none" : "window_then_none", [&](Case& c) {
        c.batch = 6, c.sizes(228, 356).window(20, 0).softcap = softcap;
        c.lengths = {356, 180, 0, 356, 100, 0};
      });
    }
    // The next tile has as many blocks as the ring has buffers, behind one whose first block others
    // see alone: its V is awaited before that block is skipped.
    if (width.d_qk == 64)
      one_head.add("long_window", {kF16}, [](Case& c) { c.sizes(800, 800).window(500, 0); });
    one_head.add("three_then_none", [](Case& c) {
      c.batch = 8, c.sizes(100, 384).lengths = {384, 0, 384, 384, 0, 384, 320, 0};
    });
  }
}

// Masks, biases and ALiBi in the kernel of warpgroups: blocks of keys that all rows see, where
// neighbours come in pairs, and where they do not (an odd number of keys); every one by itself, and
// together.
void add_warpgroup_rules(Rows* rows) {
  const std::pair<int64_t, int64_t> widths[] = {{64, 64}, {96, 96}, {128, 128}, {192, 128}};
  for (const auto& [d_qk, d_v] : widths) {
    Group group{rows,
                text("warpgroups", d_qk, "_rules_"),
                Case().dims(d_qk, d_v).sizes(150, 400),
                {kF16, kBf16}};
    group.base.batch = 1;
    group.add("mask", [](Case& c) { c.inputs = {{kMask, kAllAxes}}; });
    group.add("bias", [](Case& c) { c.inputs = {{kBias, kHeads | kQueries | kKeys}}; });
    group.add("alibi_causal", [](Case& c) { c.inputs = {{kAlibi, kHeads}}, c.causal = true; });
    group.add("all_gqa", [](Case& c) {
      c.heads(4, 2).inputs = {{kMask, kHeads | kKeys}, {kBias, kAllAxes}, {kAlibi, kHeads}};
      c.window(300, 20);
    });
    // One block, of which half is computed.
    group.add("few_keys", [](Case& c) { c.sizes(70, 40).inputs = {{kMask, kAllAxes}}; });
    group.add("odd", [](Case& c) {
      c.sizes(70, 311).inputs = {{kMask, kQueries | kKeys}, {kBias, kAllAxes}};
      c.batch = 3, c.lengths = {311, 97, 0};
    });
    if (d_qk != 128) continue;
    group.add("bias_f32_softcap", [](Case& c) {
      c.inputs = {{kBias, kAllAxes, true}}, c.softcap = 3, c.shifted(-60).causal = true;
    });
    group.add("mask_by_stride", [](Case& c) {
      c.inputs = {{kMask, kHeads | kKeys}}, c.broadcast_by_stride = true;
    });
    // ALiBi's distance changes its sign in the midst of a block.
    group.add("alibi_full", [](Case& c) { c.sizes(400, 400).inputs = {{kAlibi, kHeads}}; });
    group.add("packed_splits", [](Case& c) {
      c.heads(8, 2).sizes(2, 1500).inputs = {{kAlibi, kHeads}, {kMask, kKeys}};
    });
  }
}

// Masks that hide blocks of keys from all rows of a tile: its last ones, its first ones, all, and
// those in between. On one multiprocessor they are looked for; elsewhere but one of these problems
// is too small. fixed_split: the same sums there and here.
void add_hidden_blocks(Rows* rows) {
  const std::pair<int64_t, int64_t> widths[] = {{64, 64}, {96, 96}, {128, 128}, {192, 128}};
  for (const auto& [d_qk, d_v] : widths) {
    Group group{rows, text("warpgroups", d_qk, "_hidden_"), Case().dims(d_qk, d_v)};
    group.base.batch = 1, group.base.fixed_split = 1000, group.base.mask_squares = 180;
    group.base.heads(4, 4).sizes(270, 440).inputs = {{kMask, kQueries | kKeys}};
    group.add("squares", {d_qk == 96 || d_qk == 128 ? kF16 : kBf16}, [](Case&) {});
    if (d_qk == 64)  // enough for all multiprocessors of an H100, though the lengths leave little
      group.add("many", {kF16}, [](Case& c) {
        c.one_head().sizes(2600, 19680).dims(16, 16).inputs = {{kMask, kKeys}};
        c.fixed_split = 0, c.lengths = {200};
      });
    if (d_qk != 128) continue;
    group.add("causal_lengths", {kBf16}, [](Case& c) {
      c.batch = 2, c.inputs = {{kMask, kBatch | kQueries | kKeys}};
      c.causal = true, c.lengths = {440, 333};
    });
    group.add("window", {kF16}, [](Case& c) { c.window(200, 60).mask_squares = 120; });
    group.add("padding", {kF16}, [](Case& c) {
      c.batch = 3, c.s_q = 140, c.inputs = {{kMask, kBatch | kKeys}, {kBias, kHeads | kKeys}};
    });
    // A batch without keys, between two of one tile each.
    group.add("all", {kBf16}, [](Case& c) {
      c.batch = 3, c.s_q = 130, c.inputs = {{kMask, kBatch | kKeys}}, c.mask_squares = 1000;
    });
    group.add("odd", {kBf16}, [](Case& c) { c.s_kv = 443, c.softcap = 2; });
    group.add("by_stride", {kF16}, [](Case& c) {
      c.s_kv = 444, c.broadcast_by_stride = true, c.layout = Layout::kPadded;
      c.mask_squares = 127;  // a block that the tile's last row alone sees
    });
    // Blocks of which one to four keys are shown, the last ones.
    group.add("edges", {kBf16}, [](Case& c) {
      c.batch = 2, c.s_q = 140, c.inputs = {{kMask, kBatch | kKeys}}, c.mask_squares = 79;
    });
    // The same where 16 keys are read as one.
    group.add("edges_in_16", {kF16}, [](Case& c) {
      c.batch = 2, c.sizes(140, 448).inputs = {{kMask, kBatch | kKeys}}, c.mask_squares = 79;
    });
    group.add("packed", {kF16}, [](Case& c) {
      c.heads(16, 4).sizes(45, 440).inputs = {{kMask, kBatch | kKeys}}, c.batch = 2;
    });
    group.add("decode", {kBf16}, [](Case& c) {
      c.heads(8, 8).sizes(1, 700).inputs = {{kMask, kAllAxes}};
    });
    group.add("splits", {kBf16}, [](Case& c) { c.fixed_split = 160; });
    // More than the 32 blocks that the producer looks at together.
    group.add("far", {kF16}, [](Case& c) {
      c.heads(4, 1).sizes(2, 6200).inputs = {{kMask, kKeys}}, c.mask_squares = 2900;
      c.fixed_split = 10000;
    });
  }
}

// What the kernel of wide heads has to get right: pieces of 32 keys whose tails hold NaN, tiles of
// 64 rows that share their keys by twos, panels of 64 dims that are not full or not there, in one
// half of O and in the other.
void add_wide(Rows* rows) {
  Group group{rows, "wide_", Case().dims(512, 512), {kF16, kBf16}};
  group.base.batch = 1;
  Group one_head = group;
  one_head.base.one_head();
  one_head.add("full", [](Case& c) { c.sizes(150, 300); });
  one_head.add("causal", [](Case& c) { c.sizes(200, 390).causal = true; });
  one_head.add("d264", [](Case& c) { c.sizes(100, 200).dims(264, 264).causal = true; });
  one_head.add("d320", {kF16}, [](Case& c) { c.sizes(70, 200).dims(320, 320).window(60, 30); });
  // Two and three panels of V for the second warpgroup, over several blocks of keys: their stages
  // are filled again.
  one_head.add("d384", [](Case& c) { c.sizes(65, 390).dims(384, 384); });
  one_head.add("d448", {kF16}, [](Case& c) { c.sizes(64, 390).dims(448, 448).causal = true; });
  one_head.add("qk64_v512", [](Case& c) { c.sizes(130, 520).dims(64, 512).causal = true; });
  one_head.add("qk512_v72", [](Case& c) { c.sizes(130, 400).dims(512, 72); });
  one_head.add("qk8_v264", {kBf16}, [](Case& c) { c.sizes(20, 700).dims(8, 264); });
  one_head.add("qk456_v8", {kF16}, [](Case& c) { c.sizes(20, 500).dims(456, 8).causal = true; });
  // Heads packed into a tile, by twos and all of a group; the last tile of a set alone in a
  // cluster.
  group.add("gqa", [](Case& c) { c.heads(4, 2).sizes(90, 150).causal = true; });
  group.add("gqa_decode", {kBf16}, [](Case& c) { c.heads(32, 2).sizes(1, 900); });
  group.add("gqa_few_rows", {kF16},
            [](Case& c) { c.heads(8, 1).sizes(9, 400).causal = true, c.layout = Layout::kPadded; });
  group.add("group3", {kF16}, [](Case& c) { c.heads(3, 1).sizes(30, 200).dims(264, 512); });
  one_head.add("one_row", [](Case& c) { c.batch = 2, c.sizes(1, 1100).causal = true; });
  one_head.add("lengths", [](Case& c) {
    c.batch = 8, c.sizes(70, 390).lengths = {0, 1, 31, 97, 128, 160, 257, 389};
    c.lse = false;
  });
  one_head.add("causal_lengths", {kBf16}, [](Case& c) {
    c.batch = 6, c.sizes(130, 300).layout = Layout::kBhsd;
    c.causal = true, c.lengths = {300, 0, 33, 129, 64, 255};
  });
  one_head.add("window", {kF16},
               [](Case& c) { c.sizes(300, 300).window(20, 0).layout = Layout::kPacked; });
  one_head.add("wide_window", {kBf16}, [](Case& c) { c.sizes(150, 700).window(250, 40); });
  one_head.add("blind", {kF16}, [](Case& c) { c.sizes(150, 300).shifted(-90).causal = true; });
  one_head.add("offset", {kBf16}, [](Case& c) { c.sizes(100, 500).shifted(390).causal = true; });
  one_head.add("softcap", [](Case& c) { c.sizes(80, 300).softcap = 2, c.causal = true; });
  one_head.add("softcap_lengths", {kF16}, [](Case& c) {
    c.batch = 3, c.sizes(10, 400).softcap = 2, c.lengths = {385, 0, 2};
  });
  one_head.add("softcap_128", {kBf16}, [](Case& c) { c.sizes(64, 300).softcap = 128; });
  group.base.fixed_split = 128;
  group.add("splits", {kF16}, [](Case& c) { c.heads(4, 2).sizes(40, 520).causal = true; });
  group.add("splits_lengths", {kBf16}, [](Case& c) {
    c.batch = 4, c.heads(2, 1).sizes(3, 600).dims(512, 320).lengths = {600, 0, 129, 128};
  });
  group.add("splits_window", {kF16},
            [](Case& c) { c.one_head().sizes(140, 600).dims(320, 512).window(150, 3); });
  group.add("splits_softcap", {kBf16},
            [](Case& c) { c.one_head().sizes(4, 400).softcap = 3, c.fixed_split = 200; });
}

// Hard selection by Hopper's warpgroups, of 64 rows each: more blocks of keys than the ring of K
// holds, tiles of fewer rows than three warpgroups, warpgroups that see other keys than those
// beside them, tiles without keys.
void add_hard_warpgroups(Rows* rows) {
  Group wide{rows, "warpgroups_hard_", Case().one_head().sizes(200, 400)};
  wide.base.selection = QKV_SELECT_HARD;
  wide.base.index = QKV_TYPE_I32;
  for (const int64_t d : {64, 96, 128, 192, 256}) {
    Group group = wide;
    group.prefix += text("d", d, "_");
    group.base.dims(d, 64);
    group.add("full", {kF16}, [](Case&) {});
    group.add("causal", {kBf16}, [](Case& c) { c.causal = true; });
  }
  Group group = wide;
  group.base.dims(64, 128).index = QKV_TYPE_I64;
  group.add("long", {kF16}, [](Case& c) { c.sizes(200, 1700); });
  // Rows of V that end at each place of what a lane copies at once.
  group.add("lengths", {kF16}, [](Case& c) {
    c.batch = 8, c.sizes(100, 384).lengths = {384, 0, 257, 128, 1, 0, 127, 300};
    c.dims(64, 56).layout = Layout::kPadded;
  });
  group.add("causal_lengths", {kBf16}, [](Case& c) {
    c.batch = 4, c.sizes(230, 300).layout = Layout::kBhsd;
    c.causal = true, c.lengths = {300, 0, 33, 129};
  });
  group.add("window", {kF16}, [](Case& c) {
    c.sizes(400, 400).window(20, 10).dims(64, 88).layout = Layout::kPadded;
  });
  group.add("window_long", {kBf16}, [](Case& c) {
    c.sizes(270, 700).window(250, 40).layout = Layout::kPadded, c.dims(128, 128);
  });
  // The last warpgroup has one row.
  group.add("blind", {kF16}, [](Case& c) {
    c.sizes(321, 300).shifted(-90).causal = true;
    c.dims(64, 120).layout = Layout::kPadded;
  });
  group.add("gqa", {kBf16}, [](Case& c) { c.heads(8, 2).sizes(70, 300).causal = true; });
  group.add("gqa16", {kF16}, [](Case& c) {
    c.heads(16, 1).sizes(20, 300).dims(40, 1048).layout = Layout::kPadded, c.lse = false;
  });
  group.add("group3", {kBf16}, [](Case& c) { c.heads(3, 1).sizes(100, 200).dims(72, 8); });
  group.add("scale_negative", {kBf16}, [](Case& c) { c.scale = -0.7f, c.causal = true; });
  group.add("ties", {kF16}, [](Case& c) { c.scale = 0.0f, c.window(99, 3); });
  group.add("splits", {kF16}, [](Case& c) { c.sizes(70, 2100).causal = true; });
  group.add("splits_lengths", {kBf16}, [](Case& c) {
    c.batch = 3, c.heads(4, 2).sizes(40, 1500).lengths = {1500, 0, 65};
  });
  group.add("no_index", {kBf16}, [](Case& c) { c.index = QKV_TYPE_NONE; });
  // So few keys that the last one, behind which V ends, is some row's; and rows of V as above.
  for (const int64_t d_v : {24, 56, 88, 120, 184, 216, 248})
    group.add(text("v", d_v), {kF16}, [&](Case& c) { c.sizes(65, 5).dims(64, d_v); });
}

}  // namespace

void add_warpgroup_cases(Rows* rows) {
  for (const auto& add : {add_warpgroups, add_warpgroup_widths, add_warpgroup_rules,
                          add_hidden_blocks, add_wide, add_hard_warpgroups})
    add(rows);
}

}  // namespace qkv::verify
