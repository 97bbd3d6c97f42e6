// What `qkv verify` says at its end: lines for people and JSON.
#pragma once

#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "device.h"
#include "host/verify/supervisor.h"

namespace qkv::cli {

struct VerifyOptions {
  std::string device = "auto";
  double seconds = 60;
  double watchdog = 30;
  std::string kernel, trial, json;
  uint64_t seed = 0;
  bool has_seed = false;
  bool worker = false;
};

// "cuda:0"
std::string device_option(const DeviceChoice& where);

// The command that repeats one trial.
std::string repro(const VerifyOptions& options, const DeviceChoice& where,
                  const std::string& kernel, const verify::Fault& fault);

void print_head(std::FILE* out);
void print_kernel(std::FILE* out, const verify::KernelReport& report);
void print_faults(std::FILE* out, const VerifyOptions& options, const DeviceChoice& where,
                  const std::vector<verify::KernelReport>& reports);
// What was left out: for lack of time, after a fault, and instances that are not for the device.
void print_left_out(std::FILE* out, const std::vector<verify::KernelReport>& reports,
                    const std::vector<std::string>& other_instances);

nlohmann::ordered_json json_of(const VerifyOptions& options, const DeviceChoice& where,
                               const std::string& device_name,
                               const std::vector<verify::KernelReport>& reports,
                               const std::vector<std::string>& other_instances);

}  // namespace qkv::cli
