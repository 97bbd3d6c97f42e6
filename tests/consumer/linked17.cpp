// A C++17 program that links libqkv and includes qkv.hpp.
#include <qkv/qkv.hpp>

#include "problem.h"

#if __cplusplus != 201703L
#error "compiled as another C++ than the program asked for"
#endif

int main() {
  static problem p;
  fill_problem(&p);
  try {
    qkv::Attention a;
    a.q = qkv::bshd(p.q, BATCH, QUERIES, HEADS_Q, DIM);
    a.k = qkv::bshd(p.k, BATCH, KEYS, HEADS_KV, DIM);
    a.v = qkv::bshd(p.v, BATCH, KEYS, HEADS_KV, DIM);
    a.o = qkv::bshd(p.o, BATCH, QUERIES, HEADS_Q, DIM);
    a.lse = qkv::bhsd(p.lse, BATCH, HEADS_Q, QUERIES, 1);
    a.causal = true;
    qkv::attention(a);
  } catch (const qkv::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return judge("C++17, linked", &p);
}
