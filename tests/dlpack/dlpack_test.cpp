// dlpack.hpp: what comes in, what goes out, what is refused, and that deleters are called once.
#include "qkv/dlpack.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

namespace qkv::dlpack {
namespace {

using Four = std::array<int64_t, 4>;

Four shape(const Tensor& t) { return {t.shape[0], t.shape[1], t.shape[2], t.shape[3]}; }
Four stride(const Tensor& t) { return {t.stride[0], t.stride[1], t.stride[2], t.stride[3]}; }

// A producer: a managed tensor that counts how often it is deleted.
template <class Managed>
struct Producer {
  Managed managed{};
  std::vector<int64_t> shape, strides;
  int deleted = 0;

  explicit Producer(std::vector<int64_t> with_shape, std::vector<int64_t> with_strides = {})
      : shape(std::move(with_shape)), strides(std::move(with_strides)) {
    managed.tensor.data = memory.data();
    managed.tensor.device = {kDeviceCpu, 0};
    managed.tensor.ndim = static_cast<int32_t>(shape.size());
    managed.tensor.dtype = {kFloat, 32, 1};
    managed.tensor.shape = shape.data();
    managed.tensor.strides = strides.empty() ? nullptr : strides.data();
    managed.context = this;
    managed.deleter = [](Managed* self) { ++static_cast<Producer*>(self->context)->deleted; };
    if constexpr (std::is_same_v<Managed, ManagedTensorVersioned>) managed.version = {1, 1};
  }

  std::vector<float> memory = std::vector<float>(64);
};
using Versioned = Producer<ManagedTensorVersioned>;
using Unversioned = Producer<ManagedTensor>;

// The message and status with which a tensor is refused; its deleter has run once.
template <class P>
std::string refusal(P& p, qkv_status status, std::string_view axes = "bhsd",
                    Use use = Use::kInput) {
  std::string message = "not refused";
  try {
    (void)from_dlpack(&p.managed, axes, use);
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), status) << error.what();
    message = error.what();
  }
  EXPECT_EQ(p.deleted, 1) << message;
  p.deleted = 0;
  return message;
}

#define EXPECT_REFUSED(producer, status, text, ...)                                        \
  do {                                                                                     \
    const std::string message = refusal(producer, status __VA_OPT__(, ) __VA_ARGS__);      \
    EXPECT_NE(message.find(text), std::string::npos) << message << "\nexpected: " << text; \
  } while (0)

// The sizes and codes of the specification, as numbers: producers were compiled with them.
TEST(Dlpack, Layout) {
  EXPECT_EQ(sizeof(DlTensor), 48u);
  EXPECT_EQ(offsetof(DlTensor, device), 8u);
  EXPECT_EQ(offsetof(DlTensor, ndim), 16u);
  EXPECT_EQ(offsetof(DlTensor, dtype), 20u);
  EXPECT_EQ(offsetof(DlTensor, shape), 24u);
  EXPECT_EQ(offsetof(DlTensor, strides), 32u);
  EXPECT_EQ(offsetof(DlTensor, byte_offset), 40u);
  EXPECT_EQ(offsetof(ManagedTensor, context), 48u);
  EXPECT_EQ(offsetof(ManagedTensor, deleter), 56u);
  EXPECT_EQ(offsetof(ManagedTensorVersioned, context), 8u);
  EXPECT_EQ(offsetof(ManagedTensorVersioned, deleter), 16u);
  EXPECT_EQ(offsetof(ManagedTensorVersioned, flags), 24u);
  EXPECT_EQ(offsetof(ManagedTensorVersioned, tensor), 32u);
  EXPECT_EQ(kBool, 6);
  EXPECT_EQ(kFloat8E4M3Fn, 10);
  EXPECT_EQ(kFloat8E5M2, 12);
  EXPECT_EQ(kFloat4E2M1Fn, 17);
}

TEST(Dlpack, CompactWithoutStrides) {
  Versioned p({2, 3, 5, 2});
  {
    const Borrowed borrowed = from_dlpack(&p.managed);
    EXPECT_EQ(shape(borrowed.tensor()), (Four{2, 3, 5, 2}));
    EXPECT_EQ(stride(borrowed.tensor()), (Four{30, 10, 2, 1}));
    EXPECT_EQ(borrowed.tensor().type, QKV_TYPE_F32);
    EXPECT_EQ(borrowed.tensor().data, p.memory.data());
    EXPECT_EQ(borrowed.device(), Device::kCpu);
    EXPECT_FALSE(borrowed.read_only());
    EXPECT_FALSE(borrowed.copied());
    EXPECT_EQ(p.deleted, 0);
  }
  EXPECT_EQ(p.deleted, 1);
}

