#include "async/wgmma.h"

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "machine/access.h"
#include "machine/cluster.h"
#include "machine/cta.h"
#include "machine/launch.h"

namespace vgpu {
namespace {

constexpr u32 kWarps = 4;

u32 columns_of(const Instr& in) { return in.sub * 8u; }
u32 accumulator_registers(const Instr& in) {
  return in.sub2 == kWgmmaF16 ? columns_of(in) / 4 : columns_of(in) / 2;
}
// Never 0.
u32 shape_of(const Instr& in) {
  return u32{in.sub} << 16 | u32{in.sub2} << 8 | elements_per_unit(in.type);
}
const Operand* registers_of(Warp& w, const Instr& in) { return &w.operand(in.pool); }
bool a_in_registers(const Instr& in) { return in.vec == 1; }

}  // namespace

void Wgmma::start(Cta& cta, u64 seed) {
  warps_.clear();
  groups_.clear();
  tiles_.clear();
  random_ = Random(seed);
  open_ = 0;
  policy_ = cta.launch.asynchrony(random_.next());
}

Wgmma::WarpState& Wgmma::state(const Warp& w) {
  if (warps_.size() <= w.index()) warps_.resize(w.index() + 1);
  WarpState& s = warps_[w.index()];
  if (s.used.empty()) {
    const u32 slots = w.slots();
    s.used.assign(slots, 0);
    s.touched.assign(slots, ~0u);
    s.flying.assign(slots, 0);
    s.role.assign(slots, 0);
  }
  return s;
}
Wgmma::Group& Wgmma::group(const Warp& w) {
  const size_t i = w.index() / kWarps;
  if (groups_.size() <= i) groups_.resize(i + 1);
  return groups_[i];
}

bool Wgmma::step(Warp& w, const Instr& in, u32 mask, const std::array<u64, 3>& what) {
  const u32 first = w.index() / kWarps * kWarps;
  const int lane = std::countr_zero(mask);
  if ((first + kWarps) * kLanes > w.cta().threads) {
    w.report(FindingKind::kWarpgroup, in, lane,
             "warp " + std::to_string(w.index()) + " is of no complete warpgroup: the CTA has " +
                 std::to_string(w.cta().threads) + " threads");
    return false;
  }
  if (mask != kAllLanes) {
    // A warp that is divergent here has been told of.
    if (mask == w.live())
      w.report(FindingKind::kWarpgroup, in, lane, "some lanes of the warp have exited");
    return false;
  }
  WarpState& s = state(w);
  for (u32 i = first; i < first + kWarps; ++i) w.cta().warps[i]->unpark();
  ++w.cta().cluster.events;
  Group& g = group(w);
  const u64 number = s.steps++;
  if (number < g.first_step + g.steps.size()) {
    const Step& other = g.steps[number - g.first_step];
    if (other.in != &in) {
      w.report(FindingKind::kWarpgroup, in, lane,
               "another warp of the warpgroup executes the instruction of PTX line " +
                   std::to_string(other.in->line) + " instead");
    } else if (other.what != what) {
      w.report(FindingKind::kWarpgroup, in, lane,
               "operands differ from those of another warp of the warpgroup");
    }
  } else {
    g.steps.push_back({&in, what});
  }
  u64 slowest = s.steps;
  for (u32 i = first; i < first + kWarps; ++i)
    slowest = std::min(slowest, i < warps_.size() ? warps_[i].steps : 0);
  for (; g.first_step < slowest; ++g.first_step) g.steps.pop_front();
  return true;
}

void Wgmma::fence(Warp& w) { ++state(w).epoch; }

// Findings about the registers of a wgmma that is issued now.
void Wgmma::check_registers(Warp& w, WarpState& s, const Instr& in) {
  if (s.epoch == 0) {
    w.report(FindingKind::kWgmmaFence, in, 0, "no wgmma.fence before the first wgmma of the warp");
    s.epoch = 1;
  }
  const u32 accumulators = accumulator_registers(in);
  const Operand* const registers = registers_of(w, in);
  const u32 shape = shape_of(in);
  for (u32 i = 0; i < in.pool_count; ++i) {
    const u32 id = registers[i].id;
    const u32 role = i < accumulators ? shape : 0;
    if ((s.flying[id] == 0 || s.role[id] == role) &&
        (s.used[id] != s.epoch || s.role[id] == role) && s.touched[id] != s.epoch) [[likely]]
      continue;
    const std::string name = i < accumulators
                                 ? "accumulator register " + std::to_string(i)
                                 : "register " + std::to_string(i - accumulators) + " of A";
    if (s.flying[id] != 0 && (s.role[id] == 0) != (role == 0)) {
      w.report(FindingKind::kWgmmaRegister, in, 0,
               name + " belongs to a wgmma in flight, as " +
                   (role == 0 ? "an accumulator" : "a fragment of A"));
      return;
    }
    if (s.used[id] == s.epoch && s.role[id] != role) {
      w.report(FindingKind::kWgmmaFence, in, 0,
               name + " was used by a wgmma of another shape, without a wgmma.fence since");
      return;
    }
    if (s.touched[id] == s.epoch) {
      w.report(FindingKind::kWgmmaFence, in, 0,
               name + " was accessed by another instruction, without a wgmma.fence since");
      return;
    }
  }
}

void Wgmma::issue(Warp& w, const Instr& in, u64 a, u64 b, bool scale_d) {
  WarpState& s = state(w);
  check_registers(w, s, in);
  const Operand* const registers = registers_of(w, in);
  const u32 accumulators = accumulator_registers(in);
  for (u32 i = 0; i < in.pool_count; ++i) {
    const Operand& o = registers[i];
    s.used[o.id] = s.epoch;
    s.role[o.id] = i < accumulators ? shape_of(in) : 0;
    if (s.flying[o.id]++ != 0 || i >= accumulators) continue;
    if (scale_d && w.undef(o) != 0) {
      auto& bytes = s.undefined[o.id];
      for (int l = 0; l < kLanes; ++l)
        bytes[static_cast<size_t>(l)] = static_cast<u8>(w.undef_of(o, l));
    }
    w.undef(o) = kAllLanes;
    std::memset(w.undef_bytes(o), 0xff, kLanes);
  }
  s.shares.push_back({&in, a, b, scale_d});
  begin_reads(w, s.shares.back());
  ++s.issued;
  ++open_;
  if (policy_ == Asynchrony::kEarly || (policy_ == Asynchrony::kAny && random_.below(4) == 0))
    while (s.finished < s.issued) perform(w, s);
}

void Wgmma::commit(Warp& w) {
  WarpState& s = state(w);
  s.groups.push_back(s.issued);
}

bool Wgmma::wait(Warp& w, const Instr& in, u32 pending) {
  WarpState& s = state(w);
  if (s.groups.size() <= pending) return true;
  const u64 target = s.groups[s.groups.size() - 1 - pending];
  const u32 first = w.index() / kWarps * kWarps;
  const u32 end = std::min(first + kWarps, static_cast<u32>(warps_.size()));
  for (u32 i = first; i < first + kWarps; ++i) {
    const bool missing = i >= end || warps_[i].issued < target;
    if (missing && !w.cta().warps[i]->done()) return false;
    if (missing)
      w.report(FindingKind::kWarpgroup, in, 0,
               "warp " + std::to_string(i) + " exited without issuing this wgmma group");
  }
  for (u32 i = first; i < end; ++i) {
    const u64 until = std::min(target, warps_[i].issued);
    while (warps_[i].finished < until) perform(*w.cta().warps[i], warps_[i]);
    while (warps_[i].ended < until) end_reads(w.cta(), warps_[i]);
  }
  const u32 agent = w.cta().race.agent(kWarpgroupAgent + w.index() / kWarps);
  for (int l = 0; l < kLanes; ++l) w.cta().race.learn_agent(w.cta().thread_index(w, l), agent);
  while (s.waited < target) retire(w, s);
  s.groups.erase(s.groups.begin(), s.groups.end() - pending);
  return true;
}

// The oldest share of the warp has been waited for: its registers are ordinary again.
void Wgmma::retire(Warp& w, WarpState& s) {
  const Instr& in = *s.shares.front().in;
  const u32 accumulators = accumulator_registers(in);
  for (u32 i = 0; i < in.pool_count; ++i) {
    const Operand& o = registers_of(w, in)[i];
    if (--s.flying[o.id] != 0 || i >= accumulators) continue;
    w.set_defined(o, kAllLanes);
    if (s.undefined.empty()) continue;
    const auto it = s.undefined.find(o.id);
    if (it == s.undefined.end()) continue;
    for (int l = 0; l < kLanes; ++l) w.set_undef(o, l, it->second[static_cast<size_t>(l)]);
    s.undefined.erase(it);
  }
  s.shares.pop_front();
  ++s.waited;
}

void Wgmma::touch(Warp& w, const Instr& in, const std::vector<u32>& registers, bool move) {
  WarpState& s = state(w);
  for (u32 id : registers) {
    if (s.flying[id] != 0) {
      std::string line;
      for (const Share& share : s.shares)
        for (u32 i = 0; line.empty() && i < share.in->pool_count; ++i)
          if (registers_of(w, *share.in)[i].id == id) line = std::to_string(share.in->line);
      w.report(FindingKind::kWgmmaRegister, in, 0,
               std::string("a register of a wgmma in flight is accessed: ") +
                   (s.role[id] == 0 ? "a fragment of A" : "an accumulator") + " of PTX line " +
                   line);
    }
    if (!move || s.used[id] == s.epoch) s.touched[id] = s.epoch;
  }
}

void Wgmma::warp_exited(Warp& w, const Instr& in) {
  const u32 first = w.index() / kWarps * kWarps;
  if (first >= warps_.size() || first + kWarps > w.cta().warps.size()) return;
  WarpState& s = state(w);
  for (u32 i = first; i < first + kWarps; ++i) {
    Warp& other = *w.cta().warps[i];
    other.unpark();
    if (i == w.index() || !other.done()) continue;
    const u64 steps = i < warps_.size() ? warps_[i].steps : 0;
    if (steps == s.steps) continue;
    w.report(FindingKind::kWarpgroup, in, 0,
             "the warp executed " + std::to_string(s.steps) +
                 " instructions of its warpgroup (wgmma, setmaxnreg), warp " + std::to_string(i) +
                 " executed " + std::to_string(steps));
    break;
  }
  if (!s.shares.empty()) {
    w.report(FindingKind::kPendingAtExit, in, 0,
             std::to_string(s.shares.size()) + " wgmma are in flight when the warp exits");
    open_ -= static_cast<u64>(
        std::count_if(s.shares.begin(), s.shares.end(), [](const Share& x) { return !x.done; }));
    while (s.ended < s.issued) end_reads(w.cta(), s);
    s.shares.clear();
    s.finished = s.waited = s.issued;
  }
}

void Wgmma::maybe_advance(Cta& cta) {
  if (policy_ != Asynchrony::kAny || random_.below(2) == 0) return;
  const u32 i = random_.below(static_cast<u32>(warps_.size()));
  WarpState& s = warps_[i];
  if (s.finished < s.issued) perform(*cta.warps[i], s);
}

const Wgmma::Place& Wgmma::place(u64 descriptor, bool mn_major, u32 first, u32 rows) {
  constexpr size_t kKept = 4096;
  if (places_.size() > kKept) places_.clear();
  const auto [it, fresh] =
      places_.try_emplace({descriptor, u64{first} << 32 | u64{rows} << 1 | u64{mn_major}});
  Place& p = it->second;
  if (!fresh) return p;
  unit_addresses(MatrixDescriptor(descriptor), mn_major, first, rows, p.units);
  std::vector<u32> sorted = p.units;
  std::sort(sorted.begin(), sorted.end());
  for (u32 unit : sorted) {
    if (p.ranges.empty() || p.ranges.back().offset + p.ranges.back().bytes < unit)
      p.ranges.push_back({unit, 0});
    p.ranges.back().bytes = unit + 16 - p.ranges.back().offset;
  }
  return p;
}

const Wgmma::Place& Wgmma::checked_place(Warp& w, const Instr& in, u64 descriptor, bool mn_major,
                                         u32 first, u32 rows) {
  const Place& p = place(descriptor, mn_major, first, rows);
  const u32 base = w.cta().shared_base;
  const u32 end = base + static_cast<u32>(w.cta().shared.size());
  for (const ByteRange& r : {p.ranges.front(), p.ranges.back()}) {
    if (r.offset >= base && r.offset + r.bytes <= end) continue;
    w.fault(kFaultIllegalAddress, FindingKind::kOutOfBounds, in, 0,
            "the descriptor leads to shared addresses " + std::to_string(r.offset) + " to " +
                std::to_string(r.offset + r.bytes) + "; the CTA's end at " + std::to_string(end));
  }
  return p;
}

// A hint where a descriptor names another swizzle than that of the copy that the bytes come from.
void Wgmma::compare_layout(Warp& w, const Instr& in, u64 descriptor, u32 unit) {
  if (tiles_.empty()) return;
  auto it = tiles_.upper_bound(unit);
  if (it == tiles_.begin()) return;
  const auto& [address, tile] = *--it;
  if (unit >= address + tile.bytes) return;
  const MatrixDescriptor d(descriptor);
  const u32 swizzle = d.swizzle == 16 ? 0 : d.swizzle;
  if (swizzle != tile.swizzle) {
    w.hint(in, "the descriptor's swizzle is " + std::to_string(swizzle) +
                   " bytes, but a tensor map with a swizzle of " + std::to_string(tile.swizzle) +
                   " put the tile at shared address " + std::to_string(address));
  } else if (swizzle != 0 && d.base_offset != 0) {
    w.hint(in, "the descriptor's base offset is " + std::to_string(d.base_offset) +
                   ", but the patterns of tensor copies begin at multiples of " +
                   std::to_string(8 * swizzle) + " bytes");
  }
}

void Wgmma::begin_reads(Warp& w, Share& share) {
  const Instr& in = *share.in;
  Cta& cta = w.cta();
  const u32 rank = w.index() % kWarps, blocks = in.sub;
  share.operation = cta.race.begin_operation(
      cta.thread_index(w, 0), cta.race.agent(kWarpgroupAgent + w.index() / kWarps), in.site);
  bool said = false;
  const auto read = [&](const Place& p) {
    for (const ByteRange& r : p.ranges) {
      const RaceReport report =
          cta.race.async_read(share.operation, r.offset - cta.shared_base, r.bytes);
      if (report.found && !std::exchange(said, true))
        report_race(w, in, 0, r.offset - cta.shared_base, false, report);
    }
  };
  if (!a_in_registers(in)) {
    const Place& a = checked_place(w, in, share.a, in.flag, rank * 16, 16);
    compare_layout(w, in, share.a, a.units.front());
    read(a);
  }
  const Place& b = checked_place(w, in, share.b, in.relu, 0, blocks * 8);
  compare_layout(w, in, share.b, b.units.front());
  const u32 first = blocks < kWarps ? 0 : blocks * rank / kWarps;
  const u32 last = blocks < kWarps ? blocks : blocks * (rank + 1) / kWarps;
  read(place(share.b, in.relu, first * 8, (last - first) * 8));
}

// The oldest share whose reads may still be under way has been waited for.
void Wgmma::end_reads(Cta& cta, WarpState& s) {
  cta.race.end_operation(s.shares[s.ended - s.waited].operation);
  ++s.ended;
}

// The units' bytes into raw_.
void Wgmma::gather(Warp& w, const std::vector<u32>& units) {
  const Cta& cta = w.cta();
  raw_.resize(units.size() * 16);
  undefined_units_.clear();
  const u8* const shared = cta.shared.data();
  const u8* const shared_defined = cta.shared_defined.data();
  u8* to = raw_.data();
  const u32 count = static_cast<u32>(units.size());
  for (u32 i = 0; i < count; ++i, to += 16) {
    const u32 offset = units[i] - cta.shared_base;
    std::memcpy(to, shared + offset, 16);
    u64 defined[2];
    std::memcpy(defined, shared_defined + offset, 16);
    if ((defined[0] & defined[1]) != ~u64{0}) [[unlikely]]
      undefined_units_.push_back(i);
  }
}

void Wgmma::perform(Warp& w, WarpState& s) {
  Share& share = s.shares[s.finished - s.waited];
  const Instr& in = *share.in;
  const ptx::Type type = in.type;
  const u32 per_unit = elements_per_unit(type), columns = columns_of(in);
  ++s.finished;
  --open_;
  share.done = true;

  a_.resize(2 * per_unit);
  const float sign = (in.imm & 1) != 0 ? -1.0f : 1.0f;
  if (a_in_registers(in)) {
    // Element i of register r: row g + 8 * (r % 2), column t * e + i + 4 * e * (r / 2).
    const u32 e = per_unit / 4, width = 32 / e;
    for (u32 r = 0; r < 4; ++r) {
      const Operand& o = registers_of(w, in)[accumulator_registers(in) + r];
      const u32* v = w.lanes<u32>(o);
      for (u32 l = 0; l < kLanes; ++l)
        for (u32 i = 0; i < e; ++i)
          a_.set(l / 4 + 8 * (r % 2), l % 4 * e + i + 4 * e * (r / 2),
                 sign * wgmma_element(type, v[l] >> (i * width)));
      for_each_lane(w.undef(o), [&](int l) { a_.undefined |= 1u << (l / 4 + 8 * (r % 2)); });
    }
  } else {
    const u32 first = w.index() % kWarps * 16;
    const bool mn_major = in.flag;
    gather(w, place(share.a, mn_major, first, 16).units);
    float unit[128];
    for (u32 i = 0; i < 32; ++i) {
      unit_to_floats(type, &raw_[i * 16], unit);
      for (u32 e = 0; e < per_unit; ++e) {
        const u32 row = mn_major ? i / 16 * 8 + e : i / 2;
        const u32 column = mn_major ? i % 16 : i % 2 * per_unit + e;
        a_.set(row, column, sign * unit[e]);
      }
    }
    for (u32 i : undefined_units_) a_.undefined |= mn_major ? 0xffu << (i / 16 * 8) : 1u << (i / 2);
  }

  TileB& b = group(w).b;
  gather(w, place(share.b, in.relu, 0, columns).units);
  b.build(in.type2, in.relu, (in.imm & 2) != 0, columns, raw_);
  b.undefined.reset();
  for (u32 i : undefined_units_)
    for (u32 e = 0; e < (in.relu ? 8u : 1u); ++e)
      b.undefined.set((in.relu ? i / 16 * 8 : i / 2) + e);
  multiply(a_, b, product_);
  write_accumulator(w, s, share, a_.undefined != 0 || b.undefined.any());
}

// D = product + D, or the product alone. `undefined`: some operand was.
void Wgmma::write_accumulator(Warp& w, WarpState& s, const Share& share, bool undefined) {
  const Instr& in = *share.in;
  const u32 count = accumulator_registers(in);
  const bool packed = in.sub2 == kWgmmaF16, adds = share.scale_d, sat = in.sat;
  for (u32 r = 0; r < count; ++r) {
    const Operand& o = registers_of(w, in)[r];
    u32* d = w.lanes<u32>(o);
    const float* p = &product_[size_t{packed ? 2 * r : r} * kLanes];
    if (in.sub2 == kWgmmaF32) {
      accumulate(p, reinterpret_cast<float*>(d), adds);
    } else if (packed) {
      for (int l = 0; l < kLanes; ++l) {
        const float low = adds ? half_to_float(static_cast<u16>(d[l])) : 0.0f;
        const float high = adds ? half_to_float(static_cast<u16>(d[l] >> 16)) : 0.0f;
        d[l] = float_to_half(p[l] + low) | u32{float_to_half(p[l + kLanes] + high)} << 16;
      }
    } else {
      for (int l = 0; l < kLanes; ++l) {
        i64 sum = static_cast<i64>(p[l]);
        if (adds) sum += static_cast<i32>(d[l]);
        if (sat) sum = std::clamp<i64>(sum, -0x80000000ll, 0x7fffffff);
        d[l] = static_cast<u32>(sum);
      }
    }
    if (!adds && !s.undefined.empty()) s.undefined.erase(o.id);
    if (!undefined) continue;
    for (int l = 0; l < kLanes; ++l) {
      u8 bytes = 0;
      for (u32 i = 0; i < (packed ? 2u : 1u); ++i) {
        const u32 n = packed ? 2 * r + i : r;
        const u32 row = static_cast<u32>(l) / 4 + n / 2 % 2 * 8;
        const u32 column = n / 4 * 8 + static_cast<u32>(l) % 4 * 2 + n % 2;
        if (((a_.undefined >> row) & 1) != 0 || group(w).b.undefined[column])
          bytes = static_cast<u8>(bytes | (packed ? 3u << (2 * i) : 15u));
      }
      if (bytes == 0) continue;
      auto& all = s.undefined[o.id];
      all[static_cast<size_t>(l)] = static_cast<u8>(all[static_cast<size_t>(l)] | bytes);
    }
  }
}

}  // namespace vgpu
