// Files as the readers need them: opened once, bounded, read at offsets or mapped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace qkv::io {

// A regular file, open for reading. Anything else (a folder, a pipe, a device) is refused, since
// its size is no bound on what it delivers.
class InputFile {
 public:
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  std::size_t size() const { return size_; }

  // Fills `out` from `offset` on; fails if the file ends before.
  void read_at(std::size_t offset, std::span<std::byte> out) const;

 private:
  friend class Mapping;
  std::string path_;
  int fd_ = -1;
  std::size_t size_ = 0;
};

// A file's bytes, mapped read-only for the life of this object. Who truncates a mapped file makes
// its readers fault; write_file below replaces files instead.
class Mapping {
 public:
  Mapping() = default;
  explicit Mapping(const std::string& path);
  ~Mapping();
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

// The file that `path` is, behind all symbolic links, whether it is there or not. Fails where the
// links lead in a circle.
std::string behind_links(const std::string& path);

// Writes the pieces, in order, to `path`. A regular file is replaced whole, at the end: nobody sees
// half a file, an old file stays as it is after a failure, and old mappings of it stay readable.
// Symbolic links stay: the file behind them is written, as the shell's `>` does. Devices and pipes
// are written to directly.
void write_file(const std::string& path, std::span<const std::span<const std::byte>> pieces);

}  // namespace qkv::io
