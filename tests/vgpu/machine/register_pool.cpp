#include "machine/register_pool.h"

#include <algorithm>

#include "machine/cta.h"

namespace vgpu {

u32 launch_registers(const Program& p) {
  if (p.maxnreg != 0) return p.maxnreg;
  const u32* block = p.reqntid[0] != 0 ? p.reqntid : p.maxntid;
  if (block[0] == 0 || p.minnctapersm == 0) return 0;
  const u32 threads = block[0] * std::max(1u, block[1]) * std::max(1u, block[2]);
  // Warps are spread over four partitions of 16384 registers.
  const u32 warps = (threads + kLanes - 1) / kLanes * p.minnctapersm;
  const u32 limit = std::min(255u, 16384 / ((warps + 3) / 4 * kLanes) / 8 * 8);
  return p.largest_increase == 0 ? limit : std::min(limit, p.largest_increase);
}

void RegisterPool::start(u32 warps, u32 registers) {
  per_thread_.assign(warps, static_cast<u32>(align_up(registers, 8)));
  free_ = 0;
}

void RegisterPool::check(Warp& w, const Instr& in) const {
  const u32 now = per_thread_[w.index()], wanted = static_cast<u32>(in.imm);
  const auto misuse = [&](const std::string& what) {
    w.report(FindingKind::kRegisterPool, in, 0, what);
  };
  if (now == 0) {
    misuse(
        "setmaxnreg has no effect: the registers at launch are known only with .maxnreg, or with "
        ".maxntid and .minnctapersm");
  } else if (wanted % 8 != 0 || wanted < 24 || wanted > 256) {
    misuse("the count is " + std::to_string(wanted) +
           "; allowed are multiples of 8 from 24 to 256");
  } else if (in.sub == 0 ? wanted > now : wanted < now) {
    misuse(std::string(in.sub == 0 ? "decrease" : "increase") + " to " + std::to_string(wanted) +
           " registers, but the warp has " + std::to_string(now));
  }
}

bool RegisterPool::set(Warp& w, const Instr& in) {
  u32& now = per_thread_[w.index()];
  const u32 wanted = static_cast<u32>(in.imm);
  if (now == 0) return true;
  if (in.sub == 0) {
    if (wanted < now) free_ += (now - wanted) * kLanes;
    now = std::min(now, wanted);
    for (auto& other : w.cta().warps) other->unpark();
    return true;
  }
  if (wanted <= now) return true;
  const u32 needed = (wanted - now) * kLanes;
  if (needed > free_) {
    w.park(" for " + std::to_string(needed) + " registers, from " + std::to_string(now) + " to " +
           std::to_string(wanted) + " for each thread, while the CTA's pool holds " +
           std::to_string(free_));
    return false;
  }
  free_ -= needed;
  now = wanted;
  return true;
}

}  // namespace vgpu
