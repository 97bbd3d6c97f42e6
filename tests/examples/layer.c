/* A multi-head layer in C: hidden states and weights go in, the products in front of attention and
 * behind it are the layer's. Here every word asks for the word before it: W_q turns a word's own
 * position into the one that W_k gives to its predecessor, and W_v takes the word's value along. */
#include <math.h>
#include <qkv/qkv.h>
#include <stdio.h>

enum { WORDS = 4, WIDTH = WORDS + 1, DIM = WORDS };

/* Contiguous rows as [1, 1, rows, columns]: hidden states, or a weight as [out, in]. */
static qkv_tensor matrix(float* data, int64_t rows, int64_t columns) {
  qkv_tensor t = {data, QKV_TYPE_F32, 0, {1, 1, rows, columns}, {0, 0, columns, 1}};
  return t;
}

int main(void) {
  /* Of each word: where it stands, one of WORDS ones, and a value. */
  float x[WORDS][WIDTH] = {{1, 0, 0, 0, 10}, {0, 1, 0, 0, 20}, {0, 0, 1, 0, 30}, {0, 0, 0, 1, 40}};
  float w_q[DIM][WIDTH] = {{0}}, w_k[DIM][WIDTH] = {{0}};
  float w_v[1][WIDTH] = {{0, 0, 0, 0, 1}}, w_o[1][1] = {{2}}, bias_o[1] = {1};
  float y[WORDS][1];
  for (int n = 0; n < WORDS; ++n) {
    w_k[n][n] = 1;
    if (n > 0) w_q[n - 1][n] = 40; /* word n looks for word n - 1; so surely that all others fade */
  }

  qkv_layer_desc layer;
  qkv_layer_desc_init(&layer, sizeof layer);
  layer.heads_q = 1;
  layer.x_q = matrix(x[0], WORDS, WIDTH);
  layer.w_q = matrix(w_q[0], DIM, WIDTH);
  layer.w_k = matrix(w_k[0], DIM, WIDTH);
  layer.w_v = matrix(w_v[0], 1, WIDTH);
  layer.w_o = matrix(w_o[0], 1, 1);
  layer.bias_o = matrix(bias_o, 1, 1);
  layer.y = matrix(y[0], WORDS, 1);
  layer.flags = QKV_FLAG_ALLOW_ALLOCATION;
  if (qkv_layer(&layer, NULL) != QKV_SUCCESS) {
    fprintf(stderr, "%s\n", qkv_last_error()); /* which field, what it holds, what is allowed */
    return 1;
  }

  /* y = 2 V + 1 of the word before. The first word finds none and gets the mean of all. */
  const float expected[WORDS] = {2 * 25 + 1, 2 * 10 + 1, 2 * 20 + 1, 2 * 30 + 1};
  int wrong = 0;
  for (int n = 0; n < WORDS; ++n) {
    printf("word %d: value %.0f, y %.3f\n", n, x[n][WORDS], y[n][0]);
    wrong += fabsf(y[n][0] - expected[n]) > 1e-3f;
  }
  return wrong;
}
