// For tests: what host/verify/ has (cases, their memory, the tolerance), as GoogleTest's assertions
// want it, and what the environment says about this process.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "host/verify/built_problem.h"
#include "host/verify/cases.h"
#include "host/verify/tolerance.h"
#include "tests/support/elements.h"

namespace qkv::test {

// The seed of this process: QKV_TEST_SEED, or a fresh one.
uint64_t test_seed();

// How often a case runs again, each time with another fill of unused slots: QKV_TEST_REPEATS, for
// slow devices, else 4, once with each.
uint64_t test_repeats();

// Why the case is left to other runs: QKV_TEST_KERNELS names, separated by commas, the kernels
// whose cases run in this one, and the plan has another. "" if the case runs.
std::string left_out(const Case& row);

// Why the place computes no projections: a real device without cuBLASLt, which qkv does not ship;
// the virtual GPU has its own. "" if it does.
std::string missing_cublaslt();

// A line that runs the current test again with the same inputs.
std::string replay(const Case& row);

// All outputs that are present in `got` against the oracle; the message has the element, its values
// and a line to run the test again.
testing::AssertionResult accepted(const Tolerance& tolerance, const BuiltProblem& got);
testing::AssertionResult accepted(const BuiltProblem& got);

}  // namespace qkv::test
