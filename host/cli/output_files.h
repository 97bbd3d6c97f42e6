// Files that a command writes: all of them, or none.
#pragma once

#include <string>
#include <vector>

#include "host/io/array.h"

namespace qkv::cli {

// An output option, as the user names it, and its file; an empty path: it is not written.
struct NamedPath {
  std::string option, path;
};

// Throws BadInput if two of them are one file, by whatever path and links, or one is "-": arrays go
// to files alone.
void check_own_files(const std::vector<NamedPath>& paths);

struct OutputFile {
  std::string path;
  io::View array;
};

// Writes .npy files under temporary names first and renames them when all are complete. After a
// failure old files are as they were. A symbolic link stays one: the file behind it is written.
// Throws Failure.
void write_npy_files(const std::vector<OutputFile>& files);

// Writes a text file the same way.
void write_text_file(const std::string& path, const std::string& text);

}  // namespace qkv::cli
