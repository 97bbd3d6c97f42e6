/* C: from hidden states to attention. One product with W_q, W_k and W_v below each other gives Q, K
 * and V side by side; attention reads them where they are. Nothing is copied or transposed. */
#include <math.h>
#include <qkv/qkv.h>
#include <stdio.h>

enum { SEQ = 4, WIDTH = 6, HEADS = 2, DIM = 3, OUT = 3 * HEADS * DIM };

static qkv_tensor view(float* data, int64_t heads, int64_t dim, int64_t row) {
  qkv_tensor t = {data, QKV_TYPE_F32, 0, {1, heads, SEQ, dim}, {0, dim, row, 1}};
  return t;
}

static int failed(qkv_status status) {
  if (status != QKV_SUCCESS) fprintf(stderr, "%s\n", qkv_last_error());
  return status != QKV_SUCCESS;
}

int main(void) {
  float hidden[SEQ][WIDTH], weight[OUT][WIDTH], bias[OUT], packed[SEQ][OUT], o[SEQ][HEADS * DIM];
  qkv_project_desc project;
  qkv_attention_desc attend;
  for (int i = 0; i < SEQ; ++i)
    for (int d = 0; d < WIDTH; ++d) hidden[i][d] = sinf((float)(i * 7 + d));
  for (int n = 0; n < OUT; ++n) {
    bias[n] = 0.1f * (float)n;
    for (int d = 0; d < WIDTH; ++d) weight[n][d] = cosf((float)(n * 5 + d));
  }

  qkv_project_desc_init(&project, sizeof project);
  project.x = view(hidden[0], 1, WIDTH, WIDTH);
  project.weight = (qkv_tensor){weight, QKV_TYPE_F32, 0, {1, 1, OUT, WIDTH}, {0, 0, WIDTH, 1}};
  project.bias = (qkv_tensor){bias, QKV_TYPE_F32, 0, {1, 1, 1, OUT}, {0, 0, 0, 1}};
  project.y = view(packed[0], 3 * HEADS, DIM, OUT);
  project.flags = QKV_FLAG_ALLOW_ALLOCATION;
  if (failed(qkv_project(&project, NULL))) return 1;

  qkv_attention_desc_init(&attend, sizeof attend);
  attend.q = view(packed[0], HEADS, DIM, OUT); /* each row: heads of Q, of K, of V */
  attend.k = view(packed[0] + HEADS * DIM, HEADS, DIM, OUT);
  attend.v = view(packed[0] + 2 * HEADS * DIM, HEADS, DIM, OUT);
  attend.o = view(o[0], HEADS, DIM, HEADS * DIM);
  attend.flags = QKV_FLAG_ALLOW_ALLOCATION;
  if (failed(qkv_attention(&attend, NULL))) return 1;

  double expected = bias[5];
  for (int d = 0; d < WIDTH; ++d) expected += (double)hidden[2][d] * weight[5][d];
  printf("row 2, head 1 of Q, dim 2: %.4f, by hand %.4f; o[2] begins with %.4f\n", packed[2][5],
         expected, o[2][0]);
  return fabs(packed[2][5] - expected) < 1e-5 ? 0 : 1;
}
