#include "cudart/fatbin.h"

#include <zstd.h>

#include <cstdlib>
#include <stdexcept>

namespace vgpu {
namespace {

constexpr u32 kWrapperMagic = 0x466243b1;
constexpr u32 kBinaryMagic = 0xba55ed50;
constexpr u16 kKindPtx = 1;
constexpr u32 kZstdMagic = 0xfd2fb528;

template <class T>
T read(const u8* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

std::string decompress(const u8* data, u64 size, u64 expected) {
  std::string out(expected, '\0');
  const size_t n = ZSTD_decompress(out.data(), out.size(), data, size);
  if (ZSTD_isError(n) != 0)
    throw std::runtime_error(std::string("fat binary: ") + ZSTD_getErrorName(n));
  out.resize(n);
  return out;
}

void find_target(PtxImage& image) {
  const size_t at = image.text.find(".target");
  const size_t start = image.text.find("sm_", at == std::string::npos ? 0 : at);
  if (at == std::string::npos || start == std::string::npos) return;
  size_t end = start + 3;
  while (end < image.text.size() && std::isalnum(static_cast<unsigned char>(image.text[end])))
    ++end;
  image.target = image.text.substr(start, end - start);
  image.capability = std::atoi(image.target.c_str() + 3);
  const char last = image.target.back();
  image.suffix = last == 'a' || last == 'f' ? last : '\0';
}

}  // namespace

std::vector<PtxImage> read_fat_binary(const void* wrapper) {
  const u8* w = static_cast<const u8*>(wrapper);
  if (read<u32>(w) != kWrapperMagic) throw std::runtime_error("fat binary: wrong wrapper");
  const u8* data = read<const u8*>(w + 8);
  std::vector<PtxImage> images;
  // Several binaries may follow each other when object files were merged; one is the rule.
  if (read<u32>(data) != kBinaryMagic) throw std::runtime_error("fat binary: wrong magic");
  const u16 header = read<u16>(data + 6);
  const u64 size = read<u64>(data + 8);
  const u8* entry = data + header;
  const u8* const end = entry + size;
  while (entry < end) {
    const u16 kind = read<u16>(entry);
    const u32 entry_header = read<u32>(entry + 4);
    const u64 payload = read<u64>(entry + 8);
    const u8* bytes = entry + entry_header;
    if (kind == kKindPtx) {
      PtxImage image;
      const u64 unpacked = read<u64>(entry + 56);
      if (payload >= 4 && read<u32>(bytes) == kZstdMagic) {
        const unsigned long long framed = ZSTD_getFrameContentSize(bytes, payload);
        const bool known = framed != ZSTD_CONTENTSIZE_UNKNOWN && framed != ZSTD_CONTENTSIZE_ERROR;
        const size_t frame = ZSTD_findFrameCompressedSize(bytes, payload);
        image.text = decompress(bytes, ZSTD_isError(frame) != 0 ? payload : frame,
                                known ? framed : unpacked);
      } else {
        image.text.assign(reinterpret_cast<const char*>(bytes), payload);
      }
      image.text.resize(std::strlen(image.text.c_str()));
      find_target(image);
      if (image.capability == 0) throw std::runtime_error("fat binary: PTX of unknown compression");
      images.push_back(std::move(image));
    }
    entry = bytes + payload;
  }
  return images;
}

const PtxImage* select_image(const std::vector<PtxImage>& images, int capability) {
  const PtxImage* best = nullptr;
  for (const PtxImage& image : images) {
    if (image.suffix == 'a') {
      if (image.capability == capability) return &image;
      continue;
    }
    // Family code runs on its own major version from its minor one on.
    if (image.suffix == 'f' && image.capability / 10 != capability / 10) continue;
    if (image.capability > capability) continue;
    if (best == nullptr || image.capability > best->capability) best = &image;
  }
  return best;
}

}  // namespace vgpu
