/* Computes, and checks the answer, in a process that brings what libqkv uses too. Compiled by
 * interposed_test.sh: with -DLINKED it is linked with libqkv, else
 *   interposed LIBRARY... LIBQKV     opens libraries for all to see (RTLD_GLOBAL), then libqkv */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "describe.h"

enum { BIG_HEADS = 16, BIG_SEQ = 256, BIG_DIM = 64, BIG_SIZE = BIG_HEADS * BIG_SEQ * BIG_DIM };

static qkv_status (*init)(qkv_attention_desc*, size_t);
static qkv_status (*attention)(const qkv_attention_desc*, void*);
static const char* (*last_error)(void);

static int compute(const qkv_attention_desc* desc) {
  if (attention(desc, NULL) == QKV_SUCCESS) return 1;
  fprintf(stderr, "%s\n", last_error());
  return 0;
}

/* Several threads get what one gets. */
static int threads_agree(void) {
  static float in[BIG_SIZE], one[BIG_SIZE], many[BIG_SIZE];
  const qkv_tensor x = {in,
                        QKV_TYPE_F32,
                        0,
                        {1, BIG_HEADS, BIG_SEQ, BIG_DIM},
                        {BIG_SIZE, BIG_SEQ * BIG_DIM, BIG_DIM, 1}};
  qkv_attention_desc desc;
  uint32_t state = 1;
  if (init(&desc, sizeof desc) != QKV_SUCCESS) return 0;
  for (int n = 0; n < BIG_SIZE; ++n) {
    state = state * 1664525u + 1013904223u;
    in[n] = (float)(state >> 8) / 8388608.0f - 1.0f;
  }
  desc.q = desc.k = desc.v = desc.o = x;
  desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
  desc.threads = 1;
  desc.o.data = one;
  if (!compute(&desc)) return 0;
  desc.threads = 0;
  desc.o.data = many;
  for (int n = 0; n < 8; ++n) {
    memset(many, 0, sizeof many);
    if (!compute(&desc)) return 0;
    if (memcmp(one, many, sizeof one) != 0) {
      fprintf(stderr, "several threads get another result than one\n");
      return 0;
    }
  }
  return 1;
}

int main(int argc, char** argv) {
  static problem p;
  qkv_attention_desc desc;
#ifdef LINKED
  (void)argc, (void)argv;
  init = qkv_attention_desc_init;
  attention = qkv_attention;
  last_error = qkv_last_error;
#else
  void* library = NULL;
  for (int n = 1; n < argc; ++n) {
    library = dlopen(argv[n], RTLD_NOW | (n + 1 < argc ? RTLD_GLOBAL : RTLD_LOCAL));
    if (library == NULL) {
      fprintf(stderr, "%s\n", dlerror());
      return 1;
    }
  }
  if (library == NULL) return 1;
  *(void**)&init = dlsym(library, "qkv_attention_desc_init");
  *(void**)&attention = dlsym(library, "qkv_attention");
  *(void**)&last_error = dlsym(library, "qkv_last_error");
#endif
  fill_problem(&p);
  if (init(&desc, sizeof desc) != QKV_SUCCESS) return 1;
  describe(&p, &desc);
  if (!compute(&desc) || judge("beside others", &p) != 0) return 1;
  return threads_agree() ? 0 : 1;
}
