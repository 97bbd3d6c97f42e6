// What the tests of bulk copies have in common.
#pragma once

#include <string>

#include "tests/device.h"

namespace vgpu::test {

inline constexpr Asynchrony kAsynchronies[] = {Asynchrony::kEarly, Asynchrony::kLate,
                                               Asynchrony::kAny};

// 128 threads; thread 0 issues. %r31 is the shared memory of 32 KiB, %r29 an mbarrier of one
// arrival, initialised; %o and %i the buffers, %rd14 the map.
inline std::string bulk_kernel(const std::string& body, const std::string& directives = "") {
  return ".version 8.6\n.target sm_90a\n.address_size 64\n"
         ".visible .entry k(.param .u64 out, .param .u64 in, .param .align 64 .b8 map[128]) " +
         directives +
         "\n{\n  .shared .align 1024 .b8 s[32768];\n  .shared .align 8 .b64 bar;\n"
         "  .reg .pred %p<8>;\n  .reg .b32 %r<32>, %t;\n  .reg .b64 %rd<16>, %o, %i;\n"
         "  mov.u32 %t, %tid.x;\n  ld.param.u64 %o, [out];\n  ld.param.u64 %i, [in];\n"
         "  mov.u32 %r31, s;\n  mov.u32 %r29, bar;\n  mov.b64 %rd14, map;\n"
         "  cvta.param.u64 %rd14, %rd14;\n  setp.eq.u32 %p0, %t, 0;\n  @!%p0 bra I;\n"
         "  mbarrier.init.shared.b64 [%r29], 1;\n  fence.mbarrier_init.release.cluster;\n"
         "I: bar.sync 0;\n" +
         body + "\n  ret;\n}\n";
}
inline const std::string kWait =
    "W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r29], 0, 1000;\n @!%p1 bra W;\n";
// All threads copy `bytes` between shared and global memory, four at a time.
inline std::string all_words(u32 bytes, const std::string& body, const std::string& label) {
  return "mul.lo.u32 %r1, %t, 4;\n" + label + ": setp.ge.u32 %p2, %r1, " + std::to_string(bytes) +
         ";\n @%p2 bra " + label + "E;\n add.u32 %r2, %r31, %r1;\n cvt.u64.u32 %rd1, %r1;\n" +
         body + " add.u32 %r1, %r1, 512;\n bra " + label + ";\n" + label + "E:\n";
}
inline std::string shared_to_out(u32 bytes) {
  return all_words(
      bytes, "ld.shared.u32 %r3, [%r2];\n add.u64 %rd1, %rd1, %o;\n st.global.u32 [%rd1], %r3;\n",
      "O");
}
inline std::string in_to_shared(u32 bytes) {
  return all_words(
      bytes, "add.u64 %rd1, %rd1, %i;\n ld.global.u32 %r3, [%rd1];\n st.shared.u32 [%r2], %r3;\n",
      "N");
}
inline std::string by_thread_0(const std::string& body, const std::string& label = "T") {
  return "@!%p0 bra " + label + ";\n" + body + "\n" + label + ":\n";
}

}  // namespace vgpu::test
