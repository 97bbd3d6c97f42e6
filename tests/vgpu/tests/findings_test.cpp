// Every finding by a small broken kernel that triggers exactly it, beside a clean twin.
#include <gtest/gtest.h>

#include "tests/device.h"

namespace vgpu::test {
namespace {

struct Pair {
  const char* name;
  FindingKind kind;
  std::string broken, clean;  // bodies; %t is tid.x, %o the output's address plus 4 * tid
  std::string needle;         // part of the broken one's message
  u32 line = 0;               // of the .loc that the finding must name
  u32 block = 32;
  u32 dynamic_shared = 0;
};

std::string kernel(const std::string& body) {
  return ".version 8.0\n.target sm_80\n.address_size 64\n"
         ".extern .shared .align 16 .b8 dynamic[];\n"
         ".visible .entry k(.param .u64 out, .param .u64 in)\n{\n"
         "  .shared .align 16 .b8 s[1024];\n  .local .align 8 .b8 l[64];\n"
         "  .reg .pred %p<8>;\n  .reg .b32 %r<32>;\n  .reg .b64 %rd<16>;\n  .reg .f32 %f<8>;\n"
         "  .reg .b32 %t;\n  .reg .b64 %o, %i;\n  .loc 1 1 0\n"
         "  mov.u32 %t, %tid.x;\n  ld.param.u64 %o, [out];\n  ld.param.u64 %i, [in];\n"
         "  mul.wide.u32 %rd0, %t, 4;\n  add.u64 %o, %o, %rd0;\n  mov.u32 %r31, s;\n"
         "  shl.b32 %r30, %t, 2;\n  add.u32 %r30, %r30, %r31;\n" +
         body + "\n  ret;\n}\n.file 1 \"broken.cu\"\n";
}

// Warp 0 writes a value and raises a flag; warp 1 waits for the flag and reads.
std::string flag(const std::string& before, const std::string& after) {
  return "setp.ne.u32 %p2, %t, 0;\n @%p2 bra I;\n st.shared.u32 [%r31+512], 0;\n"
         "I: bar.sync 0;\n setp.lt.u32 %p1, %t, 32;\n @!%p1 bra W;\n"
         " st.shared.u32 [%r30], %t;\n " +
         before + "\n bar.warp.sync 0xffffffff;\n @%p2 bra E;\n " + before +
         "\n st.volatile.shared.u32 [%r31+512], 1;\n bra E;\n"
         "W: ld.volatile.shared.u32 %r1, [%r31+512];\n setp.eq.u32 %p3, %r1, 0;\n @%p3 bra W;\n " +
         after +
         "\n sub.u32 %r2, %r30, 128;\n .loc 1 25 0\n ld.shared.u32 %r3, [%r2];\n"
         " st.global.u32 [%o], %r3;\nE:";
}
// Every thread of warp 0 writes and counts; warp 1 waits for the count of 32.
std::string counter(const std::string& add, const std::string& load) {
  return "setp.ne.u32 %p2, %t, 0;\n @%p2 bra I;\n st.shared.u32 [%r31+512], 0;\n"
         "I: bar.sync 0;\n setp.lt.u32 %p1, %t, 32;\n @!%p1 bra W;\n"
         " st.shared.u32 [%r30], %t;\n atom.shared." +
         add + ".cta.add.u32 %r1, [%r31+512], 1;\n bra E;\nW: ld.shared." + load +
         ".cta.u32 %r1, [%r31+512];\n setp.ne.u32 %p3, %r1, 32;\n @%p3 bra W;\n"
         " sub.u32 %r2, %r30, 128;\n .loc 1 26 0\n ld.shared.u32 %r3, [%r2];\n"
         " st.global.u32 [%o], %r3;\nE:";
}
// All 64 threads write, arrive at an mbarrier, wait, and read what the other warp wrote.
std::string mbarrier(int count, const std::string& extra, bool waits) {
  return "setp.ne.u32 %p2, %t, 0;\n @%p2 bra I;\n mbarrier.init.shared.b64 [%r31], " +
         std::to_string(count) + ";\n " + extra +
         "\nI: st.shared.u32 [%r30+64], 0;\n bar.sync 0;\n st.shared.u32 [%r30+64], %t;\n"
         " mbarrier.arrive.shared.b64 %rd3, [%r31];\n" +
         (waits ? "W: mbarrier.test_wait.shared.b64 %p3, [%r31], %rd3;\n @!%p3 bra W;\n" : "") +
         " xor.b32 %r2, %t, 32;\n shl.b32 %r2, %r2, 2;\n add.u32 %r2, %r2, %r31;\n .loc 1 27 0\n"
         " ld.shared.u32 %r3, [%r2+64];\n st.global.u32 [%o], %r3;";
}

std::vector<Pair> pairs() {
  return {
      {"past_the_end", FindingKind::kOutOfBounds, ".loc 1 7 0\n st.global.u32 [%o+4], %t;",
       "st.global.u32 [%o], %t;", "past the end", 7},
      {"null_pointer", FindingKind::kOutOfBounds,
       "mov.u64 %rd1, 0;\n .loc 1 9 0\n ld.global.u32 %r1, [%rd1];\n st.global.u32 [%o], %r1;",
       "ld.global.u32 %r1, [%i];\n st.global.u32 [%o], %r1;", "null pointer", 9},
      {"shared_past_the_end", FindingKind::kOutOfBounds,
       ".loc 1 4 0\n st.shared.u32 [%r31+1024], %t;", "st.shared.u32 [%r30], %t;", "shared address",
       4},
      {"misaligned_vector", FindingKind::kMisaligned,
       ".loc 1 5 0\n ld.global.v2.u32 {%r1, %r2}, [%i+4];\n st.global.u32 [%o], %r1;",
       "ld.global.v2.u32 {%r1, %r2}, [%i+8];\n st.global.u32 [%o], %r1;", "no multiple", 5},
      {"undefined_branch", FindingKind::kUndefinedBranch,
       "ld.shared.u32 %r1, [%r30];\n setp.eq.u32 %p1, %r1, 3;\n .loc 1 8 0\n @%p1 bra L;\n"
       "L: st.global.u32 [%o], %t;",
       "st.shared.u32 [%r30], %t;\n ld.shared.u32 %r1, [%r30];\n setp.eq.u32 %p1, %r1, 3;\n"
       " @%p1 bra L;\nL: st.global.u32 [%o], %t;",
       "branch depends", 8},
      {"undefined_store", FindingKind::kUndefinedStore,
       "ld.local.u32 %r1, [l+8];\n add.u32 %r1, %r1, 1;\n .loc 1 11 0\n st.global.u32 [%o], %r1;",
       "st.local.u32 [l+8], %t;\n ld.local.u32 %r1, [l+8];\n add.u32 %r1, %r1, 1;\n"
       " st.global.u32 [%o], %r1;",
       "undefined data is stored", 11},
      {"shared_race", FindingKind::kSharedRace,
       "st.shared.u32 [%r30], 0;\n bar.sync 0;\n st.shared.u32 [%r30], %t;\n"
       " xor.b32 %r1, %r30, 128;\n .loc 1 12 0\n"
       " ld.shared.u32 %r2, [%r1];\n st.global.u32 [%o], %r2;",
       "st.shared.u32 [%r30], %t;\n bar.sync 0;\n xor.b32 %r1, %r30, 128;\n"
       " ld.shared.u32 %r2, [%r1];\n st.global.u32 [%o], %r2;",
       "not ordered", 0, 64},
      {"warp_race", FindingKind::kSharedRace,
       "st.shared.u32 [%r30], %t;\n xor.b32 %r1, %r30, 4;\n .loc 1 13 0\n"
       " ld.shared.u32 %r2, [%r1];\n st.global.u32 [%o], %r2;",
       "st.shared.u32 [%r30], %t;\n bar.warp.sync 0xffffffff;\n xor.b32 %r1, %r30, 4;\n"
       " ld.shared.u32 %r2, [%r1];\n st.global.u32 [%o], %r2;",
       "not ordered", 13},
      {"write_after_read", FindingKind::kSharedRace,
       "st.shared.u32 [%r30], %t;\n bar.sync 0;\n xor.b32 %r1, %r30, 128;\n"
       " ld.shared.u32 %r2, [%r1];\n .loc 1 14 0\n st.shared.u32 [%r30], %r2;\n"
       " st.global.u32 [%o], %r2;",
       "st.shared.u32 [%r30], %t;\n bar.sync 0;\n xor.b32 %r1, %r30, 128;\n"
       " ld.shared.u32 %r2, [%r1];\n bar.sync 0;\n st.shared.u32 [%r30], %r2;\n"
       " st.global.u32 [%o], %r2;",
       "not ordered", 0, 64},
      {"write_after_arrive", FindingKind::kSharedRace,
       "setp.lt.u32 %p1, %t, 32;\n @%p1 bra P;\n bar.sync 1, 64;\n sub.u32 %r1, %r30, 128;\n"
       " ld.shared.u32 %r2, [%r1];\n st.global.u32 [%o], %r2;\n bra E;\n"
       "P: st.shared.u32 [%r30], %t;\n bar.arrive 1, 64;\n st.shared.u32 [%r30], 7;\nE:",
       "setp.lt.u32 %p1, %t, 32;\n @%p1 bra P;\n bar.sync 1, 64;\n sub.u32 %r1, %r30, 128;\n"
       " ld.shared.u32 %r2, [%r1];\n st.global.u32 [%o], %r2;\n bra E;\n"
       "P: st.shared.u32 [%r30], %t;\n bar.arrive 1, 64;\nE:",
       "not ordered", 0, 64},
      {"same_place_different_values", FindingKind::kSharedRace,
       ".loc 1 24 0\n st.shared.u32 [%r31], %t;\n bar.sync 0;\n ld.shared.u32 %r2, [%r31];\n"
       " st.global.u32 [%o], %r2;",
       "st.shared.u32 [%r31], 7;\n bar.sync 0;\n ld.shared.u32 %r2, [%r31];\n"
       " st.global.u32 [%o], %r2;",
       "not ordered", 24},
      {"same_value_two_warps", FindingKind::kSharedRace,
       "st.shared.u32 [%r31], 7;\n bar.sync 0;\n st.global.u32 [%o], %t;",
       "setp.lt.u32 %p1, %t, 32;\n @%p1 st.shared.u32 [%r31], 7;\n bar.sync 0;\n"
       " st.global.u32 [%o], %t;",
       "not ordered", 0, 64},
      {"flag_without_release", FindingKind::kSharedRace, flag("", "membar.cta;"),
       flag("membar.cta;", "membar.cta;"), "not ordered", 25, 64},
      {"flag_without_acquire", FindingKind::kSharedRace, flag("fence.acq_rel.cta;", ""),
       flag("fence.acq_rel.cta;", "fence.acq_rel.cta;"), "not ordered", 25, 64},
      {"relaxed_counter", FindingKind::kSharedRace, counter("relaxed", "acquire"),
       counter("release", "acquire"), "not ordered", 26, 64},
      {"relaxed_reader", FindingKind::kSharedRace, counter("acq_rel", "relaxed"),
       counter("acq_rel", "acquire"), "not ordered", 26, 64},
      {"mbarrier_without_wait", FindingKind::kSharedRace, mbarrier(64, "", false),
       mbarrier(64, "", true), "not ordered", 0, 64},
      {"mbarrier_uninitialised", FindingKind::kBarrierMisuse,
       "mbarrier.arrive.shared.b64 %rd3, [%r31];", mbarrier(64, "", true), "no initialised", 0, 64},
      {"mbarrier_too_many", FindingKind::kBarrierMisuse,
       mbarrier(63, "mbarrier.arrive.noComplete.shared.b64 _, [%r31], 63;", true),
       mbarrier(126, "mbarrier.arrive.noComplete.shared.b64 _, [%r31], 62;", true),
       "must not complete", 0, 64},
      {"mbarrier_overwritten", FindingKind::kBarrierMisuse,
       mbarrier(64, "st.shared.u32 [%r31], 0;", true), mbarrier(64, "", true), "written over", 0,
       64},
      {"exited_thread", FindingKind::kBarrierExited,
       "setp.gt.u32 %p1, %t, 31;\n @%p1 exit;\n .loc 1 16 0\n bar.sync 0;\n"
       " st.global.u32 [%o], %t;",
       "bar.sync 0;\n setp.gt.u32 %p1, %t, 31;\n @%p1 exit;\n st.global.u32 [%o], %t;",
       "exited without", 16, 64},
      {"count_mismatch", FindingKind::kBarrierMisuse,
       ".loc 1 17 0\n bar.sync 1, 48;\n st.global.u32 [%o], %t;",
       "bar.sync 1, 64;\n st.global.u32 [%o], %t;", "multiple of the warp size", 17, 64},
      {"divergent_barrier", FindingKind::kDivergence,
       "setp.lt.u32 %p1, %t, 16;\n .loc 1 18 0\n @%p1 bra A;\n bar.sync 0;\n bra B;\n"
       "A: bar.sync 0;\nB: st.global.u32 [%o], %t;",
       "setp.lt.u32 %p1, %t, 16;\n @%p1 bra A;\n bra C;\nA: mov.u32 %r3, 1;\nC: bar.sync 0;\n"
       " st.global.u32 [%o], %t;",
       "divergent", 18},
      {"not_in_own_mask", FindingKind::kDivergence,
       ".loc 1 19 0\n shfl.sync.bfly.b32 %r1, %t, 1, 31, 0x0000ffff;\n st.global.u32 [%o], %t;",
       "shfl.sync.bfly.b32 %r1, %t, 1, 31, 0xffffffff;\n st.global.u32 [%o], %r1;",
       "own member mask", 19},
      {"deadlock", FindingKind::kDeadlock,
       "setp.lt.u32 %p1, %t, 32;\n @%p1 bra A;\n .loc 1 20 0\n bar.sync 2, 64;\n bra B;\n"
       "A: bar.sync 3, 64;\nB: st.global.u32 [%o], %t;",
       "setp.lt.u32 %p1, %t, 32;\n @%p1 bra A;\n bar.sync 2, 64;\n bra B;\nA: bar.sync 2, 64;\n"
       "B: st.global.u32 [%o], %t;",
       "barrier 2 has 32 of 64", 0, 64},
      {"trap", FindingKind::kTrap, ".loc 1 21 0\n trap;", "st.global.u32 [%o], %t;", "trap", 21},
      {"read_only", FindingKind::kOutOfBounds,
       "mov.b64 %rd3, out;\n cvta.param.u64 %rd3, %rd3;\n .loc 1 22 0\n st.u32 [%rd3], %t;",
       "mov.b64 %rd3, out;\n cvta.param.u64 %rd3, %rd3;\n ld.u32 %r3, [%rd3];\n"
       " st.global.u32 [%o], %r3;",
       "read-only", 22},
  };
}

Observed run(const Pair& p, const std::string& body, u64 seed) {
  std::vector<u8> out(static_cast<size_t>(p.block) * 4), in(1024, 1);
  LaunchSpec spec;
  spec.block = p.block;
  spec.dynamic_shared = p.dynamic_shared;
  spec.seed = seed;
  return observe(kernel(body), "k", spec, {{&out}, {&in}});
}

class Findings : public testing::TestWithParam<Pair> {};

TEST_P(Findings, BrokenKernelIsFoundExactly) {
  const Pair& p = GetParam();
  for (u64 seed : {1, 2, 3}) {
    const Observed o = run(p, p.broken, seed);
    ASSERT_FALSE(o.findings.empty()) << p.name << ": nothing found; " << o.error;
    for (const Finding& f : o.findings) EXPECT_EQ(f.kind, p.kind) << f.str();
    const Finding& f = o.findings.front();
    EXPECT_EQ(f.kernel, "k");
    EXPECT_NE(f.message.find(p.needle), std::string::npos) << f.str();
    if (p.line != 0) {
      EXPECT_EQ(f.source, "broken.cu:" + std::to_string(p.line)) << f.str();
    }
  }
}
TEST_P(Findings, CleanTwinIsClean) {
  const Pair& p = GetParam();
  for (u64 seed : {1, 2, 3}) {
    const Observed o = run(p, p.clean, seed);
    EXPECT_EQ(o.error, "");
    for (const Finding& f : o.findings) ADD_FAILURE() << f.str();
  }
}

std::vector<Pair> complete_pairs() {
  std::vector<Pair> out = pairs();
  // Pairs whose twins need more room than a line.
  Pair address;
  address.name = "undefined_address";
  address.kind = FindingKind::kUndefinedAddress;
  address.clean =
      "st.local.u32 [l], 0;\n ld.local.u32 %r1, [l];\n and.b32 %r1, %r1, 28;\n"
      " setp.eq.u32 %p1, %t, 0;\n @%p1 st.shared.u32 [%r31], 5;\n bar.warp.sync 0xffffffff;\n"
      " add.u32 %r1, %r1, %r31;\n ld.shared.u32 %r2, [%r1];\n st.global.u32 [%o], %r2;";
  address.broken =
      "ld.local.u32 %r1, [l];\n and.b32 %r1, %r1, 28;\n setp.eq.u32 %p1, %t, 0;\n"
      " add.u32 %r1, %r1, %r31;\n @%p1 st.shared.v4.u32 [%r31], {5, 5, 5, 5};\n"
      " @%p1 st.shared.v4.u32 [%r31+16], {5, 5, 5, 5};\n bar.warp.sync 0xffffffff;\n .loc 1 6 0\n"
      " ld.shared.u32 %r2, [%r1];";
  address.needle = "address depends";
  address.line = 6;
  out.push_back(address);

  Pair half;
  half.name = "undefined_half_of_a_register";
  half.kind = FindingKind::kUndefinedStore;
  half.broken =
      "{ .reg .b16 h<3>; cvt.u16.u32 h1, %t; st.local.u16 [l], h1; ld.local.u32 %r1, [l];\n"
      " mov.b32 {h1, h2}, %r1;\n .loc 1 23 0\n st.global.u16 [%o], h2; }";
  half.clean =
      "{ .reg .b16 h<3>; cvt.u16.u32 h1, %t; st.local.u16 [l], h1; ld.local.u32 %r1, [l];\n"
      " mov.b32 {h1, h2}, %r1;\n st.global.u16 [%o], h1; }";
  half.needle = "undefined data is stored";
  half.line = 23;
  out.push_back(half);

  Pair copy;
  copy.name = "cp_async_without_wait";
  copy.kind = FindingKind::kSharedRace;
  const std::string issue =
      "mul.wide.u32 %rd2, %t, 4;\n add.u64 %rd2, %rd2, %i;\n"
      " cp.async.ca.shared.global [%r30], [%rd2], 4;\n cp.async.commit_group;\n";
  copy.broken = issue + " .loc 1 15 0\n ld.shared.u32 %r2, [%r30];\n cp.async.wait_all;";
  copy.clean = issue +
               " cp.async.wait_group 0;\n ld.shared.u32 %r2, [%r30];\n"
               " st.global.u32 [%o], %r2;";
  copy.needle = "not ordered";
  copy.line = 15;
  out.push_back(copy);

  // The copies of warp 0 are read by warp 1, which waits at an mbarrier that tracks them, or does
  // not.
  Pair tracked;
  tracked.name = "cp_async_untracked_by_mbarrier";
  tracked.kind = FindingKind::kSharedRace;
  const auto copies = [&](const std::string& track) {
    return "setp.ne.u32 %p2, %t, 0;\n @%p2 bra I;\n mbarrier.init.shared.b64 [%r31], 64;\n"
           "I: bar.sync 0;\n mul.wide.u32 %rd2, %t, 4;\n add.u64 %rd2, %rd2, %i;\n"
           " setp.lt.u32 %p1, %t, 32;\n @!%p1 bra A;\n"
           " cp.async.ca.shared.global [%r30+64], [%rd2], 4;\n " +
           track +
           "\nA: mbarrier.arrive.shared.b64 %rd3, [%r31];\n @%p1 bra E;\n"
           "W: mbarrier.test_wait.shared.b64 %p3, [%r31], %rd3;\n @!%p3 bra W;\n .loc 1 28 0\n"
           " ld.shared.u32 %r3, [%r30-64];\n st.global.u32 [%o], %r3;\nE: cp.async.wait_all;";
  };
  tracked.broken = copies("");
  tracked.clean = copies("cp.async.mbarrier.arrive.shared.b64 [%r31];");
  tracked.needle = "not ordered";
  tracked.line = 28;
  tracked.block = 64;
  out.push_back(tracked);
  return out;
}

INSTANTIATE_TEST_SUITE_P(Machine, Findings, testing::ValuesIn(complete_pairs()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace vgpu::test
