// What the virtual GPU counts of the launches of a case's contract test.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "host/verify/cases.h"
#include "tests/support/elements.h"

namespace qkv::test {

// With the same inputs each time: a series of tanh reads more of some. One object a launch, on an
// A100 as `options` of vgpu-run change it; null where the test fails.
nlohmann::json counted_launches(const Case& row, const std::string& options = "");

}  // namespace qkv::test
