/* A C99 program that links libqkv. */
#include "describe.h"

int main(void) {
  static problem p;
  qkv_attention_desc desc;
  fill_problem(&p);
  if (qkv_attention_desc_init(&desc, sizeof desc) != QKV_SUCCESS) return 1;
  describe(&p, &desc);
  if (qkv_attention(&desc, NULL) != QKV_SUCCESS) {
    fprintf(stderr, "%s\n", qkv_last_error());
    return 1;
  }
  return judge("C, linked", &p);
}
