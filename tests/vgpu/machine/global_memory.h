// Device memory: allocations in one reserved address range, with a defined bit per byte.
//
// Invariants:
//  - Device addresses are never reused and the host cannot touch them: the range that the program
//    sees has no access rights, the bytes live at a fixed distance in a second mapping.
//  - Between two allocations there is a gap of at least kGap bytes that belongs to none.
//  - During a launch the table does not change, so lookups take no lock. A kernel that calls malloc
//    runs on one core.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "common/types.h"

namespace vgpu {

struct Allocation {
  enum class Kind : u8 { kDevice, kHost, kManaged, kModule, kHeap };  // kHeap: malloc of kernels
  u64 base = 0;
  u64 size = 0;
  u8* host = nullptr;      // where the bytes are
  u64* defined = nullptr;  // bit per byte; null: all defined
  u64* touched = nullptr;  // bit per byte, while unique bytes are counted
  Kind kind = Kind::kDevice;
  bool freed = false;
  bool read_only = false;
  int device = 0;
  std::string name;
  // Where the bytes are among those of all allocations: no two share a block of 512.
  static constexpr u64 kNoPlace = ~u64{0};
  u64 place = kNoPlace;

  bool contains(u64 address, u64 bytes) const {
    return address >= base && address + bytes <= base + size;
  }
  u8* at(u64 address) const { return host + (address - base); }
};

class GlobalMemory {
 public:
  static constexpr u64 kGap = 256;

  GlobalMemory();
  ~GlobalMemory();
  GlobalMemory(const GlobalMemory&) = delete;
  GlobalMemory& operator=(const GlobalMemory&) = delete;

  // nullptr when the address range is used up.
  Allocation* allocate(u64 size, Allocation::Kind kind, int device, u64 alignment = 256);
  // Host memory that kernels may use as well.
  Allocation* adopt_host(void* pointer, u64 size, Allocation::Kind kind, int device);
  bool release(u64 base);
  // The allocation that holds `address` (freed ones included), or nullptr.
  Allocation* find(u64 address) const;
  // For messages: "12 bytes past the end of the 4096 bytes at 0x..." and the like.
  std::string describe(u64 address, u64 bytes) const;
  // Of cudaMalloc, not yet freed.
  u64 live_bytes(int device) const;
  void release_all();

  void set_defined(const Allocation& a, u64 address, u64 bytes) const;
  void set_undefined(const Allocation& a, u64 address, u64 bytes) const;

  u64 address_of(u64 place) const;
  // For the race check of a launch: an entry for each 512 bytes of places, see GlobalRaces.
  u64* race_table() const { return race_table_; }

  // Address windows of the generic address space; never part of an allocation.
  u64 shared_window() const { return windows_; }
  u64 local_window() const { return windows_ + kWindow; }
  u64 function_window() const { return windows_ + 2 * kWindow; }
  static constexpr u64 kWindow = u64{1} << 32;

 private:
  u8* device_view_ = nullptr;
  u8* bytes_ = nullptr;
  u64* defined_ = nullptr;
  u64 next_ = 0;
  u64 windows_ = 0;
  std::map<u64, std::unique_ptr<Allocation>> table_;
  std::map<int, u64> live_;  // bytes by device
  mutable std::mutex mutex_;
  u64* race_table_ = nullptr;
};

// Bits [offset, offset + n) of a defined map, n <= 64 and not crossing a 64-bit word.
inline bool all_set(const u64* map, u64 offset, u64 n) {
  const u64 mask = (n >= 64 ? ~u64{0} : (u64{1} << n) - 1) << (offset & 63);
  return (__atomic_load_n(&map[offset >> 6], __ATOMIC_RELAXED) & mask) == mask;
}
inline u64 get_bits(const u64* map, u64 offset, u64 n) {
  const u64 word = __atomic_load_n(&map[offset >> 6], __ATOMIC_RELAXED) >> (offset & 63);
  return n >= 64 ? word : word & ((u64{1} << n) - 1);
}
inline void put_bits(u64* map, u64 offset, u64 n, u64 value) {
  const u64 mask = (n >= 64 ? ~u64{0} : (u64{1} << n) - 1) << (offset & 63);
  const u64 set = (value << (offset & 63)) & mask;
  u64* word = &map[offset >> 6];
  const u64 old = __atomic_load_n(word, __ATOMIC_RELAXED);
  if ((old & mask) == set) return;
  __atomic_fetch_or(word, set, __ATOMIC_RELAXED);
  __atomic_fetch_and(word, set | ~mask, __ATOMIC_RELAXED);
}

}  // namespace vgpu
