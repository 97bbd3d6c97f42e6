#include "machine/ops/ops.h"

#include <algorithm>

namespace vgpu::ops {

Rounding take_rounding(Modifiers& m, Rounding fallback) {
  switch (m.take_one({"rn", "rz", "rm", "rp", "rna"})) {
    case 0:
      return Rounding::kNearestEven;
    case 1:
      return Rounding::kZero;
    case 2:
      return Rounding::kDown;
    case 3:
      return Rounding::kUp;
    case 4:
      return Rounding::kNearestAway;
    default:
      return fallback;
  }
}

void require_operands(Decoder& dec, const ptx::Statement& st, size_t count) {
  if (st.operands.size() != count)
    dec.fail(std::to_string(count) + " operands expected, " + std::to_string(st.operands.size()) +
             " found");
}

void decode_operands(Decoder& dec, const ptx::Statement& st, Instr& in, ptx::Type dst,
                     std::initializer_list<ptx::Type> sources) {
  require_operands(dec, st, sources.size() + 1);
  in.dst = dec.dest(st.operands[0], std::max(1, ptx::type_bytes(dst)));
  Operand* slots[] = {&in.a, &in.b, &in.c, &in.d};
  size_t i = 0;
  for (ptx::Type t : sources) {
    *slots[i] = t == ptx::Type::kPred ? dec.predicate(st.operands[i + 1])
                                      : dec.source(st.operands[i + 1], t);
    ++i;
  }
}

void register_all(OpcodeMap& t) {
  register_integer(t);
  register_bits(t);
  register_float(t);
  register_special(t);
  register_half(t);
  register_compare(t);
  register_convert(t);
  register_move(t);
  register_memory(t);
  register_atomic(t);
  register_control(t);
  register_collective(t);
  register_matrix(t);
  register_async(t);
  register_mbarrier(t);
  register_cluster(t);
  register_tensormap(t);
  register_video(t);
  register_wgmma(t);
  register_warpgroup(t);
}

}  // namespace vgpu::ops
