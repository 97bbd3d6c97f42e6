/* A small attention problem with its answer, computed here from the formula: what each consumer
 * compares with. */
#ifndef QKV_TESTS_CONSUMER_PROBLEM_H_
#define QKV_TESTS_CONSUMER_PROBLEM_H_

#include <math.h>
#include <stdint.h>
#include <stdio.h>

/* Grouped queries: heads 2h and 2h + 1 of Q read head h of K and V. Causal, bottom-right: query i
 * sees keys up to i + KEYS - QUERIES. */
enum { BATCH = 2, HEADS_Q = 4, HEADS_KV = 2, QUERIES = 5, KEYS = 9, DIM = 16 };
enum { Q_SIZE = BATCH * QUERIES * HEADS_Q * DIM, KV_SIZE = BATCH * KEYS * HEADS_KV * DIM };

typedef struct problem {
  float q[Q_SIZE];  /* [batch, seq, heads, dim] */
  float k[KV_SIZE]; /* [batch, seq, heads, dim] */
  float v[KV_SIZE];
  float o[Q_SIZE];
  float lse[BATCH * HEADS_Q * QUERIES]; /* [batch, heads, seq] */
} problem;

static void fill_problem(problem* p) {
  uint32_t state = 1;
  float* const tensors[3] = {p->q, p->k, p->v};
  const int sizes[3] = {Q_SIZE, KV_SIZE, KV_SIZE};
  for (int t = 0; t < 3; ++t) {
    for (int n = 0; n < sizes[t]; ++n) {
      state = state * 1664525u + 1013904223u;
      tensors[t][n] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
  }
  for (int n = 0; n < Q_SIZE; ++n) p->o[n] = NAN;
  for (int n = 0; n < BATCH * HEADS_Q * QUERIES; ++n) p->lse[n] = NAN;
}

/* The largest difference from the formula; infinite if something is no number. */
static double largest_error(const problem* p) {
  double worst = 0;
  for (int b = 0; b < BATCH; ++b) {
    for (int h = 0; h < HEADS_Q; ++h) {
      for (int i = 0; i < QUERIES; ++i) {
        const int visible = i + KEYS - QUERIES + 1;
        const int g = h / (HEADS_Q / HEADS_KV);
        const int row = ((b * QUERIES + i) * HEADS_Q + h) * DIM;
        double sum = 0, mix[DIM] = {0}, error;
        for (int j = 0; j < visible; ++j) {
          const int key = ((b * KEYS + j) * HEADS_KV + g) * DIM;
          double score = 0;
          for (int d = 0; d < DIM; ++d) score += (double)p->q[row + d] * (double)p->k[key + d];
          score = exp(score / sqrt((double)DIM));
          sum += score;
          for (int d = 0; d < DIM; ++d) mix[d] += score * (double)p->v[key + d];
        }
        error = fabs((double)p->lse[(b * HEADS_Q + h) * QUERIES + i] - log(sum));
        if (!(error <= worst)) worst = isnan(error) ? INFINITY : error;
        for (int d = 0; d < DIM; ++d) {
          error = fabs((double)p->o[row + d] - mix[d] / sum);
          if (!(error <= worst)) worst = isnan(error) ? INFINITY : error;
        }
      }
    }
  }
  return worst;
}

/* The exit status of a consumer. */
static int judge(const char* consumer, const problem* p) {
  const double error = largest_error(p);
  printf("%s: largest difference from the formula %.1e\n", consumer, error);
  return error < 2e-6 ? 0 : 1;
}

#endif
