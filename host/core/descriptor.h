// Structs of the C ABI that begin with struct_size: every release may append fields to them. A call
// sees today's struct whatever the caller was compiled with, and writes no more of a result than
// the caller has room for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "host/core/status.h"

namespace qkv::host {

// What an _init function leaves in a descriptor, as a sign that its defaults are there: "qkv1".
inline constexpr int32_t kDescriptorMark = 0x716b7631;

// What is known of one descriptor.
struct DescriptorForm {
  const char* init;               // the name of its _init function
  std::span<const size_t> sizes;  // of each release that changed it, rising; the last is today's
  const void* defaults;           // today's struct, with 0 for struct_size and mark

  const char* mark_name = nullptr;  // of the int32_t that holds the mark; null: it has none yet
  size_t mark_offset = 0;
  // Else descriptors of the first size have none; there the field must be 0.
  bool marked_from_the_first = false;

  size_t today() const { return sizes.back(); }
};

// Defaults into the first struct_size bytes, and the mark where a descriptor of this size has one.
Status init_descriptor(const DescriptorForm& form, void* desc, size_t struct_size);

// Copies a shorter descriptor, and the defaults of what it lacks, into `room`, form.today() bytes;
// *current is then `room`, else `desc` itself. A newer caller may pass a longer one, as long as it
// asks for nothing new.
Status upgrade_descriptor(const DescriptorForm& form, const void* desc, void* room,
                          const void** current);

// Refuses the size of a result that no release had. `name` is the result's.
Status check_result_size(const char* name, std::span<const size_t> sizes, size_t struct_size);

// A caller's descriptor, for the length of a call. `Desc` begins with size_t struct_size.
template <class Desc>
class Descriptor {
 public:
  Descriptor() = default;  // leaves the room as it is: most callers need none
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  Status read(const DescriptorForm& form, const Desc* given) {
    const void* current = nullptr;
    QKV_RETURN_IF_ERROR(upgrade_descriptor(form, given, &room_, &current));
    current_ = static_cast<const Desc*>(current);
    of_first_release_ = given->struct_size == form.sizes.front();
    return {};
  }

  // Today's struct; its struct_size is the caller's.
  const Desc& operator*() const { return *current_; }
  const Desc* operator->() const { return current_; }
  // It has the size that the first release gave it: what that release put up with passes.
  bool of_first_release() const { return of_first_release_; }

 private:
  Desc room_;
  const Desc* current_ = nullptr;
  bool of_first_release_ = false;
};

// As much of `from` as the caller's result has room for; struct_size stays the caller's.
template <class Result>
void write_result(const Result& from, Result* to) {
  constexpr size_t kHead = sizeof to->struct_size;
  const size_t size = to->struct_size < sizeof from ? to->struct_size : sizeof from;
  std::memcpy(reinterpret_cast<char*>(to) + kHead, reinterpret_cast<const char*>(&from) + kHead,
              size - kHead);
}

}  // namespace qkv::host
