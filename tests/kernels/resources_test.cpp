// What the compiler made of every kernel instance in libqkv, read from the machine code that it
// carries: no local memory, hence no spilled register; registers and shared memory that let as many
// blocks reside on a multiprocessor as the policy intends. The PTX for sm_80 makes as good code for
// sm_86 and sm_89, which run the code of sm_80 as shipped. With --write: writes it all into the
// table in instances.md.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

#include "kernels/attention/combine/policy.h"
#include "kernels/attention/simt_forward/policy.h"
#include "kernels/attention/simt_general/policy.h"
#include "kernels/attention/sm80_forward/policy.h"
#include "kernels/attention/sm80_tf32x3/policy.h"
#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/merge/merge/policy.h"
#include "tests/kernels/cubin.h"

namespace qkv::test {
namespace {

constexpr int64_t kRegisters = 65536;  // of a multiprocessor, on all architectures

// Shared memory of a multiprocessor in bytes; a block takes 1 KiB beside its own from sm_80 on,
// which the compiler counts in.
int64_t smem_of(int compute) {
  return (compute == 75 ? 64 : compute == 80 ? 164 : compute / 10 == 9 ? 228 : 100) << 10;
}

// An instance as its policy means it.
struct Intended {
  int64_t threads = 0, min_blocks = 1, dynamic_smem = 0;
  bool on(int compute) const { return compute >= oldest && compute <= newest; }
  int oldest = 75, newest = 999;
};

std::string typed(const char* kernel, kernels::Type type, const std::string& rest) {
  return std::string("qkv::kernels::") + kernel + "<(qkv::kernels::Type)" +
         std::to_string(static_cast<int>(type)) + ", " + rest + ">";
}

std::map<std::string, Intended> intended_kernels() {
  std::map<std::string, Intended> all;
#define QKV_MERGE() all["qkv::kernels::merge"] = {.threads = kernels::kMergeThreads};
#define QKV_COMBINE(type)                                                 \
  all["qkv::kernels::combine<(qkv::kernels::Type)" +                      \
      std::to_string(static_cast<int>(kernels::Type::k##type)) + ">"] = { \
      .threads = kernels::kCombineThreads};
#define QKV_SIMT_FORWARD(type, max_dim)                            \
  all[typed("simt_forward", kernels::Type::k##type, #max_dim)] = { \
      .threads = kernels::simt_forward_policy(max_dim).threads,    \
      .min_blocks = kernels::simt_forward_policy(max_dim).min_blocks};
#define QKV_SIMT_GENERAL(type, score, selection)                                      \
  all[typed("simt_general", kernels::Type::k##type,                                   \
            "(qkv::kernels::Score)" + std::to_string(int(kernels::Score::k##score)) + \
                ", (qkv::kernels::Selection)" +                                       \
                std::to_string(int(kernels::Selection::k##selection)))] = {           \
      .threads = kernels::kSimtGeneralThreads, .min_blocks = kernels::kSimtGeneralMinBlocks};
#define QKV_SM80_FORWARD(type, max_dim, variant)                                              \
  all[typed("sm80_forward", kernels::Type::k##type,                                           \
            #max_dim ", (qkv::kernels::Sm80Variant)" +                                        \
                std::to_string(int(kernels::Sm80Variant::k##variant)))] = {                   \
      .threads = kernels::kSm80ForwardThreads,                                                \
      .min_blocks =                                                                           \
          kernels::sm80_forward_policy(max_dim, kernels::Sm80Variant::k##variant).min_blocks, \
      .dynamic_smem = int64_t(kernels::sm80_forward_smem_bytes(                               \
          kernels::sm80_forward_policy(max_dim, kernels::Sm80Variant::k##variant))),          \
      .oldest = 80};
#define QKV_SM80_TF32X3(max_dim, rules)                                                          \
  all["qkv::kernels::sm80_tf32x3<" #max_dim ", " #rules ">"] = {                                 \
      .threads = kernels::kSm80Tf32x3Threads,                                                    \
      .min_blocks = kernels::sm80_tf32x3_policy(max_dim, rules).min_blocks,                      \
      .dynamic_smem =                                                                            \
          int64_t(kernels::sm80_tf32x3_smem_bytes(kernels::sm80_tf32x3_policy(max_dim, rules))), \
      .oldest = 80,                                                                              \
      .newest = 99};
#define QKV_SM90_FORWARD(type, softcap)                            \
  all[typed("sm90_forward", kernels::Type::k##type, #softcap)] = { \
      .threads = kernels::kSm90Threads,                            \
      .dynamic_smem = kernels::kSm90SmemBytes,                     \
      .oldest = 90,                                                \
      .newest = 90};
#include "kernels/kernels.inc"
  return all;
}

void expect_fits(const CompiledKernel& kernel, const Intended& intended) {
  SCOPED_TRACE(kernel.name + " for sm_" + std::to_string(kernel.compute));
  EXPECT_EQ(kernel.stack, 0) << "bytes of local memory";
  ASSERT_GT(kernel.registers, 0);
  // Registers are given to warps by 256.
  const int64_t registers = (int64_t{kernel.registers} + 7) / 8 * 8 * intended.threads;
  EXPECT_LE(registers * intended.min_blocks, kRegisters)
      << kernel.registers << " registers, " << intended.threads << " threads, "
      << intended.min_blocks << " blocks";
  // Where a multiprocessor has 100 KiB or less, one block is what the policies promise.
  const bool is_large = smem_of(kernel.compute) > 100 << 10;
  const int64_t smem = kernel.smem + intended.dynamic_smem;
  EXPECT_LE(smem * (is_large ? intended.min_blocks : 1), smem_of(kernel.compute))
      << smem << " bytes of shared memory a block";
}

const FatBinary& library() {
  static const FatBinary binary = read_fat_binary(QKV_LIBRARY);
  return binary;
}

// By name and compute capability.
using CompiledKernels = std::map<std::string, std::map<int, CompiledKernel>>;

CompiledKernels compiled_kernels() {
  CompiledKernels all;
  for (const std::string& cubin : library().cubins)
    for (const CompiledKernel& kernel : kernels_of_cubin(cubin))
      EXPECT_TRUE(all[kernel.name].emplace(kernel.compute, kernel).second)
          << kernel.name << " stands twice in libqkv";
  return all;
}

std::set<int> targets_of(const CompiledKernels& compiled) {
  std::set<int> targets;
  for (const auto& [name, by_compute] : compiled)
    for (const auto& [compute, kernel] : by_compute) targets.insert(compute);
  return targets;
}

TEST(Resources, OfEveryShippedInstance) {
  const std::map<std::string, Intended> intended = intended_kernels();
  CompiledKernels compiled = compiled_kernels();
  for (const auto& [name, by_compute] : compiled) {
    const auto at = intended.find(name);
    ASSERT_NE(at, intended.end()) << name << " has no intended resources here";
    for (const auto& [compute, kernel] : by_compute) expect_fits(kernel, at->second);
  }
  for (const auto& [name, of] : intended) {
    for (const int compute : targets_of(compiled))
      EXPECT_EQ(compiled[name].count(compute) == 1, of.on(compute)) << name << ", sm_" << compute;
  }
}

// --- the table

// "sm80_forward<f16, 128, tall>".
std::string label_of(std::string name) {
  constexpr std::pair<std::string_view, std::string_view> kWords[] = {
      {"qkv::kernels::", ""},      {"(Type)1", "f32"},          {"(Type)2", "f16"},
      {"(Type)3", "bf16"},         {"(Score)0", "dot"},         {"(Score)1", "additive"},
      {"(Selection)0", "soft"},    {"(Selection)1", "hard"},    {"(Sm80Variant)0", "tall"},
      {"(Sm80Variant)1", "short"}, {"(Sm80Variant)2", "rules"}, {", false>", ">"},
      {", true>", ", rules>"}};
  for (const auto& [from, to] : kWords)
    for (size_t at = name.find(from); at != std::string::npos; at = name.find(from))
      name.replace(at, from.size(), to);
  const size_t rules = name.find("rules");
  if (name.rfind("sm90_forward", 0) == 0 && rules != std::string::npos)
    name.replace(rules, 5, "softcap");
  return name;
}

constexpr std::string_view kByHand = "## Build time";  // from here on --write leaves it alone

std::string read_table() {
  std::ifstream in(QKV_INSTANCES);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Sizes vary with the compiler, so that only the rows are held.
TEST(InstancesTable, HasARowForEachInstance) {
  std::set<std::string> shipped, listed;
  for (const auto& [name, by_compute] : compiled_kernels()) shipped.insert(label_of(name));
  std::istringstream table(read_table());
  for (std::string line; std::getline(table, line) && line.rfind(kByHand, 0) != 0;)
    if (line.rfind("| `", 0) == 0) listed.insert(line.substr(3, line.find("` |") - 3));
  EXPECT_EQ(listed, shipped) << QKV_INSTANCES ": resources_test --write renews it";
}

int write_table() {
  const std::map<std::string, Intended> intended = intended_kernels();
  const CompiledKernels compiled = compiled_kernels();
  const std::set<int> targets = targets_of(compiled);
  std::ostringstream rows, rule, total;
  std::map<int, int64_t> code;
  for (const auto& [name, by_compute] : compiled) {
    const Intended& of = intended.at(name);
    int64_t stack = 0, smem = 0;
    for (const auto& [compute, kernel] : by_compute) {
      stack = std::max(stack, kernel.stack);
      smem = std::max(smem, kernel.smem);
    }
    rows << "| `" << label_of(name) << "` | " << of.threads << " | " << stack << " | " << smem
         << " + " << of.dynamic_smem << " |";
    for (const int compute : targets) {
      const auto at = by_compute.find(compute);
      if (at == by_compute.end()) {
        rows << " - |";
        continue;
      }
      rows << ' ' << at->second.registers << ", " << at->second.code.size() << " |";
      code[compute] += static_cast<int64_t>(at->second.code.size());
    }
    rows << '\n';
  }
  const std::string before = read_table();
  const size_t by_hand = before.find(kByHand);
  std::ofstream table(QKV_INSTANCES);
  table << "# Kernel instances\n\n"
           "What libqkv carries for each architecture, as the compiler reports it: registers of a "
           "thread, bytes of code. Stack is in\nbytes a thread, shared memory in bytes a block, "
           "static (with the KiB that CUDA takes from sm_80 on) + dynamic. Written\nby "
           "`resources_test --write`; the test holds the rows, and stack, registers and shared "
           "memory to what the policies intend.\n\n"
           "| instance | threads | stack | shared memory |";
  for (const int compute : targets) {
    table << " sm_" << compute << " |";
    rule << " --- |";
    total << ' ' << code[compute] << " |";
  }
  table << "\n| --- | --- | --- | --- |" << rule.str() << '\n'
        << rows.str() << "| all, bytes of code | | | |" << total.str() << '\n';
  if (by_hand != std::string::npos) table << '\n' << before.substr(by_hand);
  return table.good() ? 0 : 1;
}

// --- on other devices

// The entries of a PTX text whose mangled names hold `part`.
std::vector<std::string> entries(const std::string& ptx, const std::string& part) {
  constexpr std::string_view kEntry = ".entry ";
  std::vector<std::string> names;
  for (size_t at = ptx.find(kEntry); at != std::string::npos; at = ptx.find(kEntry, at)) {
    at += kEntry.size();
    const std::string name = ptx.substr(at, ptx.find('(', at) - at);
    if (name.find(part) != std::string::npos) names.push_back(name);
  }
  return names;
}

class Recompiled : public testing::TestWithParam<int> {};

TEST_P(Recompiled, WidthOf128Fits) {
  const std::map<std::string, Intended> intended = intended_kernels();
  const auto folder = std::filesystem::temp_directory_path();
  const std::string stem = (folder / ("qkv-recompiled-" + std::to_string(getpid()))).string();
  std::set<std::string> seen;
  for (const std::string& ptx : library().ptx) {
    const std::vector<std::string> names = entries(ptx, "sm80_forwardILNS0_4TypeE");
    for (const std::string& name : names) {
      if (name.find("ELi128E") == std::string::npos) continue;
      std::ofstream(stem + ".ptx") << ptx.c_str();
      std::ostringstream text;
      text << '"' << QKV_PTXAS << "\" -arch=sm_" << GetParam() << " -e " << name << " -o " << stem
           << ".cubin " << stem << ".ptx";
      const std::string command = text.str();
      ASSERT_EQ(std::system(command.c_str()), 0) << command;
      std::ifstream in(stem + ".cubin", std::ios::binary);
      for (const CompiledKernel& kernel :
           kernels_of_cubin(std::string(std::istreambuf_iterator<char>(in), {}))) {
        if (!seen.insert(kernel.name).second) continue;
        ASSERT_EQ(intended.count(kernel.name), 1u) << kernel.name;
        expect_fits(kernel, intended.at(kernel.name));
      }
    }
  }
  std::filesystem::remove(stem + ".ptx");
  std::filesystem::remove(stem + ".cubin");
  EXPECT_EQ(seen.size(), 6u) << "fp16 and bf16, tall, short and with rules";
}

INSTANTIATE_TEST_SUITE_P(ComputeCapability, Recompiled, testing::Values(86, 89));

}  // namespace
}  // namespace qkv::test

int main(int argc, char** argv) {
  try {
    if (argc == 2 && argv[1] == std::string_view("--write")) return qkv::test::write_table();
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
