#include "machine/launch.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <numeric>
#include <thread>

#include "common/error.h"
#include "machine/cluster.h"

namespace vgpu {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
constexpr u64 kSlice = 20000;  // warp instructions before a CTA lets others run

}  // namespace

Launch::Launch(Machine& m, const Program& p, const LaunchConfig& c, std::vector<u8> param_bytes)
    : machine(m), program(p), config(c) {
  threads = c.block[0] * c.block[1] * c.block[2];
  clusters =
      u64{c.grid[0] / c.cluster[0]} * (c.grid[1] / c.cluster[1]) * (c.grid[2] / c.cluster[2]);
  grid_id = ++m.launch_index;
  seed = Random(m.seed * 0x100000001b3ull + grid_id).next();
  params = m.memory.allocate(std::max<u64>(param_bytes.size(), 1), Allocation::Kind::kModule, 0);
  std::copy(param_bytes.begin(), param_bytes.end(), params->host);
  params->read_only = true;
  params->name = "parameters of " + p.kernel;
  m.memory.set_defined(*params, params->base, param_bytes.size());
  if (p.uses_grid_workspace) {
    Allocation* a = m.memory.allocate(64, Allocation::Kind::kModule, 0);
    std::memset(a->host, 0, a->size);
    m.memory.set_defined(*a, a->base, a->size);
    workspace = a->base;
  }
  counts_.resize(p.code.size());
  deadline = now() + m.timeout_s;
}

Launch::~Launch() {
  machine.memory.release(params->base);
  if (workspace != 0) machine.memory.release(workspace);
}

bool Launch::expired() const { return now() > deadline; }

// Clusters start in an order that the seed chooses: forward, backward, or in strides.
u64 Launch::cluster_at(u64 position) const {
  switch (seed % 3) {
    case 0:
      return position;
    case 1:
      return clusters - 1 - position;
    default: {
      u64 stride = 2 + seed / 3 % 61;
      while (std::gcd(stride, clusters) != 1) ++stride;
      return position * stride % clusters;
    }
  }
}

void Launch::merge(const std::vector<PcCount>& counts) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < counts.size(); ++i) counts_[i].add(counts[i]);
}

void Launch::touch(u32 mask, const u64 (&address)[kLanes], u32 bytes, bool write) {
  std::lock_guard lock(mutex_);
  const Allocation* a = nullptr;
  std::vector<u64>* map = nullptr;
  for_each_lane(mask, [&](int l) {
    if (a == nullptr || !a->contains(address[l], bytes)) {
      a = machine.memory.find(address[l]);
      if (a == nullptr) return;
      map = &touched_[write ? 1 : 0][a->base];
      if (map->empty()) map->resize(a->size / 64 + 2);
    }
    for (u64 i = address[l] - a->base; i < address[l] - a->base + bytes; ++i)
      (*map)[i / 64] |= u64{1} << (i % 64);
  });
}

void Launch::touch(const Allocation& a, u64 offset, u32 bytes, bool write) {
  std::lock_guard lock(mutex_);
  std::vector<u64>& map = touched_[write ? 1 : 0][a.base];
  if (map.empty()) map.resize(a.size / 64 + 2);
  for (u64 i = offset; i < offset + bytes; ++i) map[i / 64] |= u64{1} << (i % 64);
}

const UnfinishedGrid* Launch::unfinished_writer(const Allocation& a, u64 offset, u32 bytes) const {
  for (const auto& grid : config.unfinished) {
    const auto it = grid->written.find(a.base);
    if (it == grid->written.end()) continue;
    for (u64 i = offset; i < offset + bytes; ++i)
      if ((it->second[i / 64] >> (i % 64) & 1) != 0) return grid.get();
  }
  return nullptr;
}

UnfinishedGrids Launch::unfinished() const {
  UnfinishedGrids out;
  if (!has_waited_) out = config.unfinished;
  if (launched_dependents_)
    out.push_back(std::make_shared<UnfinishedGrid>(UnfinishedGrid{program.kernel, touched_[1]}));
  return out;
}

u64 Launch::touched_bytes(bool write) const {
  u64 sum = 0;
  for (const auto& [base, map] : touched_[write ? 1 : 0])
    for (u64 word : map) sum += static_cast<u64>(std::popcount(word));
  return sum;
}

void Launch::run() {
  if (program.needs_order || config.cooperative) {
    run_ordered();
  } else {
    run_parallel();
  }
  if (machine.count) {
    LaunchCounts c = summarize(program, counts_);
    std::copy(std::begin(config.grid), std::end(config.grid), c.grid);
    std::copy(std::begin(config.block), std::end(config.block), c.block);
    c.unique_load_bytes = touched_bytes(false);
    c.unique_store_bytes = touched_bytes(true);
    machine.launches.push_back(std::move(c));
  }
}

