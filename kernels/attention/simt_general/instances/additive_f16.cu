#include "kernels/attention/simt_general/launch.cuh"

namespace qkv::kernels {

template int prepare_simt_general_instance<Type::kF16, Score::kAdditive, Selection::kSoft>();
template int launch_simt_general_instance<Type::kF16, Score::kAdditive, Selection::kSoft>(
    const ForwardArgs&, const TopKArgs&, void*);
template int prepare_simt_general_instance<Type::kF16, Score::kAdditive, Selection::kHard>();
template int launch_simt_general_instance<Type::kF16, Score::kAdditive, Selection::kHard>(
    const ForwardArgs&, const TopKArgs&, void*);
template int prepare_simt_general_instance<Type::kF16, Score::kAdditive, Selection::kTopK>();
template int launch_simt_general_instance<Type::kF16, Score::kAdditive, Selection::kTopK>(
    const ForwardArgs&, const TopKArgs&, void*);

}  // namespace qkv::kernels
