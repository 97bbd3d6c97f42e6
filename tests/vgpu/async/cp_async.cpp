#include "async/cp_async.h"

#include <algorithm>

#include "machine/cta.h"
#include "machine/global_memory.h"
#include "machine/launch.h"

namespace vgpu {

void CpAsync::start(const Cta& cta, u64 seed) {
  threads_.resize(cta.threads);
  for (auto& groups : threads_) groups.clear();
  random_ = Random(seed);
  arrivals_.clear();
  open_ = issued_ = 0;
  policy_ = cta.launch.asynchrony(random_.next());
}

void CpAsync::perform(Cta& cta, Copy& copy) {
  if (copy.done) return;
  copy.done = true;
  u8* to = cta.shared.data() + copy.shared;
  u8* defined = cta.shared_defined.data() + copy.shared;
  // A copy of nothing may come from nowhere.
  if (copy.source_bytes != 0) std::memcpy(to, copy.source, copy.source_bytes);
  std::memset(to + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
  std::memset(defined, 0xff, copy.bytes);
  if (copy.defined == nullptr) return;
  for (u32 i = 0; i < copy.source_bytes; ++i)
    if (!all_set(copy.defined, copy.defined_offset + i, 1)) defined[i] = 0;
}

void CpAsync::issue(Cta& cta, u32 thread, const Copy& copy) {
  auto& groups = threads_[thread];
  if (groups.empty() || groups.back().committed) {
    groups.emplace_back();
    ++open_;
  }
  groups.back().copies.push_back(copy);
  Copy& stored = groups.back().copies.back();
  stored.number = issued_++;
  if (policy_ == Asynchrony::kEarly || (policy_ == Asynchrony::kAny && random_.below(4) == 0))
    perform(cta, stored);
}

void CpAsync::commit(u32 thread) {
  auto& groups = threads_[thread];
  if (groups.empty() || groups.back().committed) {
    groups.emplace_back();  // an empty group counts too
    ++open_;
  }
  groups.back().committed = true;
}

void CpAsync::finish(Cta& cta, u32 thread, Copy& copy) {
  if (copy.finished) return;
  perform(cta, copy);
  cta.race.finish_async(thread, copy.shared, copy.bytes, copy.clock);
  copy.finished = true;
}
void CpAsync::finish(Cta& cta, u32 thread, Group& group) {
  for (Copy& copy : group.copies) finish(cta, thread, copy);
}
void CpAsync::finish(Cta& cta, const Arrival& arrival) {
  auto& groups = threads_[arrival.thread];
  for (Group& group : groups) {
    for (Copy& copy : group.copies)
      if (copy.number < arrival.number) finish(cta, arrival.thread, copy);
    std::erase_if(group.copies, [](const Copy& copy) { return copy.finished; });
  }
  MBarriers::Object* object = cta.mbarriers.find(cta, arrival.barrier);
  if (object == nullptr) return;  // invalidated meanwhile
  --object->deferred;
  cta.race.release_until(arrival.thread, arrival.clock, object->arriving);
  cta.mbarriers.arrive(cta, arrival.barrier, *object, 1);
}

void CpAsync::arrive(Cta& cta, u32 thread, u32 barrier) {
  const Arrival arrival{thread, barrier, cta.race.tick(thread), issued_};
  for (Group& group : threads_[thread])
    for (Copy& copy : group.copies)
      if (copy.clock == 0) copy.clock = arrival.clock;
  ++cta.mbarriers.find(cta, barrier)->deferred;
  if (policy_ == Asynchrony::kEarly) {
    finish(cta, arrival);
  } else {
    arrivals_.push_back(arrival);
  }
}

void CpAsync::poll(Cta& cta, u32 barrier) {
  const MBarriers::Object* object = cta.mbarriers.find(cta, barrier);
  if (object == nullptr || object->deferred == 0) return;
  if (policy_ == Asynchrony::kLate && object->pending != object->deferred) return;
  for (size_t i = 0; i < arrivals_.size();) {
    if (arrivals_[i].barrier == barrier &&
        (policy_ == Asynchrony::kLate || random_.below(2) == 0)) {
      const Arrival arrival = arrivals_[i];
      arrivals_.erase(arrivals_.begin() + static_cast<std::ptrdiff_t>(i));
      finish(cta, arrival);
    } else {
      ++i;
    }
  }
}

void CpAsync::wait_group(Cta& cta, u32 thread, u32 pending) {
  auto& groups = threads_[thread];
  u32 committed = 0;
  for (const Group& group : groups) committed += group.committed ? 1 : 0;
  while (committed > pending) {
    finish(cta, thread, groups.front());
    groups.pop_front();
    --committed;
    --open_;
  }
}

void CpAsync::wait_all(Cta& cta, u32 thread) {
  auto& groups = threads_[thread];
  while (!groups.empty()) {
    finish(cta, thread, groups.front());
    groups.pop_front();
    --open_;
  }
}

void CpAsync::drain(Cta& cta, u32 thread) {
  for (size_t i = 0; i < arrivals_.size();) {
    if (arrivals_[i].thread == thread) {
      const Arrival arrival = arrivals_[i];
      arrivals_.erase(arrivals_.begin() + static_cast<std::ptrdiff_t>(i));
      finish(cta, arrival);
    } else {
      ++i;
    }
  }
  wait_all(cta, thread);
}

void CpAsync::maybe_advance(Cta& cta) {
  if (policy_ != Asynchrony::kAny) return;
  if (!arrivals_.empty() && random_.below(2) == 0) {
    const size_t i = random_.below(static_cast<u32>(arrivals_.size()));
    const Arrival arrival = arrivals_[i];
    arrivals_.erase(arrivals_.begin() + static_cast<std::ptrdiff_t>(i));
    finish(cta, arrival);
  }
  if (open_ == 0) return;
  auto& groups = threads_[random_.below(static_cast<u32>(threads_.size()))];
  if (groups.empty()) return;
  Group& group = groups[random_.below(static_cast<u32>(groups.size()))];
  if (group.copies.empty()) return;
  perform(cta, group.copies[random_.below(static_cast<u32>(group.copies.size()))]);
}

}  // namespace vgpu
