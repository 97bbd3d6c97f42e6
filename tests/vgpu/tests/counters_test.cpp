// Counters of kernels whose work is known.
#include <gtest/gtest.h>

#include "machine/device.h"
#include "machine/launch.h"
#include "tests/device.h"

namespace vgpu::test {
namespace {

const std::string kHead =
    ".version 8.0\n.target sm_80\n.address_size 64\n"
    ".visible .entry k(.param .u64 in, .param .u64 out)\n{\n .shared .align 16 .b8 s[8192];\n"
    " .reg .pred %p<4>;\n .reg .b32 %r<16>;\n .reg .b64 %rd<8>;\n .reg .f32 %f<8>;\n"
    " ld.param.u64 %rd0, [in];\n ld.param.u64 %rd1, [out];\n mov.u32 %r0, %tid.x;\n"
    " mov.u32 %r1, %ctaid.x;\n mov.u32 %r2, %ntid.x;\n mad.lo.u32 %r3, %r1, %r2, %r0;\n";

Observed run(const std::string& body, u32 grid, u32 block, size_t bytes) {
  std::vector<u8> in(bytes, 1), out(bytes, 0);
  LaunchSpec spec;
  spec.grid = grid;
  spec.block = block;
  return observe(kHead + body + " ret;\n}\n", "k", spec, {{&in}, {&out}});
}

TEST(Counters, CoalescedCopy) {
  const Observed o =
      run(" mul.wide.u32 %rd2, %r3, 4;\n add.u64 %rd3, %rd0, %rd2;\n add.u64 %rd4, %rd1, %rd2;\n"
          " ld.global.f32 %f0, [%rd3];\n st.global.f32 [%rd4], %f0;\n",
          8, 128, 4096);
  ASSERT_EQ(o.error, "");
  EXPECT_EQ(o.counts.global_load_bytes, 4096u);
  EXPECT_EQ(o.counts.global_load_sectors, 128u);
  EXPECT_EQ(o.counts.unique_load_bytes, 4096u);
  EXPECT_EQ(o.counts.global_store_bytes, 4096u);
  EXPECT_EQ(o.counts.global_store_sectors, 128u);
  EXPECT_EQ(o.counts.warp_instructions, 32u * 12);
  EXPECT_EQ(o.counts.lane_instructions, 1024u * 12);
  EXPECT_EQ(o.counts.by_class[static_cast<size_t>(InstrClass::kLoad)], 32u * 3);
}

TEST(Counters, StridedCopyTouchesOneSectorPerLane) {
  const Observed o =
      run(" mul.wide.u32 %rd2, %r3, 32;\n add.u64 %rd3, %rd0, %rd2;\n ld.global.f32 %f0, [%rd3];\n"
          " st.global.f32 [%rd1], 0f00000000;\n",
          1, 64, 2048);
  ASSERT_EQ(o.error, "");
  EXPECT_EQ(o.counts.global_load_bytes, 256u);
  EXPECT_EQ(o.counts.global_load_sectors, 64u);
  EXPECT_EQ(o.counts.global_store_sectors, 2u);
  EXPECT_EQ(o.counts.unique_store_bytes, 4u);
}

TEST(Counters, ThirtyTwoWayConflict) {
  const Observed o =
      run(" mov.u32 %r4, s;\n shl.b32 %r5, %r0, 7;\n add.u32 %r5, %r5, %r4;\n"
          " st.shared.u32 [%r5], %r0;\n",
          2, 32, 64);
  ASSERT_EQ(o.error, "");
  EXPECT_EQ(o.counts.shared_wavefronts, 64u);
  EXPECT_EQ(o.counts.shared_excess, 62u);
  ASSERT_EQ(o.counts.conflicts.size(), 1u);
  EXPECT_EQ(o.counts.conflicts[0].excess, 62u);
}

TEST(Counters, VectorAndBroadcastAccessesAreFree) {
  const Observed o =
      run(" mov.u32 %r4, s;\n shl.b32 %r5, %r0, 4;\n add.u32 %r5, %r5, %r4;\n"
          " st.shared.v4.u32 [%r5], {%r0, %r0, %r0, %r0};\n bar.warp.sync 0xffffffff;\n"
          " ld.shared.u32 %r6, [%r4];\n",
          1, 32, 64);
  ASSERT_EQ(o.error, "");
  EXPECT_EQ(o.counts.shared_wavefronts, 4u + 1u);
  EXPECT_EQ(o.counts.shared_excess, 0u);
}

// 32 x 32 tile times tile, K = 32: each thread does 32 multiply-adds.
TEST(Counters, TiledProduct) {
  const Observed o =
      run(" and.b32 %r4, %r0, 31;\n shr.u32 %r5, %r0, 5;\n mov.u32 %r6, s;\n shl.b32 %r7, %r0, 2;\n"
          " add.u32 %r7, %r7, %r6;\n st.shared.f32 [%r7], 0f3f800000;\n"
          " st.shared.f32 [%r7+4096], 0f40000000;\n bar.sync 0;\n mov.f32 %f0, 0f00000000;\n"
          " shl.b32 %r8, %r5, 7;\n add.u32 %r8, %r8, %r6;\n shl.b32 %r9, %r4, 2;\n"
          " add.u32 %r9, %r9, %r6;\n mov.u32 %r10, 0;\n"
          "L: ld.shared.f32 %f1, [%r8];\n ld.shared.f32 %f2, [%r9+4096];\n"
          " fma.rn.f32 %f0, %f1, %f2, %f0;\n add.u32 %r8, %r8, 4;\n add.u32 %r9, %r9, 128;\n"
          " add.u32 %r10, %r10, 1;\n setp.lt.u32 %p0, %r10, 32;\n @%p0 bra L;\n"
          " ex2.approx.f32 %f3, %f0;\n mul.wide.u32 %rd2, %r0, 4;\n add.u64 %rd2, %rd2, %rd1;\n"
          " st.global.f32 [%rd2], %f0;\n",
          1, 1024, 4096);
  ASSERT_EQ(o.error, "");
  ASSERT_TRUE(o.findings.empty()) << o.findings[0].str();
  EXPECT_EQ(o.counts.flops.at("fma.f32"), 2u * 32 * 1024);
  EXPECT_EQ(o.counts.mufu.at("ex2"), 1024u);
  EXPECT_EQ(o.counts.barriers, 32u);
  EXPECT_EQ(o.counts.shared_wavefronts, 32u * (2 + 2 * 32));
  EXPECT_EQ(o.counts.shared_excess, 0u);
  EXPECT_EQ(o.counts.branches, 32u * 32);
  EXPECT_EQ(o.counts.divergent_branches, 0u);
}

TEST(Counters, RepeatExactly) {
  const std::string body =
      " and.b32 %r4, %r0, 7;\n setp.gt.u32 %p0, %r4, 3;\n @%p0 bra L;\n add.u32 %r5, %r4, 1;\n"
      "L: mul.wide.u32 %rd2, %r3, 4;\n add.u64 %rd3, %rd1, %rd2;\n st.global.u32 [%rd3], %r4;\n";
  const Observed a = run(body, 8, 64, 2048), b = run(body, 8, 64, 2048);
  EXPECT_EQ(to_json({a.counts}), to_json({b.counts}));
  EXPECT_EQ(a.counts.divergent_branches, 16u);
}

TEST(Occupancy, AnEstimateOfRegistersForbidsNothing) {
  for (const char* name : {"h100", "a100", "t4", "rtx4090"}) {
    const DeviceModel& device = *find_device(name);
    for (const u32 threads : {32u, 512u, 1024u}) {
      EXPECT_GE(blocks_per_sm(device, threads, 255, 0), 1u);
      EXPECT_LE(blocks_per_sm(device, threads, 255, 0), blocks_per_sm(device, threads, 32, 0));
    }
  }
}

// A cluster of two: CTA 0 loads 512 bytes for both, each CTA loads 256 and stores 128.
TEST(Counters, BulkCopies) {
  const std::string text =
      ".version 8.6\n.target sm_90a\n.address_size 64\n"
      ".visible .entry k(.param .u64 in, .param .u64 out) .explicitcluster "
      ".reqnctapercluster 2, 1, 1\n{\n .shared .align 128 .b8 s[1024];\n .shared .b64 bar;\n"
      " .reg .pred %p<4>;\n .reg .b16 %m;\n .reg .b32 %r<4>;\n .reg .b64 %rd<4>;\n"
      " ld.param.u64 %rd0, [in];\n ld.param.u64 %rd1, [out];\n mov.u32 %r0, %cluster_ctarank;\n"
      " setp.ne.u32 %p0, %r0, 0;\n mad.wide.u32 %rd1, %r0, 128, %rd1;\n"
      " mbarrier.init.shared.b64 [bar], 1;\n"
      " fence.mbarrier_init.release.cluster;\n barrier.cluster.arrive;\n barrier.cluster.wait;\n"
      " mbarrier.arrive.expect_tx.shared.b64 _, [bar], 768;\n mov.u16 %m, 3;\n"
      " @!%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [s], [%rd0], 512, [bar], %m;\n"
      " cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [s+512], [%rd0+512], 256,"
      " [bar];\nW: mbarrier.try_wait.parity.shared.b64 %p1, [bar], 0;\n @!%p1 bra W;\n"
      " cp.async.bulk.global.shared::cta.bulk_group [%rd1], [s+256], 128;\n"
      " cp.async.bulk.commit_group;\n cp.async.bulk.wait_group 0;\n"
      " barrier.cluster.arrive;\n barrier.cluster.wait;\n ret;\n}\n";
  for (const Asynchrony a : {Asynchrony::kEarly, Asynchrony::kLate, Asynchrony::kAny}) {
    std::vector<u8> in(1024, 1), out(1024, 0);
    LaunchSpec spec;
    spec.grid = 2;
    spec.block = 1;
    spec.asynchrony = a;
    const Observed o = observe(text, "k", spec, {{&in}, {&out}}, "h100");
    ASSERT_EQ(o.error, "");
    for (const Finding& f : o.findings) ADD_FAILURE() << f.str();
    EXPECT_EQ(o.counts.bulk_load_requests, 3u);
    EXPECT_EQ(o.counts.bulk_load_bytes, 2u * 512 + 2 * 256);
    EXPECT_EQ(o.counts.bulk_multicast_bytes, 2u * 512);
    EXPECT_EQ(o.counts.bulk_store_requests, 2u);
    EXPECT_EQ(o.counts.bulk_store_bytes, 2u * 128);
    EXPECT_EQ(o.counts.global_load_bytes, 512u + 2 * 256);
    EXPECT_EQ(o.counts.global_load_sectors, 16u + 2 * 8);
    EXPECT_EQ(o.counts.unique_load_bytes, 768u);
    EXPECT_EQ(o.counts.global_store_bytes, 2u * 128);
    EXPECT_EQ(o.counts.unique_store_bytes, 2u * 128);
    // Late copies come when everything waits.
    if (a == Asynchrony::kLate) {
      EXPECT_NE(o.counts.blocked_waits, 0u);
    }
  }
}

}  // namespace
}  // namespace vgpu::test
