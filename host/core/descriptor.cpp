#include "host/core/descriptor.h"

#include <algorithm>

namespace qkv::host {
namespace {

constexpr size_t kMostGrowth = 16;  // times today's size: what is longer is no size at all

// Of an earlier release or today's.
bool known(std::span<const size_t> sizes, size_t struct_size) {
  return std::find(sizes.begin(), sizes.end(), struct_size) != sizes.end();
}

// Of one of these, or of a later release.
bool plausible(std::span<const size_t> sizes, size_t struct_size) {
  return known(sizes, struct_size) ||
         (struct_size > sizes.back() && struct_size <= kMostGrowth * sizes.back());
}

std::string sizes_text(std::span<const size_t> sizes) {
  std::string out;
  for (const size_t size : sizes) out += text(out.empty() ? "" : ", ", size);
  return out;
}

bool has_mark(const DescriptorForm& form, size_t struct_size) {
  return form.mark_name != nullptr &&
         (form.marked_from_the_first || struct_size > form.sizes.front());
}

Status check_mark(const DescriptorForm& form, const void* desc, size_t struct_size) {
  if (form.mark_name == nullptr) return {};
  int32_t mark = 0;
  std::memcpy(&mark, static_cast<const char*>(desc) + form.mark_offset, sizeof mark);
  if (!has_mark(form, struct_size)) {
    QKV_REQUIRE(mark == 0, QKV_INVALID_VALUE, form.mark_name, " is ", mark, "; it must be 0");
    return {};
  }
  QKV_REQUIRE(mark == kDescriptorMark, QKV_INVALID_VALUE, form.mark_name, " is ", mark,
              ", not the mark that ", form.init,
              " leaves; call it first: zeros are not the defaults of all fields");
  return {};
}

Status check_tail(const void* desc, size_t struct_size, size_t today) {
  const auto* bytes = static_cast<const unsigned char*>(desc);
  const bool clean =
      std::all_of(bytes + today, bytes + struct_size, [](unsigned char byte) { return byte == 0; });
  QKV_REQUIRE(clean, QKV_INVALID_STRUCT_SIZE, "struct_size is ", struct_size,
              " and fields past this library's ", today, " bytes are set; it needs a newer libqkv");
  return {};
}

}  // namespace

Status init_descriptor(const DescriptorForm& form, void* desc, size_t struct_size) {
  QKV_REQUIRE(desc != nullptr, QKV_INVALID_NULL, "the descriptor is null");
  QKV_REQUIRE(plausible(form.sizes, struct_size), QKV_INVALID_STRUCT_SIZE, "struct_size is ",
              struct_size, "; this library knows ", sizes_text(form.sizes));
  auto* bytes = static_cast<char*>(desc);
  const size_t known = std::min(struct_size, form.today());
  std::memcpy(bytes, form.defaults, known);
  std::memset(bytes + known, 0, struct_size - known);
  std::memcpy(bytes, &struct_size, sizeof struct_size);
  if (has_mark(form, struct_size))
    std::memcpy(bytes + form.mark_offset, &kDescriptorMark, sizeof kDescriptorMark);
  return {};
}

Status upgrade_descriptor(const DescriptorForm& form, const void* desc, void* room,
                          const void** current) {
  QKV_REQUIRE(desc != nullptr, QKV_INVALID_NULL, "the descriptor is null");
  size_t struct_size = 0;
  std::memcpy(&struct_size, desc, sizeof struct_size);
  const size_t today = form.today();
  QKV_REQUIRE(plausible(form.sizes, struct_size), QKV_INVALID_STRUCT_SIZE, "struct_size is ",
              struct_size, "; this library knows ", sizes_text(form.sizes), " (call ", form.init,
              " first)");
  QKV_RETURN_IF_ERROR(check_mark(form, desc, struct_size));
  *current = desc;
  if (struct_size > today) return check_tail(desc, struct_size, today);
  if (struct_size == today) return {};
  std::memcpy(room, desc, struct_size);
  std::memcpy(static_cast<char*>(room) + struct_size,
              static_cast<const char*>(form.defaults) + struct_size, today - struct_size);
  *current = room;
  return {};
}

Status check_result_size(const char* name, std::span<const size_t> sizes, size_t struct_size) {
  QKV_REQUIRE(known(sizes, struct_size) || struct_size > sizes.back(), QKV_INVALID_STRUCT_SIZE,
              name, ".struct_size is ", struct_size, "; this library knows ", sizes_text(sizes));
  return {};
}

}  // namespace qkv::host
