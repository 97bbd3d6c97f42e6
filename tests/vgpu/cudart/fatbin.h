// Takes the PTX texts out of a fat binary, plain or zstd-compressed.
#pragma once

#include <string>
#include <vector>

#include "common/types.h"

namespace vgpu {

struct PtxImage {
  std::string text;
  std::string target;  // "sm_80", "sm_90a"
  int capability = 0;  // 80
  char suffix = 0;     // 'a' or 'f' when the code is for that architecture only
};

// `wrapper` is what __cudaRegisterFatBinary gets. Throws std::runtime_error on a broken one.
std::vector<PtxImage> read_fat_binary(const void* wrapper);

// What a device of `capability` runs: architecture-specific code of exactly its own, else the
// highest general one that is not newer than the device. nullptr when there is none.
const PtxImage* select_image(const std::vector<PtxImage>& images, int capability);

}  // namespace vgpu
