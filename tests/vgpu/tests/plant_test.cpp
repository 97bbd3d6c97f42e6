// Planted faults: what the planted kernel does, and that others keep their text.
#include "mutate/plant.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "ptx/ast.h"

namespace vgpu::test {
namespace {

std::string kernel(const std::string& name, const std::string& body) {
  return ".visible .entry " + name + "(\n .param .u64 out\n)\n{\n .reg .f32 %f<4>;\n" + body +
         " ret;\n}\n";
}

std::string planted(const std::string& text, const std::string& plant) {
  int count = 0;
  return vgpu::planted(text, plant, &count);
}

const std::string kHead = ".version 8.6\n.target sm_80\n.address_size 64\n";
const std::string kOne =
    kernel("_Z3one", " ex2.approx.ftz.f32 %f1, %f2;\n ex2.approx.f32 %f3, %f3;\n");
const std::string kTwo = kernel("_Z3two", " ex2.approx.ftz.f32 \t%f1, %f2;\n");

// The opcodes of both kernels, after the plant.
std::string opcodes(const std::string& plant) {
  const auto module = ptx::parse_module(planted(kHead + kOne + kTwo, plant));
  std::string out;
  for (const ptx::Function& function : module->functions) {
    out += function.name + ":";
    for (const ptx::Statement& statement : ptx::parse_body(function).statements)
      out += " " + statement.opcode;
    out += "\n";
  }
  return out;
}

TEST(Plant, MarksTheNamedKernelAlone) {
  const std::string one = "_Z3one:", two = "_Z3two: ex2.approx.ftz.f32 ret\n",
                    rest = " ex2.approx.ftz.f32 ex2.approx.f32 ret\n";
  EXPECT_EQ(opcodes("hang:one"), one + " bra" + rest + two);
  EXPECT_EQ(opcodes("trap:one"), one + " trap" + rest + two);
  EXPECT_EQ(opcodes("address:one"), one + " mov.u64 mov.u32 st.global.u32" + rest + two);
  EXPECT_EQ(opcodes("wrong:one"),
            one + " mul.ftz.f32 ex2.approx.ftz.f32 mul.f32 ex2.approx.f32 ret\n" + two);
  EXPECT_EQ(opcodes("trap:three"), one + rest + two);
  EXPECT_EQ(planted(kHead + kOne + kTwo, "trap:three"), kHead + kOne + kTwo);
}

TEST(Plant, CountsTheKernels) {
  const auto count = [](const std::string& plant) {
    int kernels = 0;
    vgpu::planted(kHead + kOne + kTwo, plant, &kernels);
    return kernels;
  };
  EXPECT_EQ(count("trap:_Z3"), 2);
  EXPECT_EQ(count("wrong:one"), 1);
  EXPECT_EQ(count("trap:three"), 0);
}

TEST(Plant, KeepsLineNumbers) {
  const std::string before = kHead + kOne + kTwo;
  for (const char* plant : {"hang:one", "trap:one", "address:one", "wrong:one"}) {
    const std::string after = planted(before, plant);
    EXPECT_EQ(std::count(after.begin(), after.end(), '\n'),
              std::count(before.begin(), before.end(), '\n'));
  }
}

// Assembly in the source puts blocks of its own at the beginning of lines.
TEST(Plant, ReachesBehindInnerBlocks) {
  const std::string inner =
      kernel("_Z3one", "{\n .reg .pred %p;\n}\n ex2.approx.ftz.f32 %f1, %f2;\n");
  const std::string after = planted(kHead + inner + kTwo, "wrong:one");
  EXPECT_NE(after.find("mul.ftz.f32 %f1, %f2, 0f3F880000; ex2.approx.ftz.f32 %f1, %f1;"),
            std::string::npos)
      << after;
  EXPECT_NE(after.find(kTwo), std::string::npos);
}

TEST(Plant, RefusesToChangeNothing) {
  const std::string none = kernel("_Z3one", "");
  EXPECT_THROW(planted(kHead + none, "wrong:one"), std::invalid_argument);
  EXPECT_NE(planted(kHead + none, "trap:one"), kHead + none);
}

TEST(Plant, RefusesOtherWords) {
  for (const char* plant : {"weed:one", "trap", "trap:", ""})
    EXPECT_THROW(planted(kHead, plant), std::invalid_argument) << plant;
}

}  // namespace
}  // namespace vgpu::test
