// Calls that must fail: what is broken, the status, what the message must say. One row for each
// refusal in the library.
#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "host/core/status.h"
#include "qkv/qkv.h"

namespace qkv::test {

// What a failed call said: through the C ABI, or inside of the library.
struct Outcome {
  Outcome(qkv_status of_abi) : status(of_abi), message(qkv_last_error()) {}  // NOLINT: implicit
  Outcome(const host::Status& internal)                                      // NOLINT: implicit
      : status(internal.code()), message(internal.reason()) {}

  qkv_status status;
  std::string message;
};

struct Refusal {
  std::string name;
  qkv_status status;
  std::vector<std::string> says;  // parts of the message: the field, what it holds, what is allowed
  std::function<Outcome()> call;

  friend std::ostream& operator<<(std::ostream& out, const Refusal& row) { return out << row.name; }
};

// Descriptors that qkv_attention, qkv_plan_create and qkv_query refuse alike.
std::vector<Refusal> descriptor_refusals();
// Arguments of the other functions, workspaces, lengths, plans that do not fit.
std::vector<Refusal> call_refusals();
// Devices: mixed, ambiguous, missing, failing.
std::vector<Refusal> device_refusals();

}  // namespace qkv::test
