#include "tests/warp_forms.h"

#include <cstring>

#include "tests/device.h"

namespace vgpu::test {
namespace {

constexpr u64 kBefore = 0x5a5a5a5a5a5a5a5a;  // in the result of lanes that do not execute

std::string kernel_text(const WarpForm& form) {
  std::string body = form.text;
  const auto replace = [&](const std::string& from, const std::string& to) {
    for (size_t at = body.find(from); at != std::string::npos; at = body.find(from, at + to.size()))
      body.replace(at, from.size(), to);
  };
  replace("$p", "%p");
  replace("$q", "%q");
  replace("$", "%v");
  const std::string width = std::to_string(form.bits);
  return ".version 8.0\n.target sm_" + std::to_string(form.needs) +
         "\n.address_size 64\n.visible .entry form(.param .u64 in, .param .u64 out)\n{\n"
         "  .reg .b32 %r<8>;\n  .reg .b64 %rd<8>;\n  .reg .pred %p, %q, %e;\n  .reg .b" +
         width + " %v0, %v1;\n  .reg .b32 %v2, %v3;\n" +
         "  ld.param.u64 %rd1, [in];\n  ld.param.u64 %rd2, [out];\n"
         "  mov.u32 %r1, %tid.x;\n  mov.u32 %r2, %ctaid.x;\n  mov.u32 %r3, %ntid.x;\n"
         "  mad.lo.u32 %r2, %r2, %r3, %r1;\n"
         "  mul.wide.u32 %rd3, %r2, 24;\n  add.u64 %rd3, %rd3, %rd1;\n"
         "  mul.wide.u32 %rd4, %r2, 16;\n  add.u64 %rd4, %rd4, %rd2;\n"
         "  ld.global.b" +
         width + " %v1, [%rd3];\n  ld.global.b32 %v2, [%rd3+8];\n" +
         "  ld.global.b32 %v3, [%rd3+16];\n  and.b32 %r4, %v3, 1;\n  setp.eq.u32 %q, %r4, 1;\n"
         "  mov.b" +
         width + " %v0, " + (form.bits == 64 ? "0x5a5a5a5a5a5a5a5a" : "0x5a5a5a5a") +
         ";\n  setp.ne.u32 %p, 0, 0;\n"
         "  mov.u32 %r5, %laneid;\n  shr.u32 %r6, " +
         std::to_string(form.lanes) +
         ", %r5;\n  and.b32 %r6, %r6, 1;\n  setp.eq.u32 %e, %r6, 0;\n"
         "  @%e bra SKIP;\n  " +
         body + "\nSKIP:\n  st.global.b" + width +
         " [%rd4], %v0;\n  selp.u32 %r7, 1, 0, %p;\n  st.global.u32 [%rd4+8], %r7;\n  ret;\n}\n";
}

}  // namespace

std::string warp_form_name(const WarpForm& form) {
  std::string out;
  for (char c : form.text) {
    if (c == ' ') break;
    out += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  }
  return out;
}

void check_warp_form(const WarpForm& form) {
  if (device().capability() < form.needs) GTEST_SKIP() << "needs sm_" << form.needs;
  constexpr size_t kWarps = 64;
  Random random(0x5eed);
  std::vector<WarpIn> inputs(kWarps);
  for (WarpIn& warp : inputs) {
    for (auto& lane : warp)
      for (u64& v : lane) v = random.next();
    if (form.prepare) form.prepare(random, warp);
    const u64 mask = form.bits == 64 ? ~u64{0} : (u64{1} << form.bits) - 1;
    for (auto& lane : warp) {
      lane[0] &= mask;
      lane[1] &= 0xffffffff;
      lane[2] &= 0xffffffff;
    }
  }
  std::vector<u8> in(kWarps * sizeof(WarpIn)), out(kWarps * 32 * 16);
  std::memcpy(in.data(), inputs.data(), in.size());
  LaunchSpec spec;
  spec.grid = kWarps / 4;
  spec.block = 128;
  ASSERT_EQ(device().run(kernel_text(form), "form", spec, {{&in}, {&out}}), "")
      << kernel_text(form);
  const u64 mask = form.bits == 64 ? ~u64{0} : (u64{1} << form.bits) - 1;
  const bool has_p = form.text.find("$p") != std::string::npos;
  const bool has_d = form.text.find("$0") != std::string::npos;
  int shown = 0;
  for (size_t w = 0; w < kWarps && shown < 5; ++w) {
    WarpOut want;
    form.expected(inputs[w], want);
    for (size_t l = 0; l < 32 && shown < 5; ++l) {
      const bool executes = (form.lanes >> l & 1) != 0;
      u64 d = 0;
      u32 p = 0;
      std::memcpy(&d, &out[(w * 32 + l) * 16], static_cast<size_t>(form.bits / 8));
      std::memcpy(&p, &out[(w * 32 + l) * 16 + 8], 4);
      const u64 want_d = (executes && has_d ? want.d[l] : kBefore) & mask;
      const bool want_p = executes && has_p && want.p[l];
      if (d == want_d && (p != 0) == want_p) continue;
      ++shown;
      ADD_FAILURE() << form.text << ": warp " << w << " lane " << l << std::hex << " of "
                    << inputs[w][l][0] << " " << inputs[w][l][1] << " " << inputs[w][l][2]
                    << " gives " << d << " " << p << ", expected " << want_d << " " << want_p;
    }
  }
}

}  // namespace vgpu::test
