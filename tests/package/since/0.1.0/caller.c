/* A program of 0.1.0: compiled against that release's header, run with today's library. Its structs
 * end where a page without access begins, so that reading or writing past them ends the program. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "qkv/qkv.h"

enum { kB = 2, kH = 2, kSq = 2, kSkv = 3, kD = 4 };

/* The header is 0.1.0's own. */
typedef char of_0_1_0[sizeof(qkv_attention_desc) == 1712 ? 1 : -1];

static int failures = 0;

#define CHECK(condition)                                                                     \
  do {                                                                                       \
    if (!(condition)) {                                                                      \
      fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, qkv_last_error()); \
      ++failures;                                                                            \
    }                                                                                        \
  } while (0)

/* `size` bytes of 0x5a right before a page without access. */
static void* at_the_end(size_t size) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char* pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED || size > page || mprotect(pages + page, page, PROT_NONE) != 0) {
    perror("guard page");
    _exit(1);
  }
  memset(pages, 0x5a, page);
  return pages + page - size;
}

static qkv_tensor view(void* data, qkv_type type, int64_t b, int64_t h, int64_t s, int64_t d) {
  qkv_tensor t;
  memset(&t, 0, sizeof t);
  t.data = data;
  t.type = type;
  t.shape[0] = b, t.shape[1] = h, t.shape[2] = s, t.shape[3] = d;
  t.stride[0] = h * s * d, t.stride[1] = s * d, t.stride[2] = d, t.stride[3] = 1;
  return t;
}

static float q[kB * kH * kSq * kD], k[kB * kH * kSkv * kD], v[kB * kH * kSkv * kD];
static float o[kB * kH * kSq * kD], plain[kB * kH * kSq * kD], slopes[kH];

static void describe(qkv_attention_desc* desc) {
  desc->flags = QKV_FLAG_ALLOW_ALLOCATION;
  desc->q = view(q, QKV_TYPE_F32, kB, kH, kSq, kD);
  desc->k = view(k, QKV_TYPE_F32, kB, kH, kSkv, kD);
  desc->v = view(v, QKV_TYPE_F32, kB, kH, kSkv, kD);
  desc->o = view(o, QKV_TYPE_F32, kB, kH, kSq, kD);
}

static qkv_attention_desc* described(void) {
  qkv_attention_desc* desc = at_the_end(sizeof *desc);
  CHECK(qkv_attention_desc_init(desc, sizeof *desc) == QKV_SUCCESS);
  describe(desc);
  return desc;
}

/* The problem by the definition, without mask or bias. */
static void expect_attention(void) {
  for (int bh = 0; bh < kB * kH; ++bh) {
    for (int i = 0; i < kSq; ++i) {
      double weight[kSkv], sum = 0;
      for (int j = 0; j < kSkv; ++j) {
        double s = 0;
        for (int d = 0; d < kD; ++d)
          s += (double)q[(bh * kSq + i) * kD + d] * (double)k[(bh * kSkv + j) * kD + d];
        sum += weight[j] = exp(s / sqrt((double)kD));
      }
      for (int d = 0; d < kD; ++d) {
        double want = 0;
        for (int j = 0; j < kSkv; ++j)
          want += weight[j] / sum * (double)v[(bh * kSkv + j) * kD + d];
        CHECK(fabs(want - (double)o[(bh * kSq + i) * kD + d]) < 1e-5);
      }
    }
  }
}

/* Runs it and says whether the result is the plain one, bit for bit. */
static int as_plain(const qkv_attention_desc* desc) {
  memset(o, 0x5a, sizeof o);
  CHECK(qkv_attention(desc, NULL) == QKV_SUCCESS);
  return memcmp(o, plain, sizeof o) == 0;
}

static void attends(void) {
  qkv_attention_desc* desc = described();
  CHECK(desc->struct_size == sizeof *desc && desc->reserved0 == 0);
  CHECK(desc->window_left == -1 && desc->window_right == -1);
  CHECK(desc->weights_mode == QKV_WEIGHTS_PROBABILITIES);
  CHECK(qkv_attention(desc, NULL) == QKV_SUCCESS);
  expect_attention();
  memcpy(plain, o, sizeof o);

  /* 0.1.0 ignored what it had no use for. */
  desc->scale = 5;
  desc->offset = 7;
  desc->weights_mode = QKV_WEIGHTS_SCORES;
  CHECK(as_plain(desc));
  /* Slopes of 0 for each batch, whatever that means. */
  desc->alibi_slopes = view(slopes, QKV_TYPE_F32, kB, 1, 1, 1);
  CHECK(as_plain(desc));
  desc->reserved0 = 1;
  CHECK(qkv_attention(desc, NULL) == QKV_INVALID_VALUE);
}