TEST(Dlpack, AxesByName) {
  Versioned p({2, 5, 3, 4}, {100, 12, 4, 1});
  const Borrowed bshd = from_dlpack(&p.managed, "bshd");
  EXPECT_EQ(shape(bshd.tensor()), (Four{2, 3, 5, 4}));
  EXPECT_EQ(stride(bshd.tensor()), (Four{100, 4, 12, 1}));

  Unversioned lse({2, 3, 5});
  const Borrowed bhs = from_dlpack(&lse.managed, "bhs");
  EXPECT_EQ(shape(bhs.tensor()), (Four{2, 3, 5, 1}));
  EXPECT_EQ(stride(bhs.tensor()), (Four{15, 5, 1, 1}));

  Unversioned lengths({7});
  const Borrowed b = from_dlpack(&lengths.managed, "b");
  EXPECT_EQ(shape(b.tensor()), (Four{7, 1, 1, 1}));

  Unversioned weight({3, 4});
  const Borrowed hd = from_dlpack(&weight.managed, "hd");
  EXPECT_EQ(shape(hd.tensor()), (Four{1, 3, 1, 4}));
  EXPECT_EQ(stride(hd.tensor()), (Four{1, 4, 1, 1}));

  Unversioned scalar({});
  const Borrowed one = from_dlpack(&scalar.managed, "");
  EXPECT_EQ(shape(one.tensor()), (Four{1, 1, 1, 1}));
}

TEST(Dlpack, ByteOffset) {
  Versioned p({1, 1, 2, 4});
  p.managed.tensor.byte_offset = 24;
  EXPECT_EQ(from_dlpack(&p.managed).tensor().data, p.memory.data() + 6);
}

TEST(Dlpack, TypesIn) {
  const struct {
    DataType dtype;
    qkv_type type;
  } rows[] = {{{2, 32, 1}, QKV_TYPE_F32}, {{2, 16, 1}, QKV_TYPE_F16}, {{4, 16, 1}, QKV_TYPE_BF16},
              {{0, 32, 1}, QKV_TYPE_I32}, {{0, 64, 1}, QKV_TYPE_I64}, {{6, 8, 1}, QKV_TYPE_BOOL},
              {{1, 8, 1}, QKV_TYPE_BOOL}};
  for (const auto& row : rows) {
    Versioned p({1, 1, 2, 4});
    p.managed.tensor.dtype = row.dtype;
    EXPECT_EQ(from_dlpack(&p.managed).tensor().type, row.type) << name_of(row.dtype);
    EXPECT_EQ(p.deleted, 1);
  }
}

TEST(Dlpack, TypesRefused) {
  Versioned p({1, 1, 2, 4});
  const auto with = [&p](DataType dtype) -> Versioned& {
    p.managed.tensor.dtype = dtype;
    return p;
  };
  EXPECT_REFUSED(with({2, 64, 1}), QKV_INVALID_TYPE, "dtype is float64; allowed: float32, float16");
  EXPECT_REFUSED(with({0, 8, 1}), QKV_INVALID_TYPE, "dtype is int8; allowed");
  EXPECT_REFUSED(with({1, 32, 1}), QKV_INVALID_TYPE, "dtype is uint32; allowed");
  EXPECT_REFUSED(with({5, 64, 1}), QKV_INVALID_TYPE, "dtype is complex64; allowed");
  EXPECT_REFUSED(with({3, 64, 1}), QKV_INVALID_TYPE, "dtype is opaque64; allowed");
  EXPECT_REFUSED(with({6, 1, 1}), QKV_INVALID_TYPE, "dtype is bool; allowed");
  EXPECT_REFUSED(with({99, 16, 1}), QKV_INVALID_TYPE, "dtype is type code 99 of 16 bits; allowed");
  EXPECT_REFUSED(with({2, 32, 4}), QKV_INVALID_TYPE, "dtype is float32 x 4 lanes; one lane");
  EXPECT_REFUSED(with({2, 32, 0}), QKV_INVALID_TYPE, "dtype is float32 x 0 lanes; one lane");
  const char* const small[] = {"float8_e3m4",     "float8_e4m3",     "float8_e4m3b11fnuz",
                               "float8_e4m3fn",   "float8_e4m3fnuz", "float8_e5m2",
                               "float8_e5m2fnuz", "float8_e8m0fnu",  "float6_e2m3fn",
                               "float6_e3m2fn",   "float4_e2m1fn"};
  for (uint8_t code = 7; code <= 17; ++code) {
    EXPECT_REFUSED(with({code, 8, 1}), QKV_UNSUPPORTED_RESERVED,
                   std::string("dtype is ") + small[code - 7] + "; qkv does not compute");
  }
}

