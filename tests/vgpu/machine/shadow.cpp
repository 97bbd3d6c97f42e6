// How undefined bytes travel: the slow path behind Warp::shadow.
#include <algorithm>

#include "machine/warp.h"

namespace vgpu {
namespace {

// Bytes to bits and back: a byte is undefined when any of its bits is.
u64 expand(u32 byte_mask) {
  u64 out = 0;
  for (int i = 0; i < 8; ++i)
    if ((byte_mask >> i) & 1) out |= u64{0xff} << (8 * i);
  return out;
}
u32 compress(u64 bit_mask) {
  u32 out = 0;
  for (int i = 0; i < 8; ++i)
    if ((bit_mask >> (8 * i)) & 0xff) out |= 1u << i;
  return out;
}
u32 width_mask(int width) { return width == 0 ? 1u : width >= 8 ? 0xffu : (1u << width) - 1; }

// For each byte: 0 when every bit of it is defined and equal to `filler`'s.
u32 hiding_bytes(u64 value, u32 undefined, u8 filler) {
  u32 out = 0;
  for (int i = 0; i < 8; ++i)
    if (static_cast<u8>(value >> (8 * i)) == filler && ((undefined >> i) & 1) == 0) out |= 1u << i;
  return out;
}

}  // namespace

void Warp::shadow_slow(const Instr& in, u32 mask, u32 sources) {
  if (!in.dst.valid || in.dst.id == 0) return;
  if (in.dst2.valid) {
    undef_[in.dst2.id] = (undef_[in.dst2.id] & ~mask) | (sources & mask);
    set_undefined(in.dst2, sources & mask);
  }
  set_defined(in.dst, mask & ~sources);
  const u32 all = width_mask(in.dst.width);
  for_each_lane(mask & sources, [&](int lane) {
    const u32 a = undef_of(in.a, lane), b = undef_of(in.b, lane), c = undef_of(in.c, lane),
              d = undef_of(in.d, lane);
    u32 out = all;
    switch (in.shadow) {
      case ShadowRule::kAll:
        break;
      case ShadowRule::kBitwise:
        out = (a | b | c | d) & all;
        break;
      case ShadowRule::kAnd:
      case ShadowRule::kOr: {
        const u8 filler = in.shadow == ShadowRule::kAnd ? 0x00 : 0xff;
        const u32 hidden =
            hiding_bytes(value(in.a, lane), a, filler) | hiding_bytes(value(in.b, lane), b, filler);
        out = (a | b) & ~hidden & all;
        break;
      }
      case ShadowRule::kConvert: {
        const int from = std::max<int>(1, in.sub2);
        out = a & width_mask(from);
        const bool top = ((a >> (from - 1)) & 1) != 0;
        if (in.flag && top) out |= all & ~width_mask(from);  // sign extension
        out &= all;
        break;
      }
      case ShadowRule::kShift: {
        if (b != 0) break;
        const u64 amount = value(in.b, lane) & 0xffffffff;
        u64 bits_a = expand(a);
        if (amount < 64) {
          if (in.sub == 0) {
            bits_a <<= amount;
          } else {
            const int width = in.dst.width * 8;
            const bool sign = in.flag && width > 0 && ((bits_a >> (width - 1)) & 1) != 0;
            bits_a >>= amount;
            if (sign)
              bits_a |=
                  ~u64{0} << (static_cast<u64>(width) > amount ? static_cast<u64>(width) - amount
                                                               : 0);
          }
        } else {
          bits_a = in.flag && in.sub != 0 && a != 0 ? ~u64{0} : 0;
        }
        out = compress(bits_a) & all;
        break;
      }
      case ShadowRule::kSelect: {
        if (c != 0) break;
        const bool first = (value(in.c, lane) != 0) != in.c.negated;
        out = (first ? a : b) & all;
        break;
      }
      case ShadowRule::kSelf:
        return;
    }
    set_undef(in.dst, lane, out);
  });
}

}  // namespace vgpu
