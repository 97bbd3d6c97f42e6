#include "kernels/attention/simt_general/launch.cuh"

namespace qkv::kernels {

template int prepare_simt_general_instance<Type::kF16, Score::kDot, Selection::kSoft>();
template int launch_simt_general_instance<Type::kF16, Score::kDot, Selection::kSoft>(
    const ForwardArgs&, void*);
template int prepare_simt_general_instance<Type::kF16, Score::kDot, Selection::kHard>();
template int launch_simt_general_instance<Type::kF16, Score::kDot, Selection::kHard>(
    const ForwardArgs&, void*);

}  // namespace qkv::kernels
