// One lane's access to memory, whatever the state space: where the bytes are, whether they are
// defined, and what there is to find fault with.
#pragma once

#include "check/global_race.h"
#include "check/race.h"
#include "machine/warp.h"

namespace vgpu {

struct Allocation;

struct Target {
  enum class Kind : u8 { kGlobal, kShared, kLocal };
  Kind kind = Kind::kGlobal;
  u8* data = nullptr;
  u8* defined_bytes = nullptr;  // shared and local: 0xff per defined byte
  u64* defined_bits = nullptr;  // global: a bit per byte; null when all are defined
  u64 bit_offset = 0;
  u32 shared_offset = 0;  // in the executing CTA's shared memory; in a peer's: modulo 2^32
  Cta* cta = nullptr;     // whose shared memory it is
  Allocation* allocation = nullptr;
};

// Addresses of the active lanes, offset included. Reports undefined ones.
void gather_addresses(Warp& w, const Instr& in, u32 mask, u64 (&out)[kLanes]);

// Resolves and checks; throws Fault. `cache` speeds up lanes in the same allocation.
Target locate(Warp& w, const Instr& in, int lane, u64 address, u32 bytes, bool write,
              Allocation*& cache);

// Where the bytes of a whole warp access are, when all active lanes are well-behaved and in one
// place: the common case, without a look at each lane. The byte of address x is data[x - origin].
struct WarpTarget {
  Target::Kind kind = Target::Kind::kGlobal;
  u64 origin = 0;  // address of data[0], start of the allocation or of the CTA's shared memory
  u8* data = nullptr;
  u8* defined_bytes = nullptr;  // shared: one for each byte of data
  u64* defined_bits = nullptr;  // global: likewise; null when all are defined
};
bool locate_warp(Warp& w, const Instr& in, u32 mask, const u64 (&address)[kLanes], u32 bytes,
                 bool write, WarpTarget& out);

// Bit i: byte i is undefined (bytes <= 16).
u32 undefined_mask(const Target& t, u32 bytes);
void mark(const Target& t, u32 bytes, u32 undefined);

// Race check of a shared access; reports. A strong read then learns what a flag tells.
void check_race(Warp& w, const Instr& in, int lane, u32 offset, u32 bytes, bool write, bool strong);
// Race check of a store by the lanes of `mask`, in ascending order of lanes. Lanes that write the
// same value to the same place with one instruction do not race: one of them writes.
void check_store_race(Warp& w, const Instr& in, u32 mask, const u64 (&address)[kLanes], int lane,
                      u32 offset, u32 bytes);
// Whether two lanes of a store write the same: to the same place, that is no race.
bool same_values(Warp& w, const Instr& in, int lane, int other);
void report_race(Warp& w, const Instr& in, int lane, u32 offset, bool write, const RaceReport& r);
// "the write by thread (1,0,0) at PTX line 7".
std::string describe_other(Warp& w, const RaceReport& r);

// Counters and order of a warp's access; only called while they are remembered.
void count_global(Warp& w, const Instr& in, u32 mask, const u64 (&address)[kLanes], u32 bytes,
                  bool write);
// The same, on account of another instruction than the one whose addresses these are.
void count_global(Warp& w, const Instr& in, u32 mask, const u64 (&address)[kLanes], u32 bytes,
                  bool write, const Instr& account);
// One lane's access to global memory comes after all grids that have written there, or is found.
void check_grid_order(Warp& w, const Instr& in, int lane, const Allocation& a, u64 offset,
                      u32 bytes, bool write);
// Race check of an access to global memory by the lanes of `mask`, all in `a`; reports. A strong
// access passes on and learns what a flag tells.
void check_global(Warp& w, const Instr& in, u32 mask, const u64 (&address)[kLanes], u32 bytes,
                  bool write, const Allocation& a);
// One lane's; a part of a warp's access.
void check_global(Warp& w, const Instr& in, int lane, const Allocation& a, u64 offset, u32 bytes,
                  bool write);
void report_global_race(Warp& w, const Instr& in, int lane, bool write, const GlobalReport& r);
// The lane has read (`now`: first) this value by a strong access: does it wait for something?
void note_strong_read(Warp& w, const Instr& in, int lane, const Allocation& a, u64 offset,
                      u64 value);
void count_shared(Warp& w, const Instr& in, u32 mask, const u64 (&address)[kLanes], u32 bytes);
// Passes that 32 banks of four bytes need for these addresses, and the least possible.
void bank_passes(u32 mask, const u64 (&address)[kLanes], u32 bytes, u64& passes, u64& ideal);

}  // namespace vgpu