TEST(Dlpack, Devices) {
  const struct {
    DlDevice from;
    Device device;
    int32_t index;
  } rows[] = {{{1, 0}, Device::kCpu, 0},
              {{1, 3}, Device::kCpu, 0},
              {{2, 5}, Device::kCuda, 5},
              {{3, 1}, Device::kCpu, 0},
              {{13, 2}, Device::kCuda, 2}};
  for (const auto& row : rows) {
    Versioned p({1, 1, 2, 4});
    p.managed.tensor.device = row.from;
    const Borrowed borrowed = from_dlpack(&p.managed);
    EXPECT_EQ(borrowed.device(), row.device);
    EXPECT_EQ(borrowed.device_index(), row.index);
  }
  Versioned rocm({1, 1, 2, 4});
  rocm.managed.tensor.device = {10, 0};
  EXPECT_REFUSED(rocm, QKV_INVALID_DEVICE, "device type is 10; allowed: 1 (CPU), 2 (CUDA)");
}

TEST(Dlpack, ShapesRefused) {
  Versioned three({2, 3, 4});
  EXPECT_REFUSED(three, QKV_INVALID_SHAPE, "ndim is 3; axes \"bhsd\" need 4");
  EXPECT_REFUSED(three, QKV_INVALID_SHAPE, "ndim is 3; axes \"b\" need 1", "b");
  EXPECT_REFUSED(three, QKV_INVALID_VALUE, "axes are \"bhh\"; letters of \"bhsd\"", "bhh");
  EXPECT_REFUSED(three, QKV_INVALID_VALUE, "axes are \"bhx\"; letters of \"bhsd\"", "bhx");
  EXPECT_REFUSED(three, QKV_INVALID_VALUE, "axes are \"bhsdb\"", "bhsdb");
  Versioned odd({2, 3, 4, 1});
  odd.managed.tensor.ndim = -1;
  EXPECT_REFUSED(odd, QKV_INVALID_SHAPE, "ndim is -1");
  odd.managed.tensor.ndim = 4;
  odd.managed.tensor.shape = nullptr;
  EXPECT_REFUSED(odd, QKV_INVALID_NULL, "shape is null");
}

TEST(Dlpack, SizesRefused) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  Versioned negative({1, 2, -3, 4});
  EXPECT_REFUSED(negative, QKV_INVALID_SIZE, "shape[2] is -3; it must not be negative");
  Versioned many({int64_t{1} << 40, int64_t{1} << 20, 8, 1});
  EXPECT_REFUSED(many, QKV_INVALID_SIZE, "more than 2^63 elements");
  Versioned bytes({int64_t{1} << 31, int64_t{1} << 30, 1, 1});
  EXPECT_REFUSED(bytes, QKV_INVALID_SIZE, "span more than 2^63 bytes");
  Versioned wide({2, 1, 1, 1}, {kMax / 2, 1, 1, 1});
  EXPECT_REFUSED(wide, QKV_INVALID_SIZE, "span more than 2^63 bytes");
  Versioned lowest({2, 1, 1, 1}, {std::numeric_limits<int64_t>::min(), 1, 1, 1});
  EXPECT_REFUSED(lowest, QKV_INVALID_SIZE, "span more than 2^63 bytes");
  Versioned far({1, 1, 1, 1});
  far.managed.tensor.byte_offset = std::numeric_limits<uint64_t>::max();
  EXPECT_REFUSED(far, QKV_INVALID_SIZE, "leads past the end of the address space");

  // Large and yet right: broadcast, and empty.
  Versioned broadcast({int64_t{1} << 20, int64_t{1} << 20, 1, 4}, {0, 0, 4, 1});
  EXPECT_EQ(stride(from_dlpack(&broadcast.managed).tensor()), (Four{0, 0, 4, 1}));
  Versioned empty({kMax, 0, 5, 4}, {kMax, kMax, 4, 1});
  empty.managed.tensor.data = nullptr;
  const Borrowed none = from_dlpack(&empty.managed);
  EXPECT_EQ(none.tensor().data, nullptr);
  EXPECT_EQ(shape(none.tensor()), (Four{kMax, 0, 5, 4}));
}