void Launch::run_parallel() {
  std::atomic<u64> next{0};
  std::exception_ptr failure;
  std::atomic<bool> stop{false};
  const auto work = [&] {
    std::vector<PcCount> counts(program.code.size());
    try {
      Cluster cluster(*this, counts);
      for (;;) {
        const u64 position = next.fetch_add(1);
        if (position >= clusters || stop) break;
        cluster.start(cluster_at(position));
        for (;;) {
          const Cta::Status status = cluster.run(kSlice);
          if (status == Cta::Status::kDone || stop) break;
          if (status == Cta::Status::kBlocked) cluster.resolve_block(true);
          if (expired()) throw Fault(kFaultLaunchTimeout, program.kernel + " ran out of time");
        }
      }
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!failure) failure = std::current_exception();
      stop = true;
    }
    merge(counts);
  };
  const u64 workers = std::min<u64>(machine.cores, clusters);
  races.start(machine.memory.race_table(), static_cast<u32>(grid_id), program.global_granule,
              workers > 1);
  std::vector<std::thread> pool;
  for (u64 i = 1; i < workers; ++i) pool.emplace_back(work);
  work();
  for (std::thread& t : pool) t.join();
  if (failure) std::rethrow_exception(failure);
}

u64 Launch::capacity() const {
  const u64 ctas = config.cluster[0] * config.cluster[1] * config.cluster[2];
  const u64 per_sm = blocks_per_sm(machine.device, threads, program.registers,
                                   program.static_shared + config.dynamic_shared);
  return std::max<u64>(1, std::max<u64>(1, per_sm) * static_cast<u32>(machine.device.sms) / ctas);
}

bool Launch::started_after(u32 cluster, u32 count) const {
  return cluster < starts_.size() && starts_[cluster] > count && clusters > capacity();
}

std::string Launch::residency() const {
  return std::to_string(clusters) + (config.clustered ? " clusters" : " CTAs") +
         " in the grid, and the device holds " + std::to_string(capacity());
}

void Launch::start_cluster(Cluster& cluster, u64 position) {
  const u64 index = clusters > capacity() ? position : cluster_at(position);
  starts_[index] = ++started_;
  cluster.start(index);
}

void Launch::stuck(Cluster& cluster) {
  cluster.report_spin(started_ < clusters ? FindingKind::kResidency : FindingKind::kDeadlock,
                      started_ < clusters
                          ? "all CTAs that run wait for global memory to change, and " +
                                std::to_string(clusters - started_) +
                                " have not started: " + residency()
                          : "all CTAs wait for global memory to change");
}

void Launch::run_ordered() {
  std::vector<PcCount> counts(program.code.size());
  const u64 most = config.cooperative ? clusters : std::min(clusters, capacity());
  u64 resident =
      config.cooperative
          ? clusters
          : std::min<u64>(most, std::max<u64>(1, static_cast<u32>(machine.device.sms) /
                                                     (config.cluster[0] * config.cluster[1] *
                                                      config.cluster[2])));
  std::vector<std::unique_ptr<Cluster>> running, idle;
  starts_.assign(clusters, 0);
  races.start(machine.memory.race_table(), static_cast<u32>(grid_id), program.global_granule,
              false);
  u64 position = 0;
  Random random(seed);
  // Turns in which nothing happened but that clusters waited for others. When that is so for long,
  // they wait for a cluster that has not started, or for ever.
  constexpr u64 kQuietTurns = 20;
  u64 quiet = 0;
  try {
    while (position < clusters || !running.empty()) {
      // A cluster starts when the ones before it have had their turn, up to what is resident.
      bool fresh = false;
      if (position < clusters && running.size() < resident) {
        if (idle.empty()) {
          idle.push_back(std::make_unique<Cluster>(*this, counts));
        }
        start_cluster(*idle.back(), position++);
        running.push_back(std::move(idle.back()));
        idle.pop_back();
        fresh = clusters > capacity();
        quiet = 0;
      }
      // Where not all fit, each has its first turn at once: who waits has begun to, then.
      const size_t i = fresh ? running.size() - 1 : random.below(static_cast<u32>(running.size()));
      // Some turns are short, so that CTAs meet in the midst of what they do one after the other.
      const bool brief = !fresh && quiet == 0 && random.below(2) == 0;
      const u64 turn =
          brief ? 8 + random.below(32) : 200 + random.below(quiet == 0 ? kSlice : kSlice / 40);
      const Cta::Status status = running[i]->run(turn);
      if (status == Cta::Status::kBlocked) running[i]->resolve_block(running.size() == 1);
      quiet = status != Cta::Status::kDone && running[i]->only_waited() ? quiet + 1 : 0;
      if (status == Cta::Status::kDone) {
        idle.push_back(std::move(running[i]));
        running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
      } else if (quiet > kQuietTurns * running.size()) {
        if (position >= clusters || running.size() >= most) stuck(*running[i]);
        resident = std::max<u64>(resident, running.size() + 1);
        quiet = 0;
      }
      if (expired()) throw Fault(kFaultLaunchTimeout, program.kernel + " ran out of time");
    }
  } catch (...) {
    merge(counts);
    throw;
  }
  merge(counts);
}

}  // namespace vgpu
