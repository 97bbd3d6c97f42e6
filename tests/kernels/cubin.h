// What the compiler says of kernels in the machine code that a shared library carries.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qkv::test {

struct CompiledKernel {
  std::string name;   // demangled, without its arguments: "qkv::kernels::merge"
  int compute = 0;    // 90 for sm_90a
  int registers = 0;  // of a thread
  int64_t stack = 0;  // bytes of local memory of a thread; spilled registers lie there
  int64_t smem = 0;   // static shared memory of a block in bytes
  std::string code;   // its instructions
};

// The kernels of one cubin.
std::vector<CompiledKernel> kernels_of_cubin(const std::string& elf);

struct FatBinary {
  std::vector<std::string> cubins;
  std::vector<std::string> ptx;
};

// Everything in the .nv_fatbin section of the ELF file at `path`. Throws std::runtime_error.
FatBinary read_fat_binary(const std::string& path);

}  // namespace qkv::test
