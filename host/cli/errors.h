// How a command fails: each kind of error has its exit code, and main() alone prints it.
#pragma once

#include <stdexcept>

namespace qkv::cli {

enum ExitCode {
  kDone = 0,
  kFailed = 1,    // a correct request that did not work out
  kBadInput = 2,  // wrong usage, or input that cannot be used
};

// Names the field, what it holds and what is allowed.
class BadInput : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace qkv::cli
