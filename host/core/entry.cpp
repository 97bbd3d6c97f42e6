#include "host/core/entry.h"

#include <algorithm>
#include <cstring>

#include "host/core/verbose.h"

namespace qkv::host {

std::string& last_error() {
  thread_local std::string message;
  return message;
}

qkv_status failed(const Status& status) noexcept {
  try {
    last_error() = status.reason();
    if (verbose(kVerboseError | kVerboseCheck)) log_failure(status);
    return status.code();
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const std::exception& error) {
    return failed_by(error);
  }
}

qkv_status out_of_memory() noexcept {
  try {
    last_error() = "out of host memory";
    if (verbose(kVerboseError)) log_failure(Status(QKV_RESOURCE_OUT_OF_MEMORY, last_error()));
  } catch (...) {  // the old message stays
  }
  return QKV_RESOURCE_OUT_OF_MEMORY;
}

qkv_status failed_by(const std::exception& error) noexcept {
  try {
    last_error() = text("internal error: ", error.what());
    if (verbose(kVerboseError)) log_failure(Status(QKV_INTERNAL, last_error()));
  } catch (...) {  // the old message stays
  }
  return QKV_INTERNAL;
}

void copy_text(const std::string& from, char* to, size_t capacity) {
  if (capacity == 0) return;
  const size_t length = std::min(from.size(), capacity - 1);
  std::memcpy(to, from.data(), length);
  to[length] = '\0';
}

}  // namespace qkv::host