/* 0.1.0 took a zeroed descriptor: each query sees the key on its diagonal alone. */
static void attends_without_init(void) {
  qkv_attention_desc* desc = at_the_end(sizeof *desc);
  memset(desc, 0, sizeof *desc);
  desc->struct_size = sizeof *desc;
  describe(desc);
  CHECK(qkv_attention(desc, NULL) == QKV_SUCCESS);
  for (int bh = 0; bh < kB * kH; ++bh) {
    for (int i = 0; i < kSq; ++i)
      CHECK(memcmp(o + (bh * kSq + i) * kD, v + (bh * kSkv + i + kSkv - kSq) * kD,
                   kD * sizeof *v) == 0);
  }
  desc->struct_size = sizeof *desc - 1;
  CHECK(qkv_attention(desc, NULL) == QKV_INVALID_STRUCT_SIZE);
}

static void plans(void) {
  static char text[4096];
  qkv_attention_desc* desc = described();
  qkv_query_result* answer = at_the_end(sizeof *answer);
  qkv_plan* plan = NULL;
  size_t bytes = 0, length = 0;
  answer->struct_size = sizeof *answer;
  CHECK(qkv_query(desc, answer) == QKV_SUCCESS);
  CHECK(answer->struct_size == sizeof *answer && answer->supported == 1 && answer->reserved == 0);
  CHECK(strcmp(answer->kernel, "cpu_forward") == 0);
  CHECK(qkv_plan_create(desc, &plan) == QKV_SUCCESS);
  CHECK(qkv_plan_workspace_size(plan, &bytes) == QKV_SUCCESS && bytes == answer->workspace_size);
  CHECK(qkv_plan_print(plan, text, sizeof text, &length) == QKV_SUCCESS && length > 0);
  memset(o, 0x5a, sizeof o);
  CHECK(qkv_plan_run(plan, desc, NULL) == QKV_SUCCESS);
  CHECK(memcmp(o, plain, sizeof o) == 0);
  qkv_plan_destroy(plan);
}

/* One part alone comes out as it is; by a descriptor from _init, and by a zeroed one. */
static void merges(void) {
  static float lse[kB * kH * kSq], merged[kB * kH * kSq * kD];
  const qkv_tensor part = view(plain, QKV_TYPE_F32, kB, kH, kSq, kD);
  const qkv_tensor part_lse = view(lse, QKV_TYPE_F32, kB, kH, kSq, 1);
  for (int zeroed = 0; zeroed < 2; ++zeroed) {
    qkv_merge_desc* desc = at_the_end(sizeof *desc);
    if (zeroed) {
      memset(desc, 0, sizeof *desc);
      desc->struct_size = sizeof *desc;
    } else {
      CHECK(qkv_merge_desc_init(desc, sizeof *desc) == QKV_SUCCESS);
    }
    desc->parts = 1;
    desc->o_parts = &part;
    desc->lse_parts = &part_lse;
    desc->o = view(merged, QKV_TYPE_F32, kB, kH, kSq, kD);
    memset(merged, 0x5a, sizeof merged);
    CHECK(qkv_merge(desc, NULL) == QKV_SUCCESS);
    CHECK(memcmp(merged, plain, sizeof merged) == 0);
  }
}

static void asks_devices(void) {
  qkv_device_facts* facts = at_the_end(sizeof *facts);
  facts->struct_size = sizeof *facts;
  if (qkv_device_count() == 0) {
    CHECK(qkv_device_query(0, facts) == QKV_DEVICE_ERROR_NONE);
  } else {
    CHECK(qkv_device_query(0, facts) == QKV_SUCCESS && facts->sm_count > 0);
    CHECK(facts->struct_size == sizeof *facts);
  }
}

int main(void) {
  for (int n = 0; n < kB * kH * kSq * kD; ++n) q[n] = (float)(n % 5) / 4 - 0.5f;
  for (int n = 0; n < kB * kH * kSkv * kD; ++n) k[n] = (float)(n % 7) / 8, v[n] = (float)(n % 11);
  CHECK(qkv_version() >= QKV_VERSION_MAJOR * 10000 + QKV_VERSION_MINOR * 100 + QKV_VERSION_PATCH);
  attends();
  attends_without_init();
  plans();
  merges();
  asks_devices();
  if (failures == 0) printf("a program of 0.1.0 runs with version %d\n", (int)qkv_version());
  return failures != 0;
}
