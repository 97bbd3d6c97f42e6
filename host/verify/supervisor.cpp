#include "host/verify/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <deque>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "host/core/status.h"
#include "host/verify/elements.h"
#include "host/verify/worker.h"

namespace qkv::verify {
namespace {

constexpr double kLeastCost = 1 << 18;  // multiply-adds: two heads of 37 queries and keys are more

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

[[noreturn]] void fail(const char* what) {
  throw std::runtime_error(host::text(what, ": ", std::strerror(errno)));
}

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd() { close(); }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  Fd& operator=(Fd&&) = delete;

  int get() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

std::pair<Fd, Fd> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
  return {Fd(ends[0]), Fd(ends[1])};
}

std::vector<char*> pointers(std::vector<std::string>* texts) {
  std::vector<char*> out;
  for (std::string& text : *texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

// This process's environment with other values of the variables that `changes` sets.
std::vector<std::string> environment_with(const std::vector<std::string>& changes) {
  std::vector<std::string> out = changes;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string variable = *at;
    const std::string name = variable.substr(0, variable.find('=') + 1);
    const bool changed =
        std::any_of(changes.begin(), changes.end(),
                    [&](const std::string& change) { return change.starts_with(name); });
    if (!changed) out.push_back(variable);
  }
  return out;
}

std::string ended_text(const std::optional<int>& status) {
  if (!status) return "its process said no more and did not end";
  if (!WIFSIGNALED(*status))
    return host::text("its process ended with status ", WEXITSTATUS(*status));
  const int signal = WTERMSIG(*status);
  return host::text("its process was ended by signal ", signal, " (", strsignal(signal), ")");
}

// A worker process and the lines to and from it.
class Process {
 public:
  explicit Process(const Supervision& how) : Process(how, make_pipe(), make_pipe()) {}
  ~Process() { kill(); }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // False where the worker takes no more; wait() then says its end.
  bool send(const std::string& line) {
    const std::string text = line + "\n";
    return ::write(to_.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  }
  void close_input() { to_.close(); }

  enum class Event { kLine, kEnd, kNothing };
  Event wait(double seconds, std::string* line) {
    const double end = now() + seconds;
    for (;;) {
      const size_t newline = buffer_.find('\n');
      if (newline != std::string::npos) {
        *line = buffer_.substr(0, newline);
        buffer_.erase(0, newline + 1);
        return Event::kLine;
      }
      pollfd ready{from_.get(), POLLIN, 0};
      const int left = static_cast<int>(std::max(0.0, end - now()) * 1000);
      const int polled = ::poll(&ready, 1, left);
      if (polled < 0 && errno == EINTR) continue;
      if (polled < 0) fail("poll");
      if (polled == 0) return Event::kNothing;
      char bytes[4096];
      const ssize_t count = ::read(from_.get(), bytes, sizeof bytes);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return Event::kEnd;
      buffer_.append(bytes, static_cast<size_t>(count));
    }
  }

  // Its status, once it has said its last; nothing where it does not end, which is then ended.
  std::optional<int> end() {
    const std::optional<int> status = reap(kPatience);
    if (!status) kill();
    return status;
  }

  // A process whose kernel does not end may take its driver a while to end. It is left to itself
  // where that takes too long.
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    (void)reap(kPatience);
    pid_ = -1;
  }

 private:
  static constexpr double kPatience = 10;  // seconds
  using Pipe = std::pair<Fd, Fd>;

  Process(const Supervision& how, Pipe in, Pipe out)
      : to_(std::move(in.second)), from_(std::move(out.first)) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in.first.get(), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out.second.get(), STDOUT_FILENO);
    std::vector<std::string> command = how.command;
    std::vector<std::string> environment = environment_with(how.environment);
    const int error = posix_spawn(&pid_, command.at(0).c_str(), &actions, nullptr,
                                  pointers(&command).data(), pointers(&environment).data());
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
      pid_ = -1;
      errno = error;
      fail("starting a worker");
    }
  }

  std::optional<int> reap(double seconds) {
    int status = 0;
    for (const double end = now() + seconds;;) {
      const pid_t reaped = ::waitpid(pid_, &status, WNOHANG);
      if (reaped == pid_ || (reaped < 0 && errno != EINTR)) {
        pid_ = -1;
        return status;
      }
      if (now() > end) return std::nullopt;
      ::usleep(10000);
    }
  }

  Fd to_, from_;
  pid_t pid_ = -1;
  std::string buffer_;
};

// A worker that is gone must not end this process.
class NoPipeSignal {
 public:
  NoPipeSignal() : before_(std::signal(SIGPIPE, SIG_IGN)) {}
  ~NoPipeSignal() { std::signal(SIGPIPE, before_); }
  NoPipeSignal(const NoPipeSignal&) = delete;
  NoPipeSignal& operator=(const NoPipeSignal&) = delete;

 private:
  void (*before_)(int);
};

class Supervisor {
 public:
  Supervisor(const Assignment& assignment, const Supervision& how)
      : assignment_(assignment), how_(how), begin_(now()) {
    report_.kernel = assignment.kernel;
    report_.of = assignment.items.size();
    for (const std::string& instance : assignment.instances) report_.instances[instance];
    for (size_t n = 0; n < assignment.items.size(); ++n) {
      ++report_.instances[assignment.items[n].instance].of;
      todo_.push_back(n);
    }
    for (const auto& [name, instance] : report_.instances) {
      if (instance.of == 0) add_fault({"", name, "no case reaches it on this device"});
    }
  }

  KernelReport run() {
    const NoPipeSignal guard;
    while (more() || !pending_.empty()) {
      if (!worker_) worker_.emplace(how_);
      if (on_device_ == kNone && more() && pending_.size() < how_.pending) {
        give_one();
      } else {
        listen();
      }
    }
    finish();
    report_.no_time = todo_.size();
    report_.seconds = now() - begin_;
    return std::move(report_);
  }

