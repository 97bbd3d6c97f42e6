// What a result file says of the machine and the build.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace qkv::bench {

using Facts = std::vector<std::pair<std::string, std::string>>;

// CPU model, cores, threads, memory, compiler, build type, git id, library version.
Facts machine_facts();

// The value of a key, "" if there is none.
std::string fact(const Facts& facts, const std::string& key);

}  // namespace qkv::bench
