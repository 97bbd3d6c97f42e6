#include "kernels/attention/simt_general/launch.h"

namespace qkv::kernels {

int prepare_simt_general(const SimtGeneralChoice& choice) {
#define QKV_SIMT_GENERAL(kType, kScore, kSelection)                        \
  if (choice.type == Type::k##kType && choice.score == Score::k##kScore && \
      choice.selection == Selection::k##kSelection)                        \
    return prepare_simt_general_instance<Type::k##kType, Score::k##kScore, \
                                         Selection::k##kSelection>();
#include "kernels/attention/simt_general/instances.inc"
  return 1;
}

int launch_simt_general(const SimtGeneralChoice& choice, const ForwardArgs& args,
                        const TopKArgs& top, void* stream) {
#define QKV_SIMT_GENERAL(kType, kScore, kSelection)                        \
  if (choice.type == Type::k##kType && choice.score == Score::k##kScore && \
      choice.selection == Selection::k##kSelection)                        \
    return launch_simt_general_instance<Type::k##kType, Score::k##kScore,  \
                                        Selection::k##kSelection>(args, top, stream);
#include "kernels/attention/simt_general/instances.inc"
  return 1;
}

}  // namespace qkv::kernels