TEST(Dlpack, Versions) {
  Versioned later({1, 1, 2, 4});
  later.managed.version = {1, 9};
  EXPECT_EQ(from_dlpack(&later.managed).tensor().shape[3], 4);
  Versioned other({1, 1, 2, 4});
  other.managed.version = {2, 0};
  other.managed.tensor.shape = nullptr;  // another layout: nothing behind flags may be read
  EXPECT_REFUSED(other, QKV_UNSUPPORTED, "version is 2.0; this library reads 1.x");
  try {
    (void)from_dlpack(static_cast<ManagedTensorVersioned*>(nullptr));
    ADD_FAILURE() << "null was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), QKV_INVALID_NULL);
  }
}

TEST(Dlpack, ReadOnlyIsNoOutput) {
  Versioned p({1, 1, 2, 4});
  p.managed.flags = kReadOnly;
  EXPECT_REFUSED(p, QKV_INVALID_VALUE, "it is read-only; an output must be writable", "bhsd",
                 Use::kOutput);
  EXPECT_TRUE(from_dlpack(&p.managed).read_only());
  p.managed.flags = kCopied;
  const Borrowed copy = from_dlpack(&p.managed, "bhsd", Use::kOutput);
  EXPECT_TRUE(copy.copied());
  EXPECT_FALSE(copy.read_only());
}

TEST(Dlpack, DeletedOnceHoweverMoved) {
  Versioned p({1, 1, 2, 4});
  Unversioned q({1, 1, 2, 4});
  {
    Borrowed a = from_dlpack(&p.managed);
    Borrowed b = from_dlpack(&q.managed);
    Borrowed moved = std::move(a);
    b = std::move(moved);  // gives q back
    EXPECT_EQ(q.deleted, 1);
    EXPECT_EQ(p.deleted, 0);
    EXPECT_EQ(b.tensor().data, p.memory.data());
  }
  EXPECT_EQ(p.deleted, 1);
  EXPECT_EQ(q.deleted, 1);
  Versioned without({1, 1, 2, 4});
  without.managed.deleter = nullptr;  // allowed: nothing to give back
  EXPECT_EQ(from_dlpack(&without.managed).tensor().shape[2], 2);
}

template <class Managed>
void expect_export(const Managed& managed, const float* data) {
  EXPECT_EQ(managed.tensor.data, data);
  EXPECT_EQ(managed.tensor.ndim, 4);
  EXPECT_EQ(managed.tensor.byte_offset, 0u);
  EXPECT_EQ(name_of(managed.tensor.dtype), "float32");
  EXPECT_EQ(managed.tensor.device.type, kDeviceCpu);
  EXPECT_EQ(std::vector<int64_t>(managed.tensor.shape, managed.tensor.shape + 4),
            (std::vector<int64_t>{2, 5, 3, 4}));
  EXPECT_EQ(std::vector<int64_t>(managed.tensor.strides, managed.tensor.strides + 4),
            (std::vector<int64_t>{60, 4, 20, 1}));
}

TEST(Dlpack, ExportKeepsOwnerUntilDeleter) {
  auto owner = std::make_shared<std::vector<float>>(120);
  const std::weak_ptr<std::vector<float>> watch = owner;
  float* const data = owner->data();
  const Tensor tensor = bhsd(data, 2, 3, 5, 4);

  auto managed = to_dlpack(tensor, Device::kCpu, 7, owner, "bshd", kReadOnly);
  expect_export(*managed, data);
  EXPECT_EQ(managed->version.major, 1u);
  EXPECT_EQ(managed->version.minor, 1u);
  EXPECT_EQ(managed->flags, kReadOnly);
  EXPECT_EQ(managed->tensor.device.id, 0);  // the CPU has one
  auto old = to_dlpack<ManagedTensor>(tensor, Device::kCpu, 0, std::move(owner), "bshd");
  expect_export(*old, data);

  ManagedTensorVersioned* const given = managed.release();
  old.reset();
  EXPECT_FALSE(watch.expired());
  given->deleter(given);
  EXPECT_TRUE(watch.expired());
}

