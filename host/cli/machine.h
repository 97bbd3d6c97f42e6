// The machine in words.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "qkv/qkv.h"

namespace qkv::cli {

struct Machine {
  std::string cpu;      // "AMD EPYC 9654"
  std::string engine;   // "oneDNN 2.6.3"
  std::string isa;      // as oneDNN sees it: "AVX-512 with bf16"
  int32_t threads = 1;  // that qkv uses
  std::vector<qkv_device_facts> gpus;
  std::string no_gpu;  // why there are none, where CUDA says
};

Machine this_machine();

// "AMD EPYC 9654, 2 threads, AVX-512 with bf16"
std::string cpu_text(const Machine& machine);

// "NVIDIA H100 (sm_90, 132 SMs, 80 GiB)"
std::string gpu_text(const qkv_device_facts& gpu);

}  // namespace qkv::cli
