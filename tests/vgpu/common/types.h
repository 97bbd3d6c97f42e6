// Short integer names and bit helpers shared by every room of the virtual GPU.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace vgpu {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
__extension__ typedef unsigned __int128 u128;  // NOLINT(modernize-use-using): __extension__
using i8 = std::int8_t;
using i16 = std::int16_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
__extension__ typedef __int128 i128;  // NOLINT(modernize-use-using): as above

inline constexpr int kLanes = 32;
inline constexpr u32 kAllLanes = 0xffffffffu;

template <class To, class From>
inline To bits(From from) {
  return std::bit_cast<To>(from);
}

inline constexpr u64 align_up(u64 value, u64 alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// Calls f(lane) for every set bit, lowest first.
template <class F>
inline void for_each_lane(u32 mask, F&& f) {
  for (; mask != 0; mask &= mask - 1) f(std::countr_zero(mask));
}

// When asynchronous operations complete: at issue, at the wait that requires it, or at any moment
// in between.
enum class Asynchrony : u8 { kEarly, kLate, kAny, kBySeed };

// splitmix64: every random choice of the machine comes from one of these, keyed by the seed.
class Random {
 public:
  explicit Random(u64 seed) : state_(seed) {}
  u64 next() {
    u64 z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  u32 below(u32 n) { return n == 0 ? 0 : static_cast<u32>(next() % n); }

 private:
  u64 state_;
};

}  // namespace vgpu
