#include "output_files.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <map>
#include <span>

#include "errors.h"
#include "host/io/file.h"
#include "host/io/npy.h"

namespace qkv::cli {
namespace {

namespace fs = std::filesystem;

// Files under their temporary names; those that are still there at the end are deleted.
class Pending {
 public:
  Pending() = default;
  ~Pending() {
    std::error_code ignored;
    for (const Rename& rename : renames_) fs::remove(rename.from, ignored);
  }
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;

  void write(const OutputFile& file) {
    std::error_code error;
    const fs::file_status status = fs::status(file.path, error);
    if (fs::is_directory(status)) throw Failure(file.path + ": is a folder, not a file");
    if (fs::exists(status) && !fs::is_regular_file(status)) {  // /dev/stdout: nothing to rename
      io::save_npy(file.path, file.array);
      return;
    }
    const std::string target = io::behind_links(file.path);
    renames_.push_back({fmt::format("{}.new.{}", target, ::getpid()), target});
    try {
      io::save_npy(renames_.back().from, file.array);
    } catch (const io::FormatError& failure) {  // name the file that was asked for
      std::string text = failure.what();
      const size_t at = text.find(renames_.back().from);
      if (at != std::string::npos) text.replace(at, renames_.back().from.size(), file.path);
      throw Failure(text);
    }
  }

  void commit() {
    while (!renames_.empty()) {
      std::error_code error;
      fs::rename(renames_.back().from, renames_.back().to, error);
      if (error) throw Failure(renames_.back().to + ": cannot replace: " + error.message());
      renames_.pop_back();
    }
  }

 private:
  struct Rename {
    std::string from, to;
  };
  std::vector<Rename> renames_;
};

}  // namespace

void check_own_files(const std::vector<NamedPath>& paths) {
  std::map<std::string, const NamedPath*> files;
  for (const NamedPath& named : paths) {
    if (named.path.empty()) continue;
    if (named.path == "-")
      throw BadInput(fmt::format("--{} is -, which names no file; ./- does", named.option));
    std::error_code ignored;
    const std::string file =
        fs::weakly_canonical(fs::absolute(io::behind_links(named.path), ignored), ignored).string();
    const auto [before, is_new] = files.try_emplace(file.empty() ? named.path : file, &named);
    if (!is_new)
      throw BadInput(fmt::format("--{} and --{} are both {}; each output needs its own file",
                                 before->second->option, named.option, named.path));
  }
}

void write_npy_files(const std::vector<OutputFile>& files) {
  Pending pending;
  try {
    for (const OutputFile& file : files) pending.write(file);
  } catch (const io::FormatError& error) {
    throw Failure(error.what());
  }
  pending.commit();
}

void write_text_file(const std::string& path, const std::string& text) {
  const std::array pieces{std::as_bytes(std::span(text))};
  try {
    io::write_file(path, pieces);
  } catch (const io::FormatError& error) {
    throw Failure(error.what());
  }
}

}  // namespace qkv::cli
