#include "machine/warp.h"

#include <algorithm>

#include "common/error.h"
#include "machine/cluster.h"
#include "machine/cta.h"
#include "machine/launch.h"

namespace vgpu {
Warp::Warp(Cta& cta, u32 index) : cta_(&cta), program_(&cta.program), index_(index) {
  storage_ = std::make_unique_for_overwrite<u8[]>(program_->file_bytes + 64);
  file_ = reinterpret_cast<u8*>(align_up(reinterpret_cast<u64>(storage_.get()), 64));
  std::memcpy(file_ + program_->constants_off, program_->constants.data(),
              program_->constants.size());
  for (const Program::SharedLiteral& s : program_->shared_literals)
    for (size_t lane = 0; cta.rank != 0 && lane < kLanes; ++lane) {
      u8* const at = file_ + program_->constants_off + s.offset + lane * s.bytes;
      u64 address = 0;
      std::memcpy(&address, at, s.bytes);
      address += cta.shared_window();
      std::memcpy(at, &address, s.bytes);
    }
  undef_.assign(program_->slot_ids, kAllLanes);
  undef_[0] = 0;
  undef_bytes_.assign(size_t{program_->slot_ids} * kLanes, 0xff);
}

void Warp::start() {
  const u32 first = index_ * kLanes;
  const u32 count = std::min<u32>(kLanes, cta_->threads - first);
  present_ = live_ = count == kLanes ? kAllLanes : (1u << count) - 1;
  groups_.clear();
  groups_.push_back({program_->functions[0].entry, live_, Group::State::kReady, 0, false, nullptr});
  since_switch_ = 0;
  cluster_arrived = 0;
  // Registers start undefined, and read as NaN.
  std::memset(file_, 0xff, program_->constants_off);
  std::fill(undef_.begin() + 1, undef_.end(), kAllLanes);
  std::memset(undef_bytes_.data() + kLanes, 0xff, undef_bytes_.size() - kLanes);
  local_bytes_ = program_->max_frame_bytes;
  local_.assign(size_t{local_bytes_} * kLanes, 0xff);
  local_defined_.assign(size_t{local_bytes_} * kLanes, 0);
  std::fill(std::begin(frame_base_), std::end(frame_base_), 0u);

  const LaunchConfig& config = cta_->launch.config;
  for (const auto& [special, slot] : program_->specials) {
    set_defined(slot, kAllLanes);
    for (int lane = 0; lane < kLanes; ++lane) {
      u32 tid[3];
      cta_->thread_coords(*this, lane, tid);
      const u32 bit = 1u << lane;
      u64 v = 0;
      const int s = static_cast<int>(special);
      const auto axis = [&](Special base) { return s - static_cast<int>(base); };
      if (special <= Special::kTidZ) {
        v = tid[axis(Special::kTidX)];
      } else if (special <= Special::kNtidZ) {
        v = config.block[axis(Special::kNtidX)];
      } else if (special <= Special::kCtaidZ) {
        v = cta_->ctaid[axis(Special::kCtaidX)];
      } else if (special <= Special::kNctaidZ) {
        v = config.grid[axis(Special::kNctaidX)];
      } else if (special >= Special::kClusterIdX && special <= Special::kClusterNctaidZ) {
        const int i = axis(Special::kClusterIdX);
        const u32 dims = config.cluster[i % 3];
        const u32 of_kind[] = {cta_->cluster.id[i % 3], config.grid[i % 3] / dims,
                               cta_->cluster_ctaid[i % 3], dims};
        v = of_kind[i / 3];
      } else {
        switch (special) {
          case Special::kLaneid:
            v = static_cast<u64>(lane);
            break;
          case Special::kWarpid:
            v = index_;
            break;
          case Special::kNwarpid:
            v = (cta_->threads + kLanes - 1) / kLanes;
            break;
          case Special::kSmid:
            v = cta_->linear % static_cast<u64>(cta_->launch.machine.device.sms);
            break;
          case Special::kNsmid:
            v = static_cast<u64>(cta_->launch.machine.device.sms);
            break;
          case Special::kGridid:
            v = cta_->launch.grid_id;
            break;
          case Special::kLanemaskEq:
            v = bit;
            break;
          case Special::kLanemaskLe:
            v = bit | (bit - 1);
            break;
          case Special::kLanemaskLt:
            v = bit - 1;
            break;
          case Special::kLanemaskGe:
            v = ~(bit - 1);
            break;
          case Special::kLanemaskGt:
            v = ~(bit | (bit - 1));
            break;
          case Special::kDynamicSmem:
            v = config.dynamic_shared;
            break;
          case Special::kTotalSmem:
            v = cta_->shared_bytes;
            break;
          case Special::kClusterCtarank:
            v = cta_->rank;
            break;
          case Special::kClusterNctarank:
            v = cta_->cluster.size();
            break;
          case Special::kIsExplicitCluster:
            v = config.clustered ? 1 : 0;
            break;
          case Special::kReservedSmem1:
            v = 256;
            break;
          case Special::kWorkspaceLow:
            v = cta_->launch.workspace;
            break;
          case Special::kWorkspaceHigh:
            v = cta_->launch.workspace >> 32;
            break;
          case Special::kReservedSmemEnd:
          case Special::kReservedSmemCap:
            v = Cta::kSharedBase;
            break;
          default:
            break;
        }
      }
      set_value(slot, lane, v);
    }
  }
}

u64 Warp::value(const Operand& o, int lane) const {
  const u8* p = file_ + o.off;
  const auto l = static_cast<size_t>(lane);
  switch (o.width) {
    case 0:
      return (*reinterpret_cast<const u32*>(p) >> lane) & 1;
    case 2:
      return reinterpret_cast<const u16*>(p)[l];
    case 4:
      return reinterpret_cast<const u32*>(p)[l];
    case 8:
      return reinterpret_cast<const u64*>(p)[l];
    default:
      return reinterpret_cast<const u64*>(p)[2 * l];
  }
}

void Warp::set_value(const Operand& o, int lane, u64 v) {
  u8* p = file_ + o.off;
  const auto l = static_cast<size_t>(lane);
  switch (o.width) {
    case 0: {
      u32& mask = *reinterpret_cast<u32*>(p);
      mask = (mask & ~(1u << lane)) | (static_cast<u32>(v & 1) << lane);
      break;
    }
    case 2:
      reinterpret_cast<u16*>(p)[l] = static_cast<u16>(v);
      break;
    case 4:
      reinterpret_cast<u32*>(p)[l] = static_cast<u32>(v);
      break;
    case 8:
      reinterpret_cast<u64*>(p)[l] = v;
      break;
    default:
      reinterpret_cast<u64*>(p)[2 * l] = v;
      reinterpret_cast<u64*>(p)[2 * l + 1] = 0;
  }
}

void Warp::set_undefined(const Operand& o, u32 mask) {
  if (o.id == 0 || mask == 0) return;
  undef_[o.id] |= mask;
  u8* bytes = undef_bytes(o);
  for_each_lane(mask, [&](int lane) { bytes[lane] = 0xff; });
}

const Instr& Warp::at(u32 pc) const { return program_->code[pc]; }

Finding Warp::finding(FindingKind kind, const Instr& in, int lane,
                      const std::string& message) const {
  Finding f;
  f.kind = kind;
  f.kernel = program_->kernel;
  std::copy(std::begin(cta_->ctaid), std::end(cta_->ctaid), f.cta);
  cta_->thread_coords(*this, lane, f.thread);
  f.line = in.line;
  f.text = std::string(in.text);
  f.source = program_->source_of(in);
  f.message = message;
  return f;
}
void Warp::report(FindingKind kind, const Instr& in, int lane, const std::string& message) {
  cta_->launch.machine.findings.add(finding(kind, in, lane, message));
}
void Warp::hint(const Instr& in, const std::string& message) {
  cta_->launch.machine.findings.hint(finding(FindingKind::kHint, in, 0, message));
}

void Warp::fault(int code, FindingKind kind, const Instr& in, int lane,
                 const std::string& message) {
  report(kind, in, lane, message);
  throw Fault(code, message);
}

bool Warp::ready() const {
  return std::any_of(groups_.begin(), groups_.end(),
                     [](const Group& g) { return g.state == Group::State::kReady; });
}

void Warp::merge() {
  for (size_t i = 0; i < groups_.size(); ++i) {
    for (size_t j = i + 1; j < groups_.size();) {
      const Group& a = groups_[i];
      const Group& b = groups_[j];
      if (a.state == Group::State::kReady && b.state == a.state && a.pc == b.pc &&
          a.frame == b.frame) {
        groups_[i].mask |= b.mask;
        groups_.erase(groups_.begin() + static_cast<std::ptrdiff_t>(j));
      } else {
        ++j;
      }
    }
  }
}

int Warp::pick() {
  int best = -1;
  for (int i = 0; i < static_cast<int>(groups_.size()); ++i) {
    const Group& g = groups_[static_cast<size_t>(i)];
    if (g.state != Group::State::kReady) continue;
    if (best < 0) {
      best = i;
      continue;
    }
    const Group& b = groups_[static_cast<size_t>(best)];
    if (g.depth() > b.depth() || (g.depth() == b.depth() && g.pc < b.pc)) best = i;
  }
  return best;
}

void Warp::split(Group& g, u32 stays, u32 other_pc) {
  Group other = g;
  other.pc = other_pc;
  other.mask = g.mask & ~stays;
  other.state = Group::State::kReady;
  g.mask = stays;
  groups_.push_back(std::move(other));  // g may be dangling from here on
}

u64 Warp::run(u64 budget) {
  u64 used = 0;
  bool set_aside = false;
  while (used < budget) {
    if (groups_.size() > 1) merge();
    int current = pick();
    if (current < 0) return used;
    if (set_aside) {  // someone else's turn, in seeded order
      std::vector<int> choices;
      for (int i = 0; i < static_cast<int>(groups_.size()); ++i)
        if (groups_[static_cast<size_t>(i)].state == Group::State::kReady) choices.push_back(i);
      current = choices[cta_->random.below(static_cast<u32>(choices.size()))];
      set_aside = false;
    }
    Group& g = groups_[static_cast<size_t>(current)];
    u32 pc = g.pc;
    const u32 mask = g.mask;
    const bool alone = groups_.size() == 1;
    const Instr* const code = program_->code.data();
    PcCount* const counts = cta_->counts.data();
    bool first = true;
    for (;;) {
      const Instr& in = code[pc];
      if (!alone && in.block_start && !first) {
        // Another group may be here, or be the one that should run now.
        g.pc = pc;
        if (++since_switch_ > kPatience) {
          since_switch_ = 0;
          set_aside = true;
        }
        break;
      }
      first = false;
      if (used >= budget) {
        g.pc = pc;
        break;
      }
      ++used;
      ++clock_;
      u32 m = mask;
      u32 undefined_guard = 0;
      if (in.guard.valid) {
        const u32 p = pred(in.guard);
        m &= in.guard.negated ? ~p : p;
        undefined_guard = undef_[in.guard.id] & mask;
      }
      ++counts[pc].warps;
      counts[pc].lanes += static_cast<u64>(std::popcount(m));
      if (in.flow == Flow::kNone) [[likely]] {
        if (m != 0) in.fn(*this, in, m);
        if (undefined_guard != 0) [[unlikely]] {
          if (in.cls == InstrClass::kStore || in.cls == InstrClass::kAtomic) {
            report(FindingKind::kUndefinedBranch, in, std::countr_zero(undefined_guard),
                   "whether this is stored depends on undefined data");
          }
          if (in.dst.valid) set_undefined(in.dst, undefined_guard);
          if (in.dst2.valid) set_undefined(in.dst2, undefined_guard);
        }
        ++pc;
        continue;
      }
      if (undefined_guard != 0) [[unlikely]] {
        report(FindingKind::kUndefinedBranch, in, std::countr_zero(undefined_guard),
               "the branch depends on undefined data");
        undef_[in.guard.id] &= ~mask;  // said once
      }
      g.pc = pc;
      if (in.flow == Flow::kBranch) {
        if (branch(g, in, m)) {
          pc = g.pc;
          if (alone && used < budget) {
            first = true;
            continue;
          }
        }
        break;
      }
      if (m == 0) {
        ++pc;
        continue;
      }
      bool go_on = false;
      switch (in.flow) {
        case Flow::kBranchIndexed:
          branch_indexed(g, in, m);
          break;
        case Flow::kCall:
          call(g, in, m);
          break;
        case Flow::kReturn:
          leave(g, m);
          break;
        case Flow::kExit:
          exit_lanes(g, m);
          break;
        case Flow::kBarrier:
          barrier(g, in, m);
          break;
        case Flow::kCollective:
          go_on = collective(g, in, m);
          break;
        case Flow::kAligned:
          go_on = aligned(g, in);
          if (go_on) {
            in.fn(*this, in, m);
            go_on = !parks(g, m);
          }
          break;
        case Flow::kWait:
          go_on = wait(g, in, m);
          if (!go_on) used = std::max(used, budget);
          break;
        default:
          if (in.fn != nullptr) in.fn(*this, in, m);
          if (!alone) since_switch_ = kPatience;  // other lanes first, next time
          g.pc = pc + 1;
          used = std::max(used, budget);  // let other warps run
          break;
      }
      if (!go_on) break;
      ++pc;
    }
  }
  return used;
}

bool Warp::branch(Group& g, const Instr& in, u32 taken) {
  if (taken == 0) {
    ++g.pc;
    return true;
  }
  if (taken == g.mask) {
    g.pc = in.target;
    return true;
  }
  ++cta_->counts[g.pc].divergent;
  const u32 next = g.pc + 1;
  const u32 target = in.target;
  g.pc = next;
  split(g, g.mask & ~taken, target);
  return false;
}

// PTX ISA 9.0 section 9.7.12.4: brx.idx.
void Warp::branch_indexed(Group& g, const Instr& in, u32 mask) {
  const auto& table = program_->branch_tables[static_cast<size_t>(in.imm)];
  const u32 undefined = undef_[in.a.id] & mask;
  if (undefined != 0) {
    report(FindingKind::kUndefinedBranch, in, std::countr_zero(undefined),
           "the branch depends on undefined data");
  }
  const std::shared_ptr<CallFrame> frame = g.frame;
  const u32 pc = g.pc;
  std::vector<Group> parts;
  if ((g.mask & ~mask) != 0) parts.push_back({pc + 1, g.mask & ~mask, {}, 0, false, frame});
  for_each_lane(mask, [&](int lane) {
    const u64 index = value(in.a, lane);
    if (index >= table.size()) {
      fault(kFaultInvalidPc, FindingKind::kOutOfBounds, in, lane,
            "branch index " + std::to_string(index) + " of a table of " +
                std::to_string(table.size()));
    }
    for (Group& p : parts) {
      if (p.pc == table[index]) {
        p.mask |= 1u << lane;
        return;
      }
    }
    parts.push_back({table[index], 1u << lane, {}, 0, false, frame});
  });
  if (parts.size() > 1) ++cta_->counts[pc].divergent;
  g = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) groups_.push_back(parts[i]);
}

void Warp::exit_lanes(Group& g, u32 mask) {
  const Instr& in = at(g.pc);
  live_ &= ~mask;
  g.mask &= ~mask;
  ++g.pc;
  u32 arrived = 0;
  for_each_lane(mask & cluster_arrived, [&](int lane) {
    arrived += cluster_phase[lane] == cta_->cluster.barrier_phase() ? 1 : 0;
  });
  for_each_lane(mask, [&](int lane) {
    if (cta_->cp_async.any()) cta_->cp_async.drain(*cta_, cta_->thread_index(*this, lane));
  });
  if (live_ == 0) cta_->wgmma.warp_exited(*this, in);
  const u32 count = static_cast<u32>(std::popcount(mask));
  std::erase_if(groups_, [](const Group& x) { return x.mask == 0; });
  // Fewer lanes to wait for.
  for (Group& x : groups_)
    if (x.state == Group::State::kCollective || x.state == Group::State::kAligned)
      x.state = Group::State::kReady;
  cta_->lanes_exited(count, arrived);
}

}  // namespace vgpu
