// The machinery of `qkv verify`: the order of trials, the supervisor over workers that do what
// workers must not, the quotient of errors. That it finds faults of kernels is verify_test.sh's.
#include <gtest/gtest.h>

#include <stdlib.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>

#include "host/verify/assignments.h"
#include "host/verify/instances.h"
#include "host/verify/supervisor.h"
#include "host/verify/trials.h"
#include "host/verify/worker.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/verify.h"

namespace qkv::test {
namespace {

// --- the supervisor

// Trials t0, t1, ... of instances a, b, a, b, ...
Assignment numbered(int count) {
  Assignment assignment{"k", {"a", "b"}, {}, 0};
  for (int n = 0; n < count; ++n)
    assignment.items.push_back({"t" + std::to_string(n), n % 2 == 0 ? "a" : "b", "g", 1});
  assignment.least = assignment.items.size();
  return assignment;
}

// A worker of the shell: `answer` sees the trial's name in $t and says lines with `ran` and
// `judged WORST WRONG`.
Supervision shell(const std::string& answer) {
  Supervision how;
  how.command = {"/bin/sh", "-c",
                 "ran() { printf 'ran\\t%s\\t0\\t\\n' $t; }\n"
                 "judged() { printf 'judged\\t%s\\t%s\\t%s\\n' $t $1 \"$2\"; }\n"
                 "while read -r t; do\n" +
                     answer + "\ndone"};
  how.watchdog = 5;
  return how;
}

std::string faults_of(const KernelReport& report) {
  std::string out;
  for (const Fault& fault : report.faults)
    out += fault.trial + " " + fault.instance + ": " + fault.what + "\n";
  return out;
}

struct TempFile {
  TempFile() {
    std::string name = (std::filesystem::temp_directory_path() / "qkv_verify.XXXXXX").string();
    const int file = ::mkstemp(name.data());
    if (file < 0) throw std::runtime_error("cannot make " + name);
    ::close(file);
    path = name;
  }
  ~TempFile() { std::filesystem::remove(path); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  std::string path;
};

TEST(Supervisor, CountsWhatPasses) {
  const KernelReport report = supervise(
      numbered(6), shell("ran; case $t in t3) judged 0.75;; *) judged 0.5;; esac; echo noise"));
  EXPECT_EQ(faults_of(report), "");
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.passed, 6);
  EXPECT_EQ(report.worst, 0.75);
  EXPECT_EQ(report.worst_trial, "t3");
  EXPECT_EQ(report.instances.at("a").passed, 3);
}

TEST(Supervisor, NamesAWrongResultAndGoesOn) {
  const KernelReport report = supervise(
      numbered(6), shell("ran; case $t in t2) judged 7 'o is off';; *) judged 0.5;; esac"));
  EXPECT_EQ(faults_of(report), "t2 a: o is off\n");
  EXPECT_EQ(report.passed, 5);
  EXPECT_EQ(report.failed, 1);
  EXPECT_EQ(report.worst, 0.5);
}

// The instance that ends a process is tried no more; the other one is, by another process.
TEST(Supervisor, OutlivesACrash) {
  const KernelReport report =
      supervise(numbered(6), shell("case $t in t2) kill -SEGV $$;; *) ran; judged 0;; esac"));
  EXPECT_EQ(report.faults.size(), 1);
  EXPECT_EQ(faults_of(report).substr(0, 38), "t2 a: its process was ended by signal ");
  EXPECT_NE(faults_of(report).find("Segmentation"), std::string::npos);
  EXPECT_EQ(report.passed, 4);
  EXPECT_EQ(report.failed, 1);
  EXPECT_EQ(report.after_fault, 1);
  EXPECT_EQ(report.instances.at("b").passed, 3);
}

TEST(Supervisor, OutlivesALostDevice) {
  const KernelReport report = supervise(
      numbered(6), shell("case $t in t1) printf 'lost\\tt1\\t0\\tillegal address\\n'; exit 1;; "
                         "*) ran; judged 0;; esac"));
  EXPECT_EQ(faults_of(report), "t1 b: illegal address\n");
  EXPECT_EQ(report.passed, 3);
  EXPECT_EQ(report.after_fault, 2);
}

TEST(Supervisor, EndsAHang) {
  Supervision how = shell("case $t in t1) exec sleep 1000;; *) ran; judged 0;; esac");
  how.watchdog = 0.5;
  const KernelReport report = supervise(numbered(4), how);
  EXPECT_EQ(report.faults.size(), 1);
  EXPECT_NE(faults_of(report).find("t1 b: the device did not answer for 0.5 seconds"),
            std::string::npos)
      << faults_of(report);
  EXPECT_EQ(report.passed, 2);
  EXPECT_EQ(report.after_fault, 1);
}

// What was not yet judged when the process ended is tried again.
TEST(Supervisor, TriesAgainWhatWasLostOnTheWay) {
  const TempFile marker;
  const KernelReport report = supervise(
      numbered(4), shell("case $t in t0) ran; [ -s " + marker.path + " ] && judged 0;; t1) echo " +
                         "x > " + marker.path + "; exit 3;; *) ran; judged 0;; esac"));
  EXPECT_EQ(faults_of(report), "t1 b: its process ended with status 3\n");
  EXPECT_EQ(report.passed, 2);
  EXPECT_EQ(report.after_fault, 1);
}

TEST(Supervisor, SaysWhenNoWorkerStarts) {
  Supervision how;
  how.command = {"/bin/false"};
  const KernelReport report = supervise(numbered(2), how);
  EXPECT_EQ(report.passed, 0);
  EXPECT_EQ(faults_of(report),
            "t0 a: its process ended with status 1\nt1 b: its process ended with status 1\n");
}

TEST(Supervisor, DoesTheLeastAndNoMoreWithoutTime) {
  Assignment assignment = numbered(10);
  assignment.least = 3;
  Supervision how = shell("ran; judged 0");
  how.seconds = 0;
  const KernelReport report = supervise(assignment, how);
  EXPECT_TRUE(report.ok()) << faults_of(report);
  EXPECT_EQ(report.passed, 3);
  EXPECT_EQ(report.no_time, 7);
}

TEST(Supervisor, MissesInstancesThatNoTrialReaches) {
  Assignment assignment = numbered(2);
  assignment.instances.push_back("c");
  const KernelReport report = supervise(assignment, shell("ran; judged 0"));
  EXPECT_EQ(faults_of(report), " c: no case reaches it on this device\n");
  EXPECT_FALSE(report.ok());
}

TEST(Worker, AnswersAreReadAsTheyAreWritten) {
  const Answer answer{Answer::Kind::kJudged, "contract/x", 0.25, "one\ntwo\tthree\n"};
  const Answer read = parse_answer(line_of(answer));
  EXPECT_EQ(read.kind, Answer::Kind::kJudged);
  EXPECT_EQ(read.trial, "contract/x");
  EXPECT_EQ(read.worst, 0.25);
  EXPECT_EQ(read.wrong, "one; two three");
  EXPECT_TRUE(std::isinf(parse_answer(line_of({Answer::Kind::kJudged, "t", kInf, "x"})).worst));
  EXPECT_EQ(parse_answer("ran\tt\t0\t").kind, Answer::Kind::kRan);
  for (const char* line : {"", "ran", "ran\tt", "says\tt\t0\t", "hello world"})
    EXPECT_EQ(parse_answer(line).kind, Answer::Kind::kNone) << line;
}

TEST(Worker, TriesOnTheHost) {
  const std::string trial = "contract/causal_top_left_q37_kv53_f32";
  std::istringstream in(trial + "\nmerge/parts3_f16_f32\nselection/heads_5_1_f32\nno/such\n");
  std::ostringstream out;
  EXPECT_EQ(serve({"cpu_forward", 7, 2}, in, out), 0);
  std::map<std::string, Answer> judged;
  std::istringstream lines(out.str());
  for (std::string line; std::getline(lines, line);) {
    const Answer answer = parse_answer(line);
    if (answer.kind == Answer::Kind::kJudged) judged[answer.trial] = answer;
  }
  EXPECT_EQ(judged.size(), 4) << out.str();
  EXPECT_EQ(judged[trial].wrong, "");
  EXPECT_GT(judged[trial].worst, 0);
  EXPECT_LE(judged[trial].worst, 1);
  EXPECT_EQ(judged["merge/parts3_f16_f32"].wrong, "");
  EXPECT_EQ(judged["no/such"].wrong, "there is no such trial");

  std::istringstream other(trial + "\n");
  std::ostringstream says;
  EXPECT_EQ(serve({"sm90_forward", 7, 1}, other, says), 0);
  EXPECT_NE(says.str().find("planned on cpu_forward"), std::string::npos) << says.str();
}

// --- which trials, in which order

TEST(Trials, HaveNamesOfTheirOwn) {
  std::set<std::string> names;
  for (const Trial& trial : all_trials())
    EXPECT_TRUE(names.insert(trial.name()).second) << trial.name();
  EXPECT_GT(names.size(), 1000);
}

TEST(Order, BeginsWithTheCheapestOfEachInstanceThatIsNoTrifle) {
  Assignment assignment{"k", {"a", "b"}, {}, 0};
  for (int n = 9; n >= 0; --n) {
    for (const char* instance : {"a", "b"}) {
      assignment.items.push_back({"contract/" + std::to_string(n), instance, "g", 1e5 * n});
      assignment.items.push_back({"leak/" + std::to_string(n), instance, "leak", 1e5 * n});
    }
  }
  put_in_order(&assignment, 1);
  EXPECT_EQ(assignment.least, 4);
  EXPECT_EQ(assignment.items.size(), 40);
  std::set<std::string> least;
  for (size_t n = 0; n < 4; ++n)
    least.insert(assignment.items[n].trial + " " + assignment.items[n].instance);
  EXPECT_EQ(least, (std::set<std::string>{"contract/3 a", "contract/3 b", "leak/3 a", "leak/3 b"}));
  // Then one of each group for each instance.
  std::set<std::string> next;
  for (size_t n = 4; n < 8; ++n)
    next.insert(assignment.items[n].group + " " + assignment.items[n].instance);
  EXPECT_EQ(next.size(), 4);
}

// On every kind of device each instance that it can run has trials.
TEST(Assignments, ReachEveryInstanceOfEveryDevice) {
  for (const int32_t compute : {75, 80, 86, 89, 90, 100, 120}) {
    const FakeCuda cuda({fake_device(compute)});
    const auto all = assignments(QKV_DEVICE_CUDA, 0, {"", "", 1});
    std::set<std::string> reached, wanted;
    for (const Assignment& one : all) {
      for (const Item& item : one.items) reached.insert(item.instance);
      EXPECT_GE(one.least, one.instances.size()) << one.kernel;
    }
    for (const Instance& instance : all_instances()) {
      if (instance.runs_on(compute)) wanted.insert(instance.name);
    }
    for (const std::string& kernel : other_kernels(QKV_DEVICE_CUDA)) wanted.insert(kernel);
    EXPECT_EQ(reached, wanted) << "sm_" << compute;
  }
}

TEST(Assignments, OfOneKernelAndOneTrial) {
  const FakeCuda cuda({fake_device(90)});
  const std::string trial = "contract/tiles_full_d128_f16";
  const auto all = assignments(QKV_DEVICE_CUDA, 0, {"sm80_forward", trial, 1});
  ASSERT_EQ(all.size(), 1);
  ASSERT_EQ(all[0].items.size(), 1);
  EXPECT_EQ(all[0].items[0].trial, trial);
  EXPECT_EQ(all_but("sm80_forward"),
            "sm90_forward,sm80_tf32x3,sm90_hard,sm80_hard,sm80_tf32x3_hard,sm80_top_k,"
            "simt_additive,sm80_additive,sm90_wide,simt_forward,simt_general");
}

// --- the quotient of errors

TEST(Judgement, IsTheErrorOverWhatItMayBe) {
  const Case row{.name = "row", .s_q = 5, .s_kv = 9, .d_qk = 16, .d_v = 16};
  BuiltProblem built(row, {.seed = 3});
  ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
  const Tolerance tolerance(built.oracle_problem());
  const Judgement good = tolerance.judge(built);
  EXPECT_EQ(good.wrong, "");
  EXPECT_GT(good.worst, 0);
  EXPECT_LE(good.worst, 1);

  const double o = built.o.get(1, 1, 3, 7);
  built.o.set(1, 1, 3, 7, o + 1e-4);
  const Judgement off = tolerance.judge(built);
  EXPECT_NE(off.wrong.find("o[1, 1, 3, 7]"), std::string::npos) << off.wrong;
  EXPECT_GT(off.worst, 1);
  EXPECT_LT(off.worst, 1e6);

  built.o.set(1, 1, 3, 7, std::nan(""));
  EXPECT_TRUE(std::isinf(tolerance.judge(built).worst));

  built.o.set(1, 1, 3, 7, o);
  built.lse.set(0, 1, 2, 0, built.lse.get(0, 1, 2, 0) + 1);
  const Judgement lse = tolerance.judge(built);
  EXPECT_NE(lse.wrong.find("lse[0, 1, 2, 0]"), std::string::npos) << lse.wrong;
  EXPECT_GT(lse.worst, 1);
}

}  // namespace
}  // namespace qkv::test
