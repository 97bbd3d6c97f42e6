// What the machine has to say about a kernel: collected once per kind, kernel and PTX line.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "common/types.h"

namespace vgpu {

enum class FindingKind : u8 {
  kOutOfBounds,
  kUseAfterFree,
  kMisaligned,
  kUndefinedBranch,
  kUndefinedAddress,
  kUndefinedStore,
  kSharedRace,
  kBarrierExited,
  kBarrierMisuse,
  kDivergence,
  kDeadlock,
  kSharedLimit,
  kThreadLimit,
  kTrap,
  kProxy,
  kPendingAtExit,
  kExitedPeer,
  kBulkMisuse,
  kTransaction,
  kWgmmaRegister,
  kWgmmaFence,
  kWarpgroup,
  kRegisterPool,
  kGridOrder,
  kGlobalRace,
  kResidency,
  kHint,
};
const char* finding_name(FindingKind kind);

struct Finding {
  FindingKind kind;
  std::string kernel;
  u32 cta[3] = {0, 0, 0};
  u32 thread[3] = {0, 0, 0};
  u32 line = 0;        // of the PTX text
  std::string text;    // the PTX statement
  std::string source;  // file:line, empty without -lineinfo
  std::string message;
  u64 count = 1;

  std::string str() const;
};

class Findings {
 public:
  // Adds, or counts one more of the same kind, kernel and line. Prints a new one at once when
  // a printer is set.
  void add(Finding finding);
  std::vector<Finding> list() const;
  size_t size() const;
  // Something that looks like a mistake and need not be one: printed, but no finding.
  void hint(Finding finding);
  std::vector<Finding> hints() const;
  void clear();
  void set_printer(std::function<void(const Finding&)> printer) { printer_ = std::move(printer); }

 private:
  mutable std::mutex mutex_;
  std::vector<Finding> findings_, hints_;
  std::map<std::tuple<FindingKind, std::string, u32>, size_t> index_;
  std::function<void(const Finding&)> printer_;
};

}  // namespace vgpu
