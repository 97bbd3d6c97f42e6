#include "check/finding.h"

#include <utility>

namespace vgpu {
namespace {

std::string triple(const u32 (&v)[3]) {
  return "(" + std::to_string(v[0]) + "," + std::to_string(v[1]) + "," + std::to_string(v[2]) + ")";
}

}  // namespace

const char* finding_name(FindingKind kind) {
  switch (kind) {
    case FindingKind::kOutOfBounds:
      return "out-of-bounds";
    case FindingKind::kUseAfterFree:
      return "use-after-free";
    case FindingKind::kMisaligned:
      return "misaligned";
    case FindingKind::kUndefinedBranch:
      return "undefined-branch";
    case FindingKind::kUndefinedAddress:
      return "undefined-address";
    case FindingKind::kUndefinedStore:
      return "undefined-store";
    case FindingKind::kSharedRace:
      return "shared-race";
    case FindingKind::kBarrierExited:
      return "barrier-exited";
    case FindingKind::kBarrierMisuse:
      return "barrier-misuse";
    case FindingKind::kDivergence:
      return "divergence";
    case FindingKind::kDeadlock:
      return "deadlock";
    case FindingKind::kSharedLimit:
      return "shared-limit";
    case FindingKind::kThreadLimit:
      return "thread-limit";
    case FindingKind::kTrap:
      return "trap";
    case FindingKind::kProxy:
      return "proxy-fence";
    case FindingKind::kPendingAtExit:
      return "pending-at-exit";
    case FindingKind::kExitedPeer:
      return "exited-peer";
    case FindingKind::kBulkMisuse:
      return "bulk-misuse";
    case FindingKind::kTransaction:
      return "transaction";
    case FindingKind::kWgmmaRegister:
      return "wgmma-register";
    case FindingKind::kWgmmaFence:
      return "wgmma-fence";
    case FindingKind::kWarpgroup:
      return "warpgroup";
    case FindingKind::kRegisterPool:
      return "register-pool";
    case FindingKind::kGridOrder:
      return "grid-order";
    case FindingKind::kGlobalRace:
      return "global-race";
    case FindingKind::kResidency:
      return "residency";
    case FindingKind::kHint:
      return "hint";
  }
  return "unknown";
}

std::string Finding::str() const {
  std::string out = std::string(finding_name(kind)) + ": " + message + "\n    kernel " + kernel +
                    ", cta " + triple(cta) + ", thread " + triple(thread);
  if (line != 0) out += "\n    PTX line " + std::to_string(line) + ": " + text;
  if (!source.empty()) out += "\n    at " + source;
  if (count > 1) out += "\n    " + std::to_string(count) + " times";
  return out;
}

void Findings::add(Finding finding) {
  std::lock_guard lock(mutex_);
  const auto key = std::make_tuple(finding.kind, finding.kernel, finding.line);
  const auto [it, fresh] = index_.try_emplace(key, findings_.size());
  if (!fresh) {
    ++findings_[it->second].count;
    return;
  }
  if (printer_) printer_(finding);
  findings_.push_back(std::move(finding));
}

void Findings::hint(Finding finding) {
  std::lock_guard lock(mutex_);
  const auto key = std::make_tuple(finding.kind, finding.kernel, finding.line);
  if (!index_.try_emplace(key, hints_.size()).second) return;
  if (printer_) printer_(finding);
  hints_.push_back(std::move(finding));
}
std::vector<Finding> Findings::hints() const {
  std::lock_guard lock(mutex_);
  return hints_;
}

std::vector<Finding> Findings::list() const {
  std::lock_guard lock(mutex_);
  return findings_;
}
size_t Findings::size() const {
  std::lock_guard lock(mutex_);
  return findings_.size();
}
void Findings::clear() {
  std::lock_guard lock(mutex_);
  findings_.clear();
  hints_.clear();
  index_.clear();
}

}  // namespace vgpu
