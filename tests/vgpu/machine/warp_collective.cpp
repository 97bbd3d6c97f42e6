// What lanes of a warp do together: collectives by member mask, barriers of the warp.
#include <bit>

#include "machine/cta.h"
#include "machine/launch.h"
#include "machine/warp.h"

namespace vgpu {

// The instruction names the lanes that take part, per lane. Lanes whose whole set is here go on;
// the others wait at the instruction.
bool Warp::collective(Group& g, const Instr& in, u32 mask) {
  if (in.flag) return warp_barrier(g, in, mask);
  for (Group& other : groups_) {
    if (&other != &g && other.state == Group::State::kCollective && other.pc == g.pc &&
        other.frame == g.frame) {
      g.mask |= other.mask;
      mask |= other.mask;
      other.mask = 0;
    }
  }
  u32 finished = 0;
  for (u32 left = mask; left != 0;) {
    const int lane = std::countr_zero(left);
    const u32 members = member_mask(in, lane);
    u32 same = 0;
    for_each_lane(left, [&](int other) {
      if (member_mask(in, other) == members) same |= 1u << other;
    });
    left &= ~same;
    check_members(in, same, members);
    if ((members & live_ & ~same) == 0) {
      in.fn(*this, in, same);
      finished |= same;
    }
  }
  const u32 waiting = mask & ~finished;
  if (waiting == 0 && groups_.size() == 1) return true;
  if (waiting == 0) {
    ++g.pc;
  } else {
    const Group goes_on{g.pc + 1, g.mask & ~waiting, {}, 0, false, g.frame};
    g.mask = waiting;
    g.state = Group::State::kCollective;
    if (goes_on.mask != 0) groups_.push_back(goes_on);
  }
  std::erase_if(groups_, [](const Group& x) { return x.mask == 0; });
  return false;
}

u32 Warp::member_mask(const Instr& in, int lane) const {
  return in.c.valid ? static_cast<u32>(value(in.c, lane)) : kAllLanes;
}

void Warp::check_members(const Instr& in, u32 lanes, u32 members) {
  if ((undef_[in.c.id] & lanes) != 0) {
    report(FindingKind::kUndefinedBranch, in, std::countr_zero(lanes),
           "the member mask is undefined");
  }
  const u32 outside = lanes & ~members;
  if (outside != 0) {
    report(FindingKind::kDivergence, in, std::countr_zero(outside),
           "the executing lane is not in its own member mask");
  }
}

// bar.warp.sync may be met at different places by different lanes.
bool Warp::warp_barrier(Group& g, const Instr& in, u32 mask) {
  const int lead = std::countr_zero(mask);
  const u32 lead_members = member_mask(in, lead);
  check_members(in, 1u << lead, lead_members);
  if (groups_.size() == 1 && mask == live_ && (lead_members & live_) == live_) {
    in.fn(*this, in, mask);
    return true;
  }
  const Group off{g.pc + 1, g.mask & ~mask, {}, 0, false, g.frame};
  g.mask = mask;
  g.state = Group::State::kCollective;
  if (off.mask != 0) groups_.push_back(off);
  const auto waits_here = [&](const Group& x) {
    return x.state == Group::State::kCollective && at(x.pc).flag;
  };
  for (int lane = 0; lane < kLanes; ++lane) {
    u32 members = 0;
    for (const Group& x : groups_)
      if (waits_here(x) && ((x.mask >> lane) & 1) != 0) members = member_mask(at(x.pc), lane);
    if (members == 0) continue;
    u32 here = 0;
    for (const Group& x : groups_) {
      if (!waits_here(x)) continue;
      for_each_lane(x.mask, [&](int o) {
        if (member_mask(at(x.pc), o) == members) here |= 1u << o;
      });
    }
    if ((members & live_ & ~here) != 0) continue;
    in.fn(*this, in, here);
    const size_t count = groups_.size();
    for (size_t i = 0; i < count; ++i) {
      if (!waits_here(groups_[i]) || (groups_[i].mask & here) == 0) continue;
      const Group released{groups_[i].pc + 1, groups_[i].mask & here, {}, 0, false,
                           groups_[i].frame};
      groups_[i].mask &= ~here;
      groups_.push_back(released);
    }
    std::erase_if(groups_, [](const Group& x) { return x.mask == 0; });
  }
  return false;
}

}  // namespace vgpu
