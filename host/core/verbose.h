// QKV_VERBOSE: what the library does, on stderr, for who asks for it. A list of words:
//   error     calls that failed on the device, for want of memory or by a defect of qkv
//   check     calls that were refused, with the reason
//   dispatch  for each new plan: the kernel, and why the ones before it declined
//   exec      for each run: the kernel, the problem and its time (CUDA: the time to queue it)
//   repro     for each new plan: the line that replays the problem in the benchmark program
//   all       all of these
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "host/core/plan.h"

namespace qkv::host {

enum Verbose : uint32_t {
  kVerboseError = 1,
  kVerboseCheck = 2,
  kVerboseDispatch = 4,
  kVerboseExec = 8,
  kVerboseRepro = 16
};

namespace verbose_detail {
inline constexpr uint32_t kUnread = 1u << 31;
extern std::atomic<uint32_t> words;
uint32_t read_environment();
}  // namespace verbose_detail

// Costs a load and a comparison when off.
inline bool verbose(uint32_t any_of) {
  const uint32_t words = verbose_detail::words.load(std::memory_order_relaxed);
  if (words == 0) [[likely]]
    return false;
  return ((words == verbose_detail::kUnread ? verbose_detail::read_environment() : words) &
          any_of) != 0;
}

void log_failure(const Status& status);                                    // error or check
void log_plan(const Op& op, const Plan& plan, const AnyProblem& problem);  // dispatch, repro
void log_unknown_kernels(const std::vector<std::string>& names);  // of QKV_DISABLE; any word
void log_run(const std::string& kernel, const std::string& problem, double microseconds);

// A number as such lines have it.
std::string number(double x);

// For tests: a list as QKV_VERBOSE has it, and where lines go instead of stderr (null:
// stderr).
void set_verbose_for_test(const std::string& list, void (*to)(const std::string& line));

}  // namespace qkv::host
