// DLPack: tensors of another library in, qkv's result out, without a copy. Both sides are here;
// in Python the pointers travel in capsules of __dlpack__ and from_dlpack.
#include <cstdio>
#include <memory>
#include <qkv/dlpack.hpp>
#include <vector>

using Managed = qkv::dlpack::ManagedTensorVersioned;
constexpr int64_t kBatch = 1, kSeq = 6, kHeads = 2, kDim = 8;

// The other library: an array [batch, seq, heads, dim] of ones, times its position.
Managed* other_library_makes_an_array() {
  auto memory = std::make_shared<std::vector<float>>(kBatch * kSeq * kHeads * kDim);
  for (size_t n = 0; n < memory->size(); ++n) (*memory)[n] = static_cast<float>(n / 16);
  const qkv::Tensor tensor = qkv::bshd(memory->data(), kBatch, kSeq, kHeads, kDim);
  return qkv::dlpack::to_dlpack(tensor, qkv::Device::kCpu, 0, memory, "bshd").release();
}

// qkv's side: takes the array, attends, lends a result that owns its memory.
Managed* attend(Managed* array) {
  const qkv::dlpack::Borrowed x = qkv::dlpack::from_dlpack(array, "bshd");  // given back on return
  auto memory = std::make_unique<std::vector<float>>(kBatch * kSeq * kHeads * kDim);
  const qkv::Tensor o = qkv::bshd(memory->data(), kBatch, kSeq, kHeads, kDim);
  qkv::attention({.q = x.tensor(),
                  .k = x.tensor(),
                  .v = x.tensor(),
                  .o = o,
                  .causal = true,
                  .device = x.device(),
                  .device_index = x.device_index()});
  return qkv::dlpack::to_dlpack(o, x.device(), x.device_index(), std::move(memory), "bshd")
      .release();
}

int main() {
  Managed* const result = attend(other_library_makes_an_array());
  const auto* o = static_cast<const float*>(result->tensor.data);
  std::printf("%s [%lld, %lld, %lld, %lld], first head of tokens 0, 1, 5: %.3f %.3f %.3f\n",
              qkv::dlpack::name_of(result->tensor.dtype).c_str(),
              static_cast<long long>(result->tensor.shape[0]),
              static_cast<long long>(result->tensor.shape[1]),
              static_cast<long long>(result->tensor.shape[2]),
              static_cast<long long>(result->tensor.shape[3]), o[0], o[16], o[80]);
  // Token 0 sees itself; the others lean to the last token, the largest, and never beyond it.
  const bool right = o[0] == 0 && o[16] > 0.9f && o[16] < 1 && o[80] > 4.9f && o[80] <= 5;
  result->deleter(result);  // the consumer is done: the memory goes
  return right ? 0 : 1;
}
