#include "machine/printf.h"

#include <cstdio>

#include "common/error.h"
#include "machine/cta.h"
#include "machine/launch.h"

namespace vgpu {
namespace {

// Arguments are laid out like a C struct in the caller's local memory.
class ArgumentReader {
 public:
  ArgumentReader(Warp& warp, int lane, u64 address) : warp_(warp), lane_(lane) {
    offset_ = address - warp.cta().launch.machine.memory.local_window();
    if (address == 0) offset_ = ~u64{0};
  }
  u64 take(u32 bytes) {
    if (offset_ == ~u64{0}) return 0;
    offset_ = align_up(offset_, bytes);
    u64 v = 0;
    if (offset_ + bytes <= warp_.local_bytes())
      std::memcpy(&v, warp_.local(lane_) + offset_, bytes);
    offset_ += bytes;
    return v;
  }

 private:
  Warp& warp_;
  int lane_;
  u64 offset_;
};

}  // namespace

std::string read_string(Warp& warp, u64 address) {
  const GlobalMemory& memory = warp.cta().launch.machine.memory;
  const Allocation* a = memory.find(address);
  std::string out;
  if (a == nullptr) {
    const u64 offset = address - memory.local_window();
    for (u64 i = offset; i < warp.local_bytes(); ++i) {
      const char c = static_cast<char>(warp.local(0)[i]);
      if (c == '\0') break;
      out += c;
    }
    return out;
  }
  for (u64 i = address; i < a->base + a->size && *a->at(i) != 0; ++i)
    out += static_cast<char>(*a->at(i));
  return out;
}

u64 device_printf(Warp& warp, const Instr&, int lane, u64 format_address, u64 arguments) {
  const std::string format = read_string(warp, format_address);
  ArgumentReader args(warp, lane, arguments);
  std::string out;
  u64 count = 0;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    std::string spec = "%";
    bool wide = false;
    for (++i; i < format.size(); ++i) {
      const char c = format[i];
      if (c == 'l' || c == 'j' || c == 'z' || c == 't') {
        wide = true;
      } else if (c == '*') {
        spec += std::to_string(static_cast<i32>(args.take(4)));
      } else if (c != 'h') {
        spec += c;
        if (c == '%' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) break;
      }
    }
    const char kind = spec.back();
    char text[512];
    text[0] = '\0';
    ++count;
    switch (kind) {
      case '%':
        out += '%';
        --count;
        continue;
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o': {
        const u64 raw = args.take(wide ? 8 : 4);
        const bool is_signed = kind == 'd' || kind == 'i';
        spec.insert(spec.size() - 1, "ll");
        if (is_signed) {
          std::snprintf(text, sizeof text, spec.c_str(),
                        static_cast<long long>(wide ? static_cast<i64>(raw)
                                                    : static_cast<i32>(static_cast<u32>(raw))));
        } else {
          std::snprintf(text, sizeof text, spec.c_str(), static_cast<unsigned long long>(raw));
        }
        break;
      }
      case 'c':
        std::snprintf(text, sizeof text, spec.c_str(), static_cast<int>(args.take(4)));
        break;
      case 's': {
        const std::string s = read_string(warp, args.take(8));
        std::snprintf(text, sizeof text, spec.c_str(), s.c_str());
        break;
      }
      case 'p':
        std::snprintf(text, sizeof text, spec.c_str(), reinterpret_cast<void*>(args.take(8)));
        break;
      default:
        std::snprintf(text, sizeof text, spec.c_str(), bits<double>(args.take(8)));
    }
    out += text;
  }
  Launch& launch = warp.cta().launch;
  std::lock_guard lock(launch.print_mutex);
  if (launch.machine.print) {
    launch.machine.print(out);
  } else {
    std::fputs(out.c_str(), stdout);
  }
  return count;
}

u64 device_malloc(Warp& warp, u64 bytes) {
  Launch& launch = warp.cta().launch;
  Machine& machine = launch.machine;
  if (bytes > machine.heap_limit || machine.heap_used > machine.heap_limit - bytes) return 0;
  const Allocation* a =
      machine.memory.allocate(bytes, Allocation::Kind::kHeap, launch.config.device, 16);
  if (a == nullptr) return 0;
  machine.heap_used += bytes;
  return a->base;
}

void device_free(Warp& warp, const Instr& in, int lane, u64 address) {
  if (address == 0) return;
  Machine& machine = warp.cta().launch.machine;
  const Allocation* a = machine.memory.find(address);
  if (a == nullptr || a->kind != Allocation::Kind::kHeap || a->base != address || a->freed) {
    const bool freed = a != nullptr && a->freed;
    warp.fault(kFaultIllegalAddress, freed ? FindingKind::kUseAfterFree : FindingKind::kOutOfBounds,
               in, lane, "free of " + machine.memory.describe(address, 0));
  }
  machine.heap_used -= a->size;
  machine.memory.release(address);
}

}  // namespace vgpu
