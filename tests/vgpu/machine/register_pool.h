// setmaxnreg: warps of a CTA hand registers to each other.
//
// PTX ISA 9.0 section 9.7.19.5. A CTA starts with what its launch gives to every thread and an
// empty pool; .dec puts registers into the pool, .inc waits until it holds enough.
#pragma once

#include <vector>

#include "common/types.h"

namespace vgpu {

struct Program;
class Warp;
struct Instr;

// Registers per thread at launch, as ptxas 13.0 assigns them to a kernel that uses setmaxnreg; 0
// where it cannot tell, and ignores setmaxnreg.
u32 launch_registers(const Program& program);

class RegisterPool {
 public:
  void start(u32 warps, u32 registers);
  // False: the pool does not hold enough yet.
  bool set(Warp& w, const Instr& in);
  void check(Warp& w, const Instr& in) const;  // findings about the count
  u32 free() const { return free_; }

 private:
  std::vector<u32> per_thread_;  // of each warp
  u32 free_ = 0;
};

}  // namespace vgpu
