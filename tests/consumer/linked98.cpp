// A C++98 program that links libqkv and includes qkv.h alone.
#include <qkv/qkv.h>

#include <cstdio>

#if __cplusplus >= 201103L
#error "compiled as another C++ than the program asked for"
#endif

int main() {
  float q[2] = {0, 0}, k[4] = {1, 2, 3, 4}, v[4] = {1, 2, 3, 4}, o[2] = {0, 0};
  qkv_attention_desc d;
  if (qkv_attention_desc_init(&d, sizeof d) != QKV_SUCCESS) return 1;
  const qkv_tensor one = {q, QKV_TYPE_F32, 0, {1, 1, 1, 2}, {2, 2, 2, 1}};
  const qkv_tensor two = {k, QKV_TYPE_F32, 0, {1, 1, 2, 2}, {4, 4, 2, 1}};
  d.q = d.o = one;
  d.k = d.v = two;
  d.v.data = v;
  d.o.data = o;
  d.flags = QKV_FLAG_ALLOW_ALLOCATION;
  if (qkv_attention(&d, NULL) != QKV_SUCCESS) {
    std::fprintf(stderr, "%s\n", qkv_last_error());
    return 1;
  }
  std::printf("C++98, linked: the mean of 1 and 3 is %g\n", o[0]);
  return o[0] == 2 && o[1] == 3 ? 0 : 1;
}
