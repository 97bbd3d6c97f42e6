// CUDA devices that are not there: a table for host/core/device.h under which plans, refusals,
// device switching and failures are tested on any machine. Launches are recorded, not done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "host/core/device.h"

namespace qkv::test {

// A card of compute capability `compute` (host/core/known_devices.h).
host::DeviceInfo fake_device(int32_t compute);

// In force from construction to destruction; one at a time.
class FakeCuda {
 public:
  struct Launch {
    std::string kernel;
    int32_t device;  // current when launched
    void* workspace;
    void* stream;
  };

  explicit FakeCuda(std::vector<host::DeviceInfo> devices);
  ~FakeCuda();
  FakeCuda(const FakeCuda&) = delete;
  FakeCuda& operator=(const FakeCuda&) = delete;

  // Addresses [first, first + bytes) are of this kind; all others are host memory.
  void map(const void* first, size_t bytes, host::Memory memory, int32_t device = 0);
  // Every address is device memory of cuda:`device`.
  void map_everything(int32_t device);

  // The calling thread's current device, as cudaSetDevice has it.
  static int32_t& current_device();

  std::vector<Launch> launches() const;
  void record(const Launch& launch);
  host::Status record_load(int32_t device, const char* what);
  host::PointerInfo info(const void* pointer) const;

  // Set by a test before it calls.
  std::vector<host::DeviceInfo> devices;
  std::string no_device;  // why there are none
  bool devices_answer = true;
  bool record_launches = true;
  host::Status pending;  // an error of an earlier call
  host::Status set_device_status, allocate_status, release_status;
  host::Status count_status, pointer_status;  // of the queries
  int32_t fail_return_to = -1;                // the next switch to this device fails
  int launch_code = 0;                        // what a launch returns
  int prepare_code = 0;                       // what loading a kernel returns
  std::deque<host::Status> load_results;      // what the first loads return instead
  bool throws = false;                        // from pointer_info
  bool exhausted = false;                     // throws std::bad_alloc from pointer_info

  // Seen by the test afterwards.
  std::vector<int32_t> prepared_on;  // the devices that were current when kernels were loaded
  int device_switches = 0, allocations = 0, releases = 0;

 private:
  struct Range {
    const std::byte* first;
    size_t bytes;
    host::PointerInfo info;
  };
  std::vector<Range> ranges_;
  bool all_device_ = false;
  int32_t everywhere_ = 0;
  mutable std::mutex mutex_;
  std::vector<Launch> launches_;
};

}  // namespace qkv::test
