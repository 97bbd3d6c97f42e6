#include "bench/workload.h"

#include <array>
#include <stdexcept>

namespace qkv::bench {

extern const Family kAttentionFamily, kMergeFamily;

std::span<const Family* const> families() {
  static constexpr std::array kAll{&kAttentionFamily, &kMergeFamily};
  return kAll;
}

std::unique_ptr<Workload> parse_workload(const std::string& line) {
  const std::string word = line.substr(0, line.find(':'));
  std::string known;
  for (const Family* family : families()) {
    if (word == family->word) return family->parse(line);
    known += (known.empty() ? "" : " or ") + std::string(family->word);
  }
  throw std::invalid_argument("problem starts with '" + word + "'; it must start with " + known);
}

}  // namespace qkv::bench
