#include "machine/global_memory.h"
#include "common/hex.h"

#include <sys/mman.h>

#include <new>

namespace vgpu {
namespace {

constexpr u64 kArena = u64{1} << 40;
constexpr u64 kPage = 4096;
constexpr u64 kPoisonLimit = u64{64} << 20;

u8* map(u64 bytes, int protection, u64 hint) {
  void* p = mmap(reinterpret_cast<void*>(hint), bytes, protection,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return static_cast<u8*>(p);
}

void fill_bits(u64* map, u64 offset, u64 n, bool value) {
  for (; n != 0 && (offset & 63) != 0; ++offset, --n) put_bits(map, offset, 1, value ? 1 : 0);
  const u64 words = n / 64;
  std::memset(&map[offset >> 6], value ? 0xff : 0, words * 8);
  offset += words * 64;
  for (n -= words * 64; n != 0; ++offset, --n) put_bits(map, offset, 1, value ? 1 : 0);
}

}  // namespace

GlobalMemory::GlobalMemory() {
  // A fixed hint keeps addresses, and with them hashes of pointers, the same from run to run. It
  // lies above the shadow memory of AddressSanitizer, below where programs and libraries are
  // loaded.
  device_view_ = map(kArena, PROT_NONE, u64{0x200000000000});
  bytes_ = map(kArena, PROT_READ | PROT_WRITE, 0);
  defined_ = reinterpret_cast<u64*>(map(kArena / 8, PROT_READ | PROT_WRITE, 0));
  race_table_ = reinterpret_cast<u64*>(map(kArena / 512 * 8, PROT_READ | PROT_WRITE, 0));
  windows_ = reinterpret_cast<u64>(map(4 * kWindow, PROT_NONE, u64{0x1f0000000000}));
  windows_ = align_up(windows_, kWindow);
}

GlobalMemory::~GlobalMemory() {
  munmap(device_view_, kArena);
  munmap(bytes_, kArena);
  munmap(defined_, kArena / 8);
  munmap(race_table_, kArena / 512 * 8);
}

Allocation* GlobalMemory::allocate(u64 size, Allocation::Kind kind, int device, u64 alignment) {
  std::lock_guard lock(mutex_);
  const u64 start = align_up(next_ + kGap, std::max<u64>(alignment, 512));
  if (size > kArena || start + size + kGap > kArena) return nullptr;
  next_ = start + size;
  auto a = std::make_unique<Allocation>();
  a->base = reinterpret_cast<u64>(device_view_) + start;
  a->size = size;
  a->host = bytes_ + start;
  a->place = start;
  a->defined = defined_ + start / 64;  // start is a multiple of 512
  a->kind = kind;
  a->device = device;
  // Fresh memory reads as NaN in every format, so that a value that got away is seen.
  if ((kind == Allocation::Kind::kDevice || kind == Allocation::Kind::kHeap) &&
      size <= kPoisonLimit)
    std::memset(a->host, 0xff, size);
  if (kind == Allocation::Kind::kDevice) live_[device] += size;
  Allocation* raw = a.get();
  table_[raw->base] = std::move(a);
  return raw;
}

Allocation* GlobalMemory::adopt_host(void* pointer, u64 size, Allocation::Kind kind, int device) {
  std::lock_guard lock(mutex_);
  auto a = std::make_unique<Allocation>();
  a->base = reinterpret_cast<u64>(pointer);
  a->size = size;
  a->host = static_cast<u8*>(pointer);
  // Its bytes are elsewhere, but it has a place.
  const u64 start = align_up(next_, 512);
  if (start + size <= kArena) {
    a->place = start;
    next_ = start + size;
  }
  a->kind = kind;
  a->device = device;
  Allocation* raw = a.get();
  table_[raw->base] = std::move(a);
  return raw;
}

bool GlobalMemory::release(u64 base) {
  std::lock_guard lock(mutex_);
  const auto it = table_.find(base);
  if (it == table_.end() || it->second->freed) return false;
  Allocation& a = *it->second;
  if (a.defined == nullptr) {  // host memory: its owner frees it, and the address may come again
    table_.erase(it);
    return true;
  }
  a.freed = true;
  if (a.kind == Allocation::Kind::kDevice) live_[a.device] -= a.size;
  const u64 first = align_up(reinterpret_cast<u64>(a.host), kPage);
  const u64 last = reinterpret_cast<u64>(a.host + a.size) / kPage * kPage;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  return true;
}

void GlobalMemory::release_all() {
  live_.clear();
  for (auto& [base, a] : table_) {
    if ((a->kind == Allocation::Kind::kDevice || a->kind == Allocation::Kind::kHeap) && !a->freed) {
      a->freed = true;
      madvise(reinterpret_cast<void*>(align_up(reinterpret_cast<u64>(a->host), kPage)),
              a->size / kPage * kPage, MADV_DONTNEED);
    }
  }
}

Allocation* GlobalMemory::find(u64 address) const {
  auto it = table_.upper_bound(address);
  if (it == table_.begin()) return nullptr;
  Allocation* a = std::prev(it)->second.get();
  return address < a->base + a->size ? a : nullptr;
}

u64 GlobalMemory::address_of(u64 place) const {
  for (const auto& [base, a] : table_)
    if (place - a->place < a->size) return base + (place - a->place);
  return 0;
}

std::string GlobalMemory::describe(u64 address, u64 bytes) const {
  std::string at = std::to_string(bytes) + " bytes at " + hex(address);
  auto it = table_.upper_bound(address);
  if (it == table_.begin()) {
    return at + (address < kPage ? ", a null pointer" : ", in no allocation");
  }
  const Allocation& a = *std::prev(it)->second;
  const std::string what = "the " + std::to_string(a.size) + " bytes at " + hex(a.base) +
                           (a.name.empty() ? "" : " (" + a.name + ")");
  if (a.freed && address < a.base + a.size) return at + ", inside " + what + ", freed before";
  if (address < a.base + a.size) return at + ", across the end of " + what;
  return at + ", " + std::to_string(address - a.base - a.size) + " bytes past the end of " + what;
}

u64 GlobalMemory::live_bytes(int device) const {
  std::lock_guard lock(mutex_);
  const auto it = live_.find(device);
  return it == live_.end() ? 0 : it->second;
}

void GlobalMemory::set_defined(const Allocation& a, u64 address, u64 bytes) const {
  if (a.defined != nullptr) fill_bits(a.defined, address - a.base, bytes, true);
}
void GlobalMemory::set_undefined(const Allocation& a, u64 address, u64 bytes) const {
  if (a.defined != nullptr) fill_bits(a.defined, address - a.base, bytes, false);
}

}  // namespace vgpu
