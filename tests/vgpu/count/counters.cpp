#include "count/counters.h"

#include <algorithm>
#include <cstdio>

#include "nlohmann/json.hpp"

namespace vgpu {

void PcCount::add(const PcCount& o) {
  warps += o.warps;
  lanes += o.lanes;
  bytes += o.bytes;
  sectors += o.sectors;
  wavefronts += o.wavefronts;
  ideal += o.ideal;
  divergent += o.divergent;
  requests += o.requests;
  moved += o.moved;
  blocked += o.blocked;
}

const char* class_name(InstrClass cls) {
  constexpr const char* kNames[] = {"integer", "float",   "half",    "double", "convert", "move",
                                    "logic",   "compare", "special", "load",   "store",   "atomic",
                                    "control", "barrier", "shuffle", "matrix", "async",   "other"};
  return kNames[static_cast<size_t>(cls)];
}

namespace {

// Shape and types of a wgmma: what stands behind ".aligned.".
std::string wgmma_name(const Instr& in) {
  const std::string_view text = in.text.substr(in.text.find(".aligned.") + 9);
  return std::string(text.substr(0, text.find_first_of(" \t")));
}
// A warp's part: its own sixteen rows of A, a quarter of B; 32 bytes of each row and column.
u64 wgmma_read_bytes(const Instr& in) {
  return (in.vec == 1 ? 0 : 16 * 32) + u64{in.sub} * 8 * 32 / 4;
}

// "fma.rn.ftz.f32" -> "fma.f32"; "mma.sync...f32.bf16.bf16.f32" -> "mma.bf16".
std::string flop_name(const Instr& in) {
  const std::string_view text = in.text;
  const size_t start = text[0] == '@' ? text.find_first_of(" \t") + 1 : 0;
  const size_t begin = text.find_first_not_of(" \t", start);
  const size_t end = text.find_first_of(" \t", begin);
  const std::string_view opcode = text.substr(begin, end - begin);
  std::string base(opcode.substr(0, opcode.find('.')));
  if (base == "wgmma") base = "mma";
  return base + "." + std::string(ptx::type_name(in.type));
}

}  // namespace

LaunchCounts summarize(const Program& program, const std::vector<PcCount>& counts) {
  LaunchCounts out;
  out.kernel = program.kernel;
  std::map<u32, SourceCount> conflicts;
  for (size_t i = 0; i < counts.size(); ++i) {
    const PcCount& c = counts[i];
    const Instr& in = program.code[i];
    if (c.warps == 0) continue;
    out.warp_instructions += c.warps;
    out.lane_instructions += c.lanes;
    out.by_class[static_cast<size_t>(in.cls)] += c.warps;
    if (in.flops != 0)
      out.flops[flop_name(in)] += in.flops * (in.cls == InstrClass::kMatrix ? c.warps : c.lanes);
    if (in.watch == kIsWgmma) {
      out.wgmma[wgmma_name(in)] += c.warps;
      out.tensor_read_bytes += wgmma_read_bytes(in) * c.warps;
    }
    if (in.cls == InstrClass::kSpecial) {
      const std::string name = flop_name(in);
      out.mufu[name.substr(0, name.find('.'))] += c.lanes;
    }
    if (in.cls == InstrClass::kStore || in.cls == InstrClass::kAtomic ||
        (c.requests != 0 && in.text.find("bulk_group") != std::string_view::npos)) {
      out.global_store_bytes += c.bytes;
      out.global_store_sectors += c.sectors;
    } else {
      out.global_load_bytes += c.bytes;
      out.global_load_sectors += c.sectors;
    }
    if (c.requests != 0) {
      const bool store = in.text.find("bulk_group") != std::string_view::npos;
      (store ? out.bulk_store_requests : out.bulk_load_requests) += c.requests;
      (store ? out.bulk_store_bytes : out.bulk_load_bytes) += c.moved;
      if (in.text.find("multicast") != std::string_view::npos) out.bulk_multicast_bytes += c.moved;
    }
    out.blocked_waits += c.blocked;
    out.shared_wavefronts += c.wavefronts;
    out.shared_excess += c.wavefronts - c.ideal;
    if (in.flow == Flow::kBarrier) out.barriers += c.warps;
    if (in.flow == Flow::kBranch || in.flow == Flow::kBranchIndexed) out.branches += c.warps;
    out.divergent_branches += c.divergent;
    if (c.wavefronts > c.ideal) {
      SourceCount& s = conflicts[in.line];
      s.source = program.source_of(in);
      if (s.source.empty()) s.source = "PTX line " + std::to_string(in.line);
      s.text = std::string(in.text);
      s.wavefronts += c.wavefronts;
      s.excess += c.wavefronts - c.ideal;
    }
  }
  for (auto& [name, n] : out.wgmma) n /= 4;  // warps
  for (auto& [line, s] : conflicts) out.conflicts.push_back(std::move(s));
  std::stable_sort(out.conflicts.begin(), out.conflicts.end(),
                   [](const SourceCount& a, const SourceCount& b) { return a.excess > b.excess; });
  return out;
}

std::string to_json(const std::vector<LaunchCounts>& launches) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const LaunchCounts& c : launches) {
    nlohmann::ordered_json j;
    j["kernel"] = c.kernel;
    j["grid"] = c.grid;
    j["block"] = c.block;
    j["warp_instructions"] = c.warp_instructions;
    j["lane_instructions"] = c.lane_instructions;
    for (int i = 0; i < kInstrClasses; ++i)
      j["by_class"][class_name(static_cast<InstrClass>(i))] = c.by_class[static_cast<size_t>(i)];
    j["flops"] = c.flops;
    j["mufu"] = c.mufu;
    j["global"] = {
        {"load_bytes", c.global_load_bytes},        {"load_sectors", c.global_load_sectors},
        {"load_unique_bytes", c.unique_load_bytes}, {"store_bytes", c.global_store_bytes},
        {"store_sectors", c.global_store_sectors},  {"store_unique_bytes", c.unique_store_bytes}};
    nlohmann::ordered_json conflicts = nlohmann::ordered_json::array();
    for (const SourceCount& s : c.conflicts)
      conflicts.push_back({{"source", s.source},
                           {"text", s.text},
                           {"wavefronts", s.wavefronts},
                           {"excess", s.excess}});
    j["shared"] = {{"wavefronts", c.shared_wavefronts},
                   {"conflict_excess", c.shared_excess},
                   {"by_source", conflicts}};
    j["bulk"] = {{"load_requests", c.bulk_load_requests},
                 {"load_bytes", c.bulk_load_bytes},
                 {"multicast_bytes", c.bulk_multicast_bytes},
                 {"store_requests", c.bulk_store_requests},
                 {"store_bytes", c.bulk_store_bytes}};
    j["wgmma"] = c.wgmma;
    j["tensor_read_bytes"] = c.tensor_read_bytes;
    j["blocked_waits"] = c.blocked_waits;
    j["barriers"] = c.barriers;
    j["branches"] = c.branches;
    j["divergent_branches"] = c.divergent_branches;
    list.push_back(std::move(j));
  }
  return list.dump(2) + "\n";
}

std::string to_table(const std::vector<LaunchCounts>& launches) {
  std::string out;
  char line[256];
  std::snprintf(line, sizeof line, "%-40s %12s %12s %12s %12s %12s %10s %10s\n", "kernel",
                "warp instr", "flops", "mufu", "load B", "store B", "smem wf", "conflicts");
  out += line;
  for (const LaunchCounts& c : launches) {
    u64 flops = 0, mufu = 0;
    for (const auto& [name, n] : c.flops) flops += n;
    for (const auto& [name, n] : c.mufu) mufu += n;
    std::snprintf(line, sizeof line, "%-40.40s %12llu %12llu %12llu %12llu %12llu %10llu %10llu\n",
                  c.kernel.c_str(), static_cast<unsigned long long>(c.warp_instructions),
                  static_cast<unsigned long long>(flops), static_cast<unsigned long long>(mufu),
                  static_cast<unsigned long long>(c.global_load_bytes),
                  static_cast<unsigned long long>(c.global_store_bytes),
                  static_cast<unsigned long long>(c.shared_wavefronts),
                  static_cast<unsigned long long>(c.shared_excess));
    out += line;
  }
  return out;
}

}  // namespace vgpu