 private:
  static constexpr size_t kNone = SIZE_MAX;

  bool more() const {
    return on_device_ != kNone ||
           (!todo_.empty() && (todo_.front() < assignment_.least || now() - begin_ < how_.seconds));
  }

  const Item& item(size_t n) const { return assignment_.items[n]; }

  void give_one() {
    on_device_ = todo_.front();
    todo_.pop_front();
    if (!worker_->send(item(on_device_).trial)) listen();
  }

  void listen() {
    std::string line;
    switch (worker_->wait(how_.watchdog, &line)) {
      case Process::Event::kLine:
        return hear(parse_answer(line));
      case Process::Event::kEnd:
        return mourn(lost_.empty() ? ended_text(worker_->end()) : lost_);
      default:
        worker_->kill();
        return mourn(host::text(
            on_device_ == kNone ? "the oracle" : "the device", " did not answer for ",
            how_.watchdog, " seconds",
            on_device_ == kNone ? "" : ": the kernel hangs, or the machine is slow (--watchdog)"));
    }
  }

  void hear(const Answer& answer) {
    const auto is_meant = [&](size_t n) { return item(n).trial == answer.trial; };
    if (answer.kind == Answer::Kind::kRan && on_device_ != kNone && is_meant(on_device_)) {
      pending_.push_back(std::exchange(on_device_, kNone));
      return;
    }
    if (answer.kind == Answer::Kind::kLost) {
      lost_ = answer.wrong;
      return;
    }
    if (answer.kind != Answer::Kind::kJudged) return;
    if (on_device_ != kNone && is_meant(on_device_)) {
      judge(std::exchange(on_device_, kNone), answer);
      return;
    }
    const auto found = std::find_if(pending_.begin(), pending_.end(), is_meant);
    if (found == pending_.end()) return;
    const size_t n = *found;
    pending_.erase(found);
    judge(n, answer);
  }

  void judge(size_t n, const Answer& answer) {
    InstanceReport& instance = report_.instances[item(n).instance];
    if (!answer.wrong.empty()) {
      ++instance.failed, ++report_.failed;
      add_fault({item(n).trial, item(n).instance, answer.wrong});
      return;
    }
    ++instance.passed, ++report_.passed;
    if (answer.worst > report_.worst || report_.worst_trial.empty()) {
      report_.worst = answer.worst;
      report_.worst_trial = item(n).trial;
    }
  }

  // The worker is gone. Whose fault that was has no more trials; what was not yet judged is tried
  // again.
  void mourn(const std::string& what) {
    worker_.reset();
    lost_.clear();
    if (on_device_ == kNone && !pending_.empty()) {
      on_device_ = pending_.front();
      pending_.pop_front();
    }
    todo_.insert(todo_.begin(), pending_.begin(), pending_.end());
    pending_.clear();
    if (on_device_ == kNone) {
      add_fault({"", "", what});
      return;
    }
    const Item& fatal = item(std::exchange(on_device_, kNone));
    ++report_.failed, ++report_.instances[fatal.instance].failed;
    add_fault({fatal.trial, fatal.instance, what});
    report_.after_fault +=
        std::erase_if(todo_, [&](size_t n) { return item(n).instance == fatal.instance; });
  }

  void finish() {
    if (!worker_) return;
    worker_->close_input();
    std::string line;
    Process::Event event{};
    while ((event = worker_->wait(how_.watchdog, &line)) == Process::Event::kLine) {
    }
    std::optional<int> status;
    if (event == Process::Event::kEnd) status = worker_->end();
    if (status != 0) add_fault({"", "", "after the last trial " + ended_text(status)});
    worker_.reset();
  }

  void add_fault(Fault fault) { report_.faults.push_back(std::move(fault)); }

  const Assignment& assignment_;
  const Supervision& how_;
  const double begin_;
  KernelReport report_;
  std::deque<size_t> todo_, pending_;
  size_t on_device_ = kNone;
  std::optional<Process> worker_;
  std::string lost_;  // what the worker said of its device before it ended
};

}  // namespace

KernelReport supervise(const Assignment& assignment, const Supervision& how) {
  return Supervisor(assignment, how).run();
}

void put_in_order(Assignment* assignment, uint64_t seed) {
  const auto way_of = [](const Item& item) { return item.trial.substr(0, item.trial.find('/')); };
  std::vector<Item> items = std::move(assignment->items), least;
  // Problems too small to show much come last.
  const auto rank_of = [](const Item& item) {
    return std::pair(item.cost < kLeastCost, item.cost);
  };
  std::stable_sort(items.begin(), items.end(),
                   [&](const Item& a, const Item& b) { return rank_of(a) < rank_of(b); });
  std::map<std::pair<std::string, std::string>, int> seen;
  std::vector<Item> rest;
  for (Item& item : items)
    (seen[{item.instance, way_of(item)}]++ == 0 ? least : rest).push_back(std::move(item));

  Random random(seed);
  for (size_t n = rest.size(); n > 1; --n)
    std::swap(rest[n - 1],
              rest[static_cast<size_t>(random.integer(0, static_cast<int64_t>(n) - 1))]);
  std::map<std::pair<std::string, std::string>, int> next;
  std::vector<std::pair<int, Item>> ranked;
  for (Item& item : rest) {
    const int rank = next[{item.instance, item.group}]++;
    ranked.emplace_back(rank, std::move(item));
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });

  assignment->least = least.size();
  assignment->items = std::move(least);
  for (auto& [rank, item] : ranked) assignment->items.push_back(std::move(item));
}

}  // namespace qkv::verify
