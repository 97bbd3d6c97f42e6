#include "bench/workload.h"

#include <stdexcept>

namespace qkv::bench {

// A row for each file of ops/, which CMake writes.
#define QKV_FAMILY(name) extern const Family name;
#include "bench/families.inc"
#undef QKV_FAMILY

std::span<const Family* const> families() {
#define QKV_FAMILY(name) &name,
  static constexpr const Family* kAll[] = {
#include "bench/families.inc"
  };
#undef QKV_FAMILY
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
