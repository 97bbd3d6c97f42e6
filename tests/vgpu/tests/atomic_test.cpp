// Atomics and reductions on memory: PTX ISA 9.0 sections 9.7.13.5 (atom) and 9.7.13.6 (red).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/device.h"
#include "tests/forms.h"

namespace vgpu::test {
namespace {

struct AtomicRow {
  std::string op;    // add, cas, ...
  std::string type;  // u32, f16x2, ...
  int bytes;
  std::function<u64(u64 old, u64 b, u64 c)> after;  // what memory holds
  bool commutes = false;                            // in any order the same
  bool noftz = false;
  int needs = 75;
};

double half_of(u64 v) { return half_value(v & 0xffff); }
double brain_of(u64 v) { return bf16_value(v & 0xffff); }
template <class F>
u64 packed(u64 a, u64 b, F&& f) {
  return f(a & 0xffff, b & 0xffff) | f(a >> 16 & 0xffff, b >> 16 & 0xffff) << 16;
}

std::vector<AtomicRow> rows() {
  std::vector<AtomicRow> out;
  const auto add = [&](AtomicRow row) { out.push_back(std::move(row)); };
  for (const auto& [type, bytes] : {std::pair{"u32", 4}, {"s32", 4}, {"u64", 8}})
    add({"add", type, bytes, [](u64 old, u64 b, u64) { return old + b; }, true});
  add({"add", "f32", 4, [](u64 old, u64 b, u64) { return raw(f32(old) + f32(b)); }});
  add({"add", "f64", 8, [](u64 old, u64 b, u64) { return raw(f64(old) + f64(b)); }});
  const auto half_add = [](u64 a, u64 b) { return nearest_half(half_of(a) + half_of(b)); };
  const auto brain_add = [](u64 a, u64 b) { return nearest_bf16(brain_of(a) + brain_of(b)); };
  add({"add", "f16", 2, [=](u64 old, u64 b, u64) { return half_add(old, b); }, false, true});
  add({"add", "f16x2", 4, [=](u64 old, u64 b, u64) { return packed(old, b, half_add); }, false,
       true});
  add({"add", "bf16", 2, [=](u64 old, u64 b, u64) { return brain_add(old, b); }, false, true, 90});
  add({"add", "bf16x2", 4, [=](u64 old, u64 b, u64) { return packed(old, b, brain_add); }, false,
       true, 90});
  for (const bool want_max : {false, true}) {
    const char* op = want_max ? "max" : "min";
    const auto pick = [=](auto x, auto y) { return want_max ? std::max(x, y) : std::min(x, y); };
    add({op, "u32", 4, [=](u64 old, u64 b, u64) { return pick(u32_(old), u32_(b)); }, true});
    add({op, "s32", 4, [=](u64 old, u64 b, u64) { return raw(pick(s32(old), s32(b))); }, true});
    add({op, "u64", 8, [=](u64 old, u64 b, u64) { return pick(old, b); }, true});
    add({op, "s64", 8,
         [=](u64 old, u64 b, u64) { return static_cast<u64>(pick(s64(old), s64(b))); }, true});
  }
  add({"inc", "u32", 4, [](u64 old, u64 b, u64) { return old >= b ? 0 : old + 1; }});
  add({"dec", "u32", 4, [](u64 old, u64 b, u64) { return old == 0 || old > b ? b : old - 1; }});
  for (const auto& [type, bytes] : {std::pair{"b32", 4}, {"b64", 8}}) {
    add({"and", type, bytes, [](u64 old, u64 b, u64) { return old & b; }, true});
    add({"or", type, bytes, [](u64 old, u64 b, u64) { return old | b; }, true});
    add({"xor", type, bytes, [](u64 old, u64 b, u64) { return old ^ b; }, true});
    add({"exch", type, bytes, [](u64, u64 b, u64) { return b; }});
  }
  for (const auto& [type, bytes] : {std::pair{"b16", 2}, {"b32", 4}, {"b64", 8}})
    add({"cas", type, bytes, [](u64 old, u64 b, u64 c) { return old == b ? c : old; }});
  return out;
}

enum Space { kGlobal, kShared, kGenericGlobal, kGenericShared };
constexpr const char* kSpaceNames[] = {"global", "shared", "generic_global", "generic_shared"};

struct Variant {
  AtomicRow row;
  Space space;
  bool red;
  std::string qualifiers;    // before the space: .acquire.gpu
  bool space_first = false;  // as the compiler writes it: atom.global.cta.add

  std::string spelled{};  // the whole instruction, where it is written in another order

