// Layouts of ldmatrix and movmatrix. PTX ISA 9.0 sections 9.7.14.5.15 to 9.7.14.5.17.
#include <gtest/gtest.h>

#include "tests/device.h"
#include "tests/forms.h"

namespace vgpu::test {
namespace {

// movmatrix: thread l holds elements 2 * (l % 4) and the next of row l / 4, and gets those of the
// transposed matrix.
TEST(Movmatrix, Transposes) {
  const std::string text =
      ".version 8.4\n.target sm_75\n.address_size 64\n"
      ".visible .entry k(.param .u64 in, .param .u64 out)\n{\n .reg .b64 %rd<4>;\n"
      " .reg .b32 %r<4>;\n ld.param.u64 %rd0, [in];\n ld.param.u64 %rd1, [out];\n"
      " mov.u32 %r0, %tid.x;\n mul.wide.u32 %rd2, %r0, 4;\n add.u64 %rd0, %rd0, %rd2;\n"
      " add.u64 %rd1, %rd1, %rd2;\n ld.global.b32 %r1, [%rd0];\n"
      " movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r1;\n st.global.b32 [%rd1], %r2;\n ret;\n}\n";
  std::vector<u8> in(128), out(128);
  for (size_t i = 0; i < 64; ++i) {
    const u16 v = static_cast<u16>(i * 1021 + 5);
    std::memcpy(&in[2 * i], &v, 2);
  }
  ASSERT_EQ(device().run(text, "k", {}, {{&in}, {&out}}), "");
  for (size_t row = 0; row < 8; ++row)
    for (size_t column = 0; column < 8; ++column) {
      u16 got, want;
      std::memcpy(&got, &out[2 * (row * 8 + column)], 2);
      std::memcpy(&want, &in[2 * (column * 8 + row)], 2);
      ASSERT_EQ(got, want) << "row " << row << " column " << column;
    }
}

class Ldmatrix : public testing::TestWithParam<std::pair<int, bool>> {};

// Thread l of the warp gets row l / 4, elements 2 * (l % 4) and the next, of every matrix.
TEST_P(Ldmatrix, DistributesRowsAsTheIsaSays) {
  const auto [count, transposed] = GetParam();
  const std::string x = "x" + std::to_string(count);
  std::string text =
      ".version 8.0\n.target sm_75\n.address_size 64\n"
      ".visible .entry k(.param .u64 in, .param .u64 out)\n{\n .shared .align 16 .b8 s[512];\n"
      " .reg .b64 %rd<8>;\n .reg .b32 %r<16>;\n ld.param.u64 %rd0, [in];\n ld.param.u64 %rd1, "
      "[out];\n"
      " mov.u32 %r0, %tid.x;\n mul.wide.u32 %rd2, %r0, 16;\n add.u64 %rd0, %rd0, %rd2;\n"
      " add.u64 %rd1, %rd1, %rd2;\n ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%rd0];\n"
      " mov.u32 %r5, s;\n shl.b32 %r6, %r0, 4;\n add.u32 %r5, %r5, %r6;\n"
      " st.shared.v4.b32 [%r5], {%r1, %r2, %r3, %r4};\n bar.sync 0;\n"
      " mov.b32 %r8, 0;\n mov.b32 %r9, 0;\n mov.b32 %r10, 0;\n mov.b32 %r11, 0;\n";
  const char* lists[] = {"", "{%r8}", "{%r8, %r9}", "", "{%r8, %r9, %r10, %r11}"};
  text += " ldmatrix.sync.aligned.m8n8." + x + (transposed ? ".trans" : "") + ".shared.b16 " +
          lists[count] + ", [%r5];\n st.global.v4.b32 [%rd1], {%r8, %r9, %r10, %r11};\n ret;\n}\n";
  std::vector<u8> in(512), out(512);
  for (size_t i = 0; i < 256; ++i) {
    const u16 v = static_cast<u16>(i * 257 + 3);
    std::memcpy(&in[i * 2], &v, 2);
  }
  const auto element = [&](int matrix, int row, int column) {
    u16 v;
    std::memcpy(&v, &in[static_cast<size_t>((matrix * 64 + row * 8 + column) * 2)], 2);
    return v;
  };
  ASSERT_EQ(device().run(text, "k", {}, {{&in}, {&out}}), "");
  for (int l = 0; l < 32; ++l) {
    for (int matrix = 0; matrix < count; ++matrix) {
      for (int e = 0; e < 2; ++e) {
        const int row = l / 4, column = 2 * (l % 4) + e;
        u16 got;
        std::memcpy(&got, &out[static_cast<size_t>(l * 16 + matrix * 4 + e * 2)], 2);
        ASSERT_EQ(got, transposed ? element(matrix, column, row) : element(matrix, row, column))
            << "lane " << l << " matrix " << matrix;
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Ptx, Ldmatrix,
                         testing::Values(std::pair(1, false), std::pair(1, true),
                                         std::pair(2, false), std::pair(2, true),
                                         std::pair(4, false), std::pair(4, true)));

}  // namespace
}  // namespace vgpu::test
