#include "async/mbarrier.h"

#include <algorithm>

#include "machine/cta.h"

namespace vgpu {

void MBarriers::show(Cta& cta, u32 offset, const Object& object) const {
  const u64 image = object.image();
  std::memcpy(cta.shared.data() + offset, &image, sizeof image);
  std::memset(cta.shared_defined.data() + offset, 0xff, sizeof image);
}

MBarriers::Object& MBarriers::init(Cta& cta, u32 offset, u32 count) {
  Object& object = objects_[offset] = Object{};
  object.expected = object.pending = count;
  show(cta, offset, object);
  return object;
}

MBarriers::Object* MBarriers::find(const Cta& cta, u32 offset) {
  const auto it = objects_.find(offset);
  if (it == objects_.end()) return nullptr;
  const u64 image = it->second.image();
  return std::memcmp(cta.shared.data() + offset, &image, sizeof image) == 0 ? &it->second : nullptr;
}

void MBarriers::arrive(Cta& cta, u32 offset, Object& object, u32 count) {
  object.pending -= std::min(count, object.pending);
  if (object.pending == 0) {
    object.pending = object.expected;
    ++object.phase;
    std::vector<u32>& all = object.completed;
    if (all.size() < object.arriving.size()) all.resize(object.arriving.size(), 0);
    for (size_t i = 0; i < object.arriving.size(); ++i)
      all[i] = std::max(all[i], object.arriving[i]);
    object.arriving.clear();
  }
  show(cta, offset, object);
}

}  // namespace vgpu
