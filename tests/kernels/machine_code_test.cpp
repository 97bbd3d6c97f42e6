// The machine code of Hopper's kernels in libqkv: what a whole kernel has and lacks, and of
// sm90_forward the instructions of a thread in the loop over unmasked blocks of keys, which decide
// how fast it can be. Opcodes
// are the low nine bits of an instruction's 16 bytes, as nvdisasm names them for sm_90.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "host/core/status.h"
#include "kernels/attention/sm90_forward/policy.h"
#include "tests/kernels/cubin.h"

namespace qkv::test {
namespace {

enum Opcode {
  kFsel = 0x008,
  kFmnmx = 0x009,
  kIsetp = 0x00c,
  kFmul = 0x020,
  kFadd = 0x021,
  kFfma = 0x023,
  kHmma = 0x03c,
  kF2fp = 0x03e,
  kMufu = 0x108,
  kBra = 0x147,
  kLdl = 0x183,
  kStl = 0x187,
  kShfl = 0x189,
  kUtmaldg = 0x1b4,
  kUtmastg = 0x1b5,
  kUsetmaxreg = 0x1c8,
  kHgmma = 0x1f0,
};

struct Instruction {
  int opcode;
  bool always;     // without a predicate
  int64_t target;  // of a branch: an index
};

std::vector<Instruction> decode(const std::string& code) {
  std::vector<Instruction> all;
  for (size_t at = 0; at + 16 <= code.size(); at += 16) {
    uint64_t word[2];
    std::memcpy(word, code.data() + at, sizeof word);
    // Of a branch: four-byte units from its end, 56 bits in three fields.
    const uint64_t units = (word[0] >> 16 & 0xff) | word[0] >> 34 << 8 | (word[1] & 0x3ffff) << 38;
    const int64_t jump = static_cast<int64_t>(units << 8) >> 8;
    const auto index = static_cast<int64_t>(at / 16);
    all.push_back(
        {static_cast<int>(word[0] & 0x1ff), (word[0] >> 12 & 0xf) == 7, index + 1 + jump / 4});
  }
  return all;
}

using Counts = std::map<int, int>;

Counts count(const std::vector<Instruction>& code, size_t begin, size_t end) {
  Counts counts;
  for (size_t at = begin; at < end; ++at) ++counts[code[at].opcode];
  return counts;
}

// The counts of every way from `at` to the branch at `end` that stays between them.
void walk(const std::vector<Instruction>& code, size_t at, size_t end, Counts counts,
          std::vector<Counts>* ways) {
  for (;; ++at) {
    const Instruction& here = code[at];
    ++counts[here.opcode];
    if (at == end) return ways->push_back(std::move(counts));
    if (here.opcode != kBra) continue;
    const bool stays =
        here.target > static_cast<int64_t>(at) && here.target <= static_cast<int64_t>(end);
    if (stays) walk(code, static_cast<size_t>(here.target), end, counts, ways);
    if (here.always) return;
  }
}

int total(const Counts& counts) {
  return std::accumulate(counts.begin(), counts.end(), 0,
                         [](int sum, const auto& count) { return sum + count.second; });
}

// The loop over blocks of keys is the shortest with the products of two: one with masks, one
// without. Returns the counts of the shortest way through it that has one block's products, all
// weights and both factors of O: no mask, and not the branch for coarse shifts.
Counts unmasked_block(const std::vector<Instruction>& code, int products, int exponentials) {
  size_t begin = 0, end = 0;
  for (size_t at = 0; at < code.size(); ++at) {
    const Instruction& branch = code[at];
    if (branch.opcode != kBra || branch.target < 0 || branch.target >= static_cast<int64_t>(at))
      continue;
    const auto to = static_cast<size_t>(branch.target);
    if (count(code, to, at)[kHgmma] == 2 * products && (end == 0 || at - to < end - begin))
      begin = to, end = at;
  }
  std::vector<Counts> ways;
  if (end > 0) walk(code, begin, end, {}, &ways);
  Counts best;
  for (Counts& way : ways)
    if (way[kHgmma] == products && way[kMufu] == exponentials &&
        (best.empty() || total(way) < total(best)))
      best = way;
  return best;
}

std::vector<CompiledKernel> kernels_named(const std::string& name) {
  std::vector<CompiledKernel> kernels;
  for (const std::string& cubin : read_fat_binary(QKV_LIBRARY).cubins)
    for (CompiledKernel& kernel : kernels_of_cubin(cubin))
      if (kernel.name.find(name + "<") != std::string::npos) kernels.push_back(std::move(kernel));
  return kernels;
}

TEST(MachineCode, IsHoppers) {
  for (const auto& [name, roles, instances] :
       {std::tuple{"sm90_forward", 2, 26}, {"sm90_wide", 3, 4}}) {
    const std::vector<CompiledKernel> kernels = kernels_named(name);
    ASSERT_EQ(static_cast<int>(kernels.size()), instances);
    for (const CompiledKernel& kernel : kernels) {
      SCOPED_TRACE(kernel.name);
      const std::vector<Instruction> code = decode(kernel.code);
      Counts all = count(code, 0, code.size());
      for (const int wanted : {kHgmma, kUtmaldg, kUtmastg}) EXPECT_GT(all[wanted], 0) << wanted;
      EXPECT_EQ(all[kUsetmaxreg], roles) << "registers are moved once in each role";
      for (const int unwanted : {kHmma, kLdl, kStl}) EXPECT_EQ(all[unwanted], 0) << unwanted;
    }
  }
}

// Q K^T alone, each product once. Registers are not moved.
TEST(MachineCode, OfSm90HardHasItsProductsOnce) {
  const std::vector<CompiledKernel> kernels = kernels_named("sm90_hard");
  EXPECT_EQ(kernels.size(), 10u);
  for (const CompiledKernel& kernel : kernels) {
    SCOPED_TRACE(kernel.name);
    const std::vector<Instruction> code = decode(kernel.code);
    Counts all = count(code, 0, code.size());
    const size_t comma = kernel.name.find_last_of(' ');
    ASSERT_NE(comma, std::string::npos);
    EXPECT_EQ(all[kHgmma], std::atoi(kernel.name.c_str() + comma) / 16);
    EXPECT_GT(all[kUtmaldg], 0);
    for (const int unwanted : {kUsetmaxreg, kUtmastg, kHmma, kLdl, kStl})
      EXPECT_EQ(all[unwanted], 0) << unwanted;
  }
}

// Q K^T for the first block and for later ones, 8 panels of 4 steps each; P V for each warpgroup, 4
// pieces of 2 steps, at each number of panels of O.
TEST(MachineCode, OfSm90WideHasItsProductsOnce) {
  for (const CompiledKernel& kernel : kernels_named("sm90_wide")) {
    SCOPED_TRACE(kernel.name);
    const std::vector<Instruction> code = decode(kernel.code);
    Counts all = count(code, 0, code.size());
    EXPECT_EQ(all[kHgmma], 2 * 8 * 4 + 2 * 4 * 2 * 4);
  }
}

// With blocks of 128 keys a thread has 64 scores of two rows. What a block takes in which no row of
// the warp rises, so that O is not rescaled; with three warpgroups there are no factors of O, and
// no maxima with m, either:
//   MUFU  64 weights, 2 factors of O
//   FFMA  64 weights' arguments, 2 shifts: computed again where weights are left for later
//   FADD  64 sums of l, 2 arguments of O's factors
//   FMNMX 62 maxima, 4 with the quad's other lanes, 2 with m, 1 for the larger |m|
//   FMUL  2 arguments of O's factors, 2 to take up l, 1 of the larger |m|
// A softcap takes for four scores of a row, beside that: 5 MUFU, 4 FADD, 4 FMNMX, 13 FMUL. No score
// is so large that |m| has to be looked at; the shifts are kept then, and with them the arguments
// of O's factors are 2 FFMA instead of 2 FADD and 2 FMUL.
TEST(MachineCode, OfSm90ForwardsLoopIsWhatTheAlgorithmTakes) {
  for (const CompiledKernel& kernel : kernels_named("sm90_forward")) {
    const auto is = [&](kernels::Sm90Variant variant) {
      return kernel.name.find(host::text("(qkv::kernels::Sm90Variant)",
                                         static_cast<int>(variant))) != std::string::npos;
    };
    if (is(kernels::Sm90Variant::kRules)) continue;
    const bool capped = is(kernels::Sm90Variant::kSoftcap);
    SCOPED_TRACE(kernel.name);
    const auto* shape = std::find_if(
        std::begin(kernels::kSm90Shapes), std::end(kernels::kSm90Shapes), [&](const auto& row) {
          return kernel.name.find(", " + std::to_string(row.d_qk) + ", " + std::to_string(row.d_v) +
                                  ",") != std::string::npos;
        });
    ASSERT_NE(shape, std::end(kernels::kSm90Shapes));
    const int scores = shape->tile_kv / 2, products = (shape->d_qk + shape->tile_kv) / 16;
    const int shifts = shape->keys_before_pv < shape->tile_kv ? 4 : 2;
    const int fours = capped ? scores / 4 : 0, larger = capped ? 0 : 1;
    const int factors = shape->warpgroups == 2 ? 2 : 0;
    Counts loop = unmasked_block(decode(kernel.code), products, scores + factors + 5 * fours);
    const std::map<int, int> table = {{kHgmma, products},
                                      {kMufu, scores + factors + 5 * fours},
                                      {kFfma, scores + shifts},
                                      {kFadd, scores + factors * larger + 4 * fours},
                                      {kFmnmx, scores + 2 + factors + larger + 4 * fours},
                                      {kShfl, 4},
                                      {kFmul, factors * (1 + larger) + larger + 13 * fours},
                                      {kF2fp, scores / 2}};
    for (const auto& [opcode, wanted] : table)
      EXPECT_EQ(loop[opcode], wanted) << std::hex << opcode;
    EXPECT_LE(loop[kFsel] + loop[kIsetp], 8) << "nothing of a mask";
  }
}

}  // namespace
}  // namespace qkv::test
