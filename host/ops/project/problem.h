// One projection, y = x W^T + bias: checked.
#pragma once

#include <cstdint>

#include "host/core/descriptor.h"
#include "host/core/op.h"
#include "host/core/tensor_check.h"
#include "host/core/view.h"

namespace qkv::host::project {

struct Problem : AnyProblem {
  qkv_type type = QKV_TYPE_F32;  // of all tensors
  int64_t batch = 0, rows = 0;
  int64_t in = 0, heads = 0, dim = 0;  // widths, at least 1
  View x;                              // [batch, 1, rows, in]
  View weight;                         // [1, 1, out, in]
  View bias;                           // [1, 1, 1, out]; may be absent
  View y;                              // [batch, heads, rows, dim]

  int64_t out() const { return heads * dim; }

  // No output element exists: nothing to run.
  bool empty() const { return batch == 0 || rows == 0; }

  // How the weight lies in memory: [out, in], a row of it after the other, or [in, out].
  bool weight_by_out() const { return in == 1 || weight.stride[3] == 1; }
};

// The tensors of a projection as a caller gives them, under the names that its descriptor has for
// them: another op that projects checks its own by it.
struct Given {
  struct Tensor {
    const char* name;
    const qkv_tensor& tensor;
  };
  Tensor x, weight, bias, y;
};

// Type, sizes and views of *problem, or what is wrong with a tensor by itself or beside the others.
// Neither overlaps nor the device: they are of the call as a whole.
Status check_tensors(const Given& given, Need need, Problem* problem);

// What releases made of qkv_project_desc.
extern const DescriptorForm kProjectForm;

// Turns the caller's descriptor into a problem or says what is wrong with it. Reads no tensor data.
Status validate(const qkv_project_desc* given, Need need, const CudaRuntime& cuda,
                Problem* problem);

}  // namespace qkv::host::project
