// The table of plans, plans.md: what would run where, how it is cut, how long it is estimated to
// take. A plan that changes fails here until `plan_table_test --write` renews the table, so that
// nobody changes plans without seeing which. And the estimates against what an H100 measured.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "bench/spec.h"
#include "bench/tensors.h"
#include "host/core/known_devices.h"
#include "host/ops/attention/estimate.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/plans.h"
#include "tests/vgpu/machine/device.h"

namespace qkv::test {
namespace {

using host::KnownDevice;
using host::Plan;
using host::attention::Problem;

constexpr const char* kDevices[] = {"a100", "h100", "h200", "l4", "rtx4090", "rtx5090", "t4"};

// Decoding, few queries, prefill; the widths that are common; fp32. bf16 and d128 where nothing
// else stands there.
constexpr const char* kProblems[] = {
    "full:b1:hq32:hkv8:sq1:skv1024",
    "full:b1:hq32:hkv8:sq1:skv4096",
    "full:b1:hq32:hkv8:sq1:skv32768",
    "full:b1:hq64:hkv8:sq1:skv65536",
    "full:b1:hq16:hkv1:sq1:skv131072",
    "full:b8:hq32:hkv8:sq1:skv4096",
    "full:b8:hq32:hkv8:sq1:skv16384",
    "full:b64:hq32:hkv8:sq1:skv4096",
    "full:b16:hq32:hkv32:sq1:skv4096",
    "d64:full:b1:hq32:hkv8:sq1:skv16384",
    "d256:full:b1:hq16:hkv8:sq1:skv16384",
    "causal:b4:hq32:hkv8:sq16:skv8192",
    "causal:b1:hq32:hkv8:sq128:skv32768",
    "causal:b2:h8:sq300:skv4000",
    "full:b1:h16:s576",
    "full:b32:h16:s512",
    "full:b4:h16:s4096",
    "full:b1:h16:s16384",
    "causal:b32:h16:s512",
    "causal:b4:h16:s4096",
    "causal:b1:hq64:hkv8:s8192",
    "d64:causal:b2:h32:s8192",
    "d256:causal:b4:h8:s4096",
    "causal:b4:h16:s4096:left=1023",
    "causal:b2:h16:s2048:alibi",
    "f32:full:b4:h16:s1024",
    "full:b4:h16:s4096:hard",
    "full:b1:hq32:hkv8:sq1:skv32768:hard",
    "f32:full:b4:h16:s4096:hard",
    "f32:full:b1:hq32:hkv8:sq1:skv32768:hard",
    "full:b4:h16:s1024:additive",
    "d64:causal:b4:h16:s4096:additive",
    "full:b1:hq32:hkv8:sq1:skv32768:additive",
    "f32:full:b4:h16:s1024:additive",
    "full:b4:h16:s4096:top-k=10",
    "full:b1:h1:sq4096:skv100000:top-k=10",
    "full:b1:h1:sq4096:skv100000:top-k=128",
    "full:b1:h1:sq1:skv100000:top-k=10",
};

Problem problem_of(const std::string& words) {
  return bench::make_problem(
      bench::describe(bench::parse("fwd:cuda:" + words), QKV_DEVICE_CUDA, {}));
}

struct Planned {
  Problem problem;
  Plan plan;
};

Planned planned(const std::string& words, const KnownDevice& known) {
  const FakeCuda cuda({device_info_of(known)});
  Planned out;
  out.problem = problem_of(words);
  const host::Status status = make_plan(out.problem, cuda.devices[0], &out.plan);
  EXPECT_TRUE(status.ok()) << words << ": " << status.reason();
  return out;
}

std::string row_of(const KnownDevice& known, const char* words) {
  const auto [problem, plan] = planned(words, known);
  const auto& tiles = plan_tiles(plan);
  const kernels::TileSchedule cut = plan_schedule(plan);
  const auto* predicted = dynamic_cast<const host::attention::SplitPlan*>(plan.own.get());
  const auto time = host::attention::estimate(problem, plan, known);
  return host::text("| ", known.key, " | ", words, " | ", plan.kernel->name, " | ", tiles.tile_q,
                    " x ", tiles.tile_kv, " | ", cut.group.divisor, " | ", cut.splits, " | ",
                    tiles.blocks, " | ",
                    predicted == nullptr
                        ? std::string("-")
                        : host::text(std::llround(100 * predicted->predicted.slots_filled), " %"),
                    " | ", time.at_least ? "at least " : "",
                    host::attention::duration_text(time.microseconds), " |\n");
}

// --- what was measured

struct Measured {
  std::string words;
  double microseconds;
};

// The committed build's rows: plans that are as they were then, and some that are not.
std::vector<Measured> measured_on_h100() {
  std::ifstream file(QKV_RESULTS "/2026-11-28-cuda-nvidia-h100-80gb-hbm3-variants.json");
  const auto json = nlohmann::json::parse(file);
  std::vector<Measured> out;
  for (const auto& row : json["rows"]) {
    if (row["build"] != "new" || row["run"].get<std::string>().rfind("call4/", 0) != 0) continue;
    // "bf16/d128/full/b1_h32.8_s1.1024"
    const std::string name = row["problem"];
    char type[8], mask[8];
    int dim = 0, batch = 0, hq = 0, hkv = 0, sq = 0, skv = 0;
    EXPECT_EQ(std::sscanf(name.c_str(), "%7[^/]/d%d/%7[^/]/b%d_h%d.%d_s%d.%d", type, &dim, mask,
                          &batch, &hq, &hkv, &sq, &skv),
              8)
        << name;
    if (dim != 128) continue;  // sm80_forward ran the other widths then
    out.push_back({host::text(type, ":d", dim, ":", mask, ":b", batch, ":hq", hq, ":hkv", hkv,
                              ":sq", sq, ":skv", skv),
                   row["us"]});
  }
  return out;
}

double over_estimate(const Measured& row) {
  const KnownDevice& h100 = *host::find_known_device("h100");
  const auto [problem, plan] = planned(row.words, h100);
  return row.microseconds / host::attention::estimate(problem, plan, h100).microseconds;
}

// --- the table

std::string table() {
  std::string out =
      "# Plans\n\n"
      "What would run where, how it is cut, how long it is *estimated* to take: nothing here was "
      "run. `qkv explain --device NAME`\nsays the same of any problem. Held by `plan_table_test`, "
      "written by its `--write`: a change of plans is seen here.\n\n"
      "Problems are in the words of `attention_bench --problem` (bf16, width 128 if nothing else "
      "is said); the tile is queries x\nkeys; heads: query heads that share a tile; slots: how "
      "many of the blocks that the device could hold have work, in the\nmean of its waves (-: the "
      "kernel has no model). The time has cold caches and 10 us of start in it.\n\n"
      "| device | problem | kernel | tile | heads | splits | blocks | slots | estimate |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const char* key : kDevices)
    for (const char* words : kProblems) out += row_of(*host::find_known_device(key), words);
  out +=
      "\n## Estimated and measured\n\n"
      "The H100's rows of `bench/results/2026-11-28-cuda-nvidia-h100-80gb-hbm3-variants.json` as "
      "committed then, over the\nestimates of today's plans, which cut some decode problems into "
      "more splits than were measured; of width 64 before\nsm80_forward had two stages.\n\n"
      "| problem | measured | over the estimate |\n| --- | --- | --- |\n";
  for (const Measured& row : measured_on_h100()) {
    char ratio[16];
    std::snprintf(ratio, sizeof ratio, "%.2f", over_estimate(row));
    out += host::text("| ", row.words, " | ", host::attention::duration_text(row.microseconds),
                      " | ", ratio, " |\n");
  }
  return out;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

TEST(PlanTable, IsAsCommitted) {
  std::ifstream file(QKV_PLANS);
  const std::string committed{std::istreambuf_iterator<char>(file), {}};
  const std::vector<std::string> was = lines_of(committed), is = lines_of(table());
  EXPECT_EQ(was.size(), is.size());
  for (size_t n = 0; n < std::min(was.size(), is.size()); ++n)
    EXPECT_EQ(was[n], is[n]) << "plan_table_test --write renews " QKV_PLANS;
}

// One query over a long cache: all multiprocessors read, one or two blocks each. Where computing
// and memory take as long, half of the multiprocessors stood idle as long as only the longer time
// counted (64 of 132 blocks, 88 of 216, 48 of 256).
TEST(PlanTable, DecodingFillsTheDevice) {
  const struct {
    const char* key;
    int64_t blocks;
  } kRows[] = {{"h100", 128}, {"a100", 216}, {"rtx4090", 256}};
  for (const auto& [key, blocks] : kRows) {
    const Planned decode = planned("full:b1:hq64:hkv8:sq1:skv65536", *host::find_known_device(key));
    EXPECT_EQ(plan_tiles(decode.plan).blocks, blocks) << key;
    EXPECT_EQ(plan_schedule(decode.plan).group.divisor, 8u) << key;
  }
}

// A device's own memory and clock count, not its generation's alone.
TEST(PlanTable, DevicesOfAGenerationDiffer) {
  const auto rates = [](const char* key) {
    return host::attention::device_rates(device_info_of(*host::find_known_device(key)));
  };
  EXPECT_GT(rates("h200").hbm, 1.4 * rates("h100").hbm);
  EXPECT_GT(rates("rtx4090").hbm, 1.2 * rates("l4").hbm);
  EXPECT_EQ(rates("rtx4090").mma, rates("l4").mma / 2) << "GeForce";
  EXPECT_GT(rates("rtx4090").latency, 1.7 * rates("a100").latency) << "cycles, by the clock";
}

// Part of a card's multiprocessors, with the memory of all, is taken for one with its part.
TEST(PlanTable, FewMultiprocessorsDoNotDrawAllOfMemory) {
  host::DeviceInfo device = device_info_of(*host::find_known_device("h100"));
  const double whole = host::attention::device_rates(device).hbm;
  device.sm_count = 1;
  EXPECT_NEAR(host::attention::device_rates(device).hbm, whole, 0.05 * whole);
}

// One that does not say its clock or memory is taken for its generation's.
TEST(PlanTable, ASilentDeviceHasItsGenerationsRates) {
  for (const char* key : {"a100", "a40", "l40s", "h100", "b200", "rtx5090"}) {
    host::DeviceInfo device = device_info_of(*host::find_known_device(key));
    const double known = host::attention::device_rates(device).hbm;
    device.clock_mhz = device.memory_gbs = 0;
    EXPECT_NEAR(host::attention::device_rates(device).hbm, known, 0.05 * known) << key;
  }
}

TEST(PlanTable, EstimatesAreWithinTheirStatedError) {
  double least = 10, most = 0, sum = 0;
  const std::vector<Measured> rows = measured_on_h100();
  ASSERT_EQ(rows.size(), 30u);
  for (const Measured& row : rows) {
    const double ratio = over_estimate(row);
    EXPECT_GE(ratio, host::attention::kLeastOfEstimate) << row.words;
    EXPECT_LE(ratio, host::attention::kMostOfEstimate) << row.words;
    least = std::min(least, ratio), most = std::max(most, ratio), sum += ratio;
  }
  std::printf("measured / estimated: %.2f to %.2f, mean %.2f\n", least, most,
              sum / static_cast<double>(rows.size()));
}

// --- the devices

TEST(KnownDevices, AreFoundByAnyCase) {
  EXPECT_EQ(host::find_known_device("H100")->sm_count, 132);
  EXPECT_EQ(host::find_known_device("h100x"), nullptr);
  EXPECT_EQ(host::find_known_device(""), nullptr);
  EXPECT_NE(host::known_device_keys().find("a100, "), std::string::npos);
  std::map<std::string, int> seen;
  for (const KnownDevice& known : host::known_devices()) {
    EXPECT_EQ(seen[known.key]++, 0) << known.key;
    for (const char* at = known.key; *at != 0; ++at)
      EXPECT_FALSE(std::isupper(static_cast<unsigned char>(*at))) << known.key;
  }
}

// The virtual GPU stands alone, with a table of its own.
TEST(KnownDevices, AreTheVirtualOnes) {
  for (const vgpu::DeviceModel& model : vgpu::all_devices()) {
    const KnownDevice* known = host::find_known_device(model.key);
    ASSERT_NE(known, nullptr) << model.key;
    const host::DeviceInfo device = device_info_of(*known);
    EXPECT_EQ(device.compute, model.capability()) << model.key;
    EXPECT_EQ(device.sm_count, model.sms) << model.key;
    EXPECT_EQ(device.smem_per_block, static_cast<int32_t>(model.shared_per_block_optin));
    EXPECT_EQ(device.smem_per_sm, static_cast<int32_t>(model.shared_per_sm)) << model.key;
    EXPECT_EQ(device.l2_bytes, model.l2_bytes) << model.key;
    EXPECT_EQ(device.memory_bytes, static_cast<int64_t>(model.memory_bytes)) << model.key;
    EXPECT_EQ(device.clock_mhz, static_cast<int32_t>(model.clock_khz / 1000)) << model.key;
    const double gbs = 2e-6 * model.memory_clock_khz * model.bus_width / 8;
    EXPECT_NEAR(device.memory_gbs, gbs, 1) << model.key;
  }
}

}  // namespace

int write_table() {
  std::ofstream file(QKV_PLANS);
  file << table();
  return file.good() ? 0 : 1;
}

}  // namespace qkv::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc > 1 && std::string(argv[1]) == "--write") return qkv::test::write_table();
  return RUN_ALL_TESTS();
}
