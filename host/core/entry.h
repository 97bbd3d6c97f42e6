// What every entry point of the C ABI does: throws nothing, keeps the reason of the last failure
// per thread.
#pragma once

#include <cstddef>
#include <exception>
#include <new>
#include <string>

#include "host/core/status.h"

namespace qkv::host {

// qkv_last_error's text.
std::string& last_error();

// Keep the reason, log it, return the code.
qkv_status failed(const Status& status) noexcept;
qkv_status failed_by(const std::exception& error) noexcept;
qkv_status out_of_memory() noexcept;

// Every entry point runs inside of this: a Status becomes a code, an exception becomes a Status.
template <class Body>
qkv_status guarded(Body&& body) noexcept {
  try {
    const Status status = body();
    return status.ok() ? QKV_SUCCESS : failed(status);
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const std::exception& error) {
    return failed_by(error);
  }
}

// Cut to what fits, with its zero.
void copy_text(const std::string& from, char* to, size_t capacity);

}  // namespace qkv::host
