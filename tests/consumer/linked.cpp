// A C++20 program that links libqkv and includes qkv.hpp.
#include <qkv/qkv.hpp>

#include "problem.h"

int main() {
  static problem p;
  fill_problem(&p);
  try {
    qkv::attention({.q = qkv::bshd(p.q, BATCH, QUERIES, HEADS_Q, DIM),
                    .k = qkv::bshd(p.k, BATCH, KEYS, HEADS_KV, DIM),
                    .v = qkv::bshd(p.v, BATCH, KEYS, HEADS_KV, DIM),
                    .o = qkv::bshd(p.o, BATCH, QUERIES, HEADS_Q, DIM),
                    .lse = qkv::bhsd(p.lse, BATCH, HEADS_Q, QUERIES, 1),
                    .causal = true});
  } catch (const qkv::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return judge("C++, linked", &p);
}
