#include "tests/kernels/cubin.h"

#include <cxxabi.h>
#include <elf.h>
#include <zstd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string_view>

namespace qkv::test {
namespace {

template <class T>
T read(std::string_view bytes, size_t at) {
  T value;
  if (at > bytes.size() || bytes.size() - at < sizeof value)
    throw std::runtime_error("a binary ends too early");
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

std::string_view part(std::string_view bytes, size_t at, size_t size) {
  if (at > bytes.size() || bytes.size() - at < size)
    throw std::runtime_error("a binary ends too early");
  return bytes.substr(at, size);
}

struct Section {
  std::string_view name, bytes;
  Elf64_Shdr header;
};

std::string_view text_at(std::string_view strings, size_t at) {
  const std::string_view rest = part(strings, at, strings.size() - at);
  return rest.substr(0, rest.find('\0'));
}

std::vector<Section> sections_of(std::string_view elf) {
  const auto header = read<Elf64_Ehdr>(elf, 0);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
    throw std::runtime_error("not an ELF file");
  std::vector<Section> sections;
  for (size_t n = 0; n < header.e_shnum; ++n) {
    const auto section = read<Elf64_Shdr>(elf, header.e_shoff + n * header.e_shentsize);
    const bool empty = section.sh_type == SHT_NOBITS;
    sections.push_back(
        {{}, empty ? std::string_view() : part(elf, section.sh_offset, section.sh_size), section});
  }
  for (Section& section : sections)
    section.name = text_at(sections.at(header.e_shstrndx).bytes, section.header.sh_name);
  return sections;
}

const Section* find(const std::vector<Section>& sections, std::string_view name) {
  for (const Section& section : sections)
    if (section.name == name) return &section;
  return nullptr;
}

std::string demangled(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), std::free);
  std::string full = status == 0 ? text.get() : name;
  const size_t arguments = full.rfind('(');  // a template argument may hold one as well
  if (status == 0 && arguments != std::string::npos) full.resize(arguments);
  return full.rfind("void ", 0) == 0 ? full.substr(5) : full;
}

constexpr size_t kEntryHeader = 64;
constexpr uint32_t kFatMagic = 0xba55ed50, kZstdMagic = 0xfd2fb528;
constexpr uint64_t kPackedByLz4 = 0x2000;  // among an entry's flags

// A length of LZ4: four bits, and bytes that are added as long as they are 255.
size_t lz4_length(std::string_view block, size_t nibble, size_t* at) {
  size_t length = nibble;
  for (uint8_t byte = nibble == 15 ? 255 : 0; byte == 255; length += byte)
    byte = read<uint8_t>(block, (*at)++);
  return length;
}

// A block of LZ4: literals, then bytes that stand `distance` before, and so on.
std::string lz4_unpacked(std::string_view block, uint64_t size) {
  std::string out;
  out.reserve(size);
  for (size_t at = 0; at < block.size();) {
    const auto token = read<uint8_t>(block, at++);
    const size_t literals = lz4_length(block, token >> 4, &at);
    out += part(block, at, literals);
    at += literals;
    if (at == block.size()) break;
    const size_t distance = read<uint16_t>(block, at);
    at += 2;
    const size_t copied = lz4_length(block, token & 15, &at) + 4;
    if (distance == 0 || distance > out.size()) throw std::runtime_error("a torn block of LZ4");
    for (size_t n = 0; n < copied; ++n) out += out[out.size() - distance];
  }
  if (out.size() != size) throw std::runtime_error("a block of LZ4 of another size");
  return out;
}

std::string unpacked(std::string_view payload, uint64_t size) {
  if (payload.size() < 4 || read<uint32_t>(payload, 0) != kZstdMagic) return std::string(payload);
  std::string out(size, '\0');
  const size_t frame = ZSTD_findFrameCompressedSize(payload.data(), payload.size());
  const size_t written = ZSTD_decompress(out.data(), out.size(), payload.data(),
                                         ZSTD_isError(frame) != 0 ? payload.size() : frame);
  if (ZSTD_isError(written) != 0) throw std::runtime_error(ZSTD_getErrorName(written));
  out.resize(written);
  return out;
}

}  // namespace

