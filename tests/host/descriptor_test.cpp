// Structs that grow: a made-up descriptor with a history of three releases, and what a result of
// each size gets.
#include "host/core/descriptor.h"

#include <gtest/gtest.h>

#include <array>

namespace qkv::host {
namespace {

struct Now {
  size_t struct_size;
  int32_t first;
  int32_t mark;
  int64_t second;  // since the second release
  int64_t third;   // since the third
};

constexpr size_t kSizes[] = {16, 24, sizeof(Now)};
constexpr Now kDefaults{0, 1, 0, 2, 3};
constexpr DescriptorForm kForm{"now_init", kSizes, &kDefaults, "mark", offsetof(Now, mark)};
constexpr DescriptorForm kUnmarked{"now_init", kSizes, &kDefaults};

// Bytes of a caller, 0x5a until written to, with room behind every size.
union Caller {
  Caller() { bytes.fill(0x5a); }
  std::array<unsigned char, 1024> bytes;
  Now now;

  bool untouched_from(size_t at) const {
    return std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end(),
                       [](unsigned char byte) { return byte == 0x5a; });
  }
};

TEST(Init, WritesTheCallersSizeAndNoMore) {
  for (const size_t size : kSizes) {
    Caller caller;
    ASSERT_TRUE(init_descriptor(kForm, &caller.now, size).ok());
    EXPECT_TRUE(caller.untouched_from(size)) << size;
    EXPECT_EQ(caller.now.struct_size, size);
    EXPECT_EQ(caller.now.first, 1);
    EXPECT_EQ(caller.now.mark, size == 16 ? 0 : kDescriptorMark);
    if (size >= 24) {
      EXPECT_EQ(caller.now.second, 2);
    }
    if (size >= 32) {
      EXPECT_EQ(caller.now.third, 3);
    }
  }
}

TEST(Init, ZeroesWhatOnlyANewerCallerHas) {
  Caller caller;
  ASSERT_TRUE(init_descriptor(kForm, &caller.now, 40).ok());
  EXPECT_TRUE(caller.untouched_from(40));
  EXPECT_EQ(caller.now.mark, kDescriptorMark);
  EXPECT_EQ(caller.now.third, 3);
  for (size_t at = sizeof(Now); at < 40; ++at) EXPECT_EQ(caller.bytes[at], 0);
}

TEST(Init, KnowsWhatReleasesHad) {
  for (const size_t size : {size_t{0}, size_t{8}, size_t{20}, size_t{31}, SIZE_MAX}) {
    Caller caller;
    const Status status = init_descriptor(kForm, &caller.now, size);
    EXPECT_EQ(status.code(), QKV_INVALID_STRUCT_SIZE) << size;
    EXPECT_NE(status.reason().find("this library knows 16, 24, 32"), std::string::npos);
    EXPECT_TRUE(caller.untouched_from(0));
  }
  EXPECT_EQ(init_descriptor(kForm, nullptr, 16).code(), QKV_INVALID_NULL);
}

TEST(Read, GivesAnOlderCallerTheDefaultsOfWhatItLacks) {
  for (const size_t size : kSizes) {
    Caller caller;
    ASSERT_TRUE(init_descriptor(kForm, &caller.now, size).ok());
    caller.now.first = 11;
    if (size >= 24) caller.now.second = 12;
    if (size >= 32) caller.now.third = 13;
    Descriptor<Now> desc;
    ASSERT_TRUE(desc.read(kForm, &caller.now).ok());
    EXPECT_EQ(desc->struct_size, size);
    EXPECT_EQ(desc->first, 11);
    EXPECT_EQ(desc->second, size >= 24 ? 12 : 2);
    EXPECT_EQ(desc->third, size >= 32 ? 13 : 3);
    EXPECT_EQ(desc.of_first_release(), size == 16);
    EXPECT_TRUE(caller.untouched_from(size));
  }
}

TEST(Read, TakesTheCallersOwnWhereItIsTodays) {
  Now now = kDefaults;
  now.struct_size = sizeof now;
  now.mark = kDescriptorMark;
  Descriptor<Now> desc;
  ASSERT_TRUE(desc.read(kForm, &now).ok());
  EXPECT_EQ(&*desc, &now);
}

TEST(Read, TakesANewerCallersThatAsksForNothingNew) {
  Caller caller;
  ASSERT_TRUE(init_descriptor(kForm, &caller.now, 48).ok());
  Descriptor<Now> desc;
  EXPECT_TRUE(desc.read(kForm, &caller.now).ok());
  caller.bytes[47] = 1;
  const Status status = desc.read(kForm, &caller.now);
  EXPECT_EQ(status.code(), QKV_INVALID_STRUCT_SIZE);
  EXPECT_NE(status.reason().find("past this library's 32 bytes"), std::string::npos);
}

TEST(Read, WantsTheMarkSinceThereIsOne) {
  for (const size_t size : kSizes) {
    for (const int32_t mark : {0, 1, kDescriptorMark}) {
      Caller caller;
      ASSERT_TRUE(init_descriptor(kForm, &caller.now, size).ok());
      caller.now.mark = mark;
      Descriptor<Now> desc;
      const Status status = desc.read(kForm, &caller.now);
      EXPECT_EQ(status.ok(), mark == (size == 16 ? 0 : kDescriptorMark)) << size << " " << mark;
      if (status.ok()) continue;
      EXPECT_EQ(status.code(), QKV_INVALID_VALUE);
      const std::string says = size == 16 ? "it must be 0" : "not the mark that now_init leaves";
      EXPECT_NE(status.reason().find(says), std::string::npos) << status.reason();
    }
    Caller caller;
    ASSERT_TRUE(init_descriptor(kUnmarked, &caller.now, size).ok());
    EXPECT_EQ(caller.now.mark, 0);
    Descriptor<Now> desc;
    EXPECT_TRUE(desc.read(kUnmarked, &caller.now).ok()) << size;
  }
}

TEST(Read, RefusesSizesThatNoReleaseHad) {
  for (const size_t size : {size_t{0}, size_t{15}, size_t{20}, size_t{31}, size_t{16 * 32 + 1}}) {
    Caller caller;
    caller.now.struct_size = size;
    Descriptor<Now> desc;
    const Status status = desc.read(kForm, &caller.now);
    EXPECT_EQ(status.code(), QKV_INVALID_STRUCT_SIZE) << size;
    EXPECT_NE(status.reason().find("call now_init first"), std::string::npos) << status.reason();
  }
  Descriptor<Now> desc;
  EXPECT_EQ(desc.read(kForm, nullptr).code(), QKV_INVALID_NULL);
}

TEST(Results, AreWrittenUpToTheCallersSize) {
  const Now answer{0, 21, 22, 23, 24};
  for (const size_t size : {size_t{16}, size_t{24}, size_t{32}, size_t{40}}) {
    Caller caller;
    caller.now.struct_size = size;
    ASSERT_TRUE(check_result_size("answer", kSizes, size).ok());
    write_result(answer, &caller.now);
    EXPECT_EQ(caller.now.struct_size, size);
    EXPECT_EQ(caller.now.first, 21);
    EXPECT_EQ(caller.now.mark, 22);
    if (size >= 24) {
      EXPECT_EQ(caller.now.second, 23);
    }
    if (size >= 32) {
      EXPECT_EQ(caller.now.third, 24);
    }
    EXPECT_TRUE(caller.untouched_from(std::min(size, sizeof(Now)))) << size;
  }
  for (const size_t size : {size_t{0}, size_t{15}, size_t{17}, size_t{31}}) {
    const Status status = check_result_size("answer", kSizes, size);
    EXPECT_EQ(status.code(), QKV_INVALID_STRUCT_SIZE) << size;
    EXPECT_NE(status.reason().find("answer.struct_size is"), std::string::npos);
  }
}

}  // namespace
}  // namespace qkv::host
