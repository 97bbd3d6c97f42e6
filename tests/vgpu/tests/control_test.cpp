// Calls, branches and asynchronous copies: what a kernel computes through them. PTX ISA 9.0
// sections 9.7.12 (control flow), 7.1 (functions), 9.7.9.25 (cp.async).
#include <gtest/gtest.h>

#include <cstring>

#include "tests/device.h"

namespace vgpu::test {
namespace {

struct Program {
  const char* name;
  std::string functions;  // before the entry
  std::string body;       // %x is the thread's input, %y its result
  std::function<u32(u32 x, u32 thread)> expected;
};

u32 fibonacci(u32 n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

std::vector<Program> programs() {
  const std::string twice =
      ".func (.param .b32 r) twice(.param .b32 a)\n{\n .reg .b32 %t;\n ld.param.b32 %t, [a];\n"
      " add.u32 %t, %t, %t;\n st.param.b32 [r], %t;\n ret;\n}\n"
      ".func (.param .b32 r) thrice(.param .b32 a)\n{\n .reg .b32 %t;\n ld.param.b32 %t, [a];\n"
      " mul.lo.u32 %t, %t, 3;\n st.param.b32 [r], %t;\n ret;\n}\n";
  const auto call = [](const std::string& how) {
    return "{ .param .b32 p0; .param .b32 r0; st.param.b32 [p0], %x; " + how +
           " ld.param.b32 %y, [r0]; }";
  };
  return {
      {"call", twice, call("call.uni (r0), twice, (p0);"), [](u32 x, u32) { return 2 * x; }},
      {"call_divergent", twice,
       "and.b32 %a, %x, 1; setp.eq.u32 %p, %a, 0; @%p bra E; " + call("call (r0), thrice, (p0);") +
           " bra.uni X; E: " + call("call (r0), twice, (p0);") + " X:",
       [](u32 x, u32) { return x % 2 == 0 ? 2 * x : 3 * x; }},
      {"call_predicated",
       ".func poke(.param .b64 a, .param .b32 v)\n{\n .reg .b64 %a; .reg .b32 %v;\n"
       " ld.param.b64 %a, [a]; ld.param.b32 %v, [v]; st.global.u32 [%a], %v; ret;\n}\n",
       "mov.u32 %y, 5; st.global.u32 [%o], %y; setp.gt.u32 %p, %x, 1000; { .param .b64 p0; "
       ".param .b32 p1; st.param.b64 [p0], %o; st.param.b32 [p1], %x; @%p call poke, (p0, p1); } "
       "ld.global.u32 %y, [%o];",
       [](u32 x, u32) { return x > 1000 ? x : 5; }},
      {"call_indirect", twice,
       "and.b32 %a, %x, 1; setp.eq.u32 %p, %a, 0; mov.u64 %f, twice; mov.u64 %g, thrice; "
       "selp.b64 %f, %f, %g, %p; " +
           call("prototype: .callprototype (.param .b32 _) _ (.param .b32 _); "
                "call (r0), %f, (p0), prototype;"),
       [](u32 x, u32) { return x % 2 == 0 ? 2 * x : 3 * x; }},
      {"parameters_of_every_width",
       ".func (.param .b64 r) mix(.param .b32 a, .param .b64 b, .param .f64 c, .param .f32 d, "
       ".param .align 8 .b8 e[16])\n{\n .reg .b32 %a, %e; .reg .b64 %b, %g; .reg .f64 %c; .reg "
       ".f32 "
       "%d;\n ld.param.b32 %a, [a]; ld.param.b64 %b, [b]; ld.param.f64 %c, [c]; ld.param.f32 %d, "
       "[d];"
       "\n ld.param.b32 %e, [e+12]; cvt.u64.u32 %g, %a; add.u64 %b, %b, %g; cvt.rzi.u64.f64 %g, %c;"
       "\n add.u64 %b, %b, %g; cvt.rzi.u64.f32 %g, %d; add.u64 %b, %b, %g; cvt.u64.u32 %g, %e;\n"
       " add.u64 %b, %b, %g; st.param.b64 [r], %b; ret;\n}\n",
       "{ .param .b32 p0; .param .b64 p1; .param .f64 p2; .param .f32 p3; .param .align 8 .b8 "
       "p4[16]; .param .b64 r0; .reg .b64 w; cvt.u64.u32 w, %x; st.param.b32 [p0], %x; "
       "st.param.b64 [p1], w; st.param.f64 [p2], 0d4059000000000000; st.param.f32 [p3], "
       "0f41200000; st.param.v2.b32 [p4], {%x, %x}; st.param.b64 [p4+8], 17179869184; "
       "call.uni (r0), mix, (p0, p1, p2, p3, p4); ld.param.b64 w, [r0]; cvt.u32.u64 %y, w; }",
       [](u32 x, u32) { return x + x + 100 + 10 + 4; }},
      {"recursion",
       ".func (.param .b32 r) fib(.param .b32 n)\n{\n .reg .b32 %n, %a, %b; .reg .pred %p;\n"
       " ld.param.b32 %n, [n]; setp.lt.u32 %p, %n, 2; @%p bra BASE;\n"
       " { .param .b32 p0; .param .b32 r0; sub.u32 %a, %n, 1; st.param.b32 [p0], %a;\n"
       " call.uni (r0), fib, (p0); ld.param.b32 %a, [r0]; }\n"
       " { .param .b32 p0; .param .b32 r0; sub.u32 %b, %n, 2; st.param.b32 [p0], %b;\n"
       " call.uni (r0), fib, (p0); ld.param.b32 %b, [r0]; }\n add.u32 %n, %a, %b;\n"
       "BASE: st.param.b32 [r], %n; ret;\n}\n",
       "and.b32 %a, %x, 7; { .param .b32 p0; .param .b32 r0; st.param.b32 [p0], %a; "
       "call.uni (r0), fib, (p0); ld.param.b32 %y, [r0]; }",
       [](u32 x, u32) { return fibonacci(x & 7); }},
      {"loop_of_its_own_length", "",
       "and.b32 %a, %x, 31; mov.u32 %y, 0; L: setp.eq.u32 %p, %a, 0; @%p bra X; "
       "mad.lo.u32 %y, %y, 3, %a; sub.u32 %a, %a, 1; bra.uni L; X:",
       [](u32 x, u32) {
         u32 y = 0;
         for (u32 a = x & 31; a != 0; --a) y = y * 3 + a;
         return y;
       }},
      {"branch_by_table", "",
       "and.b32 %a, %x, 3; t: .branchtargets A, B, C, D; brx.idx %a, t; "
       "A: mov.u32 %y, 10; bra X; B: mov.u32 %y, 20; bra X; C: add.u32 %y, %x, 1; bra X; "
       "D: mov.u32 %y, 40; X:",
       [](u32 x, u32) {
         const u32 of[] = {10, 20, x + 1, 40};
         return of[x & 3];
       }},
      {"negated_guard", "", "mov.u32 %y, 1; setp.lt.u32 %p, %x, 500; @!%p mov.u32 %y, 2;",
       [](u32 x, u32) { return x < 500 ? 1u : 2u; }},
      {"exit_of_some", "",
       "mov.u32 %y, 7; st.global.u32 [%o], %y; and.b32 %a, %x, 1; setp.eq.u32 %p, %a, 0; "
       "@%p exit; mov.u32 %y, 8;",
       [](u32 x, u32) { return x % 2 == 0 ? 7u : 8u; }},
      {"return_of_some", "",
       "mov.u32 %y, 7; st.global.u32 [%o], %y; and.b32 %a, %x, 1; setp.eq.u32 %p, %a, 0; "
       "@%p ret; mov.u32 %y, 8;",
       [](u32 x, u32) { return x % 2 == 0 ? 7u : 8u; }},
  };
}

class Control : public testing::TestWithParam<Program> {};

TEST_P(Control, Computes) {
  const Program& p = GetParam();
  const std::string text =
      ".version 8.4\n.target sm_75\n.address_size 64\n" + p.functions +
      ".visible .entry k(.param .u64 in, .param .u64 out)\n{\n .reg .b32 %x, %y, %t, %a, %b, %c;\n"
      " .reg .b64 %i, %o, %f, %g, %w;\n .reg .pred %p;\n ld.param.u64 %i, [in];\n"
      " ld.param.u64 %o, [out];\n mov.u32 %t, %tid.x;\n mul.wide.u32 %w, %t, 4;\n"
      " add.u64 %i, %i, %w;\n add.u64 %o, %o, %w;\n ld.global.u32 %x, [%i];\n " +
      p.body + "\n st.global.u32 [%o], %y;\n ret;\n}\n";
  std::vector<u8> in(64 * 4), out(64 * 4);
  std::vector<u32> x(64);
  Random random(4);
  for (u32& v : x) v = static_cast<u32>(random.next() % 2000);
  std::memcpy(in.data(), x.data(), in.size());
  LaunchSpec spec;
  spec.block = 64;
  for (const u64 seed : {1, 2, 3}) {
    spec.seed = seed;
    ASSERT_EQ(device().run(text, "k", spec, {{&in}, {&out}}), "") << text;
    for (u32 t = 0; t < 64; ++t) {
      u32 got;
      std::memcpy(&got, &out[t * 4], 4);
      ASSERT_EQ(got, p.expected(x[t], t)) << "thread " << t << "\n" << text;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Ptx, Control, testing::ValuesIn(programs()),
                         [](const auto& info) { return std::string(info.param.name); });

// --- cp.async: 64 threads copy a slot of 16 bytes each, wait, and read it

struct Copy {
  std::string instruction;  // with [%s] and [%g]
  int bytes;                // that arrive
  int filled;               // bytes that are written, zeros beyond those that arrive
};
std::vector<Copy> copies() {
  std::vector<Copy> out;
  for (const char* hint : {"", ".L2::64B", ".L2::128B", ".L2::256B"}) {
    for (const int n : {4, 8, 16})
      out.push_back({std::string("cp.async.ca.shared.global") + hint + " [%s], [%g], " +
                         std::to_string(n) + ";",
                     n, n});
    out.push_back({std::string("cp.async.cg.shared.global") + hint + " [%s], [%g], 16;", 16, 16});
  }
  for (const int n : {4, 8, 16})
    for (int source = 0; source <= n; source += n / 4)
      out.push_back({"cp.async.ca.shared.global [%s], [%g], " + std::to_string(n) + ", " +
                         std::to_string(source) + ";",
                     source, n});
  out.push_back(
      {"{ .reg .b32 n; mov.u32 n, 5; cp.async.cg.shared.global [%s], [%g], 16, n; }", 5, 16});
  out.push_back(
      {"{ .reg .pred z; setp.eq.u32 z, 0, 0; cp.async.ca.shared.global [%s], [%g], 8, z; }", 0, 8});
  out.push_back(
      {"{ .reg .pred z; setp.ne.u32 z, 0, 0; cp.async.cg.shared.global [%s], [%g], 16, z; }", 16,
       16});
  out.push_back({"cp.async.ca.shared::cta.global [%s], [%g], 16;", 16, 16});
  out.push_back(
      {"{ .reg .b64 pol; createpolicy.fractional.L2::evict_first.b64 pol; "
       "cp.async.cg.shared.global.L2::cache_hint [%s], [%g], 16, pol; }",
       16, 16});
  return out;
}

class CpAsync : public testing::TestWithParam<Copy> {};

TEST_P(CpAsync, CopiesAndFills) {
  if (device().capability() < 80) GTEST_SKIP() << "needs sm_80";
  const Copy& row = GetParam();
  for (const char* wait : {"cp.async.commit_group; cp.async.wait_group 0;", "cp.async.wait_all;",
                           "cp.async.commit_group; cp.async.commit_group; cp.async.wait_group 1;",
                           "cp.async.commit_group; cp.async.wait_all;"}) {
    const std::string text =
        ".version 8.4\n.target sm_80\n.address_size 64\n"
        ".visible .entry k(.param .u64 in, .param .u64 out)\n{\n .shared .align 16 .b8 m[1024];\n"
        " .reg .b32 %t, %s, %w<4>;\n .reg .b64 %g, %o, %d;\n ld.param.u64 %g, [in];\n"
        " ld.param.u64 %o, [out];\n mov.u32 %t, %tid.x;\n mul.wide.u32 %d, %t, 16;\n"
        " add.u64 %g, %g, %d;\n add.u64 %o, %o, %d;\n mov.u32 %s, m;\n"
        " mad.lo.u32 %s, %t, 16, %s;\n mov.b32 %w0, 0xabababab;\n"
        " st.shared.v4.b32 [%s], {%w0, %w0, %w0, %w0};\n " +
        row.instruction + "\n " + wait +
        "\n ld.shared.v4.b32 {%w0, %w1, %w2, %w3}, [%s];\n"
        " st.global.v4.b32 [%o], {%w0, %w1, %w2, %w3};\n ret;\n}\n";
    std::vector<u8> in(1024), out(1024);
    for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<u8>(i * 37 + 11);
    LaunchSpec spec;
    spec.block = 64;
    for (const u64 seed : {1, 2, 3, 4}) {
      spec.seed = seed;
      ASSERT_EQ(device().run(text, "k", spec, {{&in}, {&out}}), "") << text;
      for (int i = 0; i < 1024; ++i) {
        const int at = i % 16;
        const u8 want = at < row.bytes    ? in[static_cast<size_t>(i)]
                        : at < row.filled ? u8{0}
                                          : u8{0xab};
        ASSERT_EQ(out[static_cast<size_t>(i)], want) << "byte " << i << "\n" << text;
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Ptx, CpAsync, testing::ValuesIn(copies()));

}  // namespace
}  // namespace vgpu::test
