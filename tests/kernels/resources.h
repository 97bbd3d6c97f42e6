// What the instances of a kernel are meant to use of a multiprocessor. Each kernel has a file in
// resources/ with one KernelResources; resources_test holds the machine code to all of them.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <string>
#include <vector>

namespace qkv::test {

// An instance as its policy means it.
struct Intended {
  int64_t threads = 0, min_blocks = 1, dynamic_smem = 0;  // of a block, of a multiprocessor, bytes
  int64_t smem_blocks = 0;        // of a multiprocessor as far as shared memory goes; 0: min_blocks
  int oldest = 75, newest = 999;  // compute capabilities
  bool on(int compute) const { return compute >= oldest && compute <= newest; }
};

// A template argument: as the compiler demangles it, and for people. An empty label is left out.
struct Argument {
  std::string compiled, label;
};

inline Argument argument(int value) { return {std::to_string(value), std::to_string(value)}; }

inline Argument argument(bool value, const char* label) {
  return {value ? "true" : "false", value ? label : ""};
}

// A value of an enumeration of qkv::kernels.
template <class Enum>
Argument argument(const char* enumeration, Enum value, std::string label) {
  std::transform(label.begin(), label.end(), label.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return {
      std::string("(qkv::kernels::") + enumeration + ")" + std::to_string(static_cast<int>(value)),
      label};
}

class KernelResources {
 public:
  struct Instance {
    std::string name;   // "qkv::kernels::combine<(qkv::kernels::Type)1>"
    std::string label;  // "combine<f32>"
    Intended intended;
  };

  // `folder` of kernels/; its last part is the kernel's name. `fill` adds the instances.
  KernelResources(const char* folder, void (*fill)(KernelResources*)) : folder_(folder) {
    fill(this);
    all().push_back(this);
  }
  KernelResources(const KernelResources&) = delete;
  KernelResources& operator=(const KernelResources&) = delete;

  void add(const std::vector<Argument>& arguments, const Intended& intended) {
    std::string compiled, label;
    for (const Argument& a : arguments) {
      compiled += (compiled.empty() ? "" : ", ") + a.compiled;
      if (!a.label.empty()) label += (label.empty() ? "" : ", ") + a.label;
    }
    const std::string kernel = folder_.substr(folder_.rfind('/') + 1);
    const auto with = [](const std::string& list) { return list.empty() ? "" : "<" + list + ">"; };
    instances_.push_back(
        {"qkv::kernels::" + kernel + with(compiled), kernel + with(label), intended});
  }

  const std::string& folder() const { return folder_; }
  const std::vector<Instance>& instances() const { return instances_; }

  // Every kernel's.
  static std::vector<const KernelResources*>& all() {
    static std::vector<const KernelResources*> kernels;
    return kernels;
  }

 private:
  std::string folder_;
  std::vector<Instance> instances_;
};

}  // namespace qkv::test
