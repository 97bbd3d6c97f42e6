#include "machine/access.h"

#include <algorithm>

#include "common/error.h"
#include "common/hex.h"
#include "machine/cluster.h"
#include "machine/cta.h"
#include "machine/launch.h"

namespace vgpu {
namespace {

// Memory of another device is out of reach unless the two are peers.
bool reachable(const Launch& launch, const Allocation& a) {
  return a.device == launch.config.device || a.kind != Allocation::Kind::kDevice ||
         launch.machine.peers.contains({launch.config.device, a.device});
}

[[noreturn]] void bad_address(Warp& w, const Instr& in, int lane, u64 address, u32 bytes,
                              bool write) {
  const GlobalMemory& memory = w.cta().launch.machine.memory;
  const Allocation* a = memory.find(address);
  const bool freed = a != nullptr && a->freed;
  const std::string what = write ? "write of " : "read of ";
  std::string where = memory.describe(address, bytes);
  if (a != nullptr && a->read_only && a->contains(address, bytes)) where += ", which is read-only";
  const Launch& launch = w.cta().launch;
  if (a != nullptr && !freed && !reachable(launch, *a))
    where += ", memory of device " + std::to_string(a->device) + ", which is no peer of device " +
             std::to_string(launch.config.device);
  w.fault(kFaultIllegalAddress, freed ? FindingKind::kUseAfterFree : FindingKind::kOutOfBounds, in,
          lane, what + where);
}

Target shared_target(Warp& w, const Instr& in, int lane, u64 address, u32 bytes, bool write) {
  Cta& own = w.cta();
  Cta* owner = &own;
  const bool anywhere = in.in_cluster || in.space == ptx::Space::kGeneric;
  if (!anywhere && address >= own.shared_window() + Cta::kWindowBytes) {
    w.fault(kFaultIllegalAddress, FindingKind::kOutOfBounds, in, lane,
            "shared address " + hex(address) + " is not of the CTA's own memory");
  }
  if (!anywhere) {
    address %= Cta::kWindowBytes;
  } else {
    owner = own.cluster.owner(address);
    if (owner == nullptr) {
      w.fault(kFaultIllegalAddress, FindingKind::kOutOfBounds, in, lane,
              "shared address " + hex(address) + " belongs to no CTA of the cluster");
    }
    if (owner != &own && owner->live == 0) {
      w.report(FindingKind::kExitedPeer, in, lane,
               "CTA " + std::to_string(owner->rank) +
                   " of the cluster has exited, its shared memory is gone");
    }
  }
  Cta& cta = *owner;
  if (address < cta.shared_base || address + bytes > Cta::kSharedBase + cta.shared_bytes) {
    w.fault(kFaultIllegalAddress, FindingKind::kOutOfBounds, in, lane,
            std::string(write ? "write of " : "read of ") + std::to_string(bytes) +
                " bytes at shared address " + hex(address) + ", the CTA has " +
                std::to_string(cta.shared_bytes) + " bytes from " + hex(Cta::kSharedBase));
  }
  Target t;
  t.kind = Target::Kind::kShared;
  const u32 offset = static_cast<u32>(address) - cta.shared_base;
  t.cta = owner;
  t.shared_offset = cta.race.byte(offset) - own.race.byte(0);
  t.data = cta.shared.data() + offset;
  t.defined_bytes = cta.shared_defined.data() + offset;
  return t;
}

Target local_target(Warp& w, const Instr& in, int lane, u64 address, u32 bytes, bool write) {
  if (address + bytes > w.local_bytes()) {
    w.fault(kFaultIllegalAddress, FindingKind::kOutOfBounds, in, lane,
            std::string(write ? "write of " : "read of ") + std::to_string(bytes) +
                " bytes at local address " + hex(address) + ", the thread has " +
                std::to_string(w.local_bytes()));
  }
  Target t;
  t.kind = Target::Kind::kLocal;
  t.data = w.local(lane) + address;
  t.defined_bytes = w.local_defined(lane) + address;
  return t;
}

}  // namespace

void gather_addresses(Warp& w, const Instr& in, u32 mask, u64 (&out)[kLanes]) {
  const u32 undefined = w.undef(in.a) & mask;
  if (undefined != 0) {
    w.report(FindingKind::kUndefinedAddress, in, std::countr_zero(undefined),
             "the address depends on undefined data");
  }
  if (in.a.width == 8) {
    const u64* a = w.lanes<u64>(in.a);
    for (int l = 0; l < kLanes; ++l) out[l] = a[l] + static_cast<u64>(in.imm);
  } else {
    const u32* a = w.lanes<u32>(in.a);
    for (int l = 0; l < kLanes; ++l) out[l] = a[l] + static_cast<u32>(in.imm);
  }
  if (in.local_symbol)
    for (int l = 0; l < kLanes; ++l) out[l] += w.frame_base(l);
}

Target locate(Warp& w, const Instr& in, int lane, u64 address, u32 bytes, bool write,
              Allocation*& cache) {
  if (address % bytes != 0) {
    w.fault(kFaultMisaligned, FindingKind::kMisaligned, in, lane,
            "access of " + std::to_string(bytes) + " bytes at " + hex(address) +
                ", which is no multiple of it");
  }
  const Launch& launch = w.cta().launch;
  const GlobalMemory& memory = launch.machine.memory;
  switch (in.space) {
    case ptx::Space::kShared:
      return shared_target(w, in, lane, address, bytes, write);
    case ptx::Space::kLocal:
      return local_target(w, in, lane, address, bytes, write);
    case ptx::Space::kParam:
      address += launch.params->base;
      break;
    case ptx::Space::kGeneric: {
      const u64 shared = address - memory.shared_window();
      if (shared < GlobalMemory::kWindow) return shared_target(w, in, lane, shared, bytes, write);
      const u64 local = address - memory.local_window();
      if (local < GlobalMemory::kWindow) return local_target(w, in, lane, local, bytes, write);
      break;
    }
    default:
      break;
  }
  if (cache == nullptr || !cache->contains(address, bytes)) {
    cache = memory.find(address);
    if (cache == nullptr || cache->freed || !cache->contains(address, bytes) ||
        !reachable(launch, *cache)) {
      bad_address(w, in, lane, address, bytes, write);
    }
  }
  if (write && cache->read_only) bad_address(w, in, lane, address, bytes, write);
  Target t;
  t.allocation = cache;
  t.data = cache->at(address);
  t.defined_bits = cache->defined;
  t.bit_offset = address - cache->base;
  return t;
}

bool locate_warp(Warp& w, const Instr& in, u32 mask, const u64 (&address)[kLanes], u32 bytes,
                 bool write, WarpTarget& out) {
  u64 low = ~u64{0}, high = 0, any = 0;
  if (w.full(mask) && mask == kAllLanes) {
    for (int l = 0; l < kLanes; ++l) {
      low = std::min(low, address[l]);
      high = std::max(high, address[l]);
      any |= address[l];
    }
  } else {
    for_each_lane(mask, [&](int l) {
      low = std::min(low, address[l]);
      high = std::max(high, address[l]);
      any |= address[l];
    });
  }
  if ((any & (bytes - 1)) != 0) return false;
  Cta& cta = w.cta();
  const GlobalMemory& memory = cta.launch.machine.memory;
  u64 window = 0;
  bool shared = in.space == ptx::Space::kShared;
  if (in.space == ptx::Space::kGeneric) {
    shared = low - memory.shared_window() < GlobalMemory::kWindow;
    if (shared) window = memory.shared_window();
  } else if (in.space == ptx::Space::kLocal || in.space == ptx::Space::kParam) {
    return false;
  }
  if (shared) {
    const u64 first = window + cta.shared_window() + cta.shared_base;
    if (low < first || high + bytes > first + cta.shared.size()) return false;
    out.kind = Target::Kind::kShared;
    out.origin = first;
    out.data = cta.shared.data();
    out.defined_bytes = cta.shared_defined.data();
    return true;
  }
  Allocation*& cache = w.allocation_cache();
  if (cache == nullptr || cache->freed || !cache->contains(low, bytes)) {
    cache = memory.find(low);
    if (cache != nullptr && !reachable(cta.launch, *cache)) cache = nullptr;
  }
  if (cache == nullptr || cache->freed || !cache->contains(low, bytes) ||
      !cache->contains(high, bytes) || (write && cache->read_only))
    return false;
  out.kind = Target::Kind::kGlobal;
  out.origin = cache->base;
  out.data = cache->host;
  out.defined_bits = cache->defined;
  return true;
}

u32 undefined_mask(const Target& t, u32 bytes) {
  if (t.defined_bytes != nullptr) {
    switch (bytes) {
      case 4:
        if (*reinterpret_cast<const u32*>(t.defined_bytes) == 0xffffffffu) return 0;
        break;
      case 8:
        if (*reinterpret_cast<const u64*>(t.defined_bytes) == ~u64{0}) return 0;
        break;
      case 16: {
        const u64* d = reinterpret_cast<const u64*>(t.defined_bytes);
        if ((d[0] & d[1]) == ~u64{0}) return 0;
        break;
      }
      default:
        break;
    }
    u32 out = 0;
    for (u32 i = 0; i < bytes; ++i) out |= t.defined_bytes[i] == 0 ? 1u << i : 0u;
    return out;
  }
  if (t.defined_bits == nullptr || all_set(t.defined_bits, t.bit_offset, bytes)) return 0;
  const u64 all = (u64{1} << bytes) - 1;
  return static_cast<u32>(~get_bits(t.defined_bits, t.bit_offset, bytes) & all);
}

void mark(const Target& t, u32 bytes, u32 undefined) {
  if (t.defined_bytes != nullptr) {
    if (undefined == 0) {
      std::memset(t.defined_bytes, 0xff, bytes);
    } else {
      for (u32 i = 0; i < bytes; ++i) t.defined_bytes[i] = (undefined >> i) & 1 ? 0 : 0xff;
    }
    return;
  }
  if (t.defined_bits == nullptr) return;
  const u64 all = (u64{1} << bytes) - 1;
  put_bits(t.defined_bits, t.bit_offset, bytes, ~u64{undefined} & all);
}

namespace {

// Bytes of the tracker that each CTA of a cluster has.
u32 tracked_bytes(const Cta& cta) { return static_cast<u32>(align_up(cta.shared.size(), 1024)); }

// The system's part is guarded by flags of its own, which the race check does not follow.
bool reserved(const Cta& cta, u32 offset) {
  return cta.shared_base == 0 && cta.race.byte(offset) % tracked_bytes(cta) < Cta::kSharedBase;
}

}  // namespace

bool same_values(Warp& w, const Instr& in, int lane, int other) {
  bool same = true;
  for (u32 e = 0; e < in.vec; ++e) {
    const Operand& source = in.vec == 1 ? in.b : w.operand(in.pool + e);
    const auto bytes_of = [&](int l) {
      return w.lanes<u8>(source) + static_cast<size_t>(l) * source.width;
    };
    same = same && std::memcmp(bytes_of(lane), bytes_of(other), source.width) == 0;
  }
  return same;
}

void check_race(Warp& w, const Instr& in, int lane, u32 offset, u32 bytes, bool write,
                bool strong) {
  Cta& cta = w.cta();
  if (reserved(cta, offset)) return;
  const u32 thread = cta.thread_index(w, lane);
  const RaceReport r = write ? cta.race.write(thread, offset, bytes, strong, in.site)
                             : cta.race.read(thread, offset, bytes, strong, in.site);
  if (r.found) report_race(w, in, lane, offset, write, r);
  if (strong && !write) cta.race.flag_read(thread, offset, bytes, in.acquires);
}

void check_store_race(Warp& w, const Instr& in, u32 mask, const u64 (&address)[kLanes], int lane,
                      u32 offset, u32 bytes) {
  Cta& cta = w.cta();
  if (reserved(cta, offset)) return;
  const u32 thread = cta.thread_index(w, lane);
  const RaceReport r = cta.race.write(thread, offset, bytes, in.strong, in.site);
  if (in.strong) cta.race.flag_write(thread, offset, bytes, in.releases, false);
  if (!r.found) return;
  const u32 first = cta.race.thread(w.index() * kLanes);
  const int other = static_cast<int>(r.other - first);
  if (r.other_wrote && r.other >= first && other < lane && ((mask >> other) & 1) != 0 &&
      address[other] == address[lane]) {
    if (same_values(w, in, lane, other)) return;
  }
  report_race(w, in, lane, offset, true, r);
}

void report_race(Warp& w, const Instr& in, int lane, u32 offset, bool write, const RaceReport& r) {
  const Cta& cta = w.cta();
  const u32 bytes = tracked_bytes(cta);
  const u32 at = cta.race.byte(offset);
  w.report(r.proxy ? FindingKind::kProxy : FindingKind::kSharedRace, in, lane,
           std::string(write ? "write" : "read") + " of shared address " +
               hex(at % bytes + cta.shared_base) +
               (at / bytes == cta.rank ? "" : " of CTA " + std::to_string(at / bytes)) +
               (r.proxy ? " by the asynchronous proxy lacks a fence.proxy.async after "
                        : " is not ordered against ") +
               describe_other(w, r));
}

std::string describe_other(Warp& w, const RaceReport& r) {
  const Cta& cta = w.cta();
  std::string out = std::string("the ") + (r.other_wrote ? "write" : "read") + " by ";
  const u32 threads = cta.race.tracker().threads() / cta.cluster.size();
  if (r.other < cta.race.tracker().threads()) {
    const u32 rank = r.other / threads, thread = r.other % threads;
    u32 coords[3];
    cta.thread_coords(*cta.warps[thread / kLanes], static_cast<int>(thread % kLanes), coords);
    out += "thread (" + std::to_string(coords[0]) + "," + std::to_string(coords[1]) + "," +
           std::to_string(coords[2]) + ")" +
           (rank == cta.rank ? "" : " of CTA " + std::to_string(rank));
  } else {
    out += "the asynchronous operation";
  }
  // A site is known modulo 2^16.
  const auto& code = cta.program.code;
  return code.size() <= 0x10000 ? out + " at PTX line " + std::to_string(code[r.other_site].line)
                                : out;
}

void count_global(Warp& w, const Instr& in, u32 mask, const u64 (&address)[kLanes], u32 bytes,
                  bool write) {
  count_global(w, in, mask, address, bytes, write, in);
}

void check_grid_order(Warp& w, const Instr& in, int lane, const Allocation& a, u64 offset,
                      u32 bytes, bool write) {
  Cta& cta = w.cta();
  if (cta.launch.config.unfinished.empty() ||
      cta.cluster.grid_waits.before(cta.race.thread(cta.thread_index(w, lane))))
    return;
  const UnfinishedGrid* grid = cta.launch.unfinished_writer(a, offset, bytes);
  if (grid == nullptr) return;
  w.report(FindingKind::kGridOrder, in, lane,
           std::string(write ? "write of " : "read of ") + std::to_string(bytes) + " bytes at " +
               hex(a.base + offset) + ", which the unfinished grid of " + grid->kernel +
               " writes, without a griddepcontrol.wait before it");
}

void count_global(Warp& w, const Instr&, u32 mask, const u64 (&address)[kLanes], u32 bytes,
                  bool write, const Instr& account) {
  if (!w.cta().launch.config.unfinished.empty()) {
    for_each_lane(mask, [&](int l) {
      const Allocation* a = w.cta().launch.machine.memory.find(address[l]);
      if (a != nullptr) check_grid_order(w, account, l, *a, address[l] - a->base, bytes, write);
    });
  }
  PcCount& count = w.cta().counts[static_cast<size_t>(&account - w.cta().program.code.data())];
  u64 sectors[kLanes * 2];
  size_t n = 0;
  for_each_lane(mask, [&](int l) {
    for (u64 s = address[l] / 32; s <= (address[l] + bytes - 1) / 32; ++s) sectors[n++] = s;
  });
  std::sort(sectors, sectors + n);
  count.sectors += static_cast<u64>(std::unique(sectors, sectors + n) - sectors);
  count.bytes += u64{bytes} * static_cast<u64>(std::popcount(mask));
  w.cta().launch.touch(mask, address, bytes, write);
}

void bank_passes(u32 mask, const u64 (&address)[kLanes], u32 bytes, u64& passes, u64& ideal) {
  // Wide accesses go in halves (8 bytes) or quarters (16 bytes) of a warp.
  const int lanes = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  passes = ideal = 0;
  for (int first = 0; first < kLanes; first += lanes) {
    u64 words[kLanes * 4];
    size_t n = 0;
    for (int l = first; l < first + lanes; ++l) {
      if (((mask >> l) & 1) == 0) continue;
      for (u64 word = address[l] / 4; word <= (address[l] + bytes - 1) / 4; ++word)
        words[n++] = word;
    }
    if (n == 0) continue;
    std::sort(words, words + n);
    n = static_cast<size_t>(std::unique(words, words + n) - words);
    u32 per_bank[32] = {};
    u32 most = 0;
    for (size_t i = 0; i < n; ++i) most = std::max(most, ++per_bank[words[i] % 32]);
    passes += most;
    ideal += 1;
  }
}

void count_shared(Warp& w, const Instr& in, u32 mask, const u64 (&address)[kLanes], u32 bytes) {
  PcCount& count = w.cta().counts[static_cast<size_t>(&in - w.cta().program.code.data())];
  u64 passes, ideal;
  bank_passes(mask, address, bytes, passes, ideal);
  count.wavefronts += passes;
  count.ideal += ideal;
}

}  // namespace vgpu
