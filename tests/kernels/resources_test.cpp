// What the compiler made of every kernel instance in libqkv, read from the machine code that it
// carries: no local memory, hence no spilled register; registers and shared memory that let as many
// blocks reside on a multiprocessor as the policy intends. The PTX for sm_80 makes as good code for
// sm_86 and sm_89, which run the code of sm_80 as shipped. With --write: writes it all into the
// tables beside the kernels, instances.md.
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

#include "tests/kernels/cubin.h"
#include "tests/kernels/resources.h"

namespace qkv::test {
namespace {

constexpr int64_t kRegisters = 65536;  // of a multiprocessor, on all architectures

// Shared memory of a multiprocessor in bytes; a block takes 1 KiB beside its own from sm_80 on,
// which the compiler counts in.
int64_t smem_of(int compute) {
  return (compute == 75 ? 64 : compute == 80 ? 164 : compute / 10 == 9 ? 228 : 100) << 10;
}

std::map<std::string, Intended> intended_kernels() {
  std::map<std::string, Intended> all;
  for (const KernelResources* kernel : KernelResources::all())
    for (const auto& instance : kernel->instances()) all[instance.name] = instance.intended;
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
  const int64_t blocks = intended.smem_blocks > 0 ? intended.smem_blocks : intended.min_blocks;
  EXPECT_LE(smem * (is_large ? blocks : 1), smem_of(kernel.compute))
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
    ASSERT_NE(at, intended.end()) << name
                                  << " has no intended resources in tests/kernels/resources";
    for (const auto& [compute, kernel] : by_compute) expect_fits(kernel, at->second);
  }
  for (const auto& [name, of] : intended) {
    for (const int compute : targets_of(compiled))
      EXPECT_EQ(compiled[name].count(compute) == 1, of.on(compute)) << name << ", sm_" << compute;
  }
}

// --- the kernels' tables

std::string table_path(const KernelResources& kernel) {
  return QKV_KERNELS "/" + kernel.folder() + "/instances.md";
}

// Sizes vary with the compiler, so that only the rows are held.
TEST(InstancesTable, HasARowForEachInstance) {
  for (const KernelResources* kernel : KernelResources::all()) {
    std::set<std::string> instances, listed;
    for (const auto& instance : kernel->instances()) instances.insert(instance.label);
    std::ifstream table(table_path(*kernel));
    for (std::string line; std::getline(table, line);)
      if (line.rfind("| `", 0) == 0) listed.insert(line.substr(3, line.find("` |") - 3));
    EXPECT_EQ(listed, instances) << table_path(*kernel) << ": resources_test --write renews it";
  }
}

std::string row_of(const KernelResources::Instance& instance,
                   const std::map<int, CompiledKernel>& compiled, const std::set<int>& targets) {
  const Intended& of = instance.intended;
  int64_t stack = 0, smem = 0;
  for (const auto& [compute, kernel] : compiled) {
    stack = std::max(stack, kernel.stack);
    smem = std::max(smem, kernel.smem);
  }
  std::ostringstream row;
  row << "| `" << instance.label << "` | " << of.threads << " | " << stack << " | " << smem << " + "
      << of.dynamic_smem << " |";
  for (const int compute : targets) {
    const auto at = compiled.find(compute);
    if (at == compiled.end()) {
      row << " - |";
    } else {
      row << ' ' << at->second.registers << ", " << at->second.code.size() << " |";
    }
  }
  return row.str();
}

int write_tables() {
  CompiledKernels compiled = compiled_kernels();
  const std::set<int> targets = targets_of(compiled);
  bool written = true;
  for (const KernelResources* kernel : KernelResources::all()) {
    std::ofstream table(table_path(*kernel));
    table
        << "# Instances\n\n"
           "What libqkv carries for each architecture, as the compiler reports it: registers of a "
           "thread, bytes of code. Stack is in\nbytes a thread, shared memory in bytes a block, "
           "static (with the KiB that CUDA takes from sm_80 on) + dynamic. Written\nby "
           "`resources_test --write`; the test holds the rows, and stack, registers and shared "
           "memory to what the policy intends.\n\n"
           "| instance | threads | stack | shared memory |";
    for (const int compute : targets) table << " sm_" << compute << " |";
    table << "\n| --- | --- | --- | --- |";
    for (size_t n = 0; n < targets.size(); ++n) table << " --- |";
    table << '\n';
    for (const auto& instance : kernel->instances())
      table << row_of(instance, compiled[instance.name], targets) << '\n';
    written = written && table.good();
  }
  return written ? 0 : 1;
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
    if (argc == 2 && argv[1] == std::string_view("--write")) return qkv::test::write_tables();
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
