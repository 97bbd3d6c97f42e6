// Raw counts per instruction, and what is made of them per launch.
//
// Invariant: every count is a sum over warps of something that does not depend on the order in
// which warps or CTAs run, so a launch counts the same on any machine and for any seed, as long as
// the kernel itself does the same work.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "common/types.h"
#include "machine/ir.h"

namespace vgpu {

struct PcCount {
  u64 warps = 0;       // times executed by a warp
  u64 lanes = 0;       // sum of active lanes
  u64 bytes = 0;       // global: bytes moved
  u64 sectors = 0;     // global: 32-byte sectors touched per warp access
  u64 wavefronts = 0;  // shared: passes needed
  u64 ideal = 0;       // shared: passes without bank conflicts
  u64 divergent = 0;   // branches that split a group
  u64 requests = 0;    // bulk copies issued
  u64 moved = 0;       // bulk: bytes of shared memory read or written, of every CTA
  u64 blocked = 0;     // waits that a warp did not get through at once; depends on the order

  void add(const PcCount& other);
};

struct SourceCount {
  std::string source;
  std::string text;
  u64 wavefronts = 0, excess = 0;
};

struct LaunchCounts {
  std::string kernel;
  u32 grid[3] = {1, 1, 1}, block[3] = {1, 1, 1};
  u64 warp_instructions = 0, lane_instructions = 0;
  std::array<u64, kInstrClasses> by_class{};  // warp instructions
  std::map<std::string, u64> flops;           // "fma.f32", "mma.f16", ...: operations
  std::map<std::string, u64> mufu;            // "ex2", "rcp", ...: lane operations
  u64 global_load_bytes = 0, global_store_bytes = 0;
  u64 global_load_sectors = 0, global_store_sectors = 0;
  u64 unique_load_bytes = 0, unique_store_bytes = 0;
  u64 shared_wavefronts = 0, shared_excess = 0;
  u64 bulk_load_requests = 0, bulk_load_bytes = 0, bulk_multicast_bytes = 0;  // bytes into shared
  u64 bulk_store_requests = 0, bulk_store_bytes = 0;
  std::map<std::string, u64> wgmma;  // "m64n128k16.f32.f16.f16": by warpgroups
  u64 tensor_read_bytes = 0;         // of shared memory, by wgmma
  u64 blocked_waits = 0;             // depends on the order
  u64 barriers = 0, divergent_branches = 0, branches = 0;
  std::vector<SourceCount> conflicts;  // by source line, most excess first
};

LaunchCounts summarize(const Program& program, const std::vector<PcCount>& counts);
const char* class_name(InstrClass cls);
std::string to_json(const std::vector<LaunchCounts>& launches);
std::string to_table(const std::vector<LaunchCounts>& launches);

}  // namespace vgpu
