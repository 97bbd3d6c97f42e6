#include "kernels/attention/simt_general/launch.cuh"

namespace qkv::kernels {

template int prepare_simt_general_instance<Type::kF32, Score::kDot, Selection::kSoft>();
template int launch_simt_general_instance<Type::kF32, Score::kDot, Selection::kSoft>(
    const ForwardArgs&, const TopKArgs&, void*);
template int prepare_simt_general_instance<Type::kF32, Score::kDot, Selection::kHard>();
template int launch_simt_general_instance<Type::kF32, Score::kDot, Selection::kHard>(
    const ForwardArgs&, const TopKArgs&, void*);
template int prepare_simt_general_instance<Type::kF32, Score::kDot, Selection::kTopK>();
template int launch_simt_general_instance<Type::kF32, Score::kDot, Selection::kTopK>(
    const ForwardArgs&, const TopKArgs&, void*);

}  // namespace qkv::kernels
