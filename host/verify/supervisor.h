// The supervisor of `qkv verify`: gives a kernel's trials to a worker process, one after the other,
// and goes on with another process where one crashes, loses its device or does not answer.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace qkv::verify {

// A trial as one kernel's, by name.
struct Item {
  std::string trial;
  std::string instance;  // that it launches
  std::string group;
  double cost = 0;
};

// What is to be tried of one kernel.
struct Assignment {
  std::string kernel;
  std::vector<std::string> instances;  // that must be reached
  std::vector<Item> items;             // in this order
  size_t least = 0;                    // so many of them, whatever time is left
};

struct Fault {
  std::string trial;  // "" where it is no trial's
  std::string instance;
  std::string what;
};

struct InstanceReport {
  size_t of = 0, passed = 0, failed = 0;  // trials
};

struct KernelReport {
  std::string kernel;
  size_t of = 0, passed = 0, failed = 0;  // trials
  size_t no_time = 0;                     // not tried
  size_t after_fault = 0;                 // not tried, since their instance ended a process
  double worst = 0;                       // error over what it may be, of those that passed
  std::string worst_trial;
  double seconds = 0;
  std::map<std::string, InstanceReport> instances;
  std::vector<Fault> faults;

  bool ok() const { return faults.empty(); }
};

struct Supervision {
  std::vector<std::string> command;  // of the worker: a path and its arguments
  // Beside this process's own: "NAME=value".
  std::vector<std::string> environment;
  double seconds = 10;   // after which no more than the least is begun
  double watchdog = 30;  // seconds without an answer
  size_t pending = 4;    // trials that the device is done with and that are not yet judged, at most
};

KernelReport supervise(const Assignment& assignment, const Supervision& how);

// Puts the items in the order in which they are to be tried. First, whatever the time, for each
// instance the cheapest case of each way to try it that is not too small to show much; then one of
// each group of cases for each instance, then the next, at random by the seed.
void put_in_order(Assignment* assignment, uint64_t seed);

}  // namespace qkv::verify
