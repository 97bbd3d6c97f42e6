// Loads and stores of every width, space, vector and qualifier: PTX ISA 9.0 sections 9.7.9.8 (ld),
// 9.7.9.9 (ld.global.nc), 9.7.9.11 (ldu), 9.7.9.12 (st); address conversions 9.7.9.20 (isspacep,
// cvta); and that prefetches, policies, fences and sleeps change nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "tests/device.h"

namespace vgpu::test {
namespace {

// Where the bytes are, and how the address is given.
enum Space { kGlobal, kShared, kLocal, kConst, kGenericGlobal, kGenericShared, kGenericLocal };
constexpr const char* kSpaceNames[] = {"global",         "shared",         "local",        "const",
                                       "generic_global", "generic_shared", "generic_local"};

struct Row {
  std::string op;  // up to the vector: ld.global.nc, st.volatile.shared
  Space space;
  int vec;
  std::string type;
  int reg;  // bits of the registers
  int needs = 75;

  bool store() const { return op.compare(0, 2, "st") == 0; }
  int bytes() const { return type == "b8" ? 1 : std::stoi(type.substr(1)) / 8; }
  std::string instruction() const {
    return op + (vec == 1 ? "" : ".v" + std::to_string(vec)) + "." + type;
  }
};

int bits_of(const std::string& type) { return std::stoi(type.substr(1)); }

std::vector<Row> rows() {
  std::vector<Row> out;
  const std::vector<std::string> types = {"b8",  "u8",  "s8",  "b16", "u16", "s16", "b32",
                                          "u32", "s32", "f32", "b64", "u64", "s64", "f64"};
  // Every type, register width and vector in the plain form of every space.
  const auto everything = [&](const std::string& op, Space space) {
    for (const std::string& type : types) {
      const bool floating = type[0] == 'f';
      for (const int reg : {16, 32, 64}) {
        if (reg < bits_of(type) || (floating && reg != bits_of(type))) continue;
        for (const int vec : {1, 2, 4}) {
          if (vec * bits_of(type) > 128) continue;
          if (vec > 1 && reg > std::max(16, bits_of(type))) continue;
          out.push_back({op, space, vec, type, reg});
        }
      }
    }
  };
  // Every type in a register of its own width: what the compiler emits under a qualifier.
  const auto natural = [&](const std::string& op, Space space) {
    for (const std::string& type : types)
      for (const int vec : {1, 2, 4})
        if (vec * bits_of(type) <= 128)
          out.push_back({op, space, vec, type, std::max(16, bits_of(type))});
  };
  // A few types in the other forms: the qualifier changes speed or order, not the bytes.
  const auto some = [&](const std::string& op, Space space, int needs = 75, bool vectors = true) {
    out.push_back({op, space, 1, "u8", 32, needs});
    out.push_back({op, space, 1, "s16", 32, needs});
    out.push_back({op, space, 1, "b32", 32, needs});
    out.push_back({op, space, 1, "u32", 32, needs});
    out.push_back({op, space, 1, "f64", 64, needs});
    if (!vectors) return;
    out.push_back({op, space, 4, "f32", 32, needs});
    out.push_back({op, space, 2, "u64", 64, needs});
  };
  const std::pair<Space, const char*> spaces[] = {{kGlobal, ".global"}, {kShared, ".shared"},
                                                  {kLocal, ".local"},   {kGenericGlobal, ""},
                                                  {kGenericShared, ""}, {kGenericLocal, ""}};
  for (const auto& [space, name] : spaces) {
    everything(std::string("ld") + name, space);
    everything(std::string("st") + name, space);
    if (space != kLocal) {
      natural(std::string("ld.volatile") + name, space);
      natural(std::string("st.volatile") + name, space);
    }
    some(std::string("ld.weak") + name, space);
    some(std::string("st.weak") + name, space);
  }
  everything("ld.const", kConst);
  some("ld.shared::cta", kShared);
  some("st.shared::cta", kShared);
  for (const char* cop : {".ca", ".cg", ".cs", ".lu", ".cv"}) {
    natural(std::string("ld.global") + cop, kGlobal);
    some(std::string("ld") + cop, kGenericGlobal);
    some(std::string("ld.local") + cop, kLocal);
  }
  for (const char* cop : {".wb", ".cg", ".cs", ".wt"}) {
    natural(std::string("st.global") + cop, kGlobal);
    some(std::string("st") + cop, kGenericGlobal);
    some(std::string("st.local") + cop, kLocal);
  }
  for (const char* nc : {".nc", ".ca.nc", ".cg.nc", ".cs.nc", ".nc.L1::evict_last",
                         ".nc.L1::no_allocate", ".nc.L2::64B", ".nc.L1::no_allocate.L2::128B"})
    natural(std::string("ld.global") + nc, kGlobal);
  for (const char* hint : {".L1::evict_normal", ".L1::evict_unchanged", ".L1::evict_first",
                           ".L1::evict_last", ".L1::no_allocate"}) {
    some(std::string("ld.global") + hint, kGlobal);
    some(std::string("st.global") + hint, kGlobal);
  }
  for (const char* hint : {".L2::64B", ".L2::128B", ".L1::evict_last.L2::64B"})
    some(std::string("ld.global") + hint, kGlobal);
  some("ld.global.L2::256B", kGlobal, 80);
  some("ldu.global", kGlobal);
  for (const char* order : {"relaxed", "acquire"})
    for (const char* scope : {"cta", "gpu", "sys"})
      for (const auto& [space, name] : {std::pair{kGlobal, ".global"},
                                        {kShared, ".shared"},
                                        {kGenericGlobal, ""},
                                        {kGenericShared, ""}})
        some(std::string("ld.") + order + "." + scope + name, space);
  for (const char* order : {"relaxed", "release"})
    for (const char* scope : {"cta", "gpu", "sys"})
      for (const auto& [space, name] : {std::pair{kGlobal, ".global"},
                                        {kShared, ".shared"},
                                        {kGenericGlobal, ""},
                                        {kGenericShared, ""}})
        some(std::string("st.") + order + "." + scope + name, space);
  some("ld.mmio.relaxed.sys.global", kGlobal, 75, false);
  some("st.mmio.relaxed.sys.global", kGlobal, 75, false);
  return out;
}

std::string name_of(const Row& row) {
  std::string out =
      row.instruction() + "_r" + std::to_string(row.reg) + "_" + kSpaceNames[row.space];
  for (char& c : out)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  return out;
}

constexpr size_t kThreads = 64, kSlot = 16;

// in: a slot of 16 bytes for each thread, what memory holds; values: four registers for each
// thread; out: four registers (loads) or a slot (stores).
std::string kernel_text(const Row& row, const std::vector<u8>& constants) {
  std::string text =
      ".version 8.4\n.target sm_" + std::to_string(row.needs) + "\n.address_size 64\n";
  if (row.space == kConst) {
    text += ".const .align 16 .b8 table[1024] = {";
    for (size_t i = 0; i < constants.size(); ++i)
      text += (i == 0 ? "" : ", ") + std::to_string(constants[i]);
    text += "};\n";
  }
  const std::string reg = row.type[0] == 'f' ? row.type : "b" + std::to_string(row.reg);
  text +=
      ".visible .entry k(.param .u64 in, .param .u64 values, .param .u64 out)\n{\n"
      "  .shared .align 16 .b8 s[1024];\n  .local .align 16 .b8 l[16];\n"
      "  .reg .b32 %r<8>, %w<4>;\n  .reg .b64 %rd<12>;\n  .reg ." +
      reg +
      " %v<4>;\n  ld.param.u64 %rd1, [in];\n  ld.param.u64 %rd2, [values];\n"
      "  ld.param.u64 %rd3, [out];\n  mov.u32 %r1, %tid.x;\n  mul.wide.u32 %rd4, %r1, 16;\n"
      "  add.u64 %rd1, %rd1, %rd4;\n  mul.wide.u32 %rd5, %r1, 32;\n  add.u64 %rd2, %rd2, %rd5;\n"
      "  shl.b32 %r2, %r1, 4;\n  mov.u32 %r3, s;\n  add.u32 %r3, %r3, %r2;\n";
  const bool shared = row.space == kShared || row.space == kGenericShared;
  const bool local = row.space == kLocal || row.space == kGenericLocal;
  // The slot of global memory is the input's for loads and the output's for stores.
  std::string address = "%rd6", plain = ".global";
  if (row.space == kConst) {
    text += "  mov.u64 %rd6, table;\n  add.u64 %rd6, %rd6, %rd4;\n";
  } else if (shared || local) {
    plain = shared ? ".shared" : ".local";
    text += std::string("  ld.global.v4.b32 {%w0, %w1, %w2, %w3}, [%rd1];\n  ") +
            (shared ? "mov.u32 %r4, %r3;\n" : "mov.u32 %r4, l;\n") + "  st" + plain +
            ".v4.b32 [%r4], {%w0, %w1, %w2, %w3};\n";
    address = "%r4";
    if (row.space == kGenericShared || row.space == kGenericLocal) {
      text += "  cvt.u64.u32 %rd6, %r4;\n  cvta" + plain + ".u64 %rd6, %rd6;\n";
      address = "%rd6";
    }
  } else {
    text += row.store() ? "  add.u64 %rd6, %rd3, %rd4;\n" : "  mov.u64 %rd6, %rd1;\n";
    if (row.space == kGenericGlobal) text += "  cvta.global.u64 %rd6, %rd6;\n";
  }
  std::string list = row.vec == 1 ? "%v0" : "{";
  for (int i = 0; row.vec > 1 && i < row.vec; ++i)
    list += (i == 0 ? "%v" : ", %v") + std::to_string(i) + (i + 1 == row.vec ? "}" : "");
  const std::string width = "b" + std::to_string(row.reg);
  if (row.store()) {
    for (int i = 0; i < row.vec; ++i)
      text += "  ld.global." + width + " %v" + std::to_string(i) + ", [%rd2+" +
              std::to_string(8 * i) + "];\n";
    text += "  " + row.instruction() + " [" + address + "], " + list + ";\n";
    if (shared || local)
      text += "  ld" + plain +
              ".v4.b32 {%w0, %w1, %w2, %w3}, [%r4];\n  add.u64 %rd3, %rd3, %rd4;\n"
              "  st.global.v4.b32 [%rd3], {%w0, %w1, %w2, %w3};\n";
  } else {
    text += "  " + row.instruction() + " " + list + ", [" + address + "];\n" +
            "  add.u64 %rd3, %rd3, %rd5;\n";
    for (int i = 0; i < row.vec; ++i)
      text += "  st.global." + width + " [%rd3+" + std::to_string(8 * i) + "], %v" +
              std::to_string(i) + ";\n";
  }
  return text + "  ret;\n}\n";
}

class LoadStore : public testing::TestWithParam<Row> {};

TEST_P(LoadStore, MovesTheBytes) {
  const Row& row = GetParam();
  if (device().capability() < row.needs)
    GTEST_SKIP() << "needs sm_" << row.needs << "; runs on the virtual GPU";
  Random random(21);
  std::vector<u8> in(kThreads * kSlot), values(kThreads * 32);
  for (auto* buffer : {&in, &values})
    for (u8& b : *buffer) b = static_cast<u8>(random.next() >> 13);
  const std::vector<u8> memory = in, registers = values;
  std::vector<u8> out = row.store() ? in : std::vector<u8>(kThreads * 32, 0xcc);
  LaunchSpec spec;
  spec.block = kThreads;
  const std::string text = kernel_text(row, in);
  ASSERT_EQ(device().run(text, "k", spec, {{&in}, {&values}, {&out}}), "") << text;
  const size_t bytes = static_cast<size_t>(row.bytes()), width = static_cast<size_t>(row.reg) / 8;
  std::vector<u8> want = row.store() ? memory : std::vector<u8>(kThreads * 32, 0xcc);
  for (size_t t = 0; t < kThreads; ++t) {
    for (size_t i = 0; i < static_cast<size_t>(row.vec); ++i) {
      if (row.store()) {
        std::copy_n(&registers[t * 32 + i * 8], bytes, &want[t * kSlot + i * bytes]);
        continue;
      }
      const u8* from = &memory[t * kSlot + i * bytes];
      const u8 beyond = row.type[0] == 's' && (from[bytes - 1] & 0x80) != 0 ? 0xff : 0;
      for (size_t b = 0; b < width; ++b) want[t * 32 + i * 8 + b] = b < bytes ? from[b] : beyond;
    }
  }
  for (size_t i = 0; i < out.size(); ++i)
    ASSERT_EQ(out[i], want[i]) << "byte " << i << "\n" << text;
}
INSTANTIATE_TEST_SUITE_P(Ptx, LoadStore, testing::ValuesIn(rows()),
                         [](const auto& info) { return name_of(info.param); });

// Parameters: parts of a 64-bit one.
class ParamLoad : public testing::TestWithParam<std::pair<const char*, int>> {};

TEST_P(ParamLoad, ReadsParts) {
  const auto [type, offset] = GetParam();
  const int bytes = bits_of(type) / 8, reg = std::max(16, bits_of(type));
  const std::string width = type[0] == 'f' ? type : "b" + std::to_string(reg);
  const std::string text =
      std::string(
          ".version 8.4\n.target sm_75\n.address_size 64\n"
          ".visible .entry k(.param .u64 out, .param .u64 p)\n{\n  .reg .b64 %rd<4>;\n"
          "  .reg .") +
      width + " %v;\n  ld.param.u64 %rd1, [out];\n  ld.param." + type + " %v, [p+" +
      std::to_string(offset) + "];\n  st.global.b" + std::to_string(reg) +
      " [%rd1], %v;\n  ret;\n}\n";
  const u64 value = 0x8a7b6c5d4e3f9281;
  std::vector<u8> out(8, 0);
  LaunchSpec spec;
  spec.block = 1;
  ASSERT_EQ(device().run(text, "k", spec, {{&out}, {nullptr, value}}), "") << text;
  u64 got = 0, want = value >> (8 * offset);
  std::memcpy(&got, out.data(), 8);
  if (bytes < 8) {
    want &= (u64{1} << (8 * bytes)) - 1;
    if (type[0] == 's' && (want >> (8 * bytes - 1) & 1) != 0) want |= ~u64{0} << (8 * bytes);
    if (reg < 64) want &= (u64{1} << reg) - 1;
  }
  EXPECT_EQ(got, want);
}
INSTANTIATE_TEST_SUITE_P(Ptx, ParamLoad,
                         testing::Values(std::pair("u8", 0), std::pair("u8", 7), std::pair("s8", 0),
                                         std::pair("s8", 3), std::pair("b8", 5),
                                         std::pair("u16", 2), std::pair("s16", 6),
                                         std::pair("b16", 4), std::pair("u32", 4),
                                         std::pair("s32", 0), std::pair("f32", 4),
                                         std::pair("b32", 0), std::pair("u64", 0),
                                         std::pair("f64", 0)));

// --- addresses

// Which space a generic address is in, and that conversions lead there and back.
TEST(Address, IsspacepAndCvta) {
  const std::string text =
      ".version 8.4\n.target sm_75\n.address_size 64\n.const .align 4 .b32 c = 7;\n"
      ".visible .entry k(.param .u64 out)\n{\n  .shared .align 4 .b32 s[4];\n"
      "  .local .align 4 .b32 l[4];\n  .reg .b64 %rd<16>;\n  .reg .b32 %r<40>;\n"
      "  .reg .pred %p;\n  ld.param.u64 %rd1, [out];\n  cvta.to.global.u64 %rd2, %rd1;\n"
      "  cvta.global.u64 %rd3, %rd2;\n  mov.u64 %rd4, s;\n"
      "  cvta.shared.u64 %rd5, %rd4;\n  mov.u64 %rd6, l;\n  cvta.local.u64 %rd7, %rd6;\n"
      "  mov.u64 %rd8, c;\n  cvta.const.u64 %rd9, %rd8;\n"
      "  cvta.to.shared.u64 %rd10, %rd5;\n  cvta.to.local.u64 %rd11, %rd7;\n"
      "  cvta.to.const.u64 %rd12, %rd9;\n";
  std::string body;
  int at = 0;
  std::vector<u32> want;
  const auto store = [&](u32 expected) {
    body += "  selp.u32 %r1, 1, 0, %p;\n  st.global.u32 [%rd2+" + std::to_string(4 * at++) +
            "], %r1;\n";
    want.push_back(expected);
  };
  const std::pair<const char*, const char*> given[] = {
      {"%rd3", "global"}, {"%rd5", "shared"}, {"%rd7", "local"}, {"%rd9", "const"}};
  for (const auto& [address, space] : given) {
    for (const char* asked : {"global", "shared", "local", "const"}) {
      // A constant bank's generic address also counts as global on some devices: not asked.
      if (std::string(space) == "const" && std::string(asked) == "global") continue;
      body += std::string("  isspacep.") + asked + " %p, " + address + ";\n";
      store(std::string(asked) == space ? 1 : 0);
    }
  }
  for (const auto& [a, b] : {std::pair{"%rd10", "%rd4"}, {"%rd11", "%rd6"}, {"%rd12", "%rd8"}}) {
    body += std::string("  setp.eq.u64 %p, ") + a + ", " + b + ";\n";
    store(1);
  }
  // Through the generic address lies the same word.
  body +=
      "  mov.u32 %r2, 41;\n  st.shared.u32 [s+8], %r2;\n  ld.u32 %r3, [%rd5+8];\n"
      "  mov.u32 %r4, 42;\n  st.u32 [%rd7+4], %r4;\n  ld.local.u32 %r5, [l+4];\n"
      "  ld.u32 %r6, [%rd9];\n";
  for (const auto& [reg, value] : {std::pair{"%r3", 41u}, {"%r5", 42u}, {"%r6", 7u}}) {
    body += std::string("  st.global.u32 [%rd2+") + std::to_string(4 * at++) + "], " + reg + ";\n";
    want.push_back(value);
  }
  const std::string whole = text + body + "  ret;\n}\n";
  std::vector<u8> out(want.size() * 4);
  LaunchSpec spec;
  spec.block = 1;
  ASSERT_EQ(device().run(whole, "k", spec, {{&out}}), "") << whole;
  for (size_t i = 0; i < want.size(); ++i) {
    u32 got;
    std::memcpy(&got, &out[4 * i], 4);
    EXPECT_EQ(got, want[i]) << "word " << i << "\n" << whole;
  }
}

// --- instructions without an effect on values: between two of them a value stays what it was

class NoEffect : public testing::TestWithParam<std::pair<const char*, int>> {};

TEST_P(NoEffect, LeavesEverythingAsItWas) {
  const auto [statement, needs] = GetParam();
  if (device().capability() < needs)
    GTEST_SKIP() << "needs sm_" << needs << "; runs on the virtual GPU";
  const std::string text =
      ".version 8.4\n.target sm_" + std::to_string(needs) +
      "\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out)\n{\n"
      "  .reg .b64 %rd<8>, pol;\n  .reg .b32 %r<8>;\n  .reg .f32 %f<4>;\n"
      "  .local .align 16 .b8 loc[128];\n"
      "  ld.param.u64 %rd1, [in];\n  ld.param.u64 %rd2, [out];\n  mov.u32 %r1, %tid.x;\n"
      "  mul.wide.u32 %rd3, %r1, 4;\n  add.u64 %rd4, %rd1, %rd3;\n  add.u64 %rd5, %rd2, %rd3;\n"
      "  mov.b64 pol, 0;\n  ld.global.b32 %r2, [%rd4];\n  " +
      std::string(statement) + "\n  st.global.b32 [%rd5], %r2;\n  ret;\n}\n";
  std::vector<u8> in(256), out(256);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<u8>(i * 7 + 1);
  LaunchSpec spec;
  spec.block = 64;
  ASSERT_EQ(device().run(text, "k", spec, {{&in}, {&out}}), "") << text;
  EXPECT_EQ(out, in);
}
INSTANTIATE_TEST_SUITE_P(
    Ptx, NoEffect,
    testing::Values(
        std::pair("membar.cta;", 75), std::pair("membar.gl;", 75), std::pair("membar.sys;", 75),
        std::pair("fence.sc.cta;", 75), std::pair("fence.sc.gpu;", 75),
        std::pair("fence.sc.sys;", 75), std::pair("fence.acq_rel.cta;", 75),
        std::pair("fence.acq_rel.gpu;", 75), std::pair("fence.acq_rel.sys;", 75),
        std::pair("fence.proxy.alias;", 75), std::pair("fence.proxy.async;", 90),
        std::pair("fence.proxy.async.global;", 90), std::pair("fence.proxy.async.shared::cta;", 90),
        std::pair("fence.proxy.async.shared::cluster;", 90),
        std::pair("fence.proxy.tensormap::generic.release.gpu;", 90),
        std::pair("fence.mbarrier_init.release.cluster;", 90), std::pair("nanosleep.u32 40;", 75),
        std::pair("nanosleep.u32 %r1;", 75), std::pair("bar.sync 0;", 75),
        std::pair("bar.sync 3, 64;", 75), std::pair("barrier.sync 1;", 75),
        std::pair("barrier.sync.aligned 1, 64;", 75), std::pair("barrier.cta.sync 1;", 75),
        std::pair("barrier.cta.sync.aligned 0;", 75), std::pair("bar.warp.sync -1;", 75),
        std::pair("bar.cta.sync 0;", 75), std::pair("bar.arrive 1, 128; bar.sync 1, 128;", 75),
        std::pair("barrier.cta.arrive 2, 128; barrier.cta.sync 2, 128;", 75),
        std::pair("prefetch.global.L1 [%rd4];", 75), std::pair("prefetch.global.L2 [%rd4];", 75),
        std::pair("prefetch.L1 [%rd4];", 75), std::pair("prefetchu.L1 [%rd4];", 75),
        std::pair("prefetch.local.L1 [loc];", 75),
        std::pair("prefetch.global.L2::evict_last [%rd4];", 80),
        std::pair("prefetch.global.L2::evict_normal [%rd4];", 80),
        std::pair("applypriority.global.L2::evict_normal [%rd1], 128;", 80),
        std::pair("createpolicy.fractional.L2::evict_last.b64 pol, 1.0;", 80),
        std::pair("createpolicy.fractional.L2::evict_first.b64 pol;", 80),
        std::pair("createpolicy.fractional.L2::evict_first.b64 pol; "
                  "ld.global.L2::cache_hint.b32 %r2, [%rd4], pol;",
                  80),
        std::pair("createpolicy.fractional.L2::evict_last.b64 pol, 0.5; "
                  "st.global.L2::cache_hint.b32 [%rd5], %r2, pol;",
                  80),
        std::pair("pmevent 7;", 75), std::pair("pmevent.mask 3;", 75),
        std::pair("{ .reg .b32 t; mov.u32 t, %clock; }", 75),
        std::pair("{ .reg .b64 t; mov.u64 t, %globaltimer; }", 75),
        std::pair("{ .reg .b64 t; mov.u64 t, %clock64; }", 75)));

}  // namespace
}  // namespace vgpu::test
