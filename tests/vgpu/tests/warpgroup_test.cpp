// What is found about wgmma and setmaxnreg: broken kernels beside clean twins.
#include <gtest/gtest.h>

#include <cstring>

#include "machine/launch.h"
#include "tests/device.h"
#include "tests/mutants.h"

namespace vgpu::test {
namespace {

struct Pair {
  const char* name;
  FindingKind kind;
  std::string broken, clean;  // bodies
  std::string needle;         // part of the broken one's message
  u32 line = 0;               // of the .loc that the finding must name
  u32 block = 128;
  const char* directives = "";
};

// %da and %db describe a tile of 64 x 16 and one of 8 x 16 f16, not swizzled, in `s`, both zero;
// %f0 to %f7 are zero, as is A's fragment %r0 to %r3; %p0 is true in the first two warps.
std::string kernel(const Pair& p, const std::string& body) {
  std::string zero;
  for (u32 i = 0; i < 5; ++i)
    zero += " st.shared.u32 [%r30+" + std::to_string(4 * p.block * i) + "], 0;\n";
  for (int i = 0; i < 8; ++i) zero += " mov.f32 %f" + std::to_string(i) + ", 0f00000000;\n";
  for (int i = 0; i < 4; ++i) zero += " mov.b32 %r" + std::to_string(i) + ", 0;\n";
  return std::string(
             ".version 8.4\n.target sm_90a\n.address_size 64\n"
             ".visible .entry k(.param .u64 out, .param .u64 in)") +
         p.directives +
         "\n{\n  .shared .align 1024 .b8 s[8192];\n  .reg .pred %p<8>;\n  .reg .b32 %r<32>, %t;\n"
         "  .reg .b64 %rd<16>, %o, %da, %db;\n  .reg .f32 %f<16>;\n  .loc 1 1 0\n"
         "  mov.u32 %t, %tid.x;\n  ld.param.u64 %o, [out];\n  mul.wide.u32 %rd0, %t, 4;\n"
         "  add.u64 %o, %o, %rd0;\n  mov.u32 %r31, s;\n  mad.lo.u32 %r30, %t, 4, %r31;\n"
         "  shr.u32 %r29, %r31, 4;\n  cvt.u64.u32 %da, %r29;\n"
         "  or.b64 %da, %da, 0x1000080000;\n  add.u64 %db, %da, 128;\n"
         "  setp.lt.u32 %p0, %t, 64;\n  setp.eq.u32 %p7, 0, 0;\n" +
         zero + " fence.proxy.async;\n bar.sync 0;\n" + body +
         "\n  ret;\n}\n.file 1 \"broken.cu\"\n";
}

const std::string kFence = " wgmma.fence.sync.aligned;\n",
                  kCommit = " wgmma.commit_group.sync.aligned;\n",
                  kWait = " wgmma.wait_group.sync.aligned 0;\n",
                  kWaitOne = " wgmma.wait_group.sync.aligned 1;\n", kShow = " fence.proxy.async;\n",
                  kSync = " bar.sync 0;\n", kStore = " st.global.f32 [%o], %f0;\n";
std::string mma(const std::string& a) {
  return " wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f0, %f1, %f2, %f3}, " + a +
         ", %db, %p7, 1, 1, 0" + (a[0] == '{' ? "" : ", 0") + ";\n";
}
const std::string kMma = mma("%da"), kMmaRegisters = mma("{%r0, %r1, %r2, %r3}");
const std::string kGroup = kFence + kMma + kCommit + kWait;

std::string at(int line, const std::string& text) {
  return " .loc 1 " + std::to_string(line) + " 0\n" + text + " .loc 1 1 0\n";
}
std::string set_registers(const char* action, int count) {
  return std::string(" setmaxnreg.") + action + ".sync.aligned.u32 " + std::to_string(count) +
         ";\n";
}
// The first two warps of four, or the first of two warpgroups, do one thing, the others another.
std::string either(const std::string& first, const std::string& second) {
  return " @!%p0 bra.uni ELSE;\n" + first + " bra.uni DONE;\nELSE:\n" + second + "DONE:\n";
}

std::vector<Pair> pairs() {
  const std::string read = " add.f32 %f8, %f0, %f0;\n", write = " add.f32 %f1, %f7, %f7;\n",
                    scale = " mul.f32 %f0, %f0, %f1;\n", change = " add.u32 %r0, %r0, %t;\n",
                    wide =
                        " wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%f0, %f1, %f2, %f3, "
                        "%f4, %f5, %f6, %f7}, %da, %db, %p7, 1, 1, 0, 0;\n",
                    poke = " st.shared.u32 [%r30], 0;\n";
  // Thread 0 copies over A, all wait for it.
  const std::string
      barrier =
          " setp.eq.u32 %p6, %t, 0;\n @%p6 mbarrier.init.shared.b64 [%r31+4096], 1;\n"
          " fence.mbarrier_init.release.cluster;\n bar.sync 0;\n",
      refill =
          " @%p6 mbarrier.arrive.expect_tx.shared.b64 _, [%r31+4096], 128;\n"
          " @%p6 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes"
          " [%r31], [%r31+2304], 128, [%r31+4096];\n"
          "V: mbarrier.try_wait.parity.shared.b64 %p5, [%r31+4096], 0;\n"
          " @!%p5 bra V;\n";
  const char *bounds = " .maxnreg 64", *thirds = " .maxntid 384 .minnctapersm 1";
  const std::string second = " setp.lt.u32 %p0, %t, 128;\n";
  std::vector<Pair> out = {
      {"accumulator_read_in_flight", FindingKind::kWgmmaRegister,
       kFence + kMma + kCommit + at(7, read) + kWait + kStore, kGroup + read + kStore,
       "accumulator", 7},
      {"accumulator_written_in_flight", FindingKind::kWgmmaRegister,
       kFence + kMma + kCommit + at(8, write) + kWait + kStore, kGroup + write + kStore,
       "accumulator", 8},
      {"fragment_written_in_flight", FindingKind::kWgmmaRegister,
       kFence + kMmaRegisters + kCommit + at(9, change) + kWait + kStore,
       kFence + kMmaRegisters + kCommit + kWait + change + kStore, "fragment of A", 9},
      {"wait_for_too_few_groups", FindingKind::kWgmmaRegister,
       kFence + kMma + kCommit + kWaitOne + at(10, read) + kWait + kStore,
       kFence + kMma + kCommit + kCommit + kWaitOne + read + kWait + kStore, "in flight", 10},
      {"uncommitted", FindingKind::kWgmmaRegister,
       kFence + kMma + kWait + at(11, read) + kCommit + kWait + kStore,
       kFence + kMma + kCommit + kWait + read + kStore, "in flight", 11},
      {"accumulator_as_fragment_in_flight", FindingKind::kWgmmaRegister,
       kFence + kMma + at(12, mma("{%f0, %f1, %f2, %f3}")) + kCommit + kWait,
       kFence + kMma + kMma + kCommit + kWait, "in flight", 12},
      {"no_fence", FindingKind::kWgmmaFence, at(13, kMma) + kCommit + kWait + kStore,
       kGroup + kStore, "no wgmma.fence", 13},
      {"no_fence_after_scaling", FindingKind::kWgmmaFence,
       kGroup + scale + at(14, kMma) + kCommit + kWait + kStore, kGroup + scale + kGroup + kStore,
       "accumulator register 0", 14},
      {"no_fence_after_fragment", FindingKind::kWgmmaFence,
       kFence + change + at(15, kMmaRegisters) + kCommit + kWait,
       change + kFence + kMmaRegisters + kCommit + kWait, "register 0 of A", 15},
      {"move_after_use", FindingKind::kWgmmaFence,
       kGroup + " mov.f32 %f2, 0f00000000;\n" + at(16, kMma) + kCommit + kWait,
       kFence + " mov.f32 %f2, 0f00000000;\n" + kMma + kCommit + kWait, "accumulator register 2",
       16},
      {"another_shape", FindingKind::kWgmmaFence, kFence + kMma + at(17, wide) + kCommit + kWait,
       kFence + wide + wide + kCommit + kWait, "another shape", 17},
      {"operand_overwritten_in_flight", FindingKind::kSharedRace,
       kFence + kMma + kCommit + poke + kWait, kGroup + poke, "not ordered"},
      {"operand_overwritten_by_another_warpgroup", FindingKind::kSharedRace,
       second + either(kGroup, poke), second + either(kGroup, "") + " bar.sync 0;\n" + poke,
       "not ordered", 0, 256},
      {"operand_refilled_in_flight", FindingKind::kSharedRace,
       barrier + kFence + kMma + kCommit + refill + kWait,
       barrier + kGroup + " bar.sync 0;\n" + refill, "not ordered"},
      {"no_proxy_fence", FindingKind::kProxy,
       poke + " bar.sync 0;\n" + kFence + at(19, kMma) + kCommit + kWait,
       poke + " fence.proxy.async;\n bar.sync 0;\n" + kGroup, "fence.proxy.async", 19},
      // Warp 0's rows of A, written by all four warps, without a barrier.
      {"stores_of_all_warps_without_a_proxy_fence", FindingKind::kProxy,
       poke + kFence + at(26, kMma) + kCommit + kWait, poke + kShow + kGroup, "fence.proxy.async",
       26},
      {"stores_behind_the_wgmma_fence", FindingKind::kSharedRace,
       kFence + poke + kShow + at(27, kMma) + kCommit + kWait,
       poke + kFence + kShow + kMma + kCommit + kWait, "not ordered", 27},
      {"stores_shown_by_one_thread", FindingKind::kSharedRace,
       poke + " setp.eq.u32 %p6, %t, 0;\n @%p6 fence.proxy.async;\n" + kFence + at(28, kMma) +
           kCommit + kWait,
       poke + kShow + kGroup, "not ordered", 28},
      {"stores_behind_the_wgmma", FindingKind::kSharedRace,
       kFence + kMma + kCommit + poke + kShow + kFence + kMma + kCommit + kWait,
       kGroup + poke + kShow + kGroup, "not ordered"},
      {"half_a_warpgroup", FindingKind::kWarpgroup, either(kGroup, ""), kGroup, "warp"},
      {"three_warps", FindingKind::kWarpgroup, kGroup, kGroup, "no complete warpgroup", 0, 96},
      {"other_instruction", FindingKind::kWarpgroup, kFence + either(kMma, kMma) + kCommit + kWait,
       kGroup, "another warp"},
      {"other_descriptor", FindingKind::kWarpgroup, " @%p0 add.u64 %db, %db, 1;\n" + kGroup,
       " add.u64 %db, %db, 1;\n" + kGroup, "differ"},
      {"exited_lanes", FindingKind::kWarpgroup, " setp.eq.u32 %p1, %t, 5;\n @%p1 exit;\n" + kGroup,
       kGroup, "exited"},
      {"divergent", FindingKind::kDivergence,
       " and.b32 %r9, %t, 16;\n setp.eq.u32 %p0, %r9, 0;\n" + either(kFence, kFence), kGroup,
       "divergent"},
      {"exit_in_flight", FindingKind::kPendingAtExit, kFence + kMma + kCommit, kGroup,
       "in flight when the warp exits"},
      {"descriptor_past_the_end", FindingKind::kOutOfBounds,
       " add.u64 %db, %db, 0x200;\n" + kFence + at(20, kMma) + kCommit + kWait, kGroup, "end at",
       20},
      {"registers_unknown", FindingKind::kRegisterPool, at(21, set_registers("dec", 32)), kGroup,
       "no effect", 21},
      {"decrease_upwards", FindingKind::kRegisterPool, at(22, set_registers("dec", 72)),
       set_registers("dec", 56), "decrease to 72", 22, 128, bounds},
      {"increase_downwards", FindingKind::kRegisterPool, at(23, set_registers("inc", 56)),
       set_registers("dec", 24) + set_registers("inc", 64), "increase to 56", 23, 128, bounds},
      {"odd_count", FindingKind::kRegisterPool, at(24, set_registers("dec", 42)),
       set_registers("dec", 40), "multiples of 8", 24, 128, bounds},
      {"too_few", FindingKind::kRegisterPool, at(25, set_registers("dec", 16)),
       set_registers("dec", 24), "multiples of 8", 25, 128, bounds},
      {"half_a_warpgroup_sets_registers", FindingKind::kWarpgroup,
       either(set_registers("dec", 32), ""), set_registers("dec", 32), "setmaxnreg", 0, 128,
       bounds},
      {"pool_too_small", FindingKind::kDeadlock,
       second + either(set_registers("dec", 40), set_registers("inc", 104)),
       second + either(set_registers("dec", 24), set_registers("inc", 104)), "from 64 to 104", 0,
       256, bounds},
      {"pool_by_launch_bounds", FindingKind::kDeadlock,
       second + either(set_registers("dec", 24), set_registers("inc", 248)),
       second + either(set_registers("dec", 24), set_registers("inc", 240)), "from 168 to 248", 0,
       384, thirds},
  };
  for (Pair& p : out)
    if (p.block == 96) p.clean = "";
  return out;
}

Observed run(const Pair& p, const std::string& body, u64 seed) {
  std::vector<u8> out(static_cast<size_t>(p.block) * 4), in(16);
  LaunchSpec spec;
  spec.block = p.block;
  spec.seed = seed;
  return observe(kernel(p, body), "k", spec, {{&out}, {&in}}, "h100");
}

class Warpgroup : public testing::TestWithParam<Pair> {};

TEST_P(Warpgroup, BrokenKernelIsFoundExactly) {
  const Pair& p = GetParam();
  for (u64 seed = 1; seed <= 6; ++seed) {
    const Observed o = run(p, p.broken, seed);
    ASSERT_FALSE(o.findings.empty()) << p.name << ": nothing found; " << o.error;
    for (const Finding& f : o.findings) EXPECT_EQ(f.kind, p.kind) << f.str();
    const Finding& f = o.findings.front();
    EXPECT_NE(f.message.find(p.needle), std::string::npos) << f.str();
    if (p.line != 0) {
      EXPECT_EQ(f.source, "broken.cu:" + std::to_string(p.line)) << f.str();
    }
  }
}
TEST_P(Warpgroup, CleanTwinIsClean) {
  const Pair& p = GetParam();
  for (u64 seed = 1; seed <= 6; ++seed) {
    const Observed o = run(p, p.clean, seed);
    EXPECT_EQ(o.error, "");
    for (const Finding& f : o.findings) ADD_FAILURE() << f.str();
  }
}
// One missing fence, or wait, is one finding, however many instructions it spoils.
TEST(Warpgroup, OneFaultIsOneFinding) {
  const Pair none{};
  const std::string poke = " st.shared.u32 [%r30], 0;\n";
  std::string many, reads;
  for (int i = 0; i < 31; ++i) many += kMma;
  for (int i = 0; i < 4; ++i) reads += " add.f32 %f8, %f" + std::to_string(i) + ", %f8;\n";
  const std::string scale = " mul.f32 %f0, %f0, %f1;\n";
  const std::pair<FindingKind, std::string> faults[] = {
      {FindingKind::kProxy, poke + kFence + many + kCommit + kWait},
      {FindingKind::kProxy, poke + kSync + kFence + many + kCommit + kWait},
      {FindingKind::kWgmmaFence, kGroup + scale + many + kCommit + kWait},
      {FindingKind::kWgmmaRegister, kFence + many + kCommit + reads + kWait},
  };
  for (const auto& [kind, body] : faults) {
    Pair p = none;
    p.block = 128;
    p.directives = "";
    for (u64 seed = 1; seed <= 3; ++seed) {
      const Observed o = run(p, body, seed);
      ASSERT_EQ(o.findings.size(), 1u) << body;
      EXPECT_EQ(o.findings[0].kind, kind) << o.findings[0].str();
    }
  }
}

// Each warp writes the rows of A that the next one multiplies, the last warp long after the others:
// a share waits until all four warps have issued.
TEST(Warpgroup, SharesWaitForTheLastWarp) {
  const std::string ones =
      " @%p0 st.shared.u32 [%r30+2048], 0x3c003c00;\n" + kShow + kSync +
      " setp.lt.u32 %p1, %t, 96;\n @%p1 bra WRITE;\n mov.u32 %r9, 0;\n"
      "DELAY: add.u32 %r9, %r9, 1;\n setp.lt.u32 %p1, %r9, 3000;\n @%p1 bra DELAY;\n"
      "WRITE: add.u32 %r9, %t, 32;\n and.b32 %r9, %r9, 127;\n mad.lo.u32 %r9, %r9, 16, %r31;\n"
      " mov.u32 %r10, 0x3c003c00;\n st.shared.v4.u32 [%r9], {%r10, %r10, %r10, %r10};\n";
  Pair p{};
  p.block = 128;
  p.directives = "";
  for (const Asynchrony a : {Asynchrony::kEarly, Asynchrony::kLate, Asynchrony::kAny}) {
    for (u64 seed = 1; seed <= 4; ++seed) {
      std::vector<u8> out(512), in(16);
      LaunchSpec spec;
      spec.block = 128;
      spec.seed = seed;
      spec.asynchrony = a;
      const std::string error =
          device().run(kernel(p, ones + kShow + kGroup + kStore), "k", spec, {{&out}, {&in}});
      EXPECT_EQ(error, "");
      for (size_t i = 0; i < out.size(); i += 4) {
        float sum;
        std::memcpy(&sum, &out[i], 4);
        ASSERT_EQ(sum, 16.0f) << "thread " << i / 4 << ", seed " << seed;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Machine, Warpgroup, testing::ValuesIn(pairs()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(WarpgroupCounters, CountWhatTensorCoresDo) {
  const Pair p{"", FindingKind::kTrap, "", "", ""};
  for (u64 seed : {1, 2, 3}) {
    const Observed o =
        run(p, kFence + kMma + kMma + kMmaRegisters + kCommit + kWait + kStore, seed);
    ASSERT_TRUE(o.findings.empty()) << o.findings.front().str();
    EXPECT_EQ(o.counts.wgmma, (std::map<std::string, u64>{{"m64n8k16.f32.f16.f16", 3}}));
    EXPECT_EQ(o.counts.flops.at("mma.f16"), 3u * 2 * 64 * 8 * 16);
    EXPECT_EQ(o.counts.tensor_read_bytes, 2u * 64 * 16 * 2 + 3u * 8 * 16 * 2);
    EXPECT_EQ(o.counts.by_class[static_cast<size_t>(InstrClass::kMatrix)], 3u * 4);
  }
}

// B is written over between products: the same place, another content.
TEST(WarpgroupTiles, AreReadAnew) {
  const Pair p{"", FindingKind::kTrap, "", "", ""};
  std::string body;
  for (int i = 0; i < 4; ++i)
    body += " st.shared.u32 [%r30+" + std::to_string(512 * i) + "], 0x3c003c00;\n";
  for (const char* b : {"0x3c003c00", "0x40004000", "0x3c003c00"})
    body += std::string(" @%p0 st.shared.u32 [%r30+2048], ") + b +
            ";\n fence.proxy.async;\n bar.sync 0;\n" + kGroup;
  for (const Asynchrony a : {Asynchrony::kEarly, Asynchrony::kLate, Asynchrony::kAny}) {
    std::vector<u8> out(512), in(4);
    LaunchSpec spec;
    spec.block = 128;
    spec.asynchrony = a;
    const Observed o = observe(kernel(p, body + kStore), "k", spec, {{&out}, {&in}}, "h100");
    EXPECT_EQ(o.error, "");
    EXPECT_TRUE(o.findings.empty());
    for (size_t t = 0; t < 128; ++t) {
      float sum = 0;
      std::memcpy(&sum, &out[4 * t], 4);
      ASSERT_EQ(sum, 16 * (1 + 2 + 1)) << "thread " << t;
    }
  }
}

// No mutant of a kernel with wgmma and setmaxnreg goes unnoticed.
TEST(WarpgroupMutation, EveryMutantIsFound) {
  const Pair p{"", FindingKind::kTrap, "", "", "", 0, 256, " .maxnreg 64"};
  const std::string text =
      kernel(p, " setp.lt.u32 %p0, %t, 128;\n" +
                    either(set_registers("dec", 24), set_registers("inc", 104)) + kGroup +
                    " mul.f32 %f0, %f0, %f1;\n" + kGroup + " add.f32 %f8, %f0, %f0;\n");
  std::map<Mutant::Kind, int> kinds;
  for (u64 seed : {1, 2, 3}) EXPECT_FALSE(found(text, nullptr, p.block, seed));
  for (const Mutant& m : mutants_of(text)) {
    if (m.text.find("wgmma") == std::string::npos && m.text.find("setmaxnreg") == std::string::npos)
      continue;
    ++kinds[m.kind];
    if (m.text.find("setmaxnreg.inc") != std::string::npos) continue;  // nothing needs them
    for (u64 seed : {1, 2, 3}) EXPECT_TRUE(found(text, &m, p.block, seed)) << m.str();
  }
  using Kind = Mutant::Kind;
  const std::map<Kind, int> want = {{Kind::kDropBarrier, 2}, {Kind::kDropWait, 2},
                                    {Kind::kDelayWait, 2},   {Kind::kRaiseWait, 2},
                                    {Kind::kDropCommit, 2},  {Kind::kAdvanceCommit, 2},
                                    {Kind::kDropFence, 2},   {Kind::kDelayFence, 2}};
  EXPECT_EQ(kinds, want);
}

// A tensor copy puts 64 rows of A and 8 of B, 64 columns each, into shared memory; wgmma multiplies
// the first 16 columns.
Observed multiply_copied(u32 map_swizzle, u64 descriptor, std::vector<u8>& out) {
  std::vector<u8> in(72 * 128);
  for (size_t i = 0; i < 72 * 64; ++i) {
    constexpr u16 kHalves[4] = {0x3c00, 0xc000, 0x4200, 0xbc00};  // 1, -2, 3, -1
    std::memcpy(&in[2 * i], &kHalves[(i * 7 + i / 64 * 3) % 11 % 4], 2);
  }
  Tensor tensor;
  tensor.argument = 1;
  tensor.type = 6;  // f16
  tensor.swizzle = map_swizzle;
  tensor.dims = {64, 72};
  tensor.strides = {128};
  tensor.box = {64, 72};
  tensor.steps = {1, 1};
  const std::string ptx =
      ".version 8.6\n.target sm_90a\n.address_size 64\n"
      ".visible .entry k(.param .u64 out, .param .u64 in, .param .align 64 .b8 map[128],\n"
      "  .param .u64 layout)\n{\n"
      " .shared .align 1024 .b8 s[9216];\n .shared .align 8 .b64 bar;\n .reg .pred %p<8>;\n"
      " .reg .b32 %r<8>;\n .reg .b64 %rd<8>;\n .reg .f32 %f<4>;\n"
      " mov.u32 %r0, %tid.x;\n ld.param.u64 %rd0, [out];\n mul.wide.u32 %rd1, %r0, 16;\n"
      " add.u64 %rd0, %rd0, %rd1;\n mov.b64 %rd2, map;\n cvta.param.u64 %rd2, %rd2;\n"
      " mov.u32 %r1, s;\n mov.u32 %r2, bar;\n shr.u32 %r3, %r1, 4;\n cvt.u64.u32 %rd3, %r3;\n"
      " ld.param.u64 %rd4, [layout];\n or.b64 %rd3, %rd3, %rd4;\n add.u64 %rd4, %rd3, 512;\n"
      " setp.eq.u32 %p7, 0, 1;\n setp.ne.u32 %p0, %r0, 0;\n @%p0 bra I;\n"
      " mbarrier.init.shared.b64 [%r2], 1;\n fence.mbarrier_init.release.cluster;\n"
      " mbarrier.arrive.expect_tx.shared.b64 _, [%r2], 9216;\n"
      " cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1],"
      " [%rd2, {0, 0}], [%r2];\nI: bar.sync 0;\n"
      "W: mbarrier.try_wait.parity.shared.b64 %p1, [%r2], 0;\n @!%p1 bra W;\n"
      " wgmma.fence.sync.aligned;\n wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16"
      " {%f0, %f1, %f2, %f3}, %rd3, %rd4, %p7, 1, 1, 0, 0;\n" +
      kCommit + kWait + " st.global.v4.f32 [%rd0], {%f0, %f1, %f2, %f3};\n ret;\n}\n";
  LaunchSpec spec;
  spec.block = 128;
  out.assign(128 * 16, 0);
  const Observed o = observe(
      ptx, "k", spec, {{&out}, {&in}, {nullptr, 0, false, &tensor}, {nullptr, descriptor}}, "h100");
  const auto number = [&](int row, int column) {
    static const std::map<u16, int> kValues = {
        {0x3c00, 1}, {0xc000, -2}, {0x4200, 3}, {0xbc00, -1}};
    u16 half;
    std::memcpy(&half, &in[static_cast<size_t>(row * 128 + column * 2)], 2);
    return kValues.at(half);
  };
  std::vector<u8> want(out.size());
  for (int t = 0; t < 128; ++t)
    for (int i = 0; i < 4; ++i) {
      const int row = t / 32 * 16 + t % 32 / 4 + (i & 2) * 4, column = t % 4 * 2 + (i & 1);
      int sum = 0;
      for (int k = 0; k < 16; ++k) sum += number(row, k) * number(64 + column, k);
      const float f = static_cast<float>(sum);
      std::memcpy(&want[static_cast<size_t>(t * 16 + i * 4)], &f, 4);
    }
  out = out == want ? std::vector<u8>{1} : std::vector<u8>{0};
  return o;
}

TEST(WarpgroupHints, DescriptorAgainstTensorMap) {
  constexpr u64 kRows = u64{64} << 32, k128 = u64{1} << 62, k64 = u64{2} << 62;
  std::vector<u8> right;
  const Observed same = multiply_copied(3, kRows | k128, right);
  EXPECT_EQ(same.error, "");
  EXPECT_TRUE(same.findings.empty() && same.hints.empty());
  EXPECT_EQ(right, std::vector<u8>{1});
  const Observed other = multiply_copied(3, kRows | k64, right);
  EXPECT_TRUE(other.findings.empty());
  ASSERT_EQ(other.hints.size(), 1u);
  EXPECT_NE(other.hints[0].message.find("swizzle is 64 bytes"), std::string::npos);
  EXPECT_EQ(right, std::vector<u8>{0});
  const Observed shifted = multiply_copied(3, kRows | k128 | u64{1} << 49, right);
  ASSERT_EQ(shifted.hints.size(), 1u);
  EXPECT_NE(shifted.hints[0].message.find("base offset is 1"), std::string::npos);
  EXPECT_EQ(right, std::vector<u8>{0});
}

}  // namespace
}  // namespace vgpu::test
