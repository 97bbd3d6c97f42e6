// How fast the machine is: lane-instructions per second on straight-line code, microseconds per
// mma and per wgmma.
#include <cstdio>
#include <ctime>

#include "common/error.h"
#include "machine/decoder.h"
#include "machine/device.h"
#include "machine/launch.h"

namespace {

using namespace vgpu;

double seconds(const std::string& body, u32 repeats, const std::string& setup = "",
               u32 threads = 32) {
  const std::string text =
      ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry k()\n{\n"
      " .shared .align 1024 .b8 s[24576];\n .reg .f32 %d<64>;\n"
      " .reg .pred %p<2>;\n .reg .b32 %r<32>;\n .reg .f32 %f<32>;\n .reg .b64 %rd<8>;\n"
      " mov.u32 %r0, %tid.x;\n mov.u32 %r31, 0;\n cvt.rn.f32.u32 %f0, %r0;\n mov.f32 %f1, %f0;\n"
      " mov.f32 %f2, %f0;\n mov.f32 %f3, %f0;\n mov.u32 %r1, %r0;\n mov.u32 %r2, %r0;\n"
      " mov.u32 %r3, %r0;\n mov.u32 %r4, 0;\n mov.u32 %r5, 0;\n mov.u32 %r6, 0;\n mov.u32 %r7, "
      "0;\n" +
      setup + "L:\n" + body + " add.u32 %r31, %r31, 1;\n setp.lt.u32 %p0, %r31, " +
      std::to_string(repeats) + ";\n @%p0 bra L;\n ret;\n}\n";
  Machine machine;
  machine.device = *find_device("h100");
  const SymbolTable none{[](const std::string&) { return std::nullopt; }};
  const auto program = link_program(ptx::parse_module(text), "k", none);
  LaunchConfig config;
  config.block[0] = threads;
  const std::clock_t start = std::clock();
  Launch(machine, *program, config, {}).run();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

}  // namespace

int main() {
  std::string body;
  for (int i = 0; i < 25; ++i)
    body +=
        " fma.rn.f32 %f1, %f1, %f2, %f3;\n add.u32 %r1, %r1, %r2;\n xor.b32 %r2, %r1, %r3;\n"
        " mul.f32 %f3, %f2, %f1;\n";
  constexpr unsigned kRepeats = 20000;
  const double straight = seconds(body, kRepeats);
  std::printf("straight-line: %.0f million lane-instructions per CPU second\n",
              103.0 * 32 * kRepeats / straight * 1e-6);
  const std::string mma =
      " mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f4,%f5,%f6,%f7}, {%r4,%r5,%r6,%r7},"
      " {%r4,%r5}, {%f0,%f1,%f2,%f3};\n";
  const double matrix = seconds(mma + mma + mma + mma, kRepeats);
  std::printf("mma m16n8k16: %.2f us\n", matrix / (4.0 * kRepeats) * 1e6);

  // Operands of 64 and 128 rows of 128 bytes, swizzled, K-major, all written by one thread: to the
  // race check that is what a copy is. Four instructions take them as a loop over K does.
  std::string registers;
  for (int i = 0; i < 64; ++i) registers += (i == 0 ? "{%d" : ", %d") + std::to_string(i);
  std::string wgmmas;
  for (const char* operands : {"%rd0, %rd1", "%rd2, %rd3", "%rd4, %rd5", "%rd6, %rd7"})
    wgmmas += " wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " + registers + "}, " +
              operands + ", %p1, 1, 1, 0, 0;\n";
  std::string fill =
      " mov.u32 %r8, s;\n mov.u32 %r9, %r8;\n add.u32 %r10, %r8, 24576;\n"
      " setp.ne.u32 %p0, %r0, 0;\n @%p0 bra G;\n"
      "F: and.b32 %r11, %r9, 0x3ff;\n or.b32 %r11, %r11, 0x3c003c00;\n"
      " st.shared.u32 [%r9], %r11;\n add.u32 %r9, %r9, 4;\n"
      " setp.lt.u32 %p0, %r9, %r10;\n @%p0 bra F;\nG:\n fence.proxy.async;\n bar.sync 0;\n"
      " shr.u32 %r8, %r8, 4;\n cvt.u64.u32 %rd0, %r8;\n or.b64 %rd0, %rd0, 0x4000004000010000;\n"
      " add.u64 %rd1, %rd0, 512;\n add.u64 %rd2, %rd0, 2;\n add.u64 %rd3, %rd1, 2;\n"
      " add.u64 %rd4, %rd0, 4;\n add.u64 %rd5, %rd1, 4;\n add.u64 %rd6, %rd0, 6;\n"
      " add.u64 %rd7, %rd1, 6;\n setp.eq.u32 %p1, 0, 0;\n";
  for (int i = 0; i < 64; ++i) fill += " mov.f32 %d" + std::to_string(i) + ", 0f00000000;\n";
  const std::string groups =
      " wgmma.commit_group.sync.aligned;\n wgmma.wait_group.sync.aligned 0;\n";
  const double warpgroup =
      seconds(" wgmma.fence.sync.aligned;\n" + wgmmas + groups, kRepeats / 10, fill, 128);
  std::printf("wgmma m64n128k16: %.2f us\n", warpgroup / (4.0 * kRepeats / 10) * 1e6);
  return 0;
}