  std::string instruction() const {
    if (!spelled.empty()) return spelled;
    const std::string in_space = space == kGlobal ? ".global" : space == kShared ? ".shared" : "";
    return std::string(red ? "red" : "atom") +
           (space_first ? in_space + qualifiers : qualifiers + in_space) + "." + row.op +
           (row.noftz ? ".noftz" : "") + "." + row.type;
  }
};

std::vector<Variant> plain_variants() {
  std::vector<Variant> out;
  for (const AtomicRow& row : rows()) {
    for (const Space space : {kGlobal, kShared, kGenericGlobal, kGenericShared}) {
      out.push_back({row, space, false, ""});
      if (row.op != "exch" && row.op != "cas") out.push_back({row, space, true, ""});
    }
  }
  return out;
}

std::vector<Variant> variants() {
  std::vector<Variant> out = plain_variants();
  // Orders and scopes change nothing in what one thread sees.
  for (const AtomicRow& row : rows()) {
    for (const char* scope : {".cta", ".sys"}) {
      out.push_back({row, kGlobal, false, scope, true});
      if (row.op != "exch" && row.op != "cas") out.push_back({row, kGlobal, true, scope, true});
    }
    if (row.op == "add" && row.type == "u32")  // cooperative groups
      out.push_back({row, kGenericGlobal, false, "", false, "atom.add.release.gpu.u32"});
    const bool chosen = (row.op == "add" && (row.type == "u32" || row.type == "f32")) ||
                        (row.op == "cas" && row.type == "b32") || row.type == "s64";
    if (!chosen) continue;
    for (const char* q : {".relaxed.cta", ".relaxed.gpu", ".relaxed.sys", ".acquire.gpu",
                          ".release.gpu", ".acq_rel.cta", ".acq_rel.sys", ".gpu", ".sys", ".cta"}) {
      out.push_back({row, kGlobal, false, q});
      const std::string order = q;
      if (row.op != "cas" && order.find("ac") == std::string::npos)
        out.push_back({row, kGlobal, true, q});
    }
    out.push_back({row, kShared, false, ".acq_rel.cta"});
  }
  return out;
}

std::string name_of(const Variant& v) {
  std::string out = v.instruction() + "_" + kSpaceNames[v.space];
  std::replace(out.begin(), out.end(), '.', '_');
  return out;
}

// Thread t: old, b, c at in + 24 t; memory cell `t % cells`. Writes what the instruction returned
// to out + 16 t and, after a barrier, what its cell holds to out + 16 t + 8.
std::string kernel_text(const Variant& v, bool one_cell) {
  const std::string type = "b" + std::to_string(8 * v.row.bytes);
  const std::string bytes = std::to_string(v.row.bytes);
  const bool shared = v.space == kShared || v.space == kGenericShared;
  const bool cas = v.row.op == "cas";
  std::string text = ".version 8.4\n.target sm_" + std::to_string(v.row.needs) +
                     "\n.address_size 64\n"
                     ".visible .entry k(.param .u64 in, .param .u64 out, .param .u64 cells)\n{\n"
                     "  .shared .align 8 .b8 s[1024];\n  .reg .b32 %r<8>;\n  .reg .b64 %rd<8>;\n"
                     "  .reg .pred %p;\n  .reg ." +
                     type + " %old, %b, %c, %got, %now;\n" +
                     "  ld.param.u64 %rd1, [in];\n  ld.param.u64 %rd2, [out];\n"
                     "  ld.param.u64 %rd3, [cells];\n  mov.u32 %r1, %tid.x;\n"
                     "  mul.wide.u32 %rd4, %r1, 24;\n  add.u64 %rd1, %rd1, %rd4;\n"
                     "  mul.wide.u32 %rd4, %r1, 16;\n  add.u64 %rd2, %rd2, %rd4;\n"
                     "  ld.global." +
                     type + " %old, [%rd1];\n  ld.global." + type + " %b, [%rd1+8];\n  ld.global." +
                     type + " %c, [%rd1+16];\n" +
                     (one_cell ? "  mov.u32 %r2, 0;\n" : "  mul.lo.u32 %r2, %r1, 8;\n") +
                     "  mov.u32 %r3, s;\n  add.u32 %r3, %r3, %r2;\n  cvt.u64.u32 %rd5, %r2;\n"
                     "  add.u64 %rd3, %rd3, %rd5;\n  cvt.u64.u32 %rd6, %r3;\n"
                     "  cvta.shared.u64 %rd6, %rd6;\n  cvta.global.u64 %rd7, %rd3;\n";
  const std::string plain = shared ? ".shared." + type : ".global." + type;
  const std::string place = shared ? "[%r3]" : "[%rd3]";
  const std::string at = v.space == kGlobal          ? "[%rd3]"
                         : v.space == kShared        ? "[%r3]"
                         : v.space == kGenericGlobal ? "[%rd7]"
                                                     : "[%rd6]";
  text += std::string("  setp.eq.u32 %p, %r1, 0;\n") + (one_cell ? "  @%p " : "  ") + "st" + plain +
          " " + place + ", %old;\n  bar.sync 0;\n  mov." + type + " %got, 0;\n  " +
          v.instruction() + (v.red ? " " : " %got, ") + at + ", %b" + (cas ? ", %c" : "") +
          ";\n  bar.sync 0;\n  ld" + plain + " %now, " + place + ";\n  st.global." + type +
          " [%rd2], %got;\n  st.global." + type + " [%rd2+8], %now;\n  ret;\n}\n";
  return text;
}

u64 random_operand(const AtomicRow& row, Random& random) {
  const double x = (static_cast<double>(random.next() % 20001) - 10000) / 64;
  if (row.type == "f32") return raw(static_cast<float>(x));
  if (row.type == "f64") return raw(x);
  if (row.type == "f16") return nearest_half(x);
  if (row.type == "f16x2") return nearest_half(x) | nearest_half(x / 3) << 16;
  if (row.type == "bf16") return nearest_bf16(x);
  if (row.type == "bf16x2") return nearest_bf16(x) | nearest_bf16(x / 3) << 16;
  const u64 v = random.next();
  if ((v & 3) == 0) return v >> 8 & 3;  // equal operands happen
  return row.bytes == 8 ? v : v >> 8 & ((u64{1} << (8 * row.bytes)) - 1);
}

class Atomic : public testing::TestWithParam<Variant> {};

TEST_P(Atomic, ReturnsTheOldAndStoresTheNew) {
  const Variant& v = GetParam();
  if (device().capability() < v.row.needs) GTEST_SKIP() << "needs sm_" << v.row.needs;
  constexpr size_t kThreads = 128;
  const u64 mask = v.row.bytes == 8 ? ~u64{0} : (u64{1} << (8 * v.row.bytes)) - 1;
  Random random(11);
  std::vector<u64> values(kThreads * 3);
  for (u64& x : values) x = random_operand(v.row, random);
  std::vector<u8> in(values.size() * 8), out(kThreads * 16), cells(kThreads * 8);
  std::memcpy(in.data(), values.data(), in.size());
  LaunchSpec spec;
  spec.block = kThreads;
  ASSERT_EQ(device().run(kernel_text(v, false), "k", spec, {{&in}, {&out}, {&cells}}), "")
      << kernel_text(v, false);
  for (size_t t = 0; t < kThreads; ++t) {
    u64 got[2];
    std::memcpy(got, &out[t * 16], 16);
    const u64 old = values[3 * t], b = values[3 * t + 1], c = values[3 * t + 2];
    ASSERT_EQ(got[0] & mask, v.red ? 0 : old) << "thread " << t;
    ASSERT_EQ(got[1] & mask, v.row.after(old, b, c) & mask) << "thread " << t;
  }
}

// All threads on one cell: the old values are a chain from the first to the last.
class AtomicChain : public Atomic {};

TEST_P(AtomicChain, OneAfterAnother) {
  const Variant& v = GetParam();
  if (device().capability() < v.row.needs) GTEST_SKIP() << "needs sm_" << v.row.needs;
  constexpr size_t kThreads = 128;
  const u64 mask = v.row.bytes == 8 ? ~u64{0} : (u64{1} << (8 * v.row.bytes)) - 1;
  Random random(12);
  std::vector<u64> values(kThreads * 3);
  for (u64& x : values) x = random_operand(v.row, random);
  std::vector<u8> in(values.size() * 8), out(kThreads * 16), cells(8);
  std::memcpy(in.data(), values.data(), in.size());
  LaunchSpec spec;
  spec.block = kThreads;
  ASSERT_EQ(device().run(kernel_text(v, true), "k", spec, {{&in}, {&out}, {&cells}}), "");
  std::vector<u64> returned(kThreads), left(kThreads);
  for (size_t t = 0; t < kThreads; ++t) {
    std::memcpy(&returned[t], &out[t * 16], 8);
    std::memcpy(&left[t], &out[t * 16 + 8], 8);
    returned[t] &= mask;
    ASSERT_EQ(left[t] & mask, left[0] & mask) << "thread " << t;
  }
  const u64 first = values[0];
  if (v.row.commutes) {
    u64 sum = first;
    for (size_t t = 0; t < kThreads; ++t) sum = v.row.after(sum, values[3 * t + 1], 0) & mask;
    EXPECT_EQ(left[0] & mask, sum);
  }
  if (v.red) return;
  // Each step leads from what one thread found to what another found: an Eulerian path. The
  // in-degrees and out-degrees must match but for the two ends.
  std::vector<u64> found = returned, made;
  for (size_t t = 0; t < kThreads; ++t)
    made.push_back(v.row.after(returned[t], values[3 * t + 1], values[3 * t + 2]) & mask);
  found.push_back(left[0] & mask);
  made.push_back(first);
  std::sort(found.begin(), found.end());
  std::sort(made.begin(), made.end());
  EXPECT_EQ(found, made);
}

INSTANTIATE_TEST_SUITE_P(Ptx, Atomic, testing::ValuesIn(variants()),
                         [](const auto& info) { return name_of(info.param); });

INSTANTIATE_TEST_SUITE_P(Ptx, AtomicChain, testing::ValuesIn(plain_variants()),
                         [](const auto& info) { return name_of(info.param); });

// Vectors of sm_90: red and atom of several elements.
struct VectorRow {
  const char *vec, *type;
  int elements, bytes;
};
class AtomicVector : public testing::TestWithParam<VectorRow> {};

TEST_P(AtomicVector, AddsEveryElement) {
  const VectorRow& row = GetParam();
  if (device().capability() < 90) GTEST_SKIP() << "needs sm_90";
  const bool single = std::string(row.type) == "f32";
  const std::string reg = single ? "f32" : "b" + std::to_string(8 * row.bytes);
  const std::string load = single ? "f32" : reg;
  std::string text =
      ".version 8.4\n.target sm_90\n.address_size 64\n"
      ".visible .entry k(.param .u64 in, .param .u64 cells)\n{\n  .reg .b32 %r<4>;\n"
      "  .reg .b64 %rd<8>;\n  .reg ." +
      reg + " %v<8>;\n  ld.param.u64 %rd1, [in];\n  ld.param.u64 %rd2, [cells];\n" +
      "  mov.u32 %r1, %tid.x;\n  mul.wide.u32 %rd4, %r1, 16;\n  add.u64 %rd1, %rd1, %rd4;\n"
      "  add.u64 %rd2, %rd2, %rd4;\n";
  std::string list = "{";
  for (int i = 0; i < row.elements; ++i) {
    text += "  ld.global." + load + " %v" + std::to_string(i) + ", [%rd1+" +
            std::to_string(i * row.bytes) + "];\n";
    list += (i == 0 ? "%v" : ", %v") + std::to_string(i);
  }
  text += std::string("  red.global.add") + (single ? "" : ".noftz") + row.vec + "." + row.type +
          " [%rd2], " + list + "};\n  ret;\n}\n";
  constexpr size_t kThreads = 32;
  Random random(3);
  const bool brain = row.type[0] == 'b';
  const size_t element = single ? 4 : 2, count = 16 / element;
  const auto encode = [&](double x) {
    return single ? raw(static_cast<float>(x)) : brain ? nearest_bf16(x) : nearest_half(x);
  };
  const auto decode = [&](u64 v) {
    return single ? double{f32(v)} : brain ? bf16_value(v) : half_value(v);
  };
  std::vector<u8> in(kThreads * 16), cells(kThreads * 16);
  for (auto* buffer : {&in, &cells})
    for (size_t i = 0; i < buffer->size(); i += element) {
      const u64 v = encode((static_cast<double>(random.next() % 2001) - 1000) / 16);
      std::memcpy(&(*buffer)[i], &v, element);
    }
  const std::vector<u8> before = cells;
  LaunchSpec spec;
  spec.block = kThreads;
  ASSERT_EQ(device().run(text, "k", spec, {{&in}, {&cells}}), "") << text;
  const size_t used = static_cast<size_t>(row.elements * row.bytes) / element;
  for (size_t t = 0; t < kThreads; ++t) {
    for (size_t i = 0; i < count; ++i) {
      u64 a = 0, b = 0, got = 0;
      std::memcpy(&a, &before[t * 16 + i * element], element);
      std::memcpy(&b, &in[t * 16 + i * element], element);
      std::memcpy(&got, &cells[t * 16 + i * element], element);
      ASSERT_EQ(got, i < used ? encode(decode(a) + decode(b)) : a)
          << "thread " << t << " element " << i;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(
    Ptx, AtomicVector,
    testing::Values(VectorRow{".v2", "f32", 2, 4}, VectorRow{".v4", "f32", 4, 4},
                    VectorRow{".v2", "f16", 2, 2}, VectorRow{".v8", "f16", 8, 2},
                    VectorRow{".v2", "f16x2", 2, 4}, VectorRow{".v4", "f16x2", 4, 4},
                    VectorRow{".v4", "bf16", 4, 2}, VectorRow{".v4", "bf16x2", 4, 4}));

}  // namespace
}  // namespace vgpu::test
