// Any bytes as a descriptor: queries and plans answer without touching data; runs, whose tensors
// the harness keeps inside of its own buffers, write to nothing but the outputs and agree with the
// answer. A descriptor that is refused has a reason.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "host/core/view.h"
#include "host/ops/attention/problem.h"
#include "qkv/qkv.h"

namespace {

using qkv::host::attention::kTensorCount;
using qkv::host::attention::kTensors;
using qkv::host::attention::TensorRow;

void check(bool holds) {
  if (!holds) std::abort();
}

constexpr size_t kRoom = 1 << 16;  // bytes that a tensor may span in a run

// Of a type that may be none.
int64_t size_of(qkv_type type) { return std::max<int64_t>(qkv::host::type_size(type), 1); }

// Whether a tensor, valid as far as the library says, lies within kRoom bytes.
bool fits(const qkv_tensor& tensor) {
  int64_t last = 0;
  for (int axis = 0; axis < 4; ++axis) {
    if (tensor.shape[axis] <= 1) continue;
    if (tensor.shape[axis] > 4096 || tensor.stride[axis] > 4096 || tensor.stride[axis] < 0) {
      return false;
    }
    last += (tensor.shape[axis] - 1) * tensor.stride[axis];
  }
  return (last + 1) * size_of(tensor.type) <= static_cast<int64_t>(kRoom);
}

struct Room {
  alignas(64) unsigned char bytes[kRoom];
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Room rooms[kTensorCount];
  qkv_attention_desc desc;
  check(qkv_attention_desc_init(&desc, sizeof desc) == QKV_SUCCESS);
  std::memcpy(&desc, data, std::min(size, sizeof desc));
  if (desc.struct_size > sizeof desc) desc.struct_size = sizeof desc;  // nothing lies behind it

  for (const TensorRow& row : kTensors) (desc.*row.given).data = nullptr;
  desc.workspace = nullptr;

  qkv_query_result result{};
  result.struct_size = sizeof result;
  const qkv_status asked = qkv_query(&desc, &result);
  qkv_plan* plan = nullptr;
  const bool runs = asked == QKV_SUCCESS && result.supported != 0;
  bool small = true;
  int64_t work = 1;
  for (const TensorRow& row : kTensors) small = small && fits(desc.*row.given);
  if (small && runs) {
    work = desc.q.shape[0] * desc.q.shape[1] * desc.q.shape[2] * (desc.k.shape[2] + 1) *
           (desc.q.shape[3] + desc.v.shape[3]);
  }
  // Plans generate code for their tiles: only for tiles of a sensible size.
  if (!runs || (small && work < 1 << 18)) {
    check((qkv_plan_create(&desc, &plan) == QKV_SUCCESS) == runs);
  }
  check((plan != nullptr) == (runs && small && work < 1 << 18));
  if (asked != QKV_SUCCESS) {
    check(qkv_status_class(asked) == QKV_INVALID_ARGUMENT && qkv_last_error()[0] != '\0');
  } else if (!runs) {
    check(result.reasons[0] != '\0');
  }
  if (plan == nullptr) return 0;

  char text[256];
  size_t length = 0;
  check(qkv_plan_print(plan, text, sizeof text, &length) == QKV_SUCCESS && length > 0);
  for (size_t id = 0; id < kTensorCount; ++id) {
    std::memset(rooms[id].bytes, 0, kRoom);
    qkv_tensor& tensor = desc.*kTensors[id].given;
    if (tensor.type != QKV_TYPE_NONE) tensor.data = rooms[id].bytes;
  }
  desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
  desc.workspace_size = 0;
  check(qkv_plan_run(plan, &desc, nullptr) == QKV_SUCCESS);
  check(qkv_attention(&desc, nullptr) == QKV_SUCCESS);
  for (size_t id = 0; id < kTensorCount; ++id) {
    if (kTensors[id].use == qkv::host::Use::kOutput) continue;
    const unsigned char* const bytes = rooms[id].bytes;
    check(std::all_of(bytes, bytes + kRoom, [](unsigned char x) { return !x; }));
  }
  qkv_plan_destroy(plan);
  return 0;
}
