// Clusters: who is who, and what a CTA does in another one's shared memory. PTX ISA 9.0 sections
// 2.2.2, 9.7.9.23 (mapa), 9.7.13.3 (barrier.cluster), 10 (special registers).
#include <gtest/gtest.h>

#include <functional>
#include <numeric>

#include "tests/device.h"

namespace vgpu::test {
namespace {

constexpr Asynchrony kAsynchronies[] = {Asynchrony::kEarly, Asynchrony::kLate, Asynchrony::kAny};

// 64 threads per CTA. %t is tid.x, %rank and %size the CTA's place, %peer the next CTA's rank, %r31
// its shared memory, %r29 an mbarrier; %o the output plus 256 bytes per CTA of the grid plus 4 per
// thread, %i the input.
std::string kernel(const std::string& body, const std::string& directives) {
  return ".version 8.6\n.target sm_90a\n.address_size 64\n"
         ".visible .entry k(.param .u64 out, .param .u64 in) " +
         directives +
         "\n{\n  .shared .align 128 .b8 s[4096];\n  .shared .align 8 .b64 bar;\n"
         "  .reg .pred %p<8>;\n  .reg .b32 %r<32>, %t, %rank, %size, %peer;\n"
         "  .reg .b64 %rd<16>, %o, %i;\n  mov.u32 %t, %tid.x;\n  ld.param.u64 %o, [out];\n"
         "  ld.param.u64 %i, [in];\n  mov.u32 %rank, %cluster_ctarank;\n"
         "  mov.u32 %size, %cluster_nctarank;\n  add.u32 %peer, %rank, 1;\n"
         "  rem.u32 %peer, %peer, %size;\n  mov.u32 %r0, %ctaid.x;\n  mad.lo.u32 %r0, %r0, 64, "
         "%t;\n"
         "  mul.wide.u32 %rd0, %r0, 4;\n  add.u64 %o, %o, %rd0;\n  mov.u32 %r31, s;\n"
         "  mov.u32 %r29, bar;\n  setp.eq.u32 %p0, %t, 0;\n" +
         body + "\n  ret;\n}\n";
}
const std::string kSync = "barrier.cluster.arrive.aligned;\n barrier.cluster.wait.aligned;\n";
std::string init(int count) {
  return "@!%p0 bra I;\n mbarrier.init.shared.b64 [%r29], " + std::to_string(count) +
         ";\n fence.mbarrier_init.release.cluster;\nI:" + kSync;
}
const std::string kWait =
    "W: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p1, [%r29], 0;\n @!%p1 bra W;\n";
// Thread t of every CTA keeps 1000 * rank + t.
const std::string kOwn =
    "mad.lo.u32 %r1, %rank, 1000, %t;\n shl.b32 %r2, %t, 2;\n add.u32 %r2, %r2, %r31;\n"
    "st.shared.u32 [%r2], %r1;\n";

std::vector<u32> run(const std::string& body, u32 clusters, u32 size, Asynchrony asynchrony,
                     u64 seed) {
  std::vector<u8> out(size_t{clusters} * size * 256), in(4096);
  std::iota(in.begin(), in.end(), u8{1});
  LaunchSpec spec;
  spec.grid = clusters * size;
  spec.block = 64;
  spec.seed = seed;
  spec.asynchrony = asynchrony;
  const std::string shape = std::to_string(size) + ", 1, 1";
  EXPECT_EQ(device().run(kernel(body, ".explicitcluster .reqnctapercluster " + shape), "k", spec,
                         {{&out}, {&in}}),
            "");
  std::vector<u32> words(out.size() / 4);
  std::memcpy(words.data(), out.data(), out.size());
  return words;
}

struct Form {
  const char* name;
  std::string body;
  // What thread t of the CTA with this rank writes, `peer` being the rank of the next one.
  std::function<u32(u32 cluster, u32 rank, u32 peer, u32 t)> expected;
};

std::string show(const std::string& special) {
  return "mov.u32 %r1, " + special + ";\n st.global.u32 [%o], %r1;\n";
}

std::vector<Form> forms() {
  const auto next = [](u32, u32, u32 peer, u32 t) { return 1000 * peer + t; };
  const std::string result = "st.global.u32 [%o], %r5;\n";
  const std::string peer_word = "mapa.shared::cluster.u32 %r3, %r2, %peer;\n";
  const std::string generic =
      "cvt.u64.u32 %rd1, %r2;\n cvta.shared.u64 %rd1, %rd1;\n mapa.u64 %rd2, %rd1, %peer;\n";
  const std::string word = "ld.shared.u32 %r5, [%r2];\n";
  return {
      {"cluster_ctarank", show("%cluster_ctarank"), [](u32, u32 rank, u32, u32) { return rank; }},
      {"cluster_nctarank", show("%cluster_nctarank"), [](u32, u32, u32, u32) { return 4; }},
      {"cluster_ctaid", show("%cluster_ctaid.x"), [](u32, u32 rank, u32, u32) { return rank; }},
      {"cluster_nctaid", show("%cluster_nctaid.x"), [](u32, u32, u32, u32) { return 4; }},
      {"clusterid", show("%clusterid.x"), [](u32 cluster, u32, u32, u32) { return cluster; }},
      {"nclusterid", show("%nclusterid.x"), [](u32, u32, u32, u32) { return 2; }},
      {"is_explicit_cluster",
       "{ .reg .pred q; mov.pred q, %is_explicit_cluster; selp.u32 %r1, 1, 0, q; }\n"
       "st.global.u32 [%o], %r1;\n",
       [](u32, u32, u32, u32) { return 1; }},
      {"ld", kOwn + kSync + peer_word + "ld.shared::cluster.u32 %r5, [%r3];\n" + result + kSync,
       next},
      {"ld_generic", kOwn + kSync + generic + "ld.u32 %r5, [%rd2];\n" + result + kSync, next},
      {"ld_vector",
       kOwn + kSync +
           "and.b32 %r4, %t, 60;\n shl.b32 %r4, %r4, 2;\n add.u32 %r4, %r4, %r31;\n"
           "mapa.shared::cluster.u32 %r3, %r4, %peer;\n"
           "ld.shared::cluster.v4.u32 {%r5, %r6, %r7, %r8}, [%r3];\n add.u32 %r5, %r5, %r8;\n" +
           result + kSync,
       [](u32, u32, u32 peer, u32 t) { return 2000 * peer + 2 * (t & 60) + 3; }},
      {"mapa_of_a_variable",
       kOwn + kSync +
           "mapa.shared::cluster.u32 %r3, s, %peer;\n"
           "ld.shared::cluster.u32 %r5, [%r3+8];\n" +
           result + kSync,
       [](u32, u32, u32 peer, u32) { return 1000 * peer + 2; }},
      {"rank_in_the_address", "mov.u32 %r5, s;\n shr.u32 %r5, %r5, 24;\n" + result,
       [](u32, u32 rank, u32, u32) { return rank; }},
      {"rank_in_a_generic_address",
       "mov.u32 %r2, s;\n cvt.u64.u32 %rd1, %r2;\n cvta.shared.u64 %rd1, %rd1;\n"
       "getctarank.u64 %r5, %rd1;\n" +
           result,
       [](u32, u32 rank, u32, u32) { return rank; }},
      // Flipping bit 24 leads to the other CTA of a pair.
      {"pair_by_bit_24",
       kOwn + kSync + "xor.b32 %r3, %r2, 0x1000000;\n ld.shared::cluster.u32 %r5, [%r3];\n" +
           result + kSync,
       [](u32, u32 rank, u32, u32 t) { return 1000 * (rank ^ 1) + t; }},
      {"pair_by_bit_24_generic",
       kOwn + kSync +
           "cvt.u64.u32 %rd1, %r2;\n cvta.shared.u64 %rd1, %rd1;\n"
           "xor.b64 %rd1, %rd1, 0x1000000;\n ld.u32 %r5, [%rd1];\n" +
           result + kSync,
       [](u32, u32 rank, u32, u32 t) { return 1000 * (rank ^ 1) + t; }},
      {"mapa_of_its_own",
       "mov.u32 %r2, s;\n mapa.shared::cluster.u32 %r3, %r2, %rank;\n sub.u32 %r5, %r3, %r2;\n" +
           result,
       [](u32, u32, u32, u32) { return 0; }},
      // Threads that have arrived may exit, and count as having arrived, but not for others.
      {"exit_behind_an_arrival", "mov.u32 %r5, 7;\n" + result + "barrier.cluster.arrive.relaxed;\n",
       [](u32, u32, u32, u32) { return 7; }},
      {"some_exit_behind_their_arrival",
       "setp.ge.u32 %p1, %rank, 2;\n mov.u32 %r5, 7;\n" + result +
           "@%p1 barrier.cluster.arrive;\n @%p1 bra E;\n setp.lt.u32 %p2, %t, 32;\n"
           "@%p2 bra R;\n" +
           kOwn +
           "barrier.cluster.arrive;\n barrier.cluster.wait;\n bra E;\n"
           "R: barrier.cluster.arrive;\n barrier.cluster.wait;\n"
           "shl.b32 %r2, %t, 2;\n add.u32 %r2, %r2, %r31;\n ld.shared.u32 %r5, [%r2+128];\n" +
           result + "barrier.cluster.arrive;\n barrier.cluster.wait;\nE:\n",
       [](u32, u32 rank, u32, u32 t) { return rank < 2 && t < 32 ? 1000 * rank + t + 32 : 7; }},
      {"getctarank",
       "mov.u32 %r2, s;\n" + peer_word + "getctarank.shared::cluster.u32 %r5, %r3;\n" + result,
       [](u32, u32, u32 peer, u32) { return peer; }},
      {"getctarank_own", "getctarank.shared::cluster.u32 %r5, %r31;\n" + result,
       [](u32, u32 rank, u32, u32) { return rank; }},
      {"getctarank_generic", "mov.u32 %r2, s;\n" + generic + "getctarank.u64 %r5, %rd2;\n" + result,
       [](u32, u32, u32 peer, u32) { return peer; }},
      {"isspacep",
       "mov.u32 %r2, s;\n" + generic +
           "isspacep.shared::cta %p2, %rd1;\n isspacep.shared::cta %p3, %rd2;\n"
           "isspacep.shared::cluster %p4, %rd2;\n selp.u32 %r5, 1, 0, %p2;\n"
           "@%p3 add.u32 %r5, %r5, 2;\n @%p4 add.u32 %r5, %r5, 4;\n" +
           result,
       [](u32, u32, u32, u32) { return 5; }},
      {"st",
       kOwn + kSync + peer_word + "st.shared::cluster.u32 [%r3+1024], %r1;\n" + kSync +
           "ld.shared.u32 %r5, [%r2+1024];\n" + result,
       [](u32, u32 rank, u32, u32 t) { return 1000 * ((rank + 3) % 4) + t; }},
      {"st_generic",
       kOwn + kSync + generic + "st.u32 [%rd2+1024], %r1;\n" + kSync +
           "ld.shared.u32 %r5, [%r2+1024];\n" + result,
       [](u32, u32 rank, u32, u32 t) { return 1000 * ((rank + 3) % 4) + t; }},
      {"atom",
       kOwn + kSync +
           "mapa.shared::cluster.u32 %r3, %r2, 0;\n"
           "atom.shared::cluster.add.u32 %r6, [%r3], 10;\n" +
           kSync + word + result,
       [](u32, u32 rank, u32, u32 t) { return 1000 * rank + t + (rank == 0 ? 40 : 0); }},
      {"red",
       kOwn + kSync + peer_word + "red.shared::cluster.max.u32 [%r3], %r1;\n" + kSync + word +
           result,
       [](u32, u32 rank, u32, u32 t) { return 1000 * (rank == 0 ? 3 : rank) + t; }},
      // All threads of a CTA arrive at the next one's barrier.
      {"remote_arrive",
       init(64) + kOwn +
           "mapa.shared::cluster.u32 %r3, %r29, %peer;\n"
           "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r3];\n" +
           kWait +
           "add.u32 %r4, %rank, 3;\n rem.u32 %r4, %r4, 4;\n mapa.shared::cluster.u32 %r4, %r2, "
           "%r4;\n"
           "ld.shared::cluster.u32 %r5, [%r4];\n" +
           result + kSync,
       [](u32, u32 rank, u32, u32 t) { return 1000 * ((rank + 3) % 4) + t; }},
      {"remote_expect_and_complete",
       init(1) +
           "mapa.shared::cluster.u32 %r3, %r29, %peer;\n @!%p0 bra A;\n"
           "mbarrier.expect_tx.relaxed.cluster.shared::cluster.b64 [%r3], 64;\n"
           "mbarrier.complete_tx.relaxed.cluster.shared::cluster.b64 [%r3], 64;\n"
           "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r3], 1;\nA:" +
           kWait + "mov.u32 %r5, %t;\n" + result + kSync,
       [](u32, u32, u32, u32 t) { return t; }},
      {"st_async",
       init(1) +
           "@%p0 mbarrier.arrive.expect_tx.shared.b64 _, [%r29], 256;\n"
           "mad.lo.u32 %r1, %rank, 1000, %t;\n shl.b32 %r2, %t, 2;\n add.u32 %r2, %r2, %r31;\n" +
           peer_word +
           "mapa.shared::cluster.u32 %r4, %r29, %peer;\n"
           "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r3], %r1, [%r4];\n" +
           kWait + word + result + kSync,
       [](u32, u32 rank, u32, u32 t) { return 1000 * ((rank + 3) % 4) + t; }},
      {"st_async_vector",
       init(1) +
           "@%p0 mbarrier.arrive.expect_tx.shared.b64 _, [%r29], 1024;\n"
           "mad.lo.u32 %r1, %rank, 1000, %t;\n shl.b32 %r2, %t, 4;\n add.u32 %r2, %r2, %r31;\n" +
           peer_word +
           "mapa.shared::cluster.u32 %r4, %r29, %peer;\n"
           "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%r3], {%t, %t, %r1, %t}, "
           "[%r4];\n" +
           kWait + "ld.shared.u32 %r5, [%r2+8];\n" + result + kSync,
       [](u32, u32 rank, u32, u32 t) { return 1000 * ((rank + 3) % 4) + t; }},
      {"red_async",
       init(1) + kOwn + "fence.proxy.async;\n" + kSync +
           "@%p0 mbarrier.arrive.expect_tx.shared.b64 _, [%r29], 256;\n" + peer_word +
           "mapa.shared::cluster.u32 %r4, %r29, %peer;\n"
           "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r3], "
           "7, [%r4];\n" +
           kWait + word + result + kSync,
       [](u32, u32 rank, u32, u32 t) { return 1000 * rank + t + 7; }},
      // A CTA's memory to the next CTA.
      {"bulk_copy",
       init(1) + kOwn +
           "fence.proxy.async.shared::cta;\n bar.sync 0;\n @!%p0 bra A;\n"
           "mbarrier.arrive.expect_tx.shared.b64 _, [%r29], 256;\n"
           "mapa.shared::cluster.u32 %r3, %r31, %peer;\n mapa.shared::cluster.u32 %r4, %r29, "
           "%peer;\n"
           "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r3+2048], "
           "[%r31], "
           "256, [%r4];\nA:" +
           kWait + "ld.shared.u32 %r5, [%r2+2048];\n" + result + kSync,
       [](u32, u32 rank, u32, u32 t) { return 1000 * ((rank + 3) % 4) + t; }},
      {"bulk_reduction",
       init(1) + kOwn + "st.shared.u32 [%r2+2048], 5;\n fence.proxy.async.shared::cta;\n" + kSync +
           "@!%p0 bra A;\n mbarrier.arrive.expect_tx.shared.b64 _, [%r29], 256;\n"
           "mapa.shared::cluster.u32 %r3, %r31, %peer;\n mapa.shared::cluster.u32 %r4, %r29, "
           "%peer;\n"
           "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 "
           "[%r3+2048], [%r31], 256, [%r4];\nA:" +
           kWait + "ld.shared.u32 %r5, [%r2+2048];\n" + result + kSync,
       [](u32, u32 rank, u32, u32 t) { return 1000 * ((rank + 3) % 4) + t + 5; }},
      // CTA 0 sends to CTAs 0, 1 and 3.
      {"multicast",
       init(1) +
           "setp.eq.u32 %p3, %rank, 2;\n @%p3 bra E;\n @!%p0 bra A;\n"
           "mbarrier.arrive.expect_tx.shared.b64 _, [%r29], 256;\n setp.ne.u32 %p4, %rank, 0;\n"
           "@%p4 bra A;\n mov.u16 %rs1, 11;\n"
           "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
           "[%r31], [%i], 256, [%r29], %rs1;\nA:" +
           kWait + "shl.b32 %r2, %t, 2;\n add.u32 %r2, %r2, %r31;\n" + word + result + "E:" + kSync,
       [](u32, u32 rank, u32, u32 t) {
         u32 v = 0;
         for (u32 b = 0; b < 4; ++b) v |= ((4 * t + b + 1) & 0xff) << (8 * b);
         return rank == 2 ? 0 : v;
       }},
      {"elect",
       "elect.sync %r5|%p2, 0xffffffff;\n selp.u32 %r6, 100, 0, %p2;\n add.u32 %r5, %r5, %r6;\n" +
           result,
       [](u32, u32, u32, u32 t) { return t % 32 == 0 ? 100 : 0; }},
      {"griddepcontrol",
       "griddepcontrol.wait;\n griddepcontrol.launch_dependents;\n mov.u32 %r5, %t;\n" + result,
       [](u32, u32, u32, u32 t) { return t; }},
  };
}

class ClusterForms : public testing::TestWithParam<Form> {};

TEST_P(ClusterForms, EveryThreadSeesWhatItShould) {
  if (device().capability() < 90) GTEST_SKIP() << "needs sm_90; runs on the virtual GPU";
  std::string body = GetParam().body;
  if (body.find("%rs1") != std::string::npos) body = ".reg .b16 %rs<2>;\n" + body;
  for (const Asynchrony a : kAsynchronies) {
    for (u64 seed : {1, 2}) {
      const std::vector<u32> out = run(body, 2, 4, a, seed);
      for (u32 i = 0; i < out.size(); ++i) {
        const u32 cta = i / 64, rank = cta % 4;
        ASSERT_EQ(out[i], GetParam().expected(cta / 4, rank, (rank + 1) % 4, i % 64))
            << "CTA " << cta << ", thread " << i % 64 << ", seed " << seed;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ptx, ClusterForms, testing::ValuesIn(forms()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace vgpu::test
