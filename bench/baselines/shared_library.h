// Where NVIDIA's libraries may lie that the benchmark opens when it needs them.
#pragma once

#include <dlfcn.h>
#include <glob.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace qkv::bench {

// Files that match a pattern, the highest version first.
inline std::vector<std::string> files_like(const std::string& pattern) {
  std::vector<std::string> files;
  glob_t found{};
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0)
    files.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  std::reverse(files.begin(), files.end());
  return files;
}

// Files to try, in this order: what the environment's `variable` names, alone (the library or its
// folder); the names, as the loader finds them; the CUDA toolkit's folder; the folders
// nvidia/FOLDER/lib of Python's packages. `pattern` matches all names: "libcublas.so.1[23]".
inline std::vector<std::string> library_files(const char* variable,
                                              const std::vector<std::string>& names,
                                              const std::string& pattern,
                                              const std::vector<std::string>& folders) {
  if (const char* named = std::getenv(variable); named != nullptr && *named != '\0') {
    if (!std::filesystem::is_directory(named)) return {named};
    return files_like(std::string(named) + "/" + pattern);
  }
  std::vector<std::string> files = names;
  std::vector<std::string> patterns;
  for (const char* root_name : {"CUDA_HOME", "CUDA_PATH"})
    if (const char* root = std::getenv(root_name)) patterns.push_back(std::string(root) + "/lib64");
  patterns.emplace_back("/usr/local/cuda/lib64");
  std::vector<std::string> roots;
  for (const char* root_name : {"VIRTUAL_ENV", "CONDA_PREFIX"})
    if (const char* root = std::getenv(root_name)) roots.emplace_back(root);
  if (const char* home = std::getenv("HOME")) roots.push_back(std::string(home) + "/.local");
  for (const char* root : {"/usr/local", "/usr", "/opt/conda"}) roots.emplace_back(root);
  for (const std::string& root : roots)
    for (const std::string& folder : folders)
      patterns.push_back(root + "/lib/python3*/*-packages/nvidia/" + folder + "/lib");
  for (const std::string& folder : patterns)
    for (std::string& file : files_like(folder + "/" + pattern)) files.push_back(std::move(file));
  return files;
}

// Opens the first that can be opened; null, and every reason in `missing`, if none can.
inline void* open_library(const std::vector<std::string>& files, std::string* missing) {
  missing->clear();
  for (const std::string& file : files) {
    if (void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) {
      missing->clear();
      return library;
    }
    *missing += (missing->empty() ? "" : "; ") + std::string(dlerror());
  }
  return nullptr;
}

}  // namespace qkv::bench
