/* C quick start: attention as a soft dictionary. Four keys, four values; a query that resembles one
 * key gets mostly that key's value. Build: cc quick_start.c $(pkg-config --cflags --libs qkv) */
#include <math.h>
#include <qkv/qkv.h>
#include <stdio.h>

enum { KEYS = 4, DIM = 4 };

/* A contiguous matrix as [batch 1, heads 1, rows, columns]; strides count elements. */
static qkv_tensor matrix(float* data, int64_t rows, int64_t columns) {
  qkv_tensor t = {data, QKV_TYPE_F32, 0, {1, 1, rows, columns}, {0, 0, columns, 1}};
  return t;
}

int main(void) {
  float keys[KEYS][DIM] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}};
  float values[KEYS][1] = {{10}, {20}, {30}, {40}};
  float query[1][DIM] = {{0, 0, 1, 0}}; /* the third key */
  float answer[1][1];
  qkv_attention_desc desc;

  qkv_attention_desc_init(&desc, sizeof desc); /* defaults; then what this problem has */
  desc.q = matrix(query[0], 1, DIM);
  desc.k = matrix(keys[0], KEYS, DIM);
  desc.v = matrix(values[0], KEYS, 1);
  desc.o = matrix(answer[0], 1, 1);
  desc.scale_set = 1;
  desc.scale = 5.0f; /* the larger, the more the best key wins; default 1/sqrt(DIM) */
  desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
  if (qkv_attention(&desc, NULL) != QKV_SUCCESS) {
    fprintf(stderr, "%s\n", qkv_last_error()); /* which field, what it holds, what is allowed */
    return 1;
  }

  /* The third key's weight is e^5 among e^5 + 3 e^0; the other values share the rest. */
  const double expected = (30 * exp(5.0) + 10 + 20 + 40) / (exp(5.0) + 3);
  printf("query = third key, values 10 20 30 40: attention answers %.3f\n", answer[0][0]);
  return fabs(answer[0][0] - expected) < 1e-4 ? 0 : 1;
}