// .nv.info lists attributes: a byte of format (4: a size of two bytes and as many bytes follow), a
// byte of kind. Those of a function are pairs of its symbol's index and a value.
std::vector<CompiledKernel> kernels_of_cubin(const std::string& elf) {
  constexpr uint8_t kSized = 4, kFrameSize = 0x11, kMinStack = 0x12, kRegisters = 0x2f;
  const std::vector<Section> sections = sections_of(elf);
  const Section *info = find(sections, ".nv.info"), *symbols = find(sections, ".symtab"),
                *strings = find(sections, ".strtab");
  if (info == nullptr || symbols == nullptr || strings == nullptr)
    throw std::runtime_error("a cubin without .nv.info or symbols");
  // CUDA 13's assembler has the compute capability in the second byte of the flags (version 8 of
  // the ABI), CUDA 12's in the first.
  const auto header = read<Elf64_Ehdr>(elf, 0);
  const auto compute =
      static_cast<int>(header.e_flags >> (header.e_ident[EI_ABIVERSION] >= 8 ? 8 : 0) & 0xff);
  std::vector<CompiledKernel> kernels;
  std::vector<uint32_t> indices;
  const auto kernel_at = [&](uint32_t index) -> CompiledKernel& {
    for (size_t n = 0; n < indices.size(); ++n)
      if (indices[n] == index) return kernels[n];
    const auto symbol = read<Elf64_Sym>(symbols->bytes, index * sizeof(Elf64_Sym));
    const std::string mangled(text_at(strings->bytes, symbol.st_name));
    CompiledKernel kernel;
    kernel.name = demangled(mangled);
    kernel.compute = compute;
    if (const Section* smem = find(sections, ".nv.shared." + mangled))
      kernel.smem = static_cast<int64_t>(smem->header.sh_size);
    if (const Section* code = find(sections, ".text." + mangled)) kernel.code = code->bytes;
    indices.push_back(index);
    kernels.push_back(kernel);
    return kernels.back();
  };
  for (size_t at = 0; at + 4 <= info->bytes.size();) {
    const auto format = read<uint8_t>(info->bytes, at), kind = read<uint8_t>(info->bytes, at + 1);
    const auto size = read<uint16_t>(info->bytes, at + 2);
    if (format == kSized && size == 8 &&
        (kind == kFrameSize || kind == kMinStack || kind == kRegisters)) {
      CompiledKernel& kernel = kernel_at(read<uint32_t>(info->bytes, at + 4));
      const auto value = read<uint32_t>(info->bytes, at + 8);
      if (kind == kRegisters)
        kernel.registers = static_cast<int>(value);
      else
        kernel.stack = std::max(kernel.stack, static_cast<int64_t>(value));
    }
    at += 4 + (format == kSized ? size : 0);
  }
  // Subroutines that the compiler adds, division among them, belong to their kernels.
  std::erase_if(kernels, [](const CompiledKernel& kernel) { return kernel.name[0] == '$'; });
  return kernels;
}

FatBinary read_fat_binary(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(in), {}};
  const std::vector<Section> sections = sections_of(file);
  const Section* fat = find(sections, ".nv_fatbin");
  if (fat == nullptr) throw std::runtime_error(path + " has no .nv_fatbin");
  FatBinary binary;
  for (size_t at = 0; at + 16 <= fat->bytes.size();) {
    if (read<uint32_t>(fat->bytes, at) != kFatMagic) {  // between the binaries of two objects
      at += 4;
      continue;
    }
    size_t entry = at + read<uint16_t>(fat->bytes, at + 6);
    const size_t end = entry + read<uint64_t>(fat->bytes, at + 8);
    while (entry < end) {
      const auto kind = read<uint16_t>(fat->bytes, entry);
      const auto header = read<uint32_t>(fat->bytes, entry + 4);
      const auto size = read<uint64_t>(fat->bytes, entry + 8);
      const auto full = header >= kEntryHeader ? read<uint64_t>(fat->bytes, entry + 56) : 0;
      const bool lz4 =
          header >= kEntryHeader && (read<uint64_t>(fat->bytes, entry + 40) & kPackedByLz4) != 0;
      std::string bytes =
          lz4 ? lz4_unpacked(
                    part(fat->bytes, entry + header, read<uint32_t>(fat->bytes, entry + 16)), full)
              : unpacked(part(fat->bytes, entry + header, size), full);
      (kind == 2 ? binary.cubins : binary.ptx).push_back(std::move(bytes));
      entry += header + size;
    }
    at = end;
  }
  return binary;
}

}  // namespace qkv::test
