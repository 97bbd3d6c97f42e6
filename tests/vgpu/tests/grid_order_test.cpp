// Programmatic dependent launch: a chain of grids, each of which may start before the one before it
// is complete, and what they must not access then.
#include <gtest/gtest.h>

#include "common/error.h"
#include "machine/decoder.h"
#include "machine/launch.h"
#include "mutate/mutate.h"

namespace vgpu::test {
namespace {

constexpr u32 kThreads = 64, kGrid = 2, kBytes = 4096;

// %o is `data` plus 4 * global thread; thread 0 of a CTA has %p0.
std::string kernel(const std::string& body) {
  return ".version 8.6\n.target sm_90a\n.address_size 64\n"
         ".visible .entry k(.param .u64 data)\n{\n  .shared .align 16 .b8 s[256];\n"
         "  .reg .pred %p<2>;\n  .reg .b32 %r<8>;\n  .reg .b64 %rd<4>, %o;\n"
         "  mov.u32 %r0, %tid.x;\n  mov.u32 %r1, %ctaid.x;\n  mad.lo.u32 %r2, %r1, 64, %r0;\n"
         "  ld.param.u64 %rd0, [data];\n  mul.wide.u32 %rd1, %r2, 4;\n  add.u64 %o, %rd0, %rd1;\n"
         "  setp.eq.u32 %p0, %r0, 0;\n  mov.u32 %r3, 0;\n" +
         body + "  ret;\n}\n";
}
const std::string kWait = "griddepcontrol.wait;\n",
                  kTrigger = "griddepcontrol.launch_dependents;\n",
                  kWrite = "st.global.u32 [%o], %r2;\n", kRead = "ld.global.u32 %r3, [%o];\n",
                  kElsewhere = "st.global.u32 [%o+2048], %r2;\n";

struct Chain {
  const char* name;
  std::vector<std::string> grids;  // each after the first is launched programmatically
  bool broken;
};

// What is found when the grids of the chain run; `mutant` changes the last one.
std::vector<Finding> run(const Chain& chain, const Mutant* mutant = nullptr) {
  Machine machine;
  machine.device = *find_device("h100");
  Allocation* data = machine.memory.allocate(kBytes, Allocation::Kind::kDevice, 0);
  machine.memory.set_defined(*data, data->base, data->size);
  std::vector<u8> params(8);
  std::memcpy(params.data(), &data->base, 8);
  LaunchConfig config;
  config.grid[0] = kGrid;
  config.block[0] = kThreads;
  const SymbolTable none{[](const std::string&) { return std::nullopt; }};
  for (size_t i = 0; i < chain.grids.size(); ++i) {
    const auto program = link_program(ptx::parse_module(kernel(chain.grids[i])), "k", none);
    if (mutant != nullptr && i + 1 == chain.grids.size()) apply(*mutant, *program);
    Launch launch(machine, *program, config, params);
    launch.run();
    config.unfinished = launch.unfinished();
  }
  return machine.findings.list();
}

const std::string kBarrier = "bar.sync 0;\n";
const std::vector<Chain>& chains() {
  static const std::vector<Chain> all = {
      {"reads_before_the_wait", {kTrigger + kWrite, kRead + kWait}, true},
      {"reads_after_the_wait", {kTrigger + kWrite, kWait + kRead}, false},
      {"writes_before_the_wait", {kWrite + kTrigger, kWrite}, true},
      {"writes_elsewhere", {kWrite + kTrigger, kElsewhere + kWait}, false},
      {"adds_before_the_wait", {kTrigger + kWrite, "red.global.add.u32 [%o], 1;\n" + kWait}, true},
      {"copies_before_the_wait",
       {kTrigger + kWrite,
        "mov.u32 %r4, s;\n mad.lo.u32 %r4, %r0, 4, %r4;\n cp.async.ca.shared.global [%r4], [%o], "
        "4;\n cp.async.wait_all;\n"},
       true},
      {"bulk_copy_before_the_wait",
       {kTrigger + kWrite,
        "mov.u32 %r4, s;\n @!%p0 bra E;\n"
        "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%rd0], [%r4], 256;\n"
        "cp.async.bulk.commit_group;\n cp.async.bulk.wait_group 0;\nE:\n"},
       true},
      // Without launch_dependents a dependent starts when the grid before it is complete.
      {"never_let_go", {kWrite, kRead}, false},
      // Another thread's wait counts where a barrier stands between.
      {"one_waits_for_all", {kTrigger + kWrite, "@%p0 " + kWait + kBarrier + kRead}, false},
      {"one_waits_too_late", {kTrigger + kWrite, "@%p0 " + kWait + kRead + kBarrier}, true},
      // The grid before the last has waited for the first, or not, when it lets the last start.
      {"waits_then_lets_go", {kTrigger + kWrite, kWait + kTrigger, kRead}, false},
      {"lets_go_then_waits", {kTrigger + kWrite, kTrigger + kWait, kRead}, true},
      {"lets_go_then_waits_twice", {kTrigger + kWrite, kTrigger + kWait, kWait + kRead}, false},
      {"does_not_wait", {kTrigger + kWrite, kElsewhere, kRead}, true},
      {"waits_and_ends", {kTrigger + kWrite, kWait + kElsewhere, kRead}, false},
  };
  return all;
}

class GridOrder : public testing::TestWithParam<Chain> {};

TEST_P(GridOrder, IsFoundWhereItIsBroken) {
  std::vector<Finding> found = run(GetParam());
  // The bulk copy of this test adds undefined bytes: that is another matter.
  std::erase_if(found, [](const Finding& f) { return f.kind == FindingKind::kUndefinedStore; });
  ASSERT_EQ(found.size(), GetParam().broken ? 1u : 0u) << (found.empty() ? "" : found[0].str());
  if (!GetParam().broken) return;
  EXPECT_EQ(found[0].kind, FindingKind::kGridOrder) << found[0].str();
  EXPECT_NE(found[0].message.find("unfinished grid of k"), std::string::npos) << found[0].message;
}

INSTANTIATE_TEST_SUITE_P(Ptx, GridOrder, testing::ValuesIn(chains()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(GridOrderMutation, ADroppedOrDelayedWaitIsFound) {
  const Chain& chain = chains()[1];
  const SymbolTable none{[](const std::string&) { return std::nullopt; }};
  const auto program = link_program(ptx::parse_module(kernel(chain.grids[1])), "k", none);
  int waits = 0;
  for (const Mutant& m : find_mutants(*program)) {
    if (m.text.find("griddepcontrol.wait") == std::string::npos) continue;
    ++waits;
    EXPECT_FALSE(run(chain, &m).empty()) << m.str();
  }
  EXPECT_EQ(waits, 2);
}

}  // namespace
}  // namespace vgpu::test
