// What the tests rely on: damage to the memory of a tensor is seen, and a case has every optional
// input of the table.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/verify.h"

namespace qkv::test {
namespace {

using host::attention::kTensorCount;
using host::attention::kTensors;

// Two rows of three elements, an element apart.
struct Rows {
  explicit Rows(Use use, const BuildOptions& options = {}) : memory(options) {
    const Shape shape{1, 1, 2, 3};
    rows = memory.add("rows", QKV_TYPE_F16, shape, strides_of(shape, kAsBhsd, {0, 0, 1}), use);
    memory.upload();
  }
  // The damage that a run does which adds 1 to a byte.
  std::string damage_at(std::ptrdiff_t byte) {
    auto* first = static_cast<std::byte*>(rows.on_place().data) + byte;
    std::byte value{};
    place().download(&value, first, 1);
    value = static_cast<std::byte>(static_cast<int>(value) + 1);
    place().upload(first, &value, 1);
    memory.download();
    return memory.damage();
  }

  Tensors memory;
  Tensor rows;
};

TEST(Tensors, SeeDamageToInputsAndWhatLiesAround) {
  for (const std::ptrdiff_t byte : {-4096, -1, 0, 5, 6, 7, 8, 13, 14, 14 + 4095})
    EXPECT_NE(Rows(Use::kInput).damage_at(byte).find("around rows was changed"), std::string::npos)
        << byte;
}

TEST(Tensors, LetOutputsBeWritten) {
  for (const std::ptrdiff_t byte : {0, 5, 8, 13}) EXPECT_EQ(Rows(Use::kOutput).damage_at(byte), "");
  for (const std::ptrdiff_t byte : {-1, 6, 7, 14})
    EXPECT_NE(Rows(Use::kOutput).damage_at(byte), "") << byte;
}

TEST(Tensors, FillWhatNobodyUses) {
  for (const Fill fill : kFills) {
    const Rows input(Use::kInput, {.fill = fill}), output(Use::kOutput, {.poison = 0xa5});
    const double gap = load(QKV_TYPE_F16, input.rows.at(0, 0, 0, 3));
    EXPECT_EQ(std::isfinite(gap), fill == Fill::kZero || fill == Fill::kMax);
    EXPECT_EQ(std::isnan(gap), fill == Fill::kNaN);
    EXPECT_EQ(*output.rows.at(0, 0, 0, 3), std::byte{0xa5});
    EXPECT_EQ(*output.rows.at(0, 0, 0, 0), std::byte{0xa5});
  }
}

TEST(Tensors, StartWhereTheyAreTold) {
  const Shape shape{1, 1, 1, 5};
  const auto address = [&](Memory::Fit fit) {
    Tensors memory({.fit = fit});
    const Tensor tensor =
        memory.add("x", QKV_TYPE_F32, shape, strides_of(shape, kAsBhsd), Use::kInput, 12);
    return reinterpret_cast<uintptr_t>(tensor.on_place().data);
  };
  EXPECT_EQ(address(Memory::Fit::kRoomy) % 256, 12u);
  EXPECT_EQ(address(Memory::Fit::kExact) % 4, 0u);
}

// Whatever the table has, on every set of axes that it may have: made and accepted.
TEST(BuiltProblem, HasEveryInputOfTheTable) {
  int free = 0;
  for (size_t at = 0; at < kTensorCount; ++at) {
    const auto id = static_cast<TensorId>(at);
    if (!is_free_input(id)) continue;
    ++free;
    for (int axes = 0; axes <= kAllAxes; ++axes) {
      if (id == kAlibi && (axes & kHeads) == 0) continue;  // none without heads
      for (const bool by_stride : {false, true}) {
        const Case row{.inputs = {{id, axes}}, .broadcast_by_stride = by_stride, .lengths = {9}};
        const BuiltProblem built(row, {.seed = test_seed()});
        const host::attention::Problem problem = built.oracle_problem();
        const Shape full = shape_of(kTensors[at], host::attention::extents_of(row));
        EXPECT_EQ((problem.*kTensors[at].view).shape, full) << row;
        for (size_t axis = 0; axis < 4; ++axis) {
          const bool own = ((axes | ~kTensors[at].broadcast) >> axis & 1) != 0 && full[axis] > 1;
          EXPECT_EQ((problem.*kTensors[at].view).stride[axis] != 0, own) << row;
        }
      }
    }
  }
  EXPECT_GE(free, 3);
}

}  // namespace
}  // namespace qkv::test
