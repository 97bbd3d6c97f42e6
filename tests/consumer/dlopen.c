/* A C99 program that knows qkv.h alone and opens the library when it runs.
 *   dlopen [LIBRARY]     default libqkv.so.0, found where the loader looks */
#include <dlfcn.h>

#include "describe.h"

static void* need(void* library, const char* name) {
  void* const symbol = dlsym(library, name);
  if (symbol == NULL) fprintf(stderr, "%s\n", dlerror());
  return symbol;
}

int main(int argc, char** argv) {
  static problem p;
  qkv_attention_desc desc;
  qkv_status (*init)(qkv_attention_desc*, size_t);
  qkv_status (*attention)(const qkv_attention_desc*, void*);
  const char* (*last_error)(void);
  void* const library = dlopen(argc > 1 ? argv[1] : "libqkv.so.0", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  /* POSIX: an address of dlsym becomes a function pointer this way. */
  *(void**)&init = need(library, "qkv_attention_desc_init");
  *(void**)&attention = need(library, "qkv_attention");
  *(void**)&last_error = need(library, "qkv_last_error");
  if (init == NULL || attention == NULL || last_error == NULL) return 1;

  fill_problem(&p);
  if (init(&desc, sizeof desc) != QKV_SUCCESS) return 1;
  describe(&p, &desc);
  if (attention(&desc, NULL) != QKV_SUCCESS) {
    fprintf(stderr, "%s\n", last_error());
    return 1;
  }
  return judge("C, dlopen", &p);
}
