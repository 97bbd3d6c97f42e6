#include "tests/forms.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/device.h"

namespace vgpu::test {
namespace {

struct TypeInfo {
  const char *reg, *load;
  int bytes;
};
TypeInfo info(T t) {
  switch (t) {
    case T::b16:
    case T::u16:
    case T::s16:
    case T::f16:
    case T::bf16:
      return {"b16", "b16", 2};
    case T::b64:
    case T::u64:
    case T::s64:
      return {"b64", "b64", 8};
    case T::f64:
      return {"f64", "f64", 8};
    case T::f32:
      return {"f32", "f32", 4};
    case T::pred:
      return {"pred", "u32", 4};
    default:
      return {"b32", "b32", 4};
  }
}

std::vector<u64> specials(T t) {
  switch (t) {
    case T::pred:
      return {0, 1};
    case T::f32:
      return {0x00000000, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000,
              0xffc12345, 0x00000001, 0x807fffff, 0x00800000, 0x7f7fffff, 0x3f7fffff, 0x40490fdb,
              0x4b800000, 0x4f000000, 0xcf000000, 0x4f800000, 0x3f000000, 0x3fc00000, 0x5f000000};
    case T::f64:
      return {0,
              u64{1} << 63,
              0x3ff0000000000000,
              0xbff0000000000000,
              0x7ff0000000000000,
              0xfff0000000000000,
              0x7ff8000000000000,
              1,
              0x0010000000000000,
              0x7fefffffffffffff,
              0x3fe0000000000000,
              0x41dfffffffc00000,
              0xc1e0000000000000,
              0x43e0000000000000,
              0x3ff0000010000000,
              0x3ff0000030000000,
              0x36a0000000000000,
              0x47efffffe0000000};
    case T::f16:
      return {0x0000, 0x8000, 0x3c00, 0xbc00, 0x7c00, 0xfc00, 0x7e00,
              0x0001, 0x83ff, 0x0400, 0x7bff, 0x3bff, 0x3555, 0x6400};
    case T::bf16:
      return {0x0000, 0x8000, 0x3f80, 0xbf80, 0x7f80, 0xff80, 0x7fc0,
              0x0001, 0x807f, 0x0080, 0x7f7f, 0x3f7f, 0x4049, 0x4380};
    case T::f16x2:
      return {0x00000000, 0x80003c00, 0x7c00fc00, 0x7e000001, 0x7bff0400, 0x3c013bff, 0x35556400};
    case T::bf16x2:
      return {0x00000000, 0x80003f80, 0x7f80ff80, 0x7fc00001, 0x7f7f0080, 0x3f813f7f, 0x40494380};
    case T::b16:
    case T::u16:
    case T::s16:
      return {0, 1, 2, 0x7fff, 0x8000, 0x8001, 0xffff, 0x1234};
    case T::b64:
    case T::u64:
    case T::s64:
      return {0,
              1,
              2,
              31,
              63,
              64,
              0x7fffffffffffffff,
              u64{1} << 63,
              ~u64{0},
              0xffffffff,
              0x100000000,
              0x123456789abcdef0};
    default:
      return {0,          1,      2,      3,          7,          8,
              31,         32,     33,     0x7fffffff, 0x80000000, 0x80000001,
              0xffffffff, 0xffff, 0x8000, 0x12345678, 0xff00ff00};
  }
}

u64 random_value(T t, Random& random) {
  u64 v = random.next();
  const int bytes = info(t).bytes;
  // Floats of moderate size half of the time: arbitrary bits rarely interact.
  if ((random.next() & 1) != 0) {
    const double x = (static_cast<double>(random.next() % 2000001) - 1000000) / 997.0;
    switch (t) {
      case T::f32:
        return bits<u32>(static_cast<float>(x));
      case T::f64:
        return bits<u64>(x);
      case T::f16:
        return nearest_half(x / 8);
      case T::bf16:
        return nearest_bf16(x);
      case T::f16x2:
        return nearest_half(x / 8) | nearest_half(x / 64) << 16;
      case T::bf16x2:
        return nearest_bf16(x) | nearest_bf16(x / 9) << 16;
      default:
        break;
    }
  }
  if (t == T::pred) return v & 1;
  return bytes == 8 ? v : v & ((u64{1} << (8 * bytes)) - 1);
}

std::string kernel_text(const Form& form) {
  std::string body = form.text;
  if (body.find('$') == std::string::npos) {
    body += " $0";
    for (size_t i = 0; i < form.inputs.size(); ++i) body += ", $" + std::to_string(i + 1);
    body += ";";
  }
  std::string regs, loads;
  const auto declare = [&](int index, T t) {
    regs += "  .reg ." + std::string(info(t).reg) + " %v" + std::to_string(index) + ";\n";
  };
  declare(0, form.result);
  for (size_t i = 0; i < form.inputs.size(); ++i) {
    const int index = static_cast<int>(i) + 1;
    const T t = form.inputs[i];
    declare(index, t);
    const std::string v = "%v" + std::to_string(index);
    const std::string at = "[%rd3+" + std::to_string(8 * i) + "]";
    if (t == T::pred) {
      loads += "  ld.global.u32 %r4, " + at + ";\n  setp.ne.u32 " + v + ", %r4, 0;\n";
    } else {
      loads += "  ld.global." + std::string(info(t).load) + " " + v + ", " + at + ";\n";
    }
  }
  for (size_t p = body.find('$'); p != std::string::npos; p = body.find('$', p)) {
    body.replace(p, 1, "%v");
  }
  const std::string stride = std::to_string(8 * form.inputs.size());
  std::string store = "  st.global." + std::string(info(form.result).load) + " [%rd4], %v0;\n";
  if (form.result == T::pred) store = "  selp.u32 %r4, 1, 0, %v0;\n  st.global.u32 [%rd4], %r4;\n";
  return ".version 8.4\n.target sm_" + std::to_string(form.needs) +
         "\n.address_size 64\n.visible .entry form(.param .u64 in, .param .u64 out)\n{\n"
         "  .reg .b32 %r<8>;\n  .reg .b64 %rd<8>;\n" +
         regs +
         "  ld.param.u64 %rd1, [in];\n  ld.param.u64 %rd2, [out];\n"
         "  mov.u32 %r1, %tid.x;\n  mov.u32 %r2, %ctaid.x;\n  mov.u32 %r3, %ntid.x;\n"
         "  mad.lo.u32 %r1, %r2, %r3, %r1;\n"
         "  mul.wide.u32 %rd3, %r1, " +
         stride +
         ";\n  add.u64 %rd3, %rd3, %rd1;\n"
         "  mul.wide.u32 %rd4, %r1, 8;\n  add.u64 %rd4, %rd4, %rd2;\n" +
         loads + "  " + body + "\n" + store + "  ret;\n}\n";
}

double value_of(T t, u64 raw) {
  switch (t) {
    case T::f16:
      return half_value(raw);
    case T::bf16:
      return bf16_value(raw);
    case T::f32:
      return f32(raw);
    default:
      return f64(raw);
  }
}
// One unit in the last place at v.
double unit(T t, double v) {
  const int digits = t == T::f64 ? 53 : t == T::f32 ? 24 : t == T::f16 ? 11 : 8;
  const int least = t == T::f64 ? -1074 : t == T::f32 ? -149 : t == T::f16 ? -24 : -133;
  int exponent;
  std::frexp(v, &exponent);
  return std::ldexp(1.0, std::max(exponent - digits, least));
}

bool same(const Form& form, u64 got, u64 want) {
  const bool floating = form.result == T::f16 || form.result == T::bf16 || form.result == T::f32 ||
                        form.result == T::f64;
  if (got == want) return true;
  if (!floating) return false;
  const double a = value_of(form.result, got), b = value_of(form.result, want);
  if (b != b || a != a) return a != a && b != b;  // which NaN is not fixed
  if (form.ulp == 0 && form.absolute == 0) return false;
  if (std::isinf(a) || std::isinf(b)) return a == b;
  return std::fabs(a - b) <= form.ulp * unit(form.result, b) + form.absolute;
}

}  // namespace

std::string form_name(const Form& form) {
  std::string out;
  for (char c : form.text) {
    if (c == ' ' || c == '$' || c == ';') break;
    out += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  }
  return out;
}

void check_form(const Form& form) {
  if (device().capability() < form.needs) GTEST_SKIP() << "needs sm_" << form.needs;
  std::vector<std::vector<u64>> cases;
  const size_t n = form.inputs.size();
  const auto product = [&](auto&& self, std::vector<u64> so_far) -> void {
    if (so_far.size() == n) {
      cases.push_back(std::move(so_far));
      return;
    }
    for (u64 v : specials(form.inputs[so_far.size()])) {
      auto next = so_far;
      next.push_back(v);
      self(self, std::move(next));
    }
  };
  product(product, {});
  Random random(0x5eed + cases.size());
  if (cases.size() > 6000) {  // a sample of the product is enough
    for (size_t i = 0; i < 6000; ++i)
      std::swap(cases[i], cases[i + random.next() % (cases.size() - i)]);
    cases.resize(6000);
  }
  for (int i = 0; i < 1000; ++i) {
    std::vector<u64> c;
    for (T t : form.inputs) c.push_back(random_value(t, random));
    cases.push_back(std::move(c));
  }
  while (cases.size() % 128 != 0) cases.push_back(cases.back());
  std::vector<u8> in(cases.size() * std::max<size_t>(1, n) * 8), out(cases.size() * 8, 0);
  for (size_t i = 0; i < cases.size(); ++i)
    if (n != 0) std::memcpy(&in[i * n * 8], cases[i].data(), n * 8);
  LaunchSpec spec;
  spec.block = 128;
  spec.grid = static_cast<u32>(cases.size() / 128);
  ASSERT_EQ(device().run(kernel_text(form), "form", spec, {{&in}, {&out}}), "")
      << kernel_text(form);
  int shown = 0;
  for (size_t i = 0; i < cases.size() && shown < 5; ++i) {
    u64 got;
    std::memcpy(&got, &out[i * 8], 8);
    const int bytes = info(form.result).bytes;
    if (bytes < 8) got &= (u64{1} << (8 * bytes)) - 1;
    u64 want = form.expected(cases[i].data());
    if (bytes < 8) want &= (u64{1} << (8 * bytes)) - 1;
    if (same(form, got, want)) continue;
    ++shown;
    std::string inputs;
    for (u64 v : cases[i]) {
      char text[32];
      std::snprintf(text, sizeof text, " %llx", static_cast<unsigned long long>(v));
      inputs += text;
    }
    ADD_FAILURE() << form.text << " of" << inputs << std::hex << " gives " << got << ", expected "
                  << want;
  }
}

double half_value(u64 h) {
  const int exponent = static_cast<int>(h >> 10 & 31), fraction = static_cast<int>(h & 1023);
  const double sign = (h >> 15 & 1) != 0 ? -1 : 1;
  if (exponent == 31) return fraction != 0 ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}
double bf16_value(u64 h) { return bits<float>(static_cast<u32>(h) << 16); }

namespace {
// Codes 0 ... infinity are in order of value; the neighbours of v decide.
u64 nearest(double v, double (*value)(u64), u64 infinity, u64 sign_bit) {
  if (v != v) return sign_bit - 1;
  const u64 sign = std::signbit(v) ? sign_bit : 0;
  v = std::fabs(v);
  u64 low = 0, high = infinity;
  while (high - low > 1) {
    const u64 middle = (low + high) / 2;
    (value(middle) <= v ? low : high) = middle;
  }
  if (v == value(low)) return sign | low;
  // The place where infinity begins is one step past the largest number.
  const double next = high == infinity ? 2 * value(low) - value(low - 1) : value(high);
  const double below = v - value(low), above = next - v;
  if (below < above) return sign | low;
  if (below > above) return sign | high;
  return sign | (low % 2 == 0 ? low : high);
}
}  // namespace

u64 nearest_half(double v) { return nearest(v, half_value, 0x7c00, 0x8000); }
u64 nearest_bf16(double v) { return nearest(v, bf16_value, 0x7f80, 0x8000); }

}  // namespace vgpu::test
