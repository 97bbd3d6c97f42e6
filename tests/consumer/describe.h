/* The problem as a descriptor of the C ABI, over defaults that qkv_attention_desc_init wrote. */
#ifndef QKV_TESTS_CONSUMER_DESCRIBE_H_
#define QKV_TESTS_CONSUMER_DESCRIBE_H_

#include <qkv/qkv.h>

#include "problem.h"

/* Contiguous [batch, seq, heads, dim]. */
static qkv_tensor bshd(float* data, int64_t seq, int64_t heads) {
  const qkv_tensor tensor = {
      data, QKV_TYPE_F32, 0, {BATCH, heads, seq, DIM}, {seq * heads * DIM, DIM, heads * DIM, 1}};
  return tensor;
}

static void describe(problem* p, qkv_attention_desc* desc) {
  const qkv_tensor lse = {
      p->lse, QKV_TYPE_F32, 0, {BATCH, HEADS_Q, QUERIES, 1}, {HEADS_Q * QUERIES, QUERIES, 1, 1}};
  desc->q = bshd(p->q, QUERIES, HEADS_Q);
  desc->k = bshd(p->k, KEYS, HEADS_KV);
  desc->v = bshd(p->v, KEYS, HEADS_KV);
  desc->o = bshd(p->o, QUERIES, HEADS_Q);
  desc->lse = lse;
  desc->causal = 1;
  desc->flags = QKV_FLAG_ALLOW_ALLOCATION;
}

#endif
