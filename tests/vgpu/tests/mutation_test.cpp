// Mutants of kernels whose guards are known: which there are, and that none goes unnoticed.
#include <gtest/gtest.h>

#include <map>

#include "tests/mutants.h"

namespace vgpu::test {
namespace {

using Kind = Mutant::Kind;

std::map<Kind, int> kinds_of(const std::vector<Mutant>& mutants) {
  std::map<Kind, int> out;
  for (const Mutant& m : mutants) ++out[m.kind];
  return out;
}

// `in` and `out` have 1024 bytes each; %p0 is true in thread 0, %p1 in warp 0, %p2 in thread 32;
// %r1 is four mbarriers, %r2 the shared word of a thread of warp 1.
std::string kernel(const std::string& body) {
  return ".version 8.6\n.target sm_90a\n.address_size 64\n"
         ".visible .entry k(.param .u64 in, .param .u64 out)\n{\n"
         " .shared .align 128 .b8 s[512];\n .shared .align 8 .b64 bar[4];\n .reg .pred %p<8>;\n"
         " .reg .b32 %r<16>;\n .reg .b64 %rd<8>;\n ld.param.u64 %rd0, [in];\n"
         " ld.param.u64 %rd1, [out];\n mov.u32 %r0, %tid.x;\n mov.u32 %r1, bar;\n"
         " mov.u32 %r3, s;\n shl.b32 %r2, %r0, 2;\n add.u32 %r2, %r2, %r3;\n"
         " sub.u32 %r2, %r2, 128;\n setp.eq.u32 %p0, %r0, 0;\n setp.lt.u32 %p1, %r0, 32;\n"
         " setp.eq.u32 %p2, %r0, 32;\n" +
         body + " ret;\n}\n";
}

// Bytes that come in pieces need not show a wait that is too early; the clean kernel must always be
// clean.
void expect_mutants(const std::string& text, const std::map<Kind, int>& want) {
  constexpr Asynchrony kAll[] = {Asynchrony::kEarly, Asynchrony::kLate, Asynchrony::kAny};
  for (const Asynchrony a : kAll)
    for (u64 seed : {1, 2, 3}) EXPECT_FALSE(found(text, nullptr, 64, seed, a));
  std::vector<Mutant> mutants = mutants_of(text);
  std::erase_if(mutants, [](const Mutant& m) { return m.kind == Kind::kFlipGuard; });
  EXPECT_EQ(kinds_of(mutants), want);
  for (const Mutant& m : mutants) {
    int times = 0;
    for (const Asynchrony a : kAll)
      for (u64 seed : {1, 2, 3}) times += found(text, &m, 64, seed, a) ? 1 : 0;
    EXPECT_NE(times, 0) << m.str();
  }
}

TEST(Mutation, FindsAndAppliesEveryKind) {
  const std::string text = kernel(
      " @!%p1 bra L;\n cp.async.ca.shared.global [%r3], [%rd0], 4;\n cp.async.commit_group;\n"
      " cp.async.wait_group 0;\nL: bar.sync 0;\n bar.red.popc.u32 %r5, 0, %p1;\n"
      " bar.warp.sync 0xffffffff;\n");
  const auto program = linked(text);
  const auto mutants = find_mutants(*program);
  const std::map<Kind, int> want = {{Kind::kDropBarrier, 2},
                                    {Kind::kDropWait, 1},
                                    {Kind::kDropCommit, 1},
                                    {Kind::kAdvanceCommit, 1},
                                    {Kind::kFlipGuard, 1}};
  EXPECT_EQ(kinds_of(mutants), want);
  for (const Mutant& m : mutants) {
    const auto copy = linked(text);
    apply(m, *copy);
    const Instr &before = program->code[m.pc], &after = copy->code[m.pc];
    EXPECT_TRUE(before.flow != after.flow || before.fn != after.fn || before.cmp != after.cmp)
        << m.str();
  }
}

// Warp 0 puts 128 bytes into the stage, and 128 others when warp 1 has read them.
std::string ring(const std::string& release) {
  const auto copy = [](const std::string& from) {
    return " cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r3], [%rd0" +
           from + "], 128, [%r1];\n";
  };
  const auto wait = [](const std::string& label, const std::string& barrier, int parity) {
    return label + ": mbarrier.try_wait.parity.shared.b64 %p3, [%r1" + barrier + "], " +
           std::to_string(parity) + ";\n @!%p3 bra " + label + ";\n";
  };
  return kernel(
      " @%p0 mbarrier.init.shared.b64 [%r1], 1;\n @%p0 mbarrier.init.shared.b64 [%r1+8], 1;\n"
      " @%p0 fence.mbarrier_init.release.cluster;\n bar.sync 0;\n @!%p1 bra CONSUMER;\n"
      " @!%p0 bra END;\n mbarrier.expect_tx.relaxed.cta.shared.b64 [%r1], 128;\n"
      " mbarrier.arrive.shared.b64 _, [%r1];\n" +
      copy("") + wait("E", "+8", 0) + " mbarrier.arrive.expect_tx.shared.b64 _, [%r1], 128;\n" +
      copy("+128") + " bra END;\nCONSUMER:\n" + wait("F", "", 0) + " ld.shared.u32 %r4, [%r2];\n" +
      release + wait("G", "", 1) + " ld.shared.u32 %r5, [%r2];\nEND:\n");
}

TEST(Mutation, OfARing) {
  const std::map<Kind, int> want = {{Kind::kDropBarrier, 2}, {Kind::kDropFence, 1},
                                    {Kind::kDropWait, 3},    {Kind::kFlipPhase, 3},
                                    {Kind::kDelayWait, 3},   {Kind::kDropArrive, 2},
                                    {Kind::kDropExpect, 2},  {Kind::kHalveExpect, 2},
                                    {Kind::kDelayExpect, 1}, {Kind::kAdvanceArrive, 1}};
  expect_mutants(ring(" bar.warp.sync 0xffffffff;\n @%p2 mbarrier.arrive.shared.b64 _, [%r1+8];\n"),
                 want);
  // Compilers branch over what one thread does.
  expect_mutants(ring(" bar.warp.sync 0xffffffff;\n @!%p2 bra R;\n add.u32 %r6, %r1, 8;\n"
                      " mbarrier.arrive.shared.b64 _, [%r6];\nR:\n"),
                 want);
}

TEST(Mutation, OfABulkStore) {
  expect_mutants(
      kernel(" @%p1 bra END;\n st.shared.u32 [%r2], %r0;\n fence.proxy.async.shared::cta;\n"
             " bar.warp.sync 0xffffffff;\n"
             " @%p2 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r3], 128;\n"
             " @%p2 cp.async.bulk.commit_group;\n @%p2 cp.async.bulk.wait_group.read 0;\n"
             " bar.warp.sync 0xffffffff;\n st.shared.u32 [%r2], 0;\nEND:\n"),
      {{Kind::kDropFence, 1},
       {Kind::kDelayFence, 1},
       {Kind::kDropBarrier, 2},
       {Kind::kDropCommit, 1},
       {Kind::kAdvanceCommit, 1},
       {Kind::kDropWait, 1},
       {Kind::kDelayWait, 1}});
}

}  // namespace
}  // namespace vgpu::test
