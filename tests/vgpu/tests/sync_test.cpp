// mbarrier objects: what their instructions return. PTX ISA 9.0 section 9.7.13.15.
#include <gtest/gtest.h>

#include "tests/device.h"

namespace vgpu::test {
namespace {

std::vector<u32> run(const std::string& body, u64 seed = 1, u32 block = 1, int needs = 80) {
  const std::string ptx =
      (needs < 90 ? ".version 7.1\n.target sm_80" : ".version 8.6\n.target sm_90a") +
      std::string(
          "\n.address_size 64\n"
          ".visible .entry k(.param .u64 out, .param .u64 in)\n{\n  .reg .pred %p<8>;\n"
          "  .reg .b32 %r<32>, %t;\n  .reg .b64 %rd<16>, %o, %i;\n"
          "  .shared .align 8 .b64 bar;\n  .shared .align 16 .b8 data[1024];\n"
          "  ld.param.u64 %o, [out];\n  ld.param.u64 %i, [in];\n  mov.u32 %t, %tid.x;\n") +
      body + "\n  ret;\n}\n";
  std::vector<u8> out(1024), in(4096);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<u8>(i * 7);
  LaunchSpec spec;
  spec.block = block;
  spec.seed = seed;
  EXPECT_EQ(device().run(ptx, "k", spec, {{&out}, {&in}}), "");
  std::vector<u32> words(out.size() / 4);
  std::memcpy(words.data(), out.data(), out.size());
  return words;
}
std::string show_count(int slot, int state) {
  return "mbarrier.pending_count.b64 %r1, %rd" + std::to_string(state) + ";\n st.global.u32 [%o+" +
         std::to_string(4 * slot) + "], %r1;\n";
}
std::string show_wait(int slot, const std::string& wait) {
  return "mbarrier.test_wait" + wait + ";\n selp.u32 %r1, 1, 0, %p1;\n st.global.u32 [%o+" +
         std::to_string(4 * slot) + "], %r1;\n";
}

TEST(MBarrier, CountsAndPhases) {
  if (device().capability() < 80) GTEST_SKIP() << "needs sm_80; runs on the virtual GPU";
  const std::string arrive = "mbarrier.arrive.shared.b64 %rd";
  const std::vector<u32> out = run(
      "mbarrier.init.shared.b64 [bar], 3;\n" + arrive + "0, [bar];\n" + show_count(0, 0) +
      show_wait(1, ".shared.b64 %p1, [bar], %rd0") +
      "mov.b64 %rd9, bar;\n cvta.shared.u64 %rd9, "
      "%rd9;\n mbarrier.arrive.b64 %rd1, [%rd9];\n" +
      show_count(2, 1) + arrive + "2, [bar];\n" + show_count(3, 2) +
      show_wait(4, ".shared.b64 %p1, [bar], %rd0") + show_wait(5, ".b64 %p1, [%rd9], %rd2") +
      // The second phase: one of three drops out for good.
      "mbarrier.arrive_drop.shared.b64 %rd3, [bar];\n" + show_count(6, 3) +
      "mbarrier.arrive.noComplete.shared.b64 %rd4, [bar], 1;\n" + show_count(7, 4) + arrive +
      "5, [bar];\n" + show_wait(8, ".shared.b64 %p1, [bar], %rd4") + arrive + "6, [bar];\n" +
      show_count(9, 6) + show_wait(10, ".shared.b64 %p1, [bar], %rd6") + arrive + "7, [bar];\n" +
      show_wait(11, ".shared.b64 %p1, [bar], %rd7") + "mbarrier.inval.shared.b64 [bar];\n");
  const std::vector<u32> expected = {3, 0, 2, 1, 1, 1, 3, 2, 1, 2, 0, 1};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(out[i], expected[i]) << i;
}

TEST(MBarrier, Parity) {
  if (device().capability() < 80) GTEST_SKIP() << "needs sm_80; runs on the virtual GPU";
  const std::string arrive = "mbarrier.arrive.shared.b64 %rd0, [bar];\n";
  const std::vector<u32> out = run("mbarrier.init.shared.b64 [bar], 1;\n" +
                                   show_wait(0, ".parity.shared.b64 %p1, [bar], 0") +
                                   show_wait(1, ".parity.shared.b64 %p1, [bar], 1") + arrive +
                                   show_wait(2, ".parity.shared.b64 %p1, [bar], 0") +
                                   show_wait(3, ".parity.shared.b64 %p1, [bar], 1") + arrive +
                                   show_wait(4, ".parity.shared.b64 %p1, [bar], 0") +
                                   show_wait(5, ".parity.shared.b64 %p1, [bar], 1"));
  const std::vector<u32> expected = {0, 1, 1, 0, 0, 1};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(out[i], expected[i]) << i;
}

// Two warps copy and wait for each other's copies, for several phases. With `noinc` the arrivals of
// the copies are among those that the barrier expects.
TEST(MBarrier, TracksCopies) {
  if (device().capability() < 80) GTEST_SKIP() << "needs sm_80; runs on the virtual GPU";
  for (const bool noinc : {false, true}) {
    for (u64 seed = 1; seed <= 6; ++seed) {
      const std::vector<u32> out =
          run("setp.ne.u32 %p2, %t, 0;\n @%p2 bra I;\n mbarrier.init.shared.b64 [bar], " +
                  std::string(noinc ? "128" : "64") +
                  ";\nI: bar.sync 0;\n mov.u32 %r5, 0;\n mov.u32 %r4, data;\n shl.b32 %r6, %t, 2;\n"
                  " add.u32 %r7, %r4, %r6;\n mul.wide.u32 %rd2, %t, 4;\n add.u64 %rd3, %i, %rd2;\n"
                  " add.u64 %rd4, %o, %rd2;\n xor.b32 %r8, %t, 32;\n shl.b32 %r8, %r8, 2;\n"
                  " add.u32 %r8, %r8, %r4;\n mov.u32 %r9, 0;\n"
                  "L: cp.async.ca.shared.global [%r7], [%rd3], 4;\n cp.async.mbarrier.arrive" +
                  (noinc ? ".noinc" : "") +
                  ".shared.b64 [bar];\n mbarrier.arrive.shared.b64 %rd5, [bar];\n"
                  "W: mbarrier.test_wait.shared.b64 %p3, [bar], %rd5;\n @!%p3 bra W;\n"
                  " ld.shared.u32 %r3, [%r8];\n add.u32 %r9, %r9, %r3;\n add.u64 %rd3, %rd3, 256;\n"
                  " add.u32 %r5, %r5, 1;\n bar.sync 0;\n setp.lt.u32 %p4, %r5, 4;\n @%p4 bra L;\n"
                  " st.global.u32 [%rd4], %r9;",
              seed, 64);
      for (u32 t = 0; t < 64; ++t) {
        u32 sum = 0;
        for (u32 i = 0; i < 4; ++i)
          for (u32 b = 0; b < 4; ++b) sum += ((i * 256 + (t ^ 32) * 4 + b) * 7 & 0xff) << (8 * b);
        EXPECT_EQ(out[t], sum) << "thread " << t << ", seed " << seed;
      }
    }
  }
}

// Transactions: a phase is complete when its arrivals and its bytes are. PTX ISA 9.0 section
// 9.7.13.15.5.
TEST(MBarrier, Transactions) {
  if (device().capability() < 90) GTEST_SKIP() << "needs sm_90; runs on the virtual GPU";
  const std::string complete = "mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], ";
  const std::vector<u32> out = run(
      "mbarrier.init.shared::cta.b64 [bar], 2;\n"
      "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 %rd0, [bar], 48;\n" +
          show_count(0, 0) + "mbarrier.arrive.release.cta.shared::cta.b64 %rd1, [bar], 1;\n" +
          show_wait(1, ".shared.b64 %p1, [bar], %rd0") + complete + "32;\n" +
          show_wait(2, ".acquire.cta.shared::cta.b64 %p1, [bar], %rd0") + complete + "16;\n" +
          show_wait(3, ".relaxed.cta.shared::cta.b64 %p1, [bar], %rd0") +
          // Bytes that come before they are expected, and a thread that drops out expecting some.
          complete +
          "64;\n mbarrier.arrive.relaxed.cta.shared::cta.b64 %rd2, [bar];\n"
          "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 16;\n" +
          show_wait(4, ".parity.acquire.cluster.shared::cta.b64 %p1, [bar], 1") +
          "mbarrier.arrive_drop.expect_tx.release.cta.shared::cta.b64 %rd3, [bar], 48;\n" +
          show_wait(5, ".parity.shared::cta.b64 %p1, [bar], 1") +
          "mbarrier.try_wait.shared::cta.b64 %p1, [bar], %rd3, 1000;\n selp.u32 %r1, 1, 0, %p1;\n"
          "st.global.u32 [%o+24], %r1;\n"
          // One arrival is left to expect.
          "mbarrier.arrive.shared::cta.b64 %rd4, [bar];\n" +
          show_count(7, 4) + show_wait(8, ".shared::cta.b64 %p1, [bar], %rd4"),
      1, 1, 90);
  const std::vector<u32> expected = {2, 0, 0, 1, 0, 1, 1, 1, 1};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(out[i], expected[i]) << i;
}

}  // namespace
}  // namespace vgpu::test
