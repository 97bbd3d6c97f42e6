// What a share of a wgmma reads and computes.
#include <immintrin.h>

#include <algorithm>
#include <utility>

#include "async/wgmma.h"
#include "common/error.h"
#include "machine/access.h"
#include "machine/cta.h"
#include "machine/launch.h"
#include "machine/tensor_sum.h"

namespace vgpu {
namespace {

bool a_in_registers(const Instr& in) { return in.vec == 1; }

// Whether the units hold these bytes, all of them defined.
bool same_units(const Cta& cta, const std::vector<u32>& units, const std::vector<u8>& bytes) {
  if (bytes.size() != units.size() * 16) return false;
  const auto load = [](const u8* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  };
  const u8* const shared = cta.shared.data();
  const u8* const defined = cta.shared_defined.data();
  const u8* expected = bytes.data();
  __m128i same = _mm_set1_epi32(-1);
  for (u32 unit : units) {
    same = _mm_and_si128(same, load(defined + unit));
    same = _mm_and_si128(same, _mm_cmpeq_epi32(load(shared + unit), load(expected)));
    expected += 16;
  }
  return _mm_movemask_epi8(same) == 0xffff;
}

}  // namespace

const Wgmma::Place& Wgmma::place(const Cta& cta, u64 descriptor, bool mn_major, u32 first,
                                 u32 rows) {
  const auto [it, fresh] =
      places_.try_emplace({descriptor, u64{first} << 32 | u64{rows} << 1 | (mn_major ? 1u : 0u)});
  Place& p = it->second;
  if (!fresh) return p;
  unit_addresses(MatrixDescriptor(descriptor), mn_major, first, rows, p.units);
  for (u32& unit : p.units) unit -= cta.shared_base;
  std::vector<u32> sorted = p.units;
  std::sort(sorted.begin(), sorted.end());
  for (u32 unit : sorted) {
    const u32 block = unit / UnitBlock::kBytes;
    if (p.blocks.empty() || p.blocks.back().block != block) p.blocks.push_back({block, 0});
    p.blocks.back().units |= 1u << unit % UnitBlock::kBytes / UnitBlock::kUnit;
  }
  return p;
}

// The place of an operand, if it is all in the CTA's shared memory.
const Wgmma::Place& Wgmma::operand(Warp& w, const Instr& in, u64 descriptor, bool mn_major,
                                   u32 first, u32 rows) {
  const Cta& cta = w.cta();
  const Place& p = place(cta, descriptor, mn_major, first, rows);
  const u32 last = static_cast<u32>(cta.shared.size()) - UnitBlock::kUnit;
  // An address below the CTA's memory is a large offset.
  if (p.blocks.back().block >= last / UnitBlock::kBytes) [[unlikely]] {
    for (u32 unit : p.units) {
      if (unit <= last) continue;
      w.fault(kFaultIllegalAddress, FindingKind::kOutOfBounds, in, 0,
              "the descriptor leads to shared address " + std::to_string(unit + cta.shared_base) +
                  "; the CTA's end at " + std::to_string(cta.shared_base + cta.shared.size()));
    }
  }
  compare_layout(w, in, descriptor, p.units.front() + cta.shared_base);
  return p;
}

// A hint where a descriptor names another swizzle than that of the copy that the bytes come from.
void Wgmma::compare_layout(Warp& w, const Instr& in, u64 descriptor, u32 address) {
  if (tiles_.empty()) return;
  auto it = tiles_.upper_bound(address);
  if (it == tiles_.begin()) return;
  const auto& [start, tile] = *--it;
  if (address >= start + tile.bytes) return;
  const MatrixDescriptor d(descriptor);
  const u32 swizzle = d.swizzle == 16 ? 0 : d.swizzle;
  if (swizzle != tile.swizzle) {
    w.hint(in, "the descriptor's swizzle is " + std::to_string(swizzle) +
                   " bytes, but a tensor map with a swizzle of " + std::to_string(tile.swizzle) +
                   " put the tile at shared address " + std::to_string(start));
  } else if (swizzle != 0 && d.base_offset != 0) {
    w.hint(in, "the descriptor's base offset is " + std::to_string(d.base_offset) +
                   ", but the patterns of tensor copies begin at multiples of " +
                   std::to_string(8 * swizzle) + " bytes");
  }
}

void Wgmma::begin_reads(Warp& w, Share& share, u64 a, u64 b) {
  const Instr& in = *share.in;
  Cta& cta = w.cta();
  const u32 rank = w.index() % kWgmmaWarps, blocks = in.sub;
  share.operation = cta.race.begin_operation(
      cta.thread_index(w, 0), cta.race.agent(kWarpgroupAgent + w.index() / kWgmmaWarps), in.site);
  note_stores(w, state(w));
  share.stores = state(w).stores;
  share.clock = cta.race.tracker().tick_warp(cta.race.thread(0) / kLanes + w.index());
  share.writes = cta.race.tracker().writes();
  bool said = false;
  const u32 first_thread = cta.race.thread(w.index() / kWgmmaWarps * kWgmmaWarps * kLanes);
  const auto read = [&](const Place& p) {
    const RaceReport report = cta.race.foresee_reads(share.operation, p.blocks);
    if (!report.found) return;
    if (report.other_wrote && report.other - first_thread < kWgmmaWarps * kLanes) {
      share.look_again = true;
    } else if (!std::exchange(said, true)) {
      report_race(w, in, 0, p.units.front(), false, report);
      cta.race.tracker().forgive(first_thread, kWgmmaWarps * kLanes);
    }
  };
  if (!a_in_registers(in)) {
    share.a = &operand(w, in, a, in.flag, rank * 16, 16);
    read(*share.a);
  }
  share.b = &operand(w, in, b, in.relu, 0, blocks * 8);
  const u32 first = blocks < kWgmmaWarps ? 0 : blocks * rank / kWgmmaWarps;
  const u32 last = blocks < kWgmmaWarps ? blocks : blocks * (rank + 1) / kWgmmaWarps;
  share.quarter = &place(cta, b, in.relu, first * 8, (last - first) * 8);
  read(*share.quarter);
}

// The oldest share whose reads may still be under way has been waited for.
void Wgmma::end_reads(Cta& cta, WarpState& s) {
  cta.race.end_operation(s.shares[s.ended - s.waited].operation);
  ++s.ended;
}

// The units' bytes into raw_.
void Wgmma::gather(const Cta& cta, const std::vector<u32>& units) {
  raw_.resize(units.size() * 16);
  undefined_units_.clear();
  u8* to = raw_.data();
  for (u32 i = 0; i < units.size(); ++i, to += 16) {
    std::memcpy(to, cta.shared.data() + units[i], 16);
    u64 defined[2];
    std::memcpy(defined, cta.shared_defined.data() + units[i], 16);
    if ((defined[0] & defined[1]) != ~u64{0}) [[unlikely]]
      undefined_units_.push_back(i);
  }
}

// The same of A in registers. Register r of a lane holds four bytes of row lane / 4 + 8 * (r % 2)
// and of half r / 2 of K.
void Wgmma::gather_registers(Warp& w, const Instr& in) {
  raw_.resize(size_t{32} * 16);
  undefined_units_.clear();
  for (u32 r = 0; r < 4; ++r) {
    const Operand& o = wgmma_registers(w, in)[wgmma_accumulators(in) + r];
    const u32* const v = w.lanes<u32>(o);
    const auto unit = [r](u32 lane) { return (lane / 4 + 8 * (r % 2)) * 2 + r / 2; };
    for (u32 l = 0; l < kLanes; ++l) std::memcpy(&raw_[unit(l) * 16 + l % 4 * 4], v + l, 4);
    for_each_lane(w.undef(o),
                  [&](int l) { undefined_units_.push_back(unit(static_cast<u32>(l))); });
  }
}

TileB& Wgmma::tile_b(Warp& w, const Share& share) {
  const Instr& in = *share.in;
  const Cta& cta = w.cta();
  const Reading reading{in.type2, in.relu, (in.imm & 2) != 0};
  Group& g = group(w);
  for (TileB& tile : g.tiles) {
    if (tile.place != share.b || tile.reading != reading) continue;
    if (same_units(cta, share.b->units, tile.raw)) {
      tile.undefined.reset();
      return tile;
    }
  }
  TileB& tile = g.tiles[g.next_tile++ % g.tiles.size()];
  gather(cta, share.b->units);
  tile.build(reading, raw_);
  tile.place = share.b;
  tile.undefined.reset();
  for (u32 i : undefined_units_)
    for (u32 e = 0; e < (in.relu ? 8u : 1u); ++e)
      tile.undefined.set((in.relu ? i / 16 * 8 : i / 2) + e);
  return tile;
}

void Wgmma::perform(Warp& w, WarpState& s) {
  Share& share = s.shares[s.finished - s.waited];
  const Instr& in = *share.in;
  ++s.finished;
  --open_;
  share.done = true;

  const bool mn_major = share.a != nullptr && in.flag;
  if (share.a == nullptr) {
    gather_registers(w, in);
  } else {
    gather(w.cta(), share.a->units);
  }
  a_.build({in.type, mn_major, (in.imm & 1) != 0}, raw_);
  a_.undefined = 0;
  for (u32 i : undefined_units_) a_.undefined |= mn_major ? 0xffu << (i / 16 * 8) : 1u << (i / 2);

  const TileB& b = tile_b(w, share);
  const Machine& machine = w.cta().launch.machine;
  if (machine.mma == MmaSums::kTruncate && in.sub2 != kWgmmaS32) {
    read_accumulator(w, share);
    multiply_onto(tensor_sum(machine.device.capability(), in.type), a_, b, in.type,
                  in.sub2 == kWgmmaF16, product_);
    write_accumulator(w, s, share, b, false);
    return;
  }
  multiply(a_, b, product_);
  write_accumulator(w, s, share, b, share.scale_d);
}

// What the product is added to, laid out as it: D, or zeros where the wgmma does not add.
void Wgmma::read_accumulator(Warp& w, const Share& share) {
  const Instr& in = *share.in;
  const u32 count = wgmma_accumulators(in);
  const bool packed = in.sub2 == kWgmmaF16;
  product_.assign(size_t{count} * (packed ? 2 : 1) * kLanes, 0.0f);
  if (!share.scale_d) return;
  for (u32 r = 0; r < count; ++r) {
    const u32* const d = w.lanes<u32>(wgmma_registers(w, in)[r]);
    float* const to = &product_[size_t{packed ? 2 * r : r} * kLanes];
    for (int l = 0; l < kLanes; ++l) {
      to[l] = packed ? half_to_float(static_cast<u16>(d[l])) : bits<float>(d[l]);
      if (packed) to[l + kLanes] = half_to_float(static_cast<u16>(d[l] >> 16));
    }
  }
}

// D = product + D where `adds`, else the product alone.
void Wgmma::write_accumulator(Warp& w, WarpState& s, const Share& share, const TileB& b,
                              bool adds) {
  const Instr& in = *share.in;
  const u32 count = wgmma_accumulators(in);
  const bool undefined = a_.undefined != 0 || b.undefined.any();
  const bool packed = in.sub2 == kWgmmaF16, sat = in.sat;
  for (u32 r = 0; r < count; ++r) {
    const Operand& o = wgmma_registers(w, in)[r];
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
    if (!share.scale_d && !s.undefined.empty()) s.undefined.erase(o.id);
    if (!undefined) continue;
    for (int l = 0; l < kLanes; ++l) {
      u8 bytes = 0;
      for (u32 i = 0; i < (packed ? 2u : 1u); ++i) {
        const u32 n = packed ? 2 * r + i : r;
        const u32 row = static_cast<u32>(l) / 4 + n / 2 % 2 * 8;
        const u32 column = n / 4 * 8 + static_cast<u32>(l) % 4 * 2 + n % 2;
        if (((a_.undefined >> row) & 1) != 0 || b.undefined[column])
          bytes = static_cast<u8>(bytes | (packed ? 3u << (2 * i) : 15u));
      }
      if (bytes == 0) continue;
      auto& all = s.undefined[o.id];
      all[static_cast<size_t>(l)] = static_cast<u8>(all[static_cast<size_t>(l)] | bytes);
    }
  }
}

}  // namespace vgpu
