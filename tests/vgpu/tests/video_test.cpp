// Video instructions: PTX ISA 9.0 sections 9.7.18.1 (scalar) and 9.7.18.2 (two and four lanes).
#include <algorithm>

#include "tests/device.h"
#include "tests/forms.h"

namespace vgpu::test {
namespace {

// The part of a register that a selector names, extended: "" is the whole of it.
i64 part(u64 v, const std::string& selector, bool is_signed) {
  const int width = selector.empty() ? 32 : selector[1] == 'b' ? 8 : 16;
  const int index = selector.empty() ? 0 : selector[2] - '0';
  const u64 raw = v >> (width * index) & ((u64{1} << width) - 1);
  const bool negative = is_signed && (raw >> (width - 1) & 1) != 0;
  return static_cast<i64>(raw) - (negative ? i64{1} << width : 0);
}
i64 limited(i64 v, int width, bool is_signed) {
  const i64 low = is_signed ? -(i64{1} << (width - 1)) : 0;
  return std::clamp(v, low, low + (i64{1} << width) - 1);
}

enum Op { kAdd, kSub, kAbsdiff, kMin, kMax, kAverage };
constexpr const char* kNames[] = {"vadd", "vsub", "vabsdiff", "vmin", "vmax", "vavrg"};
i64 combine(Op op, i64 a, i64 b) {
  switch (op) {
    case kAdd:
      return a + b;
    case kSub:
      return a - b;
    case kAbsdiff:
      return std::max(a, b) - std::min(a, b);
    case kMin:
      return std::min(a, b);
    case kMax:
      return std::max(a, b);
    default: {  // half of the sum, halves rounded away from zero
      const i64 sum = a + b;
      return (sum + (sum >= 0 ? 1 : 0)) >> 1;
    }
  }
}

struct Types {
  bool d, a, b;  // signed
  std::string text() const {
    const auto name = [](bool s) { return s ? ".s32" : ".u32"; };
    return std::string(name(d)) + name(a) + name(b);
  }
};
std::vector<Types> all_types() {
  std::vector<Types> out;
  for (int i = 0; i < 8; ++i) out.push_back({(i & 1) != 0, (i & 2) != 0, (i & 4) != 0});
  return out;
}

// `isa_only`: devices without video hardware, an H100 among them, differ from the ISA in these rows
// (README.md): they are not asked.
void add(std::vector<Form>& rows, const std::string& text, std::vector<T> inputs, Expected expected,
         bool isa_only = false) {
  if (isa_only && on_real_gpu()) return;
  rows.push_back({text, T::u32, std::move(inputs), std::move(expected)});
}
const std::vector<T> kTwo = {T::u32, T::u32}, kThree = {T::u32, T::u32, T::u32};

std::vector<Form> scalar_rows() {
  std::vector<Form> rows;
  const std::string selectors[] = {"", ".b0", ".b1", ".b2", ".b3", ".h0", ".h1"};
  for (const Op op : {kAdd, kSub, kAbsdiff, kMin, kMax}) {
    for (const Types& t : all_types()) {
      for (const bool sat : {false, true}) {
        const std::string name = kNames[op] + t.text() + (sat ? ".sat" : "");
        const auto result = [=](const u64* v, const std::string& sa, const std::string& sb,
                                int width) {
          const i64 r = combine(op, part(v[0], sa, t.a), part(v[1], sb, t.b));
          return sat ? limited(r, width, t.d) : r;
        };
        add(
            rows, name + " $0, $1, $2;", kTwo,
            [=](const u64* v) { return static_cast<u64>(result(v, "", "", 32)); },
            sat && !t.d && t.a != t.b);
        // A second operation with c, in the sign of the result.
        for (const char* second : {".add", ".min", ".max"})
          add(
              rows, name + second + " $0, $1, $2, $3;", kThree,
              [=](const u64* v) {
                const u64 r = static_cast<u64>(result(v, "", "", 32)) & 0xffffffff;
                if (second[1] == 'a') return r + v[2];
                const bool smaller = t.d ? s32(r) < s32(v[2]) : r < v[2];
                return smaller == (second[2] == 'i') ? r : v[2];
              },
              sat || second[1] == 'm');
      }
    }
    // Parts of the sources, and a part of the result merged into c.
    const Types t = {true, true, false};
    for (size_t i = 0; i < 7; ++i) {
      const std::string sa = selectors[i], sb = selectors[(i * 3 + 1) % 7];
      const auto r = [=](const u64* v) {
        return combine(op, part(v[0], sa, t.a), part(v[1], sb, t.b));
      };
      add(rows, kNames[op] + t.text() + " $0, $1" + sa + ", $2" + sb + ";", kTwo,
          [=](const u64* v) { return static_cast<u64>(r(v)); });
      if (i == 0) continue;
      const std::string sd = selectors[i];
      const int width = sd[1] == 'b' ? 8 : 16, shift = width * (sd[2] - '0');
      const u64 field = ((u64{1} << width) - 1) << shift;
      for (const bool sat : {false, true})
        add(
            rows,
            kNames[op] + t.text() + (sat ? ".sat" : "") + " $0" + sd + ", $1" + sa + ", $2" + sb +
                ", $3;",
            kThree,
            [=](const u64* v) {
              const i64 x = sat ? limited(r(v), width, t.d) : r(v);
              return (v[2] & ~field) | (static_cast<u64>(x) << shift & field);
            },
            op == kAdd);
    }
  }
  for (const char* mode : {".clamp", ".wrap"})
    for (const bool is_signed : {false, true}) {
      const std::string types = is_signed ? ".s32.s32.u32" : ".u32.u32.u32";
      const auto amount = [=](u64 b) {
        return mode[1] == 'c' ? static_cast<int>(std::min<u64>(b, 32)) : static_cast<int>(b & 31);
      };
      add(rows, "vshl" + types + mode + " $0, $1, $2;", kTwo,
          [=](const u64* v) { return v[0] << amount(v[1]); });
      add(rows, "vshr" + types + mode + " $0, $1, $2;", kTwo, [=](const u64* v) {
        return static_cast<u64>(part(v[0], "", is_signed) >> amount(v[1]));
      });
    }
  const auto compare = [&](const char* op, auto&& holds) {
    for (const Types& t : all_types()) {
      if (t.d) continue;  // no type of the result
      const std::string types = t.text().substr(4);
      const auto r = [=](const u64* v) {
        return u64{holds(part(v[0], "", t.a), part(v[1], "", t.b))};
      };
      add(rows, "vset" + types + "." + op + " $0, $1, $2;", kTwo, r);
      add(rows, "vset" + types + "." + op + ".add $0, $1, $2, $3;", kThree,
          [=](const u64* v) { return r(v) + v[2]; });
    }
  };
  compare("eq", [](i64 a, i64 b) { return a == b; });
  compare("ne", [](i64 a, i64 b) { return a != b; });
  compare("lt", [](i64 a, i64 b) { return a < b; });
  compare("le", [](i64 a, i64 b) { return a <= b; });
  compare("gt", [](i64 a, i64 b) { return a > b; });
  compare("ge", [](i64 a, i64 b) { return a >= b; });
  // Products of parts, plus c, scaled.
  for (const bool is_signed : {false, true})
    for (const int scale : {0, 7, 15})
      for (const std::string& s : {std::string(".b1"), std::string(".h1")}) {
        const std::string type = is_signed ? ".s32" : ".u32";
        add(
            rows,
            "vmad" + type + type + type + (scale == 0 ? "" : ".shr" + std::to_string(scale)) +
                " $0, $1" + s + ", $2" + s + ", $3;",
            kThree,
            [=](const u64* v) {
              const i64 sum =
                  part(v[0], s, is_signed) * part(v[1], s, is_signed) + part(v[2], "", is_signed);
              return static_cast<u64>(sum >> scale);
            },
            !is_signed && scale != 0);
      }
  return rows;
}
VGPU_FORMS(VideoScalar, scalar_rows());

std::vector<Form> simd_rows() {
  std::vector<Form> rows;
  for (const int lanes : {2, 4}) {
    const int width = 32 / lanes;
    const auto lane = [=](u64 v, int i, bool is_signed) {
      return part(v, (lanes == 2 ? ".h" : ".b") + std::to_string(i), is_signed);
    };
    const auto every = [=](auto&& f) {
      return [=](const u64* v) {
        u64 d = 0;
        for (int i = 0; i < lanes; ++i)
          d |= (static_cast<u64>(f(v, i)) & ((u64{1} << width) - 1)) << (width * i);
        return d;
      };
    };
    const std::string n = std::to_string(lanes);
    for (const Op op : {kAdd, kSub, kAbsdiff, kMin, kMax, kAverage})
      for (const Types& t : all_types())
        for (const bool sat : {false, true}) {
          const auto one = [=](const u64* v, int i) {
            const i64 r = combine(op, lane(v[0], i, t.a), lane(v[1], i, t.b));
            return sat ? limited(r, width, t.d) : r;
          };
          add(rows, kNames[op] + n + t.text() + (sat ? ".sat" : "") + " $0, $1, $2, $3;", kThree,
              every(one));
        }
    for (const bool is_signed : {false, true}) {
      const std::string type = is_signed ? ".s32" : ".u32";
      add(rows, "vabsdiff" + n + type + type + type + ".add $0, $1, $2, $3;", kThree,
          [=](const u64* v) {
            u64 sum = v[2];
            for (int i = 0; i < lanes; ++i)
              sum += static_cast<u64>(
                  combine(kAbsdiff, lane(v[0], i, is_signed), lane(v[1], i, is_signed)));
            return sum;
          });
      const auto compare = [&](const char* op, auto&& holds) {
        const auto one = [=](const u64* v, int i) {
          return i64{holds(lane(v[0], i, is_signed), lane(v[1], i, is_signed))};
        };
        add(rows, "vset" + n + type + type + "." + op + " $0, $1, $2, $3;", kThree, every(one));
        add(rows, "vset" + n + type + type + "." + op + ".add $0, $1, $2, $3;", kThree,
            [=](const u64* v) {
              u64 sum = v[2];
              for (int i = 0; i < lanes; ++i) sum += static_cast<u64>(one(v, i));
              return sum;
            });
      };
      compare("eq", [](i64 a, i64 b) { return a == b; });
      compare("ne", [](i64 a, i64 b) { return a != b; });
      compare("lt", [](i64 a, i64 b) { return a < b; });
      compare("le", [](i64 a, i64 b) { return a <= b; });
      compare("gt", [](i64 a, i64 b) { return a > b; });
      compare("ge", [](i64 a, i64 b) { return a >= b; });
    }
  }
  return rows;
}
VGPU_FORMS(VideoSimd, simd_rows());

}  // namespace
}  // namespace vgpu::test
