// stmatrix: where its rows go, what they cost, and which forms there are.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "tests/device.h"

namespace vgpu::test {
namespace {

struct Store {
  int count;
  bool transposed;
};
class Stmatrix : public testing::TestWithParam<Store> {};

// Row i of matrix x goes to the address that lane 8 * x + i gives: here rows of 16 bytes in an
// order of their own.
TEST_P(Stmatrix, FollowsTheLayout) {
  if (device().capability() < 90) GTEST_SKIP() << "needs sm_90; runs on the virtual GPU";
  const auto [count, transposed] = GetParam();
  std::string registers, loads;
  for (int i = 0; i < count; ++i) {
    registers += (i == 0 ? "{%v" : ", %v") + std::to_string(i);
    loads += " ld.global.b32 %v" + std::to_string(i) + ", [%rd1+" + std::to_string(4 * i) + "];\n";
  }
  const std::string ptx =
      ".version 8.0\n.target sm_90\n.address_size 64\n"
      ".visible .entry form(.param .u64 in, .param .u64 out)\n{\n .shared .align 16 .b8 s[512];\n"
      " .reg .b32 %r<8>, %v<4>;\n .reg .b64 %rd<8>;\n"
      " ld.param.u64 %rd1, [in];\n ld.param.u64 %rd2, [out];\n mov.u32 %r0, %tid.x;\n"
      " mul.wide.u32 %rd3, %r0, 16;\n add.u64 %rd1, %rd1, %rd3;\n add.u64 %rd2, %rd2, %rd3;\n" +
      loads +
      // Lane l's row is at place (5 * l + 3) % 32.
      " mov.u32 %r1, s;\n mad.lo.u32 %r2, %r0, 5, 3;\n and.b32 %r2, %r2, 31;\n"
      " mad.lo.u32 %r3, %r0, 16, %r1;\n st.shared.v4.b32 [%r3], {0, 0, 0, 0};\n bar.sync 0;\n"
      " mad.lo.u32 %r2, %r2, 16, %r1;\n stmatrix.sync.aligned.m8n8.x" +
      std::to_string(count) + (transposed ? ".trans" : "") + ".shared.b16 [%r2], " + registers +
      "};\n bar.sync 0;\n ld.shared.v4.b32 {%v0, %v1, %v2, %v3}, [%r3];\n"
      " st.global.v4.b32 [%rd2], {%v0, %v1, %v2, %v3};\n ret;\n}\n";
  Random random(static_cast<u64>(count));
  std::vector<u8> in(512), out(512);
  for (u8& b : in) b = static_cast<u8>(random.next());
  ASSERT_EQ(device().run(ptx, "form", {}, {{&in}, {&out}}), "") << ptx;
  std::vector<u8> want(512, 0);
  for (int x = 0; x < count; ++x)
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 2; ++i) {
        int row = lane >> 2, column = (lane & 3) * 2 + i;
        if (transposed) std::swap(row, column);
        const auto place = static_cast<size_t>(((x * 8 + row) * 5 + 3) % 32);
        const size_t from = static_cast<size_t>(lane);
        const size_t half = static_cast<size_t>(x) * 2 + static_cast<size_t>(i);
        std::memcpy(&want[place * 16 + static_cast<size_t>(column) * 2], &in[from * 16 + half * 2],
                    2);
      }
  EXPECT_EQ(out, want);
}
INSTANTIATE_TEST_SUITE_P(Ptx, Stmatrix,
                         testing::Values(Store{1, false}, Store{1, true}, Store{2, false},
                                         Store{2, true}, Store{4, false}, Store{4, true}));

// How the rows of the matrices lie in shared memory, `pitch` bytes apart.
struct Rows {
  const char* name;
  u32 pitch;
  bool swizzled;  // bits 4 to 6 of the address mixed with the row
  u32 address(u32 row) const { return row * pitch + (swizzled ? row % 8 * 16 : 0); }
};
class StmatrixCounts : public testing::TestWithParam<std::tuple<int, Rows>> {};

// Eight rows of 16 bytes go in as many passes as rows share their four of the 32 banks.
TEST_P(StmatrixCounts, BanksOfEachMatrix) {
  const auto& [count, rows] = GetParam();
  std::string registers;
  for (int i = 0; i < count; ++i) registers += i == 0 ? "{%r0" : ", %r0";
  const std::string ptx =
      ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k()\n{\n"
      " .shared .align 128 .b8 s[8192];\n .reg .b32 %r<8>;\n mov.u32 %r0, %tid.x;\n"
      " mov.u32 %r1, s;\n mad.lo.u32 %r1, %r0, " +
      std::to_string(rows.pitch) + ", %r1;\n and.b32 %r2, %r0, 7;\n mad.lo.u32 %r1, %r2, " +
      (rows.swizzled ? "16" : "0") + ", %r1;\n stmatrix.sync.aligned.m8n8.x" +
      std::to_string(count) + ".shared.b16 [%r1], " + registers + "};\n ret;\n}\n";
  u64 passes = 0;
  for (u32 x = 0; x < static_cast<u32>(count); ++x) {
    u64 at[8] = {};
    for (u32 i = 0; i < 8; ++i) ++at[rows.address(8 * x + i) / 16 % 8];
    passes += *std::max_element(at, at + 8);
  }
  const Observed o = observe(ptx, "k", {}, {}, "h100");
  ASSERT_EQ(o.error, "");
  EXPECT_TRUE(o.findings.empty());
  EXPECT_EQ(o.counts.shared_wavefronts, passes);
  EXPECT_EQ(o.counts.shared_excess, passes - static_cast<u64>(count));
}
INSTANTIATE_TEST_SUITE_P(
    Ptx, StmatrixCounts,
    testing::Combine(testing::Values(1, 2, 4),
                     testing::Values(Rows{"packed", 16, false}, Rows{"two_apart", 32, false},
                                     Rows{"lines", 128, false}, Rows{"swizzled", 128, true},
                                     Rows{"padded", 144, false})),
    [](const auto& info) {
      return "x" + std::to_string(std::get<0>(info.param)) + "_" + std::get<1>(info.param).name;
    });

TEST(StmatrixForms, EightBitElementsAreRefused) {
  for (const char* form :
       {"m16n8.x1.trans.shared.b8", "m8n8.x1.shared.b8", "m16n8.x1.shared.b16"}) {
    const Observed o = observe(
        std::string(".version 8.6\n.target sm_90a\n.address_size 64\n.visible .entry k()\n{\n"
                    " .shared .align 128 .b8 s[512];\n .reg .b32 %r<4>;\n mov.u32 %r0, s;\n"
                    " stmatrix.sync.aligned.") +
            form + " [%r0], {%r0};\n ret;\n}\n",
        "k", {}, {}, "h100");
    EXPECT_NE(o.error.find("8-bit elements needs sm_100a"), std::string::npos) << o.error;
  }
}

}  // namespace
}  // namespace vgpu::test