TEST(Dlpack, ExportOfEveryType) {
  float memory[8] = {};
  const struct {
    qkv_type type;
    const char* name;
  } rows[] = {{QKV_TYPE_F32, "float32"},         {QKV_TYPE_F16, "float16"},
              {QKV_TYPE_BF16, "bfloat16"},       {QKV_TYPE_F8_E4M3, "float8_e4m3fn"},
              {QKV_TYPE_F8_E5M2, "float8_e5m2"}, {QKV_TYPE_I32, "int32"},
              {QKV_TYPE_I64, "int64"},           {QKV_TYPE_BOOL, "bool"}};
  for (const auto& row : rows) {
    const Tensor t = strided(memory, row.type, {1, 1, 1, 1}, {1, 1, 1, 1});
    EXPECT_EQ(name_of(to_dlpack(t, Device::kCuda, 3, 0)->tensor.dtype), row.name);
    EXPECT_EQ(to_dlpack(t, Device::kCuda, 3, 0)->tensor.device.id, 3);
    EXPECT_EQ(to_dlpack(t, Device::kCuda, 3, 0)->tensor.device.type, kDeviceCuda);
  }
}

TEST(Dlpack, ExportRefused) {
  float memory[8] = {};
  const Tensor t = bhsd(memory, 1, 2, 1, 4);
  const auto status = [](auto&& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.status();
    }
    return qkv_status{QKV_SUCCESS};
  };
  EXPECT_EQ(status([&] { to_dlpack(Tensor{}, Device::kCpu, 0, 0); }), QKV_INVALID_TYPE);
  EXPECT_EQ(status([&] { to_dlpack(t, Device::kAuto, 0, 0); }), QKV_INVALID_DEVICE);
  EXPECT_EQ(status([&] { to_dlpack(t, Device::kCpu, 0, 0, "bsd"); }), QKV_INVALID_SHAPE);
  EXPECT_EQ(status([&] { to_dlpack<ManagedTensor>(t, Device::kCpu, 0, 0, "bhsd", kReadOnly); }),
            QKV_INVALID_VALUE);
  EXPECT_EQ(status([&] { to_dlpack(t, Device::kCpu, 0, 0, "hd"); }), QKV_SUCCESS);
}

TEST(Dlpack, ExportOfNothingHasNoAddress) {
  float memory[8] = {};
  EXPECT_EQ(to_dlpack(bhsd(memory, 0, 2, 1, 4), Device::kCpu, 0, 0)->tensor.data, nullptr);
}

// Out and in again, through a call: a 1-key problem copies V.
TEST(Dlpack, RoundTripThroughACall) {
  std::vector<float> q(2 * 3 * 4, 0.5f), kv(2 * 1 * 4), o(2 * 3 * 4, NAN);
  std::iota(kv.begin(), kv.end(), 1.0f);
  const auto lend = [](std::vector<float>& x, int64_t seq) {
    return to_dlpack(bhsd(x.data(), 1, 2, seq, 4), Device::kCpu, 0, 0, "bshd");
  };
  {
    const Borrowed bq = from_dlpack(lend(q, 3), "bshd"), bk = from_dlpack(lend(kv, 1), "bshd");
    const Borrowed bo = from_dlpack(lend(o, 3), "bshd", Use::kOutput);
    attention({.q = bq.tensor(),
               .k = bk.tensor(),
               .v = bk.tensor(),
               .o = bo.tensor(),
               .device = bq.device(),
               .device_index = bq.device_index()});
  }
  for (size_t h = 0; h < 2; ++h) {
    for (size_t i = 0; i < 3; ++i) {
      for (size_t d = 0; d < 4; ++d) EXPECT_EQ(o[(h * 3 + i) * 4 + d], kv[h * 4 + d]);
    }
  }
}

// Strides that qkv cannot use are refused by the call, with the tensor's name.
TEST(Dlpack, NegativeStridesAreTheCallsBusiness) {
  Versioned p({1, 1, 4, 4}, {16, 16, -4, 1});
  p.managed.tensor.byte_offset = 48;
  const Borrowed q = from_dlpack(&p.managed);
  std::vector<float> o(16);
  const Tensor rest = bhsd(o.data(), 1, 1, 4, 4);
  try {
    attention({.q = q.tensor(), .k = rest, .v = rest, .o = rest});
    ADD_FAILURE() << "not refused";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("q.stride[2] is -4"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace qkv::dlpack
