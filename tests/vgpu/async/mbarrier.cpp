#include "async/mbarrier.h"

#include <algorithm>

#include "machine/cluster.h"
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

void MBarriers::complete_phase(Cta& cta, u32 offset, Object& object) {
  object.pending = object.expected;
  ++object.phase;
  object.completed.join(object.arriving);
  object.arriving.clear();
  cta.wake_waiting(offset);
}

void MBarriers::arrive(Cta& cta, u32 offset, Object& object, u32 count) {
  object.pending -= std::min(count, object.pending);
  ++cta.cluster.events;
  if (object.pending == 0 && object.transactions == 0) complete_phase(cta, offset, object);
  show(cta, offset, object);
}

void MBarriers::transact(Cta& cta, u32 offset, Object& object, i64 bytes) {
  object.transactions += bytes;
  ++cta.cluster.events;
  if (object.pending == 0 && object.transactions == 0) complete_phase(cta, offset, object);
  show(cta, offset, object);
}

void MBarriers::fence_init(u32 thread) {
  for (auto& [offset, object] : objects_)
    if (object.init_thread == thread) object.shown = true;
}

std::string MBarriers::describe(u32 offset) const {
  char place[32];
  std::snprintf(place, sizeof place, "mbarrier 0x%x", offset + Cta::kSharedBase);
  const auto it = objects_.find(offset);
  if (it == objects_.end()) return place + std::string(", which is no longer initialised");
  const Object& o = it->second;
  std::string out = place + std::string(", phase ") + std::to_string(o.phase) + ": " +
                    std::to_string(o.pending) + " of " + std::to_string(o.expected) + " arrivals";
  if (o.transactions > 0) out += " and " + std::to_string(o.transactions) + " bytes";
  out += " missing";
  if (o.transactions < 0)
    out += ", " + std::to_string(-o.transactions) + " bytes came that none expected";
  return out;
}

}  // namespace vgpu
