// Findings about global memory that CTAs share: broken kernels beside clean twins. Each runs with
// several seeds, so in several orders of its CTAs, and copies that complete early, late and piece
// by piece.
#include <gtest/gtest.h>

#include "tests/device.h"

namespace vgpu::test {
namespace {

struct Pair {
  std::string name;
  FindingKind kind;
  std::string broken, clean;
  std::string needle;  // part of the broken one's message
  u32 grid = 2, block = 64, dynamic_shared = 0;
  u32 clean_grid = 0;  // 0: the same
  bool always = true;  // found with every seed, not with some
  bool once = false;   // large: with one seed
};

// %t is tid.x, %b ctaid.x; %o the output's address plus 4 * tid, %d 4096 bytes of data and %f words
// for flags, all zero; %dt = %d plus 4 * tid; %r31 shared memory, %r29 an mbarrier. %p0 says thread
// 0, %p1 CTA 0.
std::string kernel(const std::string& body) {
  return ".version 8.6\n.target sm_90a\n.address_size 64\n"
         ".extern .shared .align 16 .b8 dynamic[];\n"
         ".visible .entry k(.param .u64 out, .param .u64 data, .param .u64 flags,\n"
         "  .param .align 64 .b8 map[128])\n{\n"
         "  .shared .align 1024 .b8 s[4096];\n  .shared .align 8 .b64 bar[2];\n"
         "  .reg .pred %p<8>;\n  .reg .b32 %r<32>, %t, %b;\n"
         "  .reg .b64 %rd<24>, %o, %d, %dt, %f, %m;\n"
         "  mov.u32 %t, %tid.x;\n  mov.u32 %b, %ctaid.x;\n  ld.param.u64 %o, [out];\n"
         "  ld.param.u64 %d, [data];\n  ld.param.u64 %f, [flags];\n"
         "  mul.wide.u32 %rd0, %t, 4;\n  add.u64 %o, %o, %rd0;\n  add.u64 %dt, %d, %rd0;\n"
         "  mov.u32 %r31, s;\n  mov.u32 %r29, bar;\n  mov.b64 %m, map;\n"
         "  cvta.param.u64 %m, %m;\n"
         "  setp.eq.u32 %p0, %t, 0;\n  setp.eq.u32 %p1, %b, 0;\n" +
         body + "\nEXIT: ret;\n}\n";
}

// CTA 1 does one thing, CTA 0 the other; of each only thread 0.
std::string two(const std::string& writer, const std::string& reader) {
  return "@!%p0 bra EXIT;\n @%p1 bra READER;\n" + writer + " bra EXIT;\nREADER:\n" + reader;
}
const std::string kData = " st.global.u32 [%d], 77;\n", kStore = " st.global.u32 [%o], %r1;\n",
                  kLoad = " ld.global.u32 %r1, [%d];\n", kFence = " fence.acq_rel.gpu;\n",
                  kFenceCta = " fence.acq_rel.cta;\n", kSync = " bar.sync 0;\n",
                  kProxyFence = " fence.proxy.async;\n";
std::string set(const std::string& how, const std::string& what = "%f") {
  return " st." + how + ".global.u32 [" + what + "], 1;\n";
}
std::string spin(const std::string& how, const std::string& label = "W") {
  return label + ": ld." + how + ".global.u32 %r2, [%f];\n setp.eq.u32 %p2, %r2, 0;\n @%p2 bra " +
         label + ";\n";
}
// Every thread of every CTA writes a part; the last CTA to come reads the parts of the others.
std::string last_block(const std::string& before, const std::string& count,
                       const std::string& after) {
  return " mad.lo.u32 %r3, %b, 256, 0;\n cvt.u64.u32 %rd1, %r3;\n add.u64 %rd2, %dt, %rd1;\n"
         " st.global.u32 [%rd2], %t;\n" +
         before + " @!%p0 bra N;\n" + count +
         " st.shared.u32 [%r31], %r4;\nN:\n bar.sync 0;\n ld.shared.u32 %r5, [%r31];\n"
         " setp.ne.u32 %p3, %r5, 3;\n @%p3 bra EXIT;\n" +
         after +
         " ld.global.u32 %r6, [%dt];\n ld.global.u32 %r7, [%dt+256];\n"
         " ld.global.u32 %r8, [%dt+512];\n ld.global.u32 %r9, [%dt+768];\n"
         " add.u32 %r6, %r6, %r7;\n add.u32 %r8, %r8, %r9;\n add.u32 %r1, %r6, %r8;\n" +
         kStore;
}
const std::string kCount = " atom.global.add.u32 %r4, [%f], 1;\n",
                  kCountAcqRel = " atom.acq_rel.gpu.global.add.u32 %r4, [%f], 1;\n";
// A lock around an addition to one word.
std::string with_lock(const std::string& behind, const std::string& before) {
  return "@!%p0 bra EXIT;\nL: atom.global.cas.b32 %r2, [%f], 0, 1;\n setp.ne.u32 %p2, %r2, 0;\n"
         " @%p2 bra L;\n" +
         behind + " ld.global.u32 %r1, [%d];\n add.u32 %r1, %r1, 1;\n st.global.u32 [%d], %r1;\n" +
         before + " atom.global.exch.b32 %r2, [%f], 0;\n";
}
// Thread 0 copies 64 bytes of data into shared memory and waits for them.
std::string copy_in(const std::string& behind = "") {
  return " mbarrier.init.shared.b64 [%r29], 1;\n fence.mbarrier_init.release.cluster;\n"
         " mbarrier.arrive.expect_tx.shared.b64 _, [%r29], 64;\n"
         " cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r31], [%d], 64, "
         "[%r29];\n" +
         behind +
         "C: mbarrier.try_wait.parity.shared.b64 %p4, [%r29], 0;\n @!%p4 bra C;\n"
         " ld.shared.u32 %r1, [%r31];\n st.global.u32 [%o], %r1;\n";
}
// Thread 0 copies 64 bytes of shared memory to the data.
std::string copy_out(const std::string& wait) {
  return " st.shared.v4.u32 [%r31], {1, 1, 1, 1};\n st.shared.v4.u32 [%r31+16], {1, 1, 1, 1};\n"
         " st.shared.v4.u32 [%r31+32], {1, 1, 1, 1};\n st.shared.v4.u32 [%r31+48], {1, 1, 1, 1};\n"
         " fence.proxy.async.shared::cta;\n"
         " cp.async.bulk.global.shared::cta.bulk_group [%d], [%r31], 64;\n"
         " cp.async.bulk.commit_group;\n cp.async.bulk.wait_group" +
         wait + " 0;\n";
}
// Thread 0 makes the parameter's map one in global memory, and uses it while `meanwhile`.
std::string map_in_memory(const std::string& meanwhile, const std::string& behind) {
  std::string text = "@!%p0 bra EXIT;\n add.u64 %rd3, %d, 1024;\n";
  for (int i = 0; i < 128; i += 8) {
    const std::string at = "+" + std::to_string(i) + "]";
    text += " ld.u64 %rd4, [%m" + at + ";\n st.global.u64 [%rd3" + at + ", %rd4;\n";
  }
  return text +
         " fence.proxy.tensormap::generic.release.gpu;\n"
         " fence.proxy.tensormap::generic.acquire.gpu [%rd3], 128;\n"
         " mbarrier.init.shared.b64 [%r29], 1;\n fence.mbarrier_init.release.cluster;\n"
         " mbarrier.arrive.expect_tx.shared.b64 _, [%r29], 64;\n"
         " cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [%r31], "
         "[%rd3, {0}], [%r29];\n" +
         meanwhile + "C: mbarrier.try_wait.parity.shared.b64 %p4, [%r29], 0;\n @!%p4 bra C;\n" +
         behind + " ld.shared.u32 %r1, [%r31];\n st.global.u32 [%o], %r1;\n";
}

// CTA 1 hands CTA 0 six words, one after the other in the same place.
std::string pipe(const std::string& back_pressure) {
  return two(" mov.u32 %r3, 0;\nL:\n" + back_pressure +
                 " st.global.u32 [%d], %r3;\n add.u32 %r3, %r3, 1;\n"
                 " st.release.gpu.global.u32 [%f], %r3;\n setp.lt.u32 %p3, %r3, 6;\n"
                 " @%p3 bra L;\n",
             " mov.u32 %r3, 0;\n"
             "R: ld.acquire.gpu.global.u32 %r2, [%f];\n setp.le.u32 %p3, %r2, %r3;\n"
             " @%p3 bra R;\n ld.global.u32 %r1, [%d];\n add.u32 %r3, %r3, 1;\n"
             " st.release.gpu.global.u32 [%f+4], %r3;\n setp.lt.u32 %p3, %r3, 6;\n"
             " @%p3 bra R;\n" +
                 kStore);
}

std::vector<Pair> pairs() {
  using enum FindingKind;
  const std::string not_ordered = "is not ordered against the ";
  const std::string message =
      two(kData + kFence + set("volatile"), spin("volatile") + kFence + kLoad + kStore);
  const std::string by_release =
      two(kData + set("release.gpu"), spin("acquire.gpu") + kLoad + kStore);
  const std::string counted = last_block(kSync + kFence, kCount, kFence);
  const std::string unknown = " st.global.u64 [%rd3], %rd5;\n";
  const std::string grid_wait =
      "@!%p0 bra EXIT;\n atom.global.add.u32 %r4, [%f], 1;\n"
      " mov.u32 %r5, %nctaid.x;\n"
      "G: ld.volatile.global.u32 %r6, [%f];\n"
      " setp.lt.u32 %p2, %r6, %r5;\n @%p2 bra G;\n" +
      kFence +
      " mul.wide.u32 %rd1, %b, 4;\n add.u64 %rd1, %o, %rd1;\n"
      " st.global.u32 [%rd1], %r5;\n";
  const std::string wait_for_two =
      "W: ld.acquire.gpu.global.u32 %r2, [%f];\n setp.ne.u32 %p2, %r2, 2;\n @%p2 bra W;\n";
  // CTA 0 waits for the last one.
  const std::string wait_for_last =
      "@!%p0 bra EXIT;\n @%p1 bra W;\n mov.u32 %r5, %nctaid.x;\n sub.u32 %r5, %r5, 1;\n"
      " setp.ne.u32 %p2, %b, %r5;\n @%p2 bra EXIT;\n" +
      kFence + set("volatile") + " bra EXIT;\n" + spin("volatile") + " st.global.u32 [%o], %r2;\n";
  constexpr u32 kMuch = 200 * 1024;  // one CTA on each multiprocessor
  std::vector<Pair> out = {
      {"flag_without_fences", kGlobalRace,
       two(kData + set("volatile"), spin("volatile") + kLoad + kStore), message,
       not_ordered + "write by thread (0,0,0) of CTA (1,0,0)"},
      {"flag_without_a_release", kGlobalRace,
       two(kData + set("relaxed.gpu"), spin("acquire.gpu") + kLoad + kStore), by_release,
       not_ordered + "write"},
      {"flag_without_an_acquire", kGlobalRace,
       two(kData + set("release.gpu"), spin("relaxed.gpu") + kLoad + kStore), by_release,
       not_ordered + "write"},
      {"fence_behind_the_flag", kGlobalRace,
       two(kData + set("volatile") + kFence, spin("volatile") + kFence + kLoad + kStore), message,
       not_ordered + "write"},
      {"fence_in_front_of_the_data", kGlobalRace,
       two(kFence + kData + set("volatile"), spin("volatile") + kFence + kLoad + kStore), message,
       not_ordered + "write"},
      {"fence_in_front_of_the_wait", kGlobalRace,
       two(kData + kFence + set("volatile"), kFence + spin("volatile") + kLoad + kStore), message,
       not_ordered + "write"},
      {"fence_of_cta_scope_by_the_writer", kGlobalRace,
       two(kData + kFenceCta + set("volatile"), spin("volatile") + kFence + kLoad + kStore),
       message, not_ordered + "write"},
      {"fence_of_cta_scope_by_the_reader", kGlobalRace,
       two(kData + kFence + set("volatile"), spin("volatile") + kFenceCta + kLoad + kStore),
       message, not_ordered + "write"},
      {"fence_of_the_wrong_direction", kGlobalRace,
       two(kData + " fence.acquire.gpu;\n" + set("relaxed.gpu"),
           spin("relaxed.gpu") + " fence.acquire.gpu;\n" + kLoad + kStore),
       two(kData + " fence.release.gpu;\n" + set("relaxed.gpu"),
           spin("relaxed.gpu") + " fence.acquire.gpu;\n" + kLoad + kStore),
       not_ordered + "write"},
      {"release_of_cluster_scope", kGlobalRace,
       two(kData + set("release.cluster"), spin("acquire.gpu") + kLoad + kStore), by_release,
       not_ordered},
      {"acquire_of_cta_scope", kGlobalRace,
       two(kData + set("release.gpu"), spin("acquire.cta") + kLoad + kStore), by_release,
       not_ordered},
      {"flag_that_is_no_strong_write", kGlobalRace,
       two(kData + kFence + " st.global.u32 [%f], 1;\n",
           spin("volatile") + kFence + kLoad + kStore),
       message, not_ordered},
      {"data_behind_the_flag", kGlobalRace,
       two(kData + kFence + set("volatile") + kData, spin("volatile") + kFence + kLoad + kStore),
       message, not_ordered, 2, 64, 0, 0, false},
      {"sum_by_plain_accesses", kGlobalRace,
       "@!%p0 bra EXIT;\n ld.global.u32 %r1, [%d];\n add.u32 %r1, %r1, 1;\n"
       " st.global.u32 [%d], %r1;\n",
       "@!%p0 bra EXIT;\n red.global.add.u32 [%d], 1;\n", not_ordered, 8},
      {"sum_by_volatile_and_plain_accesses", kGlobalRace,
       "@!%p0 bra EXIT;\n @%p1 st.global.u32 [%d], 1;\n atom.global.add.u32 %r1, [%d], 1;\n",
       "@!%p0 bra EXIT;\n @%p1 st.volatile.global.u32 [%d], 1;\n atom.global.add.u32 %r1, [%d], "
       "1;\n",
       not_ordered, 8},
      {"atomics_of_cta_scope", kGlobalRace,
       "@!%p0 bra EXIT;\n atom.cta.global.add.u32 %r1, [%d], 1;\n",
       "@!%p0 bra EXIT;\n atom.gpu.global.add.u32 %r1, [%d], 1;\n", not_ordered, 8},
      {"neighbours_write_the_same_word", kGlobalRace,
       "mad.lo.u32 %r3, %b, 252, 0;\n cvt.u64.u32 %rd1, %r3;\n add.u64 %rd2, %dt, %rd1;\n"
       " st.global.u32 [%rd2], %t;\n",
       "mad.lo.u32 %r3, %b, 256, 0;\n cvt.u64.u32 %rd1, %r3;\n add.u64 %rd2, %dt, %rd1;\n"
       " st.global.u32 [%rd2], %t;\n",
       "write of global memory", 4},
      {"write_over_what_another_reads", kGlobalRace,
       two(kData, kLoad + set("release.gpu") + kStore),
       two(spin("acquire.gpu") + kData, kLoad + set("release.gpu") + kStore), not_ordered},
      {"store_behind_a_release", kGlobalRace,
       two(set("release.gpu") + kData + " st.relaxed.gpu.global.u32 [%f], 2;\n",
           wait_for_two + kLoad + kStore),
       two(kData + set("release.gpu") + " st.relaxed.gpu.global.u32 [%f], 2;\n",
           wait_for_two + kLoad + kStore),
       not_ordered + "write"},
      {"pipe_without_back_pressure", kGlobalRace, pipe(""),
       pipe("A: ld.acquire.gpu.global.u32 %r4, [%f+4];\n setp.lt.u32 %p3, %r4, %r3;\n"
            " @%p3 bra A;\n"),
       not_ordered, 2, 64, 0, 0, false},
      {"halves_of_a_word", kGlobalRace,
       two(" st.global.u16 [%d+2], 1;\n", " ld.global.u16 %r1, [%d+2];\n" + kStore),
       two(" st.global.u16 [%d+2], 1;\n", " ld.global.u16 %r1, [%d];\n" + kStore), not_ordered},
      {"shift_by_one_in_place", kGlobalRace,
       "mad.lo.u32 %r3, %b, 256, 0;\n cvt.u64.u32 %rd1, %r3;\n add.u64 %rd2, %dt, %rd1;\n"
       " ld.global.u32 %r1, [%rd2+4];\n bar.sync 0;\n st.global.u32 [%rd2], %r1;\n",
       "mad.lo.u32 %r3, %b, 256, 0;\n cvt.u64.u32 %rd1, %r3;\n add.u64 %rd2, %dt, %rd1;\n"
       " ld.global.u32 %r1, [%rd2];\n bar.sync 0;\n st.global.u32 [%rd2], %r1;\n",
       not_ordered, 4},
      {"no_barrier_between_threads_of_a_cta", kGlobalRace,
       "st.global.u32 [%dt], %t;\n xor.b32 %r2, %t, 32;\n mul.wide.u32 %rd1, %r2, 4;\n"
       " add.u64 %rd1, %d, %rd1;\n ld.global.u32 %r1, [%rd1];\n" +
           kStore,
       "st.global.u32 [%dt], %t;\n bar.sync 0;\n xor.b32 %r2, %t, 32;\n mul.wide.u32 %rd1, %r2, "
       "4;\n"
       " add.u64 %rd1, %d, %rd1;\n ld.global.u32 %r1, [%rd1];\n" +
           kStore,
       not_ordered, 1},
      {"lock_without_fences", kGlobalRace, with_lock("", ""), with_lock(kFence, kFence),
       not_ordered, 8},
      {"lock_without_a_release", kGlobalRace, with_lock(kFence, ""), with_lock(kFence, kFence),
       not_ordered, 8},
      {"last_block_without_a_barrier", kGlobalRace, last_block(kFence, kCount, kFence), counted,
       not_ordered + "write", 4, 64, 0, 0, false},
      {"last_block_with_the_fence_in_front_of_the_barrier", kGlobalRace,
       last_block(" @%p0 fence.acq_rel.gpu;\n" + kSync, kCount, kFence), counted,
       not_ordered + "write", 4},
      {"last_block_without_a_release", kGlobalRace, last_block(kSync, kCount, kFence), counted,
       not_ordered + "write", 4},
      {"last_block_without_an_acquire", kGlobalRace, last_block(kSync + kFence, kCount, ""),
       counted, not_ordered + "write", 4},
      {"last_block_that_only_acquires", kGlobalRace,
       last_block(kSync, " atom.acquire.gpu.global.add.u32 %r4, [%f], 1;\n", ""),
       last_block(kSync, kCountAcqRel, ""), not_ordered + "write", 4},
      {"last_block_by_fences_of_all_threads", kGlobalRace, last_block(kSync, kCount, ""),
       last_block(kFence + kSync, kCount, kFence), not_ordered + "write", 4},
      {"bulk_copy_of_unfenced_stores", kProxy, "@!%p0 bra EXIT;\n" + kData + copy_in(),
       "@!%p0 bra EXIT;\n" + kData + kProxyFence + copy_in(), "lacks a fence.proxy.async", 1},
      {"bulk_copy_behind_a_fence_of_shared_memory", kProxy,
       "@!%p0 bra EXIT;\n" + kData + " fence.proxy.async.shared::cta;\n" + copy_in(),
       "@!%p0 bra EXIT;\n" + kData + " fence.proxy.async.global;\n" + copy_in(),
       "lacks a fence.proxy.async", 1},
      {"bulk_copy_of_stores_of_other_threads", kProxy,
       "st.global.u32 [%dt], %t;\n" + kSync + "@!%p0 bra EXIT;\n" + copy_in(),
       "st.global.u32 [%dt], %t;\n" + kProxyFence + kSync + "@!%p0 bra EXIT;\n" + copy_in(),
       "lacks a fence.proxy.async", 1},
      {"bulk_copy_of_stores_of_another_cta", kProxy,
       two(kData + set("release.gpu"), spin("acquire.gpu") + copy_in()),
       two(kData + set("release.gpu"), spin("acquire.gpu") + kProxyFence + copy_in()),
       "lacks a fence.proxy.async"},
      {"bulk_copy_of_stores_that_nothing_orders", kGlobalRace,
       two(kData + set("relaxed.gpu"), spin("acquire.gpu") + kProxyFence + copy_in()),
       two(kData + kProxyFence + set("release.gpu"), spin("acquire.gpu") + copy_in()),
       not_ordered + "write"},
      {"store_to_what_a_bulk_copy_reads", kGlobalRace, "@!%p0 bra EXIT;\n" + copy_in(kData),
       "@!%p0 bra EXIT;\n" + copy_in() + kData, "asynchronous operation", 1},
      {"read_behind_wait_group_read", kGlobalRace,
       "@!%p0 bra EXIT;\n" + copy_out(".read") + kLoad + kStore,
       "@!%p0 bra EXIT;\n" + copy_out("") + kLoad + kStore, "need not be complete", 1},
      {"flag_behind_wait_group_read", kGlobalRace,
       two(copy_out(".read") + set("release.gpu"), spin("acquire.gpu") + kLoad + kStore),
       two(copy_out("") + set("release.gpu"), spin("acquire.gpu") + kLoad + kStore),
       "need not be complete"},
      {"write_behind_wait_group_read", kGlobalRace, "@!%p0 bra EXIT;\n" + copy_out(".read") + kData,
       "@!%p0 bra EXIT;\n" + copy_out("") + kData, "need not be complete", 1},
      {"tensor_map_overwritten_in_flight", kGlobalRace,
       map_in_memory(" mov.u64 %rd5, 0;\n" + unknown, ""),
       map_in_memory("", " mov.u64 %rd5, 0;\n" + unknown), "asynchronous operation", 1},
      {"tensor_map_replaced_in_flight", kGlobalRace,
       map_in_memory(" tensormap.replace.tile.global_address.global.b1024.b64 [%rd3], %d;\n", ""),
       map_in_memory("", " tensormap.replace.tile.global_address.global.b1024.b64 [%rd3], %d;\n"),
       "asynchronous operation", 1},
      {"wait_for_a_cta_that_need_not_run", kResidency, wait_for_last, wait_for_last,
       "CTA (399,0,0)", 400, 32, kMuch, 100, true, true},
      {"barrier_of_a_grid_that_does_not_fit", kResidency, grid_wait, grid_wait,
       "the device holds 132", 140, 32, kMuch, 132, true, true},
      {"flag_that_nobody_sets", kDeadlock,
       "@!%p0 bra EXIT;\n @%p1 bra W;\n bra EXIT;\n" + spin("volatile"),
       "@!%p0 bra EXIT;\n @%p1 bra W;\n" + set("volatile") + " bra EXIT;\n" + spin("volatile"),
       "all CTAs wait"},
  };
  return out;
}

Observed run(const Pair& p, const std::string& body, u32 grid, u64 seed, Asynchrony asynchrony) {
  std::vector<u8> out(4096), data(4096), flags(256);
  Tensor tensor;
  tensor.argument = 1;
  tensor.type = 2;
  tensor.dims = {16};
  tensor.strides = {};
  tensor.box = {16};
  tensor.steps = {1};
  LaunchSpec spec;
  spec.grid = grid;
  spec.block = p.block;
  spec.dynamic_shared = p.dynamic_shared;
  spec.seed = seed;
  spec.asynchrony = asynchrony;
  return observe(kernel(body), "k", spec, {{&out}, {&data}, {&flags}, {nullptr, 0, false, &tensor}},
                 "h100");
}

class GlobalRace : public testing::TestWithParam<Pair> {};

TEST_P(GlobalRace, BrokenKernelIsFound) {
  const Pair& p = GetParam();
  int found = 0, runs = 0;
  for (const Asynchrony a : {Asynchrony::kEarly, Asynchrony::kLate}) {
    for (u64 seed : {1, 2, 3}) {
      if (p.once && (seed != 1 || a != Asynchrony::kEarly)) continue;
      const Observed o = run(p, p.broken, p.grid, seed, a);
      std::string all = o.error;
      bool here = false;
      for (const Finding& f : o.findings) {
        here = here || (f.kind == p.kind && f.message.find(p.needle) != std::string::npos);
        all += "\n" + f.str();
      }
      EXPECT_TRUE(here || !p.always) << p.name << ", seed " << seed << ": " << all;
      EXPECT_LE(o.findings.size(), 1u) << p.name << " is one fault: " << all;
      found += here ? 1 : 0;
      ++runs;
    }
  }
  EXPECT_GT(found, 0) << p.name << " in " << runs << " runs";
}

TEST_P(GlobalRace, CleanTwinIsClean) {
  const Pair& p = GetParam();
  for (const Asynchrony a : {Asynchrony::kEarly, Asynchrony::kLate, Asynchrony::kAny}) {
    for (u64 seed : {1, 2, 3}) {
      if (p.once && (seed != 1 || a != Asynchrony::kEarly)) continue;
      const Observed o = run(p, p.clean, p.clean_grid != 0 ? p.clean_grid : p.grid, seed, a);
      EXPECT_EQ(o.error, "");
      for (const Finding& f : o.findings) ADD_FAILURE() << f.str();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Machine, GlobalRace, testing::ValuesIn(pairs()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace vgpu::test
