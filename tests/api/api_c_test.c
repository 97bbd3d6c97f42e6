/* A C99 program with qkv.h alone: the header is C, and the library links from C. */
#include "qkv/qkv.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition, qkv_last_error()); \
      return 1;                                                                      \
    }                                                                                \
  } while (0)

/* [1, 1, seq, dim], contiguous. */
static qkv_tensor view(float* data, int64_t seq, int64_t dim) {
  qkv_tensor tensor;
  memset(&tensor, 0, sizeof tensor);
  tensor.data = data;
  tensor.type = QKV_TYPE_F32;
  tensor.shape[0] = tensor.shape[1] = 1;
  tensor.shape[2] = seq;
  tensor.shape[3] = dim;
  tensor.stride[0] = tensor.stride[1] = seq * dim;
  tensor.stride[2] = dim;
  tensor.stride[3] = 1;
  return tensor;
}

int main(void) {
  float q[2] = {1, 0};
  float k[4] = {1, 0, 0, 1};
  float v[2] = {2, 4};
  float o[1] = {-1}, lse[1] = {-1};
  const double e = exp(1.0);
  qkv_attention_desc desc;
  qkv_query_result answer;
  qkv_plan* plan = NULL;
  char text[2048];
  size_t length = 0;

  CHECK(qkv_version() == QKV_VERSION_MAJOR * 10000 + QKV_VERSION_MINOR * 100 + QKV_VERSION_PATCH);
  CHECK(strstr(qkv_build_info(), "\"cpu_forward\"") != NULL);
  CHECK(strstr(qkv_build_info(), "\"cpu_engine\": \"oneDNN ") != NULL);
  /* Kernels of CUDA where it is built for CUDA, and there alone. */
  CHECK((strstr(qkv_build_info(), "\"simt_forward\"") != NULL) ==
        (strstr(qkv_build_info(), "\"cuda\": null") == NULL));
  CHECK((strstr(qkv_build_info(), "\"merge\"") != NULL) ==
        (strstr(qkv_build_info(), "\"cuda\": null") == NULL));
  CHECK(qkv_attention_desc_init(&desc, sizeof desc) == QKV_SUCCESS);
  desc.q = view(q, 1, 2);
  desc.k = view(k, 2, 2);
  desc.v = view(v, 2, 1);
  desc.o = view(o, 1, 1);
  desc.lse = view(lse, 1, 1);
  desc.scale_set = 1;
  desc.scale = 1;
  desc.flags = QKV_FLAG_ALLOW_ALLOCATION;

  /* Scores 1 and 0, values 2 and 4. */
  CHECK(qkv_attention(&desc, NULL) == QKV_SUCCESS);
  CHECK(fabs(o[0] - (2 * e + 4) / (e + 1)) < 1e-6);
  CHECK(fabs(lse[0] - log(e + 1)) < 1e-6);

  answer.struct_size = sizeof answer;
  CHECK(qkv_query(&desc, &answer) == QKV_SUCCESS);
  CHECK(answer.supported == 1 && strcmp(answer.kernel, "cpu_forward") == 0);

  o[0] = -1;
  CHECK(qkv_plan_create(&desc, &plan) == QKV_SUCCESS);
  CHECK(qkv_plan_print(plan, text, sizeof text, &length) == QKV_SUCCESS);
  CHECK(length == strlen(text) && strstr(text, "cpu_forward") != NULL);
  CHECK(qkv_plan_run(plan, &desc, NULL) == QKV_SUCCESS);
  CHECK(fabs(o[0] - (2 * e + 4) / (e + 1)) < 1e-6);
  qkv_plan_destroy(plan);

  desc.k.shape[3] = 3;
  CHECK(qkv_attention(&desc, NULL) == QKV_INVALID_SHAPE);
  CHECK(strstr(qkv_last_error(), "k.shape[3]") != NULL);
  CHECK(qkv_status_class(QKV_INVALID_SHAPE) == QKV_INVALID_ARGUMENT);
  CHECK(strcmp(qkv_status_name(QKV_INVALID_SHAPE), "QKV_INVALID_SHAPE") == 0);
  puts("qkv from C: as expected");
  return 0;
}
