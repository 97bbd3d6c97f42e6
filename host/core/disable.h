// QKV_DISABLE: kernels that no plan takes, by their names, separated by commas.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qkv::host {

struct Disabled {
  std::vector<std::string> kernels;  // of those that this build has
  std::vector<std::string> unknown;  // names that are no kernel's

  bool has(std::string_view kernel) const;
};

// As the environment had it at the first call. The object lives for ever, and another list is
// another object: its address says in plan keys which list a plan was made under.
const Disabled& disabled();

// For tests: puts a list as QKV_DISABLE has it in force.
void set_disabled_for_test(const std::string& list);

}  // namespace qkv::host
