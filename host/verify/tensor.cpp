#include "host/verify/tensor.h"

#include <cstring>
#include <sstream>
#include <utility>

#include "host/core/view.h"

namespace qkv::verify {
namespace {

constexpr size_t kGuard = 4096;

size_t guard_of(Memory::Fit fit) { return fit == Memory::Fit::kRoomy ? kGuard : 0; }

std::byte guard_byte(size_t at) { return static_cast<std::byte>(at * 37 + 11); }

size_t size_of(qkv_type type) { return static_cast<size_t>(host::type_size(type)); }

// The five fills, in every type.
uint64_t fill_bits(qkv_type type, Fill fill) {
  constexpr uint64_t kF32[] = {0, 0x7fc00000, 0x7f800000, 0xff800000, 0x7f7fffff};
  constexpr uint64_t kF16[] = {0, 0x7e00, 0x7c00, 0xfc00, 0x7bff};
  constexpr uint64_t kBf16[] = {0, 0x7fc0, 0x7f80, 0xff80, 0x7f7f};
  constexpr uint64_t kInteger[] = {0, ~uint64_t{0}, 0x7f7f7f7f7f7f7f7f, 0x8080808080808080, 1};
  const auto at = static_cast<size_t>(fill);
  switch (type) {
    case QKV_TYPE_F32:
      return kF32[at];
    case QKV_TYPE_F16:
      return kF16[at];
    case QKV_TYPE_BF16:
      return kBf16[at];
    default:
      return kInteger[at];
  }
}

void fill_element(qkv_type type, Fill fill, std::byte* to) {
  const uint64_t bits = fill_bits(type, fill);
  std::memcpy(to, &bits, size_of(type));  // little-endian, as all machines with CUDA are
}

// Elements from the first to the last, 0 if there is none.
size_t span_of(const Shape& shape, const Shape& stride) {
  int64_t last = 0;
  for (size_t axis = 0; axis < 4; ++axis) {
    if (shape[axis] == 0) return 0;
    last += (shape[axis] - 1) * stride[axis];
  }
  return static_cast<size_t>(last) + 1;
}

}  // namespace

Shape strides_of(const Shape& shape, const Order& order, const Shape& pad) {
  Shape stride{0, 0, 0, 1};
  int64_t extent = shape[3];
  for (size_t n = 3; n-- > 0;) {
    const size_t axis = order[n];
    stride[axis] = std::max<int64_t>(extent, 1) + pad[axis];
    extent = std::max<int64_t>(shape[axis], 1) * stride[axis];
  }
  return stride;
}

std::byte* Tensor::at(int64_t b, int64_t h, int64_t i, int64_t d) const {
  const int64_t offset =
      b * view.stride[0] + h * view.stride[1] + i * view.stride[2] + d * view.stride[3];
  return slab->image.data() + base + static_cast<size_t>(offset) * size_of(view.type);
}

qkv_tensor Tensor::at_address(void* memory) const {
  qkv_tensor out = view;
  if (present()) out.data = static_cast<std::byte*>(memory) + base;
  return out;
}

void Tensor::spoil(int64_t b, int64_t h, int64_t i, int64_t d, Fill with) const {
  fill_element(view.type, with, at(b, h, i, d));
}

std::vector<double> Tensor::dense() const {
  std::vector<double> out;
  if (!present()) return out;
  for (int64_t b = 0; b < view.shape[0]; ++b)
    for (int64_t h = 0; h < view.shape[1]; ++h)
      for (int64_t i = 0; i < view.shape[2]; ++i)
        for (int64_t d = 0; d < view.shape[3]; ++d) out.push_back(get(b, h, i, d));
  return out;
}

std::vector<std::byte> Tensor::bits() const {
  std::vector<std::byte> bits;
  each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    const std::byte* from = at(b, h, i, d);
    bits.insert(bits.end(), from, from + size_of(view.type));
  });
  return bits;
}

void Tensor::allow_writes() const {
  each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    const auto first = at(b, h, i, d) - slab->image.data();
    std::fill_n(slab->writable.begin() + first, size_of(view.type), true);
  });
}

Slab* Tensors::add_slab(const std::string& name, size_t bytes, Memory::Fit fit) {
  std::vector<std::byte> image(bytes + 2 * guard_of(fit));
  for (size_t at = 0; options_.contents && at < image.size(); ++at) image[at] = guard_byte(at);
  const size_t whole = image.size();
  slabs_.push_back({name, std::move(image), {}, std::vector<bool>(whole), Memory(whole, fit)});
  return &slabs_.back();
}

Tensor Tensors::add(const std::string& name, qkv_type type, const Shape& shape, const Shape& stride,
                    Use use, size_t shift) {
  const size_t size = size_of(type), elements = span_of(shape, stride);
  if (options_.fit == Memory::Fit::kExact || elements == 0) shift = 0;
  const size_t guard = guard_of(options_.fit), bytes = elements * size + shift;
  Tensor tensor{add_slab(name, bytes, options_.fit), guard + shift, {}};
  std::byte* const first = tensor.slab->image.data() + guard;
  const bool is_filled = options_.contents;
  if (is_filled && use == Use::kOutput && bytes > 0) std::memset(first, options_.poison, bytes);
  for (size_t at = shift % size; is_filled && use == Use::kInput && at + size <= bytes; at += size)
    fill_element(type, options_.fill, first + at);
  tensor.view.type = type;
  for (size_t axis = 0; axis < 4; ++axis) {
    tensor.view.shape[axis] = shape[axis];
    tensor.view.stride[axis] = stride[axis];
  }
  if (use == Use::kOutput) tensor.allow_writes();
  return tensor;
}

void* Tensors::add_workspace(size_t bytes) {
  Slab* slab = add_slab("workspace", bytes, Memory::Fit::kRoomy);
  std::memset(slab->image.data() + kGuard, options_.poison, bytes);
  std::fill_n(slab->writable.begin() + kGuard, bytes, true);
  slab->before = slab->image;
  place().upload(slab->memory.address(), slab->image.data(), slab->image.size());
  return static_cast<std::byte*>(slab->memory.address()) + kGuard;
}

void Tensors::upload() {
  for (Slab& slab : slabs_) {
    slab.before = slab.image;
    place().upload(slab.memory.address(), slab.image.data(), slab.image.size());
  }
}

void Tensors::download() {
  for (Slab& slab : slabs_)
    place().download(slab.image.data(), slab.memory.address(), slab.image.size());
}

std::string Tensors::damage() const {
  std::ostringstream out;
  for (const Slab& slab : slabs_) {
    for (size_t at = 0; at < slab.image.size(); ++at) {
      if (slab.writable[at] || slab.image[at] == slab.before[at]) continue;
      out << "byte " << at << " of the " << slab.image.size() << " around " << slab.name
          << " was changed\n";
      break;
    }
  }
  return std::move(out).str();
}

}  // namespace qkv::verify
