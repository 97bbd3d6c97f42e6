#include "host/io/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "host/io/array.h"

namespace qkv::io {
namespace {

constexpr std::size_t kMaxTransfer = std::size_t{1} << 30;  // Linux moves less than 2^31 at once

[[noreturn]] void fail_errno(const std::string& path, const std::string& action) {
  const std::string reason = std::generic_category().message(errno);
  fail(path, "cannot " + action + ": " + reason);
}

void write_all(int fd, const std::string& path, std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t n = ::write(fd, data.data(), std::min(data.size(), kMaxTransfer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno(path, "write");
    data = data.subspan(static_cast<std::size_t>(n));
  }
}

// An output descriptor; `temporary`, where not empty, is deleted unless commit() is reached.
class OutputFile {
 public:
  OutputFile(std::string path, int flags, std::string temporary)
      : path_(std::move(path)), temporary_(std::move(temporary)) {
    const std::string& target = temporary_.empty() ? path_ : temporary_;
    fd_ = ::open(target.c_str(), flags | O_WRONLY | O_CLOEXEC, 0666);
    if (fd_ < 0) fail_errno(path_, "open for writing");
  }
  ~OutputFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  int fd() const { return fd_; }

  void commit() {
    if (::close(std::exchange(fd_, -1)) != 0) fail_errno(path_, "write");
    if (temporary_.empty()) return;
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_errno(path_, "replace");
    temporary_.clear();
  }

 private:
  std::string path_;
  std::string temporary_;
  int fd_ = -1;
};

}  // namespace

InputFile::InputFile(const std::string& path) : path_(path) {
  // O_NONBLOCK: opening a pipe that has no writer must not wait.
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) fail_errno(path, "open");
  struct stat info = {};
  const bool known = ::fstat(fd_, &info) == 0;
  if (!known || !S_ISREG(info.st_mode)) {
    ::close(fd_);
    fail(path, "is not a regular file");
  }
  size_ = static_cast<std::size_t>(info.st_size);
}

InputFile::~InputFile() { ::close(fd_); }

void InputFile::read_at(std::size_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t n =
        ::pread(fd_, out.data(), std::min(out.size(), kMaxTransfer), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno(path_, "read");
    if (n == 0) fail(path_, "ends at byte " + std::to_string(offset) + "; it shrank while read");
    offset += static_cast<std::size_t>(n);
    out = out.subspan(static_cast<std::size_t>(n));
  }
}

Mapping::Mapping(const std::string& path) {
  const InputFile file(path);
  if (file.size() == 0) return;
  void* address = ::mmap(nullptr, file.size(), PROT_READ, MAP_PRIVATE, file.fd_, 0);
  if (address == MAP_FAILED) fail_errno(path, "map");
  bytes_ = {static_cast<const std::byte*>(address), file.size()};
}

Mapping::~Mapping() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

Mapping::Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

std::string behind_links(const std::string& path) {
  constexpr int kMostLinks = 40;  // as many as Linux follows
  std::filesystem::path file = path;
  std::error_code error;
  for (int n = 0; n < kMostLinks; ++n) {
    if (!std::filesystem::is_symlink(file, error)) return file.string();
    file = file.parent_path() / std::filesystem::read_symlink(file, error);
  }
  fail(path, "cannot open for writing: " + std::generic_category().message(ELOOP));
}

void write_file(const std::string& path, std::span<const std::span<const std::byte>> pieces) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  const bool replace = !fs::exists(status) || fs::is_regular_file(status);
  const std::string target = replace ? behind_links(path) : path;
  const std::string temporary =
      replace ? target + ".partial." + std::to_string(::getpid()) : std::string();
  OutputFile file(target, replace ? O_CREAT | O_EXCL : 0, temporary);
  for (const std::span<const std::byte> piece : pieces) write_all(file.fd(), target, piece);
  file.commit();
}

}  // namespace qkv::io
