// Exchange within a warp and barriers that reduce: PTX ISA 9.0 sections 9.7.9.6
// (shfl.sync), 9.7.13.9 to 9.7.13.12 (vote.sync, match.sync, activemask, redux.sync) and 9.7.13.1
// (bar.red, barrier).
#include <algorithm>
#include <cstring>

#include "tests/device.h"
#include "tests/warp_forms.h"

namespace vgpu::test {
namespace {

constexpr u32 kAll = 0xffffffff;

enum Mode { kUp, kDown, kBfly, kIdx };
constexpr const char* kModeNames[] = {"up", "down", "bfly", "idx"};

// __shfl_*_sync of the programming guide: the warp in sections of `width` lanes; a lane whose
// partner lies outside of its section keeps its own value. (A butterfly may reach into sections
// before its own.)
WarpForm shuffle(Mode mode, int width, bool with_predicate, const std::string& distance) {
  WarpForm form;
  const int clamp = (32 - width) << 8 | (mode == kUp ? 0 : 31);
  form.text = std::string("shfl.sync.") + kModeNames[mode] + ".b32 $0" +
              (with_predicate ? "|$p" : "") + ", $1, " + (distance.empty() ? "$2" : distance) +
              ", " + std::to_string(clamp) + ", 0xffffffff;";
  form.bits = 32;
  form.expected = [=](const WarpIn& in, WarpOut& out) {
    for (int l = 0; l < 32; ++l) {
      const auto at = static_cast<size_t>(l);
      const int given = distance.empty() ? static_cast<int>(in[at][1] % 32) : std::stoi(distance);
      const int section = l / width * width, place = l % width;
      int from = -1;
      if (mode == kUp && place >= given) from = l - given;
      if (mode == kDown && place + given < width) from = l + given;
      if (mode == kBfly && (l ^ given) < section + width) from = l ^ given;
      if (mode == kIdx) from = section + given % width;
      out.p[at] = from >= 0;
      out.d[at] = in[static_cast<size_t>(from >= 0 ? from : l)][0];
    }
  };
  return form;
}

// Any clamp and segment mask, by the pseudocode of the ISA.
WarpForm shuffle_any(Mode mode) {
  WarpForm form;
  form.text = std::string("shfl.sync.") + kModeNames[mode] + ".b32 $0|$p, $1, $2, $3, 0xffffffff;";
  form.bits = 32;
  form.prepare = [](Random& random, WarpIn& in) {
    const u64 c = random.next();
    for (auto& lane : in) lane[2] = (random.next() & 1) != 0 ? c : random.next();
  };
  form.expected = [=](const WarpIn& in, WarpOut& out) {
    for (u32 lane = 0; lane < 32; ++lane) {
      const u32 bval = in[lane][1] & 0x1f, cval = in[lane][2] & 0x1f;
      const u32 mask = in[lane][2] >> 8 & 0x1f;
      const i32 max_lane = static_cast<i32>((lane & mask) | (cval & ~mask));
      const i32 min_lane = static_cast<i32>(lane & mask);
      i32 j = 0;
      bool pval = false;
      if (mode == kUp) j = static_cast<i32>(lane - bval), pval = j >= max_lane;
      if (mode == kDown) j = static_cast<i32>(lane + bval), pval = j <= max_lane;
      if (mode == kBfly) j = static_cast<i32>(lane ^ bval), pval = j <= max_lane;
      if (mode == kIdx) j = min_lane | static_cast<i32>(bval & ~mask), pval = j <= max_lane;
      if (!pval) j = static_cast<i32>(lane);
      out.d[lane] = in[static_cast<size_t>(j)][0];
      out.p[lane] = pval;
    }
  };
  return form;
}

std::vector<WarpForm> shuffles() {
  std::vector<WarpForm> rows;
  for (const Mode mode : {kUp, kDown, kBfly, kIdx}) {
    for (const int width : {32, 16, 8, 4, 2, 1}) rows.push_back(shuffle(mode, width, true, ""));
    rows.push_back(shuffle(mode, 32, false, ""));
    for (const char* distance : {"0", "1", "7", "16", "31"})
      rows.push_back(shuffle(mode, 32, distance[0] == '1', distance));
    rows.push_back(shuffle_any(mode));
    // Half a warp, whose lanes stay among themselves.
    WarpForm half = shuffle(mode, 16, true, "");
    half.text.replace(half.text.find("0xffffffff"), 10, "0xffff0000");
    half.lanes = 0xffff0000;
    half.prepare = [](Random&, WarpIn& in) {
      for (auto& lane : in) lane[1] %= 16;
    };
    rows.push_back(half);
  }
  return rows;
}
VGPU_WARP_FORMS(Shuffle, shuffles());

// --- votes

u32 ballot_of(const WarpIn& in, u32 lanes, bool negated) {
  u32 out = 0;
  for (u32 l = 0; l < 32; ++l)
    if ((lanes >> l & 1) != 0 && ((in[l][2] & 1) != 0) != negated) out |= 1u << l;
  return out;
}

// Half of the warps agree but for one lane or none.
void nearly_agree(Random& random, WarpIn& in) {
  const u64 how = random.next() % 8;
  if (how >= 6) return;
  for (auto& lane : in) lane[2] = how & 1;
  if (how >= 2) in[random.next() % 32][2] ^= 1;
}

std::vector<WarpForm> votes() {
  std::vector<WarpForm> rows;
  for (const u32 lanes : {kAll, 0x0000ffffu, 0x80000001u, 0x00f0f000u}) {
    for (const bool negated : {false, true}) {
      const std::string tail =
          std::string(negated ? "!" : "") + "$q, " + std::to_string(lanes) + ";";
      const auto add = [&](const char* op, auto&& decide) {
        WarpForm form;
        form.text = std::string("vote.sync.") + op + ", " + tail;
        form.bits = 32;
        form.lanes = lanes;
        form.prepare = nearly_agree;
        form.expected = [=](const WarpIn& in, WarpOut& out) {
          const u32 ballot = ballot_of(in, lanes, negated);
          out.d.fill(ballot);
          out.p.fill(decide(ballot));
        };
        rows.push_back(form);
      };
      add("all.pred $p", [=](u32 b) { return b == lanes; });
      add("any.pred $p", [](u32 b) { return b != 0; });
      add("uni.pred $p", [=](u32 b) { return b == 0 || b == lanes; });
      add("ballot.b32 $0", [](u32) { return false; });
    }
  }
  return rows;
}
VGPU_WARP_FORMS(Vote, votes());

// --- match, redux, activemask

std::vector<WarpForm> matches() {
  std::vector<WarpForm> rows;
  for (const int bits : {32, 64}) {
    for (const u32 lanes : {kAll, 0x0ff00000u}) {
      const auto add = [&](const std::string& op, bool all) {
        WarpForm form;
        form.text = "{ .reg .b32 m; mov.b32 m, 0; match." + op + std::to_string(bits) + " m, $1, " +
                    std::to_string(lanes) + "; " +
                    (bits == 64 ? "cvt.u64.u32 $0, m; }" : "mov.b32 $0, m; }");
        form.bits = bits;
        form.lanes = lanes;
        form.prepare = [](Random& random, WarpIn& in) {
          // Few values, which differ in one word only; sometimes a single one.
          const u64 kinds = 1 + random.next() % 4, word = random.next() % 2 * 32;
          for (auto& lane : in) lane[0] = u64{0x100000001} + ((random.next() % kinds) << word);
        };
        form.expected = [=](const WarpIn& in, WarpOut& out) {
          u32 everyone = 0;
          bool equal = true;
          u64 first = 0;
          for (size_t l = 32; l-- > 0;)
            if ((lanes >> l & 1) != 0) first = in[l][0];
          for (u32 l = 0; l < 32; ++l) {
            if ((lanes >> l & 1) == 0) continue;
            everyone |= 1u << l;
            equal = equal && in[l][0] == first;
          }
          for (u32 l = 0; l < 32; ++l) {
            u32 same = 0;
            for (u32 o = 0; o < 32; ++o)
              if ((lanes >> o & 1) != 0 && in[o][0] == in[l][0]) same |= 1u << o;
            out.d[l] = !all ? same : equal ? everyone : 0;
            out.p[l] = equal;
          }
        };
        rows.push_back(form);
      };
      add("any.sync.b", false);
      add("all.sync.b", true);
      // With the predicate: "m|p".
      WarpForm form = rows.back();
      form.text.replace(form.text.find(" m, $1"), 6, " m|$p, $1");
      rows.push_back(form);
    }
  }
  return rows;
}
VGPU_WARP_FORMS(Match, matches());

std::vector<WarpForm> reductions() {
  std::vector<WarpForm> rows;
  const auto add = [&](const std::string& op, u32 lanes, auto&& combine) {
    WarpForm form;
    form.text = "redux.sync." + op + " $0, $1, " + std::to_string(lanes) + ";";
    form.bits = 32;
    form.lanes = lanes;
    form.needs = 80;
    form.expected = [=](const WarpIn& in, WarpOut& out) {
      bool any = false;
      u32 sum = 0;
      for (size_t l = 0; l < 32; ++l) {
        if ((lanes >> l & 1) == 0) continue;
        const u32 v = static_cast<u32>(in[l][0]);
        sum = any ? combine(sum, v) : v;
        any = true;
      }
      out.d.fill(sum);
    };
    rows.push_back(form);
  };
  const auto as_signed = [](u32 v) { return static_cast<i32>(v); };
  for (const u32 lanes : {kAll, 0x00010000u, 0xf000000fu}) {
    add("add.u32", lanes, [](u32 a, u32 b) { return a + b; });
    add("add.s32", lanes, [](u32 a, u32 b) { return a + b; });
    add("min.u32", lanes, [](u32 a, u32 b) { return std::min(a, b); });
    add("min.s32", lanes, [=](u32 a, u32 b) { return as_signed(a) < as_signed(b) ? a : b; });
    add("max.u32", lanes, [](u32 a, u32 b) { return std::max(a, b); });
    add("max.s32", lanes, [=](u32 a, u32 b) { return as_signed(a) > as_signed(b) ? a : b; });
    add("and.b32", lanes, [](u32 a, u32 b) { return a & b; });
    add("or.b32", lanes, [](u32 a, u32 b) { return a | b; });
    add("xor.b32", lanes, [](u32 a, u32 b) { return a ^ b; });
  }
  return rows;
}
VGPU_WARP_FORMS(Redux, reductions());

std::vector<WarpForm> others() {
  const u32 some = 0x12345678;
  const auto mask = [](u32 lanes) {
    return [=](const WarpIn&, WarpOut& out) { out.d.fill(lanes); };
  };
  const auto lane_mask = [](auto&& of) {
    return [=](const WarpIn&, WarpOut& out) {
      for (u32 l = 0; l < 32; ++l) out.d[l] = of(u64{1} << l);
    };
  };
  return {
      {"activemask.b32 $0;", 32, mask(kAll)},
      // Lanes that branched away together may come back together: what is sure is this much.
      {"bar.warp.sync 305419896; activemask.b32 $0; and.b32 $0, $0, 305419896;",
       32,
       mask(some),
       {},
       some},
      {"mov.u32 $0, %lanemask_eq;", 32, lane_mask([](u64 bit) { return bit; })},
      {"mov.u32 $0, %lanemask_lt;", 32, lane_mask([](u64 bit) { return bit - 1; })},
      {"mov.u32 $0, %lanemask_le;", 32, lane_mask([](u64 bit) { return 2 * bit - 1; })},
      {"mov.u32 $0, %lanemask_gt;", 32, lane_mask([](u64 bit) { return ~(2 * bit - 1); })},
      {"mov.u32 $0, %lanemask_ge;", 32, lane_mask([](u64 bit) { return ~(bit - 1); })},
  };
}
VGPU_WARP_FORMS(Masks, others());

// --- barriers that reduce, over 96 threads

struct BarRow {
  std::string text;  // $0 b32 result, $p predicate result, $q input, $o the other input
  std::function<u64(const std::vector<bool>& q)> expected;
  bool predicate = false;
};

u64 count_of(const std::vector<bool>& q, size_t from, size_t to) {
  return static_cast<u64>(
      std::count(q.begin() + static_cast<long>(from), q.begin() + static_cast<long>(to), true));
}

std::vector<BarRow> bar_rows() {
  const auto popc = [](const std::vector<bool>& q) { return count_of(q, 0, q.size()); };
  const auto all = [](const std::vector<bool>& q) { return u64{count_of(q, 0, 96) == 96}; };
  const auto any = [](const std::vector<bool>& q) { return u64{count_of(q, 0, 96) != 0}; };
  return {
      {"bar.red.popc.u32 $0, 0, $q;", popc},
      {"bar.red.popc.u32 $0, 1, 96, $q;", popc},
      {"bar.red.popc.u32 $0, 0, !$q;",
       [](const std::vector<bool>& q) { return 96 - count_of(q, 0, 96); }},
      {"barrier.red.popc.u32 $0, 2, $q;", popc},
      {"barrier.cta.red.popc.aligned.u32 $0, 3, 96, $q;", popc},
      {"barrier.cta.red.popc.u32 $0, 15, 96, $q;", popc},
      {"bar.cta.red.popc.u32 $0, 0, $q;", popc},
      {"bar.red.and.pred $p, 0, $q;", all, true},
      {"bar.red.and.pred $p, 4, 96, $q;", all, true},
      {"barrier.cta.red.and.pred $p, 5, $q;", all, true},
      {"barrier.red.and.aligned.pred $p, 5, $q;", all, true},
      {"bar.red.or.pred $p, 0, $q;", any, true},
      {"bar.red.or.pred $p, 4, 96, $q;", any, true},
      {"barrier.cta.red.or.aligned.pred $p, 6, 96, $q;", any, true},
      {"barrier.red.or.pred $p, 6, !$q;",
       [](const std::vector<bool>& q) { return u64{count_of(q, 0, 96) != 96}; }, true},
  };
}

class BarRed : public testing::TestWithParam<BarRow> {};

TEST_P(BarRed, MatchesHostArithmetic) {
  const BarRow& row = GetParam();
  std::string body = row.text;
  for (const auto& [from, to] : {std::pair{"$0", "%r7"}, {"$p", "%p"}, {"$q", "%q"}})
    for (size_t at = body.find(from); at != std::string::npos; at = body.find(from))
      body.replace(at, 2, to);
  // Twice in a row: a barrier starts afresh. The second time with the opposite inputs.
  const std::string store = std::string(row.predicate ? "  selp.u32 %r7, 1, 0, %p;\n" : "");
  const std::string text =
      ".version 8.0\n.target sm_75\n.address_size 64\n"
      ".visible .entry form(.param .u64 in, .param .u64 out)\n{\n  .reg .b32 %r<8>;\n"
      "  .reg .b64 %rd<8>;\n  .reg .pred %p, %q;\n  ld.param.u64 %rd1, [in];\n"
      "  ld.param.u64 %rd2, [out];\n  mov.u32 %r1, %tid.x;\n  mov.u32 %r2, %ctaid.x;\n"
      "  mad.lo.u32 %r2, %r2, 96, %r1;\n  mul.wide.u32 %rd3, %r2, 4;\n"
      "  add.u64 %rd3, %rd3, %rd1;\n  mul.wide.u32 %rd4, %r2, 8;\n  add.u64 %rd4, %rd4, %rd2;\n"
      "  ld.global.u32 %r3, [%rd3];\n  setp.ne.u32 %q, %r3, 0;\n  " +
      body + "\n" + store + "  st.global.u32 [%rd4], %r7;\n  not.pred %q, %q;\n  " + body + "\n" +
      store + "  st.global.u32 [%rd4+4], %r7;\n  ret;\n}\n";
  constexpr size_t kCtas = 24;
  Random random(5);
  std::vector<std::vector<bool>> q(kCtas, std::vector<bool>(96));
  std::vector<u8> in(kCtas * 96 * 4), out(kCtas * 96 * 8);
  for (size_t c = 0; c < kCtas; ++c) {
    const u64 how = c % 5;  // none, all, one, all but one, random
    for (size_t t = 0; t < 96; ++t) q[c][t] = how == 4 ? (random.next() & 1) != 0 : how % 2 == 1;
    if (how == 2 || how == 3) {
      const size_t odd = random.next() % 96;
      q[c][odd] = !q[c][odd];
    }
    for (size_t t = 0; t < 96; ++t) {
      const u32 v = q[c][t] ? 1 : 0;
      std::memcpy(&in[(c * 96 + t) * 4], &v, 4);
    }
  }
  LaunchSpec spec;
  spec.grid = kCtas;
  spec.block = 96;
  ASSERT_EQ(device().run(text, "form", spec, {{&in}, {&out}}), "") << text;
  for (size_t c = 0; c < kCtas; ++c) {
    for (size_t t = 0; t < 96; ++t) {
      for (size_t again = 0; again < 2; ++again) {
        std::vector<bool> given = q[c];
        if (again == 1) given.flip();
        u32 got;
        std::memcpy(&got, &out[(c * 96 + t) * 8 + again * 4], 4);
        ASSERT_EQ(got, row.expected(given)) << "CTA " << c << " thread " << t;
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Ptx, BarRed, testing::ValuesIn(bar_rows()));

}  // namespace
}  // namespace vgpu::test
