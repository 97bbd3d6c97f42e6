// The rate at which a device's memory is read by a kernel that does nothing else: the memory's
// ceiling, as measured.
#pragma once

#include <cstddef>

namespace qkv::bench {

class DeviceTimer;

// Queues a kernel that reads `bytes` of `from`, both multiples of 16, once, with `blocks` blocks of
// 512 threads, on `stream` (a cudaStream_t). `sink`: 4 bytes of device memory. Returns a
// cudaError_t.
int launch_read_stream(const void* from, size_t bytes, void* sink, int blocks, void* stream);

// Bytes a second: the fastest of 9 reads of 4 GiB, or of an eighth of the device's memory if that
// is less. Throws std::runtime_error.
double device_read_rate(size_t device_bytes, DeviceTimer* timer);

}  // namespace qkv::bench
