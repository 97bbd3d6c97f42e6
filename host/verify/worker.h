// A worker of `qkv verify`: a process that tries one kernel, so that what ends it ends no other.
// README.md has the lines that it reads and writes.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>

namespace qkv::verify {

struct WorkerOptions {
  std::string kernel;  // that problems must be planned on; "": any
  uint64_t seed = 0;
  int judges = 1;  // threads that compare results with the oracle
};

// Tries what `in` names, on place(), until its end. Returns the process's exit code: 1 where the
// place failed.
int serve(const WorkerOptions& options, std::istream& in, std::ostream& out);

// What a worker says of a trial.
struct Answer {
  enum class Kind {
    kRan,     // the device is done with it
    kJudged,  // the verdict
    kLost,    // the place failed; the worker ends
    kNone,    // not a line of a worker
  };
  Kind kind = Kind::kNone;
  std::string trial;
  double worst = 0;   // of kJudged
  std::string wrong;  // of kJudged: "" if it passed; of kLost
};

std::string line_of(const Answer& answer);
Answer parse_answer(const std::string& line);

}  // namespace qkv::verify
