// The one error style of the library: a status with its reason, returned, never thrown across the
// ABI.
#pragma once

#include <locale>
#include <sstream>
#include <string>
#include <utility>

#include "qkv/qkv.h"

namespace qkv::host {

class [[nodiscard]] Status {
 public:
  Status() = default;  // success
  Status(qkv_status code, std::string reason) : code_(code), reason_(std::move(reason)) {}

  bool ok() const { return code_ == QKV_SUCCESS; }
  qkv_status code() const { return code_; }
  const std::string& reason() const { return reason_; }

 private:
  qkv_status code_ = QKV_SUCCESS;
  std::string reason_;
};

// text(1, " of ", n): the arguments printed one after another, numbers as C++ writes them whatever
// the process's locale: programs read such lines again.
template <class... Args>
std::string text(const Args&... args) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  (out << ... << args);
  return std::move(out).str();
}

}  // namespace qkv::host

// Returns a Status unless `condition` holds; the reason is only put together when it does not.
#define QKV_REQUIRE(condition, code, ...)                                               \
  do {                                                                                  \
    if (!(condition)) return ::qkv::host::Status(code, ::qkv::host::text(__VA_ARGS__)); \
  } while (false)

#define QKV_RETURN_IF_ERROR(expression)                                            \
  do {                                                                             \
    if (::qkv::host::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)
