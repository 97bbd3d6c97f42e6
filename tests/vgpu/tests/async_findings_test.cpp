// Every finding about asynchronous memory by a small broken kernel, beside a clean twin: bulk
// copies, the proxies, mbarriers with transactions, clusters. Each kernel runs with copies that
// complete early, late and piece by piece.
#include <gtest/gtest.h>

#include <set>

#include "tests/device.h"

namespace vgpu::test {
namespace {

struct Pair {
  const char* name;
  std::set<FindingKind> kinds;  // one of these, in every run
  std::string broken, clean;
  std::string needle;  // part of its message
  bool cluster = false;
  Asynchrony only = Asynchrony::kBySeed;  // whether it goes wrong depends on when copies complete
};

// 64 threads. %t is tid.x, %p0 says thread 0, %o the output's address plus 4 * tid, %r31 the shared
// bytes s, %r30 = s + 8 * tid, %r29 two mbarriers, %rd14 and %rd15 tensor maps of 16 x 16 words:
// the input and the output, in boxes of 16 x 8 words.
std::string kernel(const std::string& body, bool cluster) {
  return ".version 8.6\n.target sm_90a\n.address_size 64\n"
         ".visible .entry k(.param .u64 out, .param .u64 in, .param .align 64 .b8 tin[128],\n"
         "  .param .align 64 .b8 tout[128])" +
         std::string(cluster ? " .explicitcluster .reqnctapercluster 2, 1, 1" : "") +
         "\n{\n  .shared .align 1024 .b8 s[2048];\n  .shared .align 8 .b64 bar[2];\n"
         "  .reg .pred %p<8>;\n  .reg .b32 %r<32>, %t;\n  .reg .b64 %rd<16>, %o, %i;\n"
         "  mov.u32 %t, %tid.x;\n  ld.param.u64 %o, [out];\n  ld.param.u64 %i, [in];\n"
         "  mul.wide.u32 %rd0, %t, 4;\n  add.u64 %o, %o, %rd0;\n  mov.u32 %r31, s;\n"
         "  mov.u32 %r29, bar;\n  shl.b32 %r30, %t, 3;\n  add.u32 %r30, %r30, %r31;\n"
         "  mov.b64 %rd14, tin;\n  cvta.param.u64 %rd14, %rd14;\n  mov.b64 %rd15, tout;\n"
         "  cvta.param.u64 %rd15, %rd15;\n  setp.eq.u32 %p0, %t, 0;\n" +
         body + "\n  ret;\n}\n";
}

const std::string kInitFence = "fence.mbarrier_init.release.cluster;";
std::string init(const std::string& fence = kInitFence, int count = 1) {
  return "@!%p0 bra I;\n mbarrier.init.shared.b64 [%r29], " + std::to_string(count) + ";\n " +
         fence + "\nI: bar.sync 0;\n";
}
// Thread 0 loads a box into `to`.
std::string load(int bytes = 512, const std::string& to = "%r31", const std::string& map = "%rd14",
                 const std::string& label = "L") {
  return "@!%p0 bra " + label + ";\n mbarrier.arrive.expect_tx.shared.b64 _, [%r29], " +
         std::to_string(bytes) +
         ";\n cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [" + to +
         "], [" + map + ", {0, 0}], [%r29];\n" + label + ":\n";
}
std::string wait(int parity, const std::string& label = "W") {
  return label + ": mbarrier.try_wait.parity.shared.b64 %p1, [%r29], " + std::to_string(parity) +
         ";\n @!%p1 bra " + label + ";\n";
}
const std::string kRead = "ld.shared.u32 %r1, [%r30];\n st.global.u32 [%o], %r1;\n";
const std::string kWrite = "st.shared.v2.u32 [%r30], {%t, %t};\n";
const std::string kFence = "fence.proxy.async.shared::cta;\n";
const std::string kSync = "bar.sync 0;\n";
const std::string kClusterSync = "barrier.cluster.arrive;\n barrier.cluster.wait;\n";
std::string store(const std::string& commit, const std::string& wait_for) {
  return "@!%p0 bra S;\n cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd15, {0, 0}], "
         "[%r31];\n " +
         commit + "\n " + wait_for + "\nS:\n";
}
const std::string kCommit = "cp.async.bulk.commit_group;";
const std::string kWaitRead = "cp.async.bulk.wait_group.read 0;";
const std::string kWaitAll = "cp.async.bulk.wait_group 0;";

const std::string kRelaxedWait =
    "W: mbarrier.try_wait.parity.relaxed.cta.shared::cta.b64 %p1, [%r29], 0;\n @!%p1 bra W;\n";
// Thread 0 of each CTA arrives at the other one's mbarrier.
std::string relaxed_init(const std::string& fence) {
  return "@!%p0 bra I;\n mbarrier.init.shared.b64 [%r29], 1;\n " + fence +
         "\nI: barrier.cluster.arrive.relaxed;\n barrier.cluster.wait;\n"
         "mov.u32 %r2, %cluster_ctarank;\n xor.b32 %r2, %r2, 1;\n"
         "mapa.shared::cluster.u32 %r3, %r29, %r2;\n"
         "@%p0 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r3];\n" +
         kClusterSync;
}

std::vector<Pair> pairs() {
  using enum FindingKind;
  const std::string loaded = init() + load() + wait(0);
  const std::string plain =
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r31], ";
  const auto bulk = [&](const std::string& source, const std::string& bytes) {
    return init() + "@!%p0 bra L;\n mbarrier.arrive.expect_tx.shared.b64 _, [%r29], 512;\n " +
           "mov.u32 %r5, " + bytes + ";\n " + plain + source + ", %r5, [%r29];\nL:\n" + wait(0) +
           kRead;
  };
  // CTA 0 waits at its mbarrier for the arrival of CTA 1.
  const std::string peer =
      init() + kClusterSync +
      "mov.u32 %r2, %cluster_ctarank;\n setp.eq.u32 %p2, %r2, 0;\n mapa.shared::cluster.u32 %r3, "
      "%r29, 0;\n";
  const std::string arrive_at_0 = "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r3];\n";
  return {
      {"store_without_proxy_fence",
       {kProxy},
       kWrite + kSync + store(kCommit, kWaitAll),
       kWrite + kFence + kSync + store(kCommit, kWaitAll),
       "lacks a fence.proxy.async"},
      {"store_with_a_fence_of_global_memory",
       {kProxy},
       kWrite + "fence.proxy.async.global;\n" + kSync + store(kCommit, kWaitAll),
       kWrite + "fence.proxy.async;\n" + kSync + store(kCommit, kWaitAll),
       "lacks a fence.proxy.async"},
      {"proxy_fence_by_another_thread_too_early",
       {kProxy},
       "@%p0 fence.proxy.async;\n" + kWrite + kSync + store(kCommit, kWaitAll),
       kWrite + kSync + "@%p0 fence.proxy.async;\n" + store(kCommit, kWaitAll),
       "lacks a fence.proxy.async"},
      {"load_over_unfenced_writes",
       {kProxy},
       init() + kWrite + kSync + load() + wait(0) + kRead,
       init() + kWrite + kFence + kSync + load() + wait(0) + kRead,
       "lacks a fence.proxy.async"},
      {"refill_without_empty_barrier",
       {kSharedRace},
       loaded + kRead + load(512, "%r31", "%rd14", "M") + wait(1, "V"),
       loaded + kRead + kSync + load(512, "%r31", "%rd14", "M") + wait(1, "V"),
       "not ordered against the read"},
      {"wrong_parity",
       {kSharedRace, kDeadlock},
       init() + load() + wait(1) + kRead + wait(0, "V"),
       init() + load() + wait(0) + kRead,
       ""},
      {"no_wait",
       {kSharedRace},
       init() + load() + kRead + wait(0),
       init() + load() + wait(0) + kRead,
       "by the asynchronous operation"},
      {"too_many_bytes_expected",
       {kDeadlock},
       init() + load(528) + wait(0) + kRead,
       init() + load(512) + wait(0) + kRead,
       "0 of 1 arrivals and 16 bytes missing"},
      {"too_few_bytes_expected",
       {kDeadlock},
       init() + load(256) + wait(0) + kRead,
       init() + load(512) + wait(0) + kRead,
       "256 bytes came that none expected",
       false,
       Asynchrony::kLate},
      {"phase_complete_too_early",
       {kSharedRace},
       init() + load(256) + wait(0) + kRead,
       init() + load(512) + wait(0) + kRead,
       "by the asynchronous operation",
       false,
       Asynchrony::kAny},
      {"too_many_bytes_to_count",
       {kTransaction},
       init() + "mbarrier.expect_tx.relaxed.cta.shared.b64 [%r29], 1048576;",
       init() + "mbarrier.expect_tx.relaxed.cta.shared.b64 [%r29], 64;\n"
                "mbarrier.complete_tx.relaxed.cta.shared.b64 [%r29], 64;",
       "cannot count"},
      {"nobody_arrives",
       {kDeadlock},
       init() + wait(0),
       init() + "@%p0 mbarrier.arrive.shared.b64 _, [%r29];\n" + wait(0),
       "1 of 1 arrivals missing"},
      {"spinning_test_wait",
       {kDeadlock},
       init() + "W: mbarrier.test_wait.parity.shared.b64 %p1, [%r29], 0;\n @!%p1 bra W;\n",
       init() +
           "@%p0 mbarrier.arrive.shared.b64 _, [%r29];\nW: mbarrier.test_wait.parity.shared.b64"
           " %p1, [%r29], 0;\n @!%p1 bra W;\n",
       "1 of 1 arrivals missing"},
      {"initialised_again_in_use",
       {kBarrierMisuse},
       init() + load() + "@%p0 mbarrier.init.shared.b64 [%r29], 1;\n",
       loaded + kSync +
           "@%p0 mbarrier.inval.shared.b64 [%r29];\n"
           "@%p0 mbarrier.init.shared.b64 [%r29], 1;\n",
       "initialised again"},
      {"invalidated_in_use",
       {kBarrierMisuse},
       init() + load() + "@%p0 mbarrier.inval.shared.b64 [%r29];\n",
       loaded + kSync + "@%p0 mbarrier.inval.shared.b64 [%r29];\n",
       "no mbarrier any more",
       false,
       Asynchrony::kLate},
      {"initialisation_not_shown",
       {kProxy},
       init("") + load() + wait(0) + kRead,
       init("fence.proxy.async;") + load() + wait(0) + kRead,
       "initialisation lacks"},
      {"used_before_initialised",
       {kSharedRace, kBarrierMisuse},
       "@%p0 mbarrier.init.shared.b64 [%r29], 63;\n @%p0 bra E;\n"
       "mbarrier.arrive.shared.b64 _, [%r29];\nE:",
       "@%p0 mbarrier.init.shared.b64 [%r29], 63;\n bar.sync 0;\n @%p0 bra E;\n"
       "mbarrier.arrive.shared.b64 _, [%r29];\nE:",
       ""},
      {"store_source_reused",
       {kSharedRace},
       kWrite + kFence + kSync + store(kCommit, "") + kWrite + "@%p0 " + kWaitRead + "\n",
       kWrite + kFence + kSync + store(kCommit, kWaitRead) + kSync + kWrite,
       "by thread (0,0,0)"},
      {"store_not_committed",
       {kPendingAtExit},
       kWrite + kFence + kSync + store("", kWaitAll),
       kWrite + kFence + kSync + store(kCommit, kWaitAll),
       "without having waited"},
      {"store_not_waited_for",
       {kPendingAtExit},
       kWrite + kFence + kSync + store(kCommit, ""),
       kWrite + kFence + kSync + store(kCommit, kWaitRead),
       "without having waited"},
      {"load_under_way_at_exit",
       {kPendingAtExit},
       init() + load(),
       loaded + kRead,
       "exits while the copy into",
       false,
       Asynchrony::kLate},
      {"box_misaligned",
       {kBulkMisuse},
       init() + load(512, "%r31+64") + wait(0),
       init() + load(512, "%r31+128") + wait(0),
       "no multiple of 128"},
      {"no_tensor_map",
       {kBulkMisuse},
       init() + load(512, "%r31", "%i") + wait(0),
       loaded,
       "no tensor map"},
      {"wrong_rank",
       {kBulkMisuse},
       init() + "@%p0 cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes "
                "[%r31], [%rd14, {0}], [%r29];",
       loaded,
       "2 dimensions"},
      {"size_no_multiple", {kBulkMisuse}, bulk("[%i]", "500"), bulk("[%i]", "512"), "size 500"},
      {"source_misaligned",
       {kBulkMisuse},
       bulk("[%i+8]", "512"),
       bulk("[%i+16]", "512"),
       "no multiple of 16"},
      {"past_the_end_of_the_source",
       {kOutOfBounds},
       bulk("[%i+528]", "512"),
       bulk("[%i+512]", "512"),
       "past the end"},
      {"peer_memory_without_cluster_sync",
       {kSharedRace},
       kWrite +
           "mov.u32 %r2, %cluster_ctarank;\n xor.b32 %r2, %r2, 1;\n"
           "mapa.shared::cluster.u32 %r3, %r30, %r2;\n ld.shared::cluster.u32 %r4, [%r3];\n" +
           kClusterSync,
       kWrite + kClusterSync +
           "mov.u32 %r2, %cluster_ctarank;\n xor.b32 %r2, %r2, 1;\n"
           "mapa.shared::cluster.u32 %r3, %r30, %r2;\n ld.shared::cluster.u32 %r4, [%r3];\n" +
           kClusterSync,
       "of CTA",
       true},
      {"peer_memory_after_relaxed_arrive",
       {kSharedRace},
       kWrite +
           "barrier.cluster.arrive.relaxed;\n barrier.cluster.wait;\n"
           "mov.u32 %r2, %cluster_ctarank;\n xor.b32 %r2, %r2, 1;\n"
           "mapa.shared::cluster.u32 %r3, %r30, %r2;\n ld.shared::cluster.u32 %r4, [%r3];\n" +
           kClusterSync,
       kWrite +
           "fence.acq_rel.cluster;\n barrier.cluster.arrive.relaxed;\n barrier.cluster.wait;\n"
           "mov.u32 %r2, %cluster_ctarank;\n xor.b32 %r2, %r2, 1;\n"
           "mapa.shared::cluster.u32 %r3, %r30, %r2;\n ld.shared::cluster.u32 %r4, [%r3];\n" +
           kClusterSync,
       "of CTA",
       true},
      {"peer_exited",
       {kExitedPeer},
       init("", 64) + kClusterSync +
           "mov.u32 %r2, %cluster_ctarank;\n setp.eq.u32 %p2, %r2, 1;\n"
           "@%p2 bra E;\n mov.u32 %r4, 0;\nD: add.u32 %r4, %r4, 1;\n setp.lt.u32 %p3, %r4, 40000;\n"
           "@%p3 bra D;\n mapa.shared::cluster.u32 %r3, %r29, 1;\n" +
           arrive_at_0 + "E:",
       init("", 64) + kClusterSync +
           "mov.u32 %r2, %cluster_ctarank;\n setp.eq.u32 %p2, %r2, 1;\n"
           "@%p2 bra E;\n mapa.shared::cluster.u32 %r3, %r29, 1;\n" +
           arrive_at_0 + "E:" + kClusterSync,
       "has exited",
       true},
      {"peer_barrier_before_cluster_sync",
       {kSharedRace, kBarrierMisuse},
       init(kInitFence, 64) +
           "mapa.shared::cluster.u32 %r3, %r29, 0;\n"
           "mov.u32 %r2, %cluster_ctarank;\n setp.eq.u32 %p2, %r2, 0;\n @!%p2 bra A;\n" +
           wait(0) + "bra E;\nA: " + arrive_at_0 + "E: " + kClusterSync,
       init(kInitFence, 64) + kClusterSync +
           "mapa.shared::cluster.u32 %r3, %r29, 0;\n"
           "mov.u32 %r2, %cluster_ctarank;\n setp.eq.u32 %p2, %r2, 0;\n @!%p2 bra A;\n" +
           wait(0) + "bra E;\nA: " + arrive_at_0 + "E: " + kClusterSync,
       "",
       true},
      {"relaxed_cluster_arrival_after_initialisation",
       {kSharedRace},
       relaxed_init(""),
       relaxed_init(kInitFence),
       "of CTA",
       true},
      {"relaxed_mbarrier_arrival",
       {kSharedRace},
       init("", 64) + kWrite + "mbarrier.arrive.relaxed.cta.shared::cta.b64 _, [%r29];\n" +
           wait(0) + "xor.b32 %r2, %r30, 256;\n ld.shared.u32 %r3, [%r2];\n",
       init("", 64) + kWrite +
           "fence.acq_rel.cta;\n mbarrier.arrive.relaxed.cta.shared::cta.b64 _, [%r29];\n" +
           wait(0) + "xor.b32 %r2, %r30, 256;\n ld.shared.u32 %r3, [%r2];\n",
       "by thread"},
      {"relaxed_mbarrier_wait",
       {kSharedRace},
       init("", 64) + kWrite + "mbarrier.arrive.shared::cta.b64 _, [%r29];\n" + kRelaxedWait +
           "xor.b32 %r2, %r30, 256;\n ld.shared.u32 %r3, [%r2];\n",
       init("", 64) + kWrite + "mbarrier.arrive.shared::cta.b64 _, [%r29];\n" + kRelaxedWait +
           "fence.acq_rel.cta;\n xor.b32 %r2, %r30, 256;\n ld.shared.u32 %r3, [%r2];\n",
       "by thread"},
      {"cluster_barrier_without_arrival",
       {kBarrierMisuse},
       "barrier.cluster.wait;",
       kClusterSync,
       "without having arrived",
       true},
      {"mbarrier_of_another_cta",
       {kBulkMisuse},
       peer +
           "@!%p2 bra E;\n @!%p0 bra E;\n mapa.shared::cluster.u32 %r4, %r31, 1;\n"
           "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r4], [%i], 512, "
           "[%r29];\nE:" +
           kClusterSync,
       peer + "@!%p0 bra A;\n mbarrier.arrive.expect_tx.shared.b64 _, [%r29], 512;\nA:" +
           kClusterSync +
           "@!%p0 bra E;\n @!%p2 bra E;\n mapa.shared::cluster.u32 %r4, %r31, 1;\n"
           "mapa.shared::cluster.u32 %r5, %r29, 1;\n"
           "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r4], [%i], 512, "
           "[%r5];\n mov.u32 %r6, 512;\n"
           "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r31], [%i], %r6, "
           "[%r29];\nE:" +
           wait(0) + "mov.u32 %r7, %cluster_ctarank;\n mad.wide.u32 %o, %r7, 256, %o;\n" + kRead +
           kClusterSync,
       "different CTAs",
       true},
  };
}

Observed run(const Pair& p, const std::string& body, u64 seed, Asynchrony asynchrony) {
  std::vector<u8> out(1024), in(1024, 1);
  Tensor tensor_in, tensor_out;
  tensor_in.argument = 1;
  tensor_in.type = 2;
  tensor_in.dims = {16, 16};
  tensor_in.strides = {64};
  tensor_in.box = {16, 8};
  tensor_in.steps = {1, 1};
  tensor_out = tensor_in;
  tensor_out.argument = 0;
  LaunchSpec spec;
  spec.block = 64;
  spec.grid = p.cluster ? 2 : 1;
  spec.seed = seed;
  spec.asynchrony = asynchrony;
  return observe(kernel(body, p.cluster), "k", spec,
                 {{&out}, {&in}, {nullptr, 0, false, &tensor_in}, {nullptr, 0, false, &tensor_out}},
                 "h100");
}

class AsyncFindings : public testing::TestWithParam<Pair> {};

TEST_P(AsyncFindings, BrokenKernelIsFound) {
  const Pair& p = GetParam();
  for (const Asynchrony a : {Asynchrony::kEarly, Asynchrony::kLate, Asynchrony::kAny}) {
    if (p.only != Asynchrony::kBySeed && p.only != a) continue;
    int found = 0;
    for (u64 seed : {1, 2, 3}) {
      const Observed o = run(p, p.broken, seed, a);
      std::string all = o.error;
      bool here = false;
      for (const Finding& f : o.findings) {
        here = here || (p.kinds.contains(f.kind) && f.message.find(p.needle) != std::string::npos);
        all += "\n" + f.str();
      }
      found += here ? 1 : 0;
      // Where bytes come in pieces, one that is too early need not be seen.
      if (a != Asynchrony::kAny) {
        EXPECT_TRUE(here) << p.name << ", asynchrony " << int{static_cast<u8>(a)} << ": " << all;
      }
    }
    EXPECT_GT(found, 0) << p.name;
  }
}
TEST_P(AsyncFindings, CleanTwinIsClean) {
  const Pair& p = GetParam();
  for (const Asynchrony a : {Asynchrony::kEarly, Asynchrony::kLate, Asynchrony::kAny}) {
    for (u64 seed : {1, 2, 3}) {
      const Observed o = run(p, p.clean, seed, a);
      EXPECT_EQ(o.error, "");
      for (const Finding& f : o.findings) ADD_FAILURE() << f.str();
    }
  }
}

// All threads wait for a load while stores arrive in memory, which have read shared memory: that is
// no deadlock, however many there are. An atomic makes CTAs take turns, which are counted.
TEST(AsyncProgress, StoresArriveWhileAllWaitForALoad) {
  constexpr int kStores = 128;
  std::string body = init() + "st.shared.v2.u32 [%r30], {%t, %t};\n" + kFence + kSync +
                     "@!%p0 bra L;\n mov.u32 %r5, 16;\n atom.global.add.u32 %r1, [%o+" +
                     std::to_string(kStores * 16) + "], 1;\n";
  for (int n = 0; n < kStores; ++n)
    body += "add.u64 %rd1, %o, " + std::to_string(n * 16) +
            ";\n cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r31], %r5;\n";
  body +=
      "cp.async.bulk.commit_group;\n cp.async.bulk.wait_group.read 0;\n"
      "mbarrier.arrive.expect_tx.shared.b64 _, [%r29], 16;\n add.u32 %r4, %r31, 1024;\n"
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r4], [%i], %r5, "
      "[%r29];\nL:\n" +
      wait(0) + "@!%p0 bra E;\n cp.async.bulk.wait_group 0;\nE:\n";
  for (u64 seed = 1; seed <= 20; ++seed) {
    std::vector<u8> out(kStores * 16 + 16), in(1024, 1);
    Tensor tensor;
    tensor.argument = 1;
    tensor.type = 2;
    tensor.dims = {16, 16};
    tensor.strides = {64};
    tensor.box = {16, 8};
    tensor.steps = {1, 1};
    LaunchSpec spec;
    spec.block = 64;
    spec.seed = seed;
    spec.asynchrony = Asynchrony::kLate;
    const Observed o = observe(
        kernel(body, false), "k", spec,
        {{&out}, {&in}, {nullptr, 0, false, &tensor}, {nullptr, 0, false, &tensor}}, "h100");
    EXPECT_EQ(o.error, "");
    for (const Finding& f : o.findings) ADD_FAILURE() << f.str();
  }
}

INSTANTIATE_TEST_SUITE_P(Machine, AsyncFindings, testing::ValuesIn(pairs()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace vgpu::test
