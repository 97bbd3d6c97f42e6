#include "host/verify/worker.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <exception>
#include <functional>
#include <istream>
#include <mutex>
#include <ostream>
#include <sstream>
#include <thread>
#include <vector>

#include "host/core/status.h"
#include "host/verify/built_problem.h"
#include "host/verify/trials.h"

namespace qkv::verify {
namespace {

// Threads that do what they are given. The destructor waits for all of it.
class Pool {
 public:
  explicit Pool(int threads) {
    for (int n = 0; n < std::max(threads, 1); ++n) threads_.emplace_back([this] { work(); });
  }
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  void add(std::function<void()> task) {
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_one();
  }

 private:
  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return closed_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool closed_ = false;
  std::vector<std::thread> threads_;  // last: they use the members above
};

class Worker {
 public:
  Worker(const WorkerOptions& options, std::ostream& out)
      : options_(options), out_(out), judges_(options.judges) {}

  // Whether the place still works.
  bool try_one(const std::string& name) {
    const auto& trials = all_trials();
    const auto found = std::find_if(trials.begin(), trials.end(),
                                    [&](const Trial& trial) { return trial.name() == name; });
    if (found == trials.end()) {
      say({Answer::Kind::kJudged, name, kInf, "there is no such trial"});
      return true;
    }
    std::function<Judgement()> judge;
    try {
      const std::string other = planned_elsewhere(*found);
      judge = other.empty() ? run_trial(*found, options_.seed) : [other] {
        return Judgement{other, kInf};
      };
    } catch (const std::exception& error) {
      lost_ = {Answer::Kind::kLost, name, 0, error.what()};
      return false;
    }
    say({Answer::Kind::kRan, name, 0, ""});
    judges_.add([this, name, judge = std::move(judge)] { answer(name, judge); });
    return true;
  }

  const Answer& lost() const { return lost_; }

 private:
  // Why the trial would not try the kernel; "" if it does.
  std::string planned_elsewhere(const Trial& trial) const {
    if (options_.kernel.empty() || !trial.kernel(place().device()).empty()) return {};
    const BuiltProblem built(trial.row, {.contents = false});
    const qkv_attention_desc desc = built.desc();
    qkv_query_result result{};
    result.struct_size = sizeof result;
    if (qkv_query(&desc, &result) != QKV_SUCCESS) return qkv_last_error();
    if (result.supported == 0) return host::text("no kernel takes it: ", result.reasons);
    if (options_.kernel == result.kernel) return {};
    return host::text("planned on ", result.kernel, ": ", result.reasons);
  }

  void answer(const std::string& name, const std::function<Judgement()>& judge) {
    Judgement judgement;
    try {
      judgement = judge();
    } catch (const std::exception& error) {
      judgement = {host::text("the oracle failed: ", error.what()), kInf};
    }
    say({Answer::Kind::kJudged, name, judgement.worst, judgement.wrong});
  }

  void say(const Answer& answer) {
    const std::lock_guard lock(mutex_);
    out_ << line_of(answer) << '\n' << std::flush;
  }

  const WorkerOptions& options_;
  std::ostream& out_;
  std::mutex mutex_;
  Answer lost_;
  Pool judges_;  // last: its threads use the members above
};

constexpr const char* kWords[] = {"ran", "judged", "lost"};

}  // namespace

int serve(const WorkerOptions& options, std::istream& in, std::ostream& out) {
  Answer lost;
  {
    Worker worker(options, out);
    for (std::string name; lost.kind == Answer::Kind::kNone && std::getline(in, name);) {
      if (!worker.try_one(name)) lost = worker.lost();
    }
  }
  if (lost.kind == Answer::Kind::kNone) return 0;
  out << line_of(lost) << '\n' << std::flush;  // behind what was still to be judged
  return 1;
}

std::string line_of(const Answer& answer) {
  std::ostringstream line;
  line.precision(17);
  line << kWords[static_cast<int>(answer.kind)] << '\t' << answer.trial << '\t' << answer.worst
       << '\t';
  std::string words = answer.wrong;
  while (!words.empty() && words.back() == '\n') words.pop_back();
  for (const char c : words) line << (c == '\n' ? "; " : c == '\t' ? " " : std::string(1, c));
  return std::move(line).str();
}

Answer parse_answer(const std::string& line) {
  std::istringstream fields(line);
  std::string word, worst;
  Answer answer;
  if (!std::getline(fields, word, '\t') || !std::getline(fields, answer.trial, '\t') ||
      !std::getline(fields, worst, '\t'))
    return {};
  std::getline(fields, answer.wrong);
  const auto found = std::find(std::begin(kWords), std::end(kWords), word);
  if (found == std::end(kWords)) return {};
  answer.kind = static_cast<Answer::Kind>(found - std::begin(kWords));
  answer.worst = std::strtod(worst.c_str(), nullptr);
  return answer;
}

}  // namespace qkv::verify
