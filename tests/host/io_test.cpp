// The readers and writers of host/io: what they accept, what they refuse and how they say so, and
// the memory they take. This program replaces operator new to count the latter.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/stat.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <new>

#include "host/io/npy.h"
#include "host/io/safetensors.h"

namespace {
std::atomic<std::size_t> live_bytes = 0;
std::atomic<std::size_t> peak_bytes = 0;
}  // namespace

void* operator new(std::size_t size) {
  void* p = std::malloc(size);
  if (p == nullptr) throw std::bad_alloc();
  const std::size_t now = live_bytes += malloc_usable_size(p);
  if (now > peak_bytes) peak_bytes = now;
  return p;
}
void operator delete(void* p) noexcept {
  live_bytes -= malloc_usable_size(p);
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept { operator delete(p); }

namespace {

namespace fs = std::filesystem;
using namespace qkv::io;
using namespace std::string_literals;

const fs::path kHere = QKV_TESTS_DIR;

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

template <class T>
std::vector<T> values(const View& view) {
  const std::span<const T> elements = view.as<T>();
  return {elements.begin(), elements.end()};
}

std::string zeros(std::size_t count) { return std::string(count, '\0'); }

std::string little_endian(std::uint64_t value, std::size_t size) {
  return std::string(reinterpret_cast<const char*>(&value), size);
}

std::string npy(const std::string& header, const std::string& payload = "", char version = 1) {
  return "\x93NUMPY"s + version + '\0' + little_endian(header.size() + 1, version == 1 ? 2 : 4) +
         header + '\n' + payload;
}

std::string literal(const std::string& descr, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }";
}

std::string safetensors(const std::string& header, const std::string& payload = "") {
  return little_endian(header.size(), 8) + header + payload;
}

std::string tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

std::string ones(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "1,";
  return text;
}

// The refusal's message; empty where there is none.
template <class Read>
std::string refusal(const Read& read) {
  try {
    read();
  } catch (const FormatError& error) {
    return error.what();
  }
  return "";
}

Array counting(DType type, std::vector<std::int64_t> shape) {
  Array array = {type, std::move(shape), {}};
  array.bytes.resize(static_cast<std::size_t>(byte_count(array.shape, type).value()));
  for (std::size_t i = 0; i < array.bytes.size(); ++i) array.bytes[i] = static_cast<std::byte>(i);
  return array;
}

// A folder of its own for each test, deleted after it.
class IoFiles : public testing::Test {
 protected:
  IoFiles() {
    std::string name = (fs::temp_directory_path() / "io_test.XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) folder_ = name;
  }
  ~IoFiles() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string write(const std::string& name, const std::string& data) const {
    std::ofstream(path(name), std::ios::binary) << data;
    return path(name);
  }

  fs::path folder_;
};

// --- .npy ---

TEST(Npy, RoundTripsEveryType) {
  for (const DTypeInfo& info : dtype_table()) {
    if (info.npy.empty()) continue;
    SCOPED_TRACE(info.name);
    for (const auto& shape :
         std::vector<std::vector<std::int64_t>>{{}, {5}, {2, 0, 3}, {2, 3, 4}}) {
      const Array array = counting(info.type, shape);
      const std::vector<std::byte> file = write_npy(array.view());
      EXPECT_EQ((file.size() - array.bytes.size()) % 64, 0u);
      EXPECT_EQ(read_npy(file), array);
    }
  }
}

TEST(Npy, ReadsAndWritesTheBytesThatNumpyDoes) {
  const std::string file = "\x93NUMPY\1\0v\0"s + literal("<f4", "(2, 3)") + std::string(58, ' ') +
                           "\n\0\0\0\0\0\0\x80?\0\0\0@\0\0@@\0\0\x80@\0\0\xa0@"s;
  ASSERT_EQ(file.size(), 152u);
  const Array array = read_npy(bytes(file));
  EXPECT_EQ(array.shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(values<float>(array.view()), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_TRUE(std::ranges::equal(write_npy(array.view()), bytes(file)));
}

TEST(Npy, ReadsVersions2And3) {
  for (const char version : {'\2', '\3'}) {
    const Array array = read_npy(bytes(npy(literal("<i4", "(1,)"), "\7\0\0\0"s, version)));
    EXPECT_EQ(values<std::int32_t>(array.view()), std::vector<std::int32_t>{7});
  }
}

TEST(Npy, TakesKeysInAnyOrderAndQuotes) {
  const std::string header = "{\"shape\":(2,1),\"fortran_order\":False,\"descr\":\"|u1\"}";
  EXPECT_EQ(read_npy(bytes(npy(header, "ab"))).shape, (std::vector<std::int64_t>{2, 1}));
}

TEST_F(IoFiles, NpyFortranOrderIsTransposed) {
  // numpy.asfortranarray([[0, 1, 2], [3, 4, 5]]) lies in memory as 0 3 1 4 2 5.
  const std::string header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }";
  const Array small = read_npy(bytes(npy(header, "\0\3\1\4\2\5"s)));
  EXPECT_EQ(values<std::uint8_t>(small.view()), (std::vector<std::uint8_t>{0, 1, 2, 3, 4, 5}));

  // Larger than what is transposed at once, from memory and from a file.
  constexpr std::int64_t kA = 7, kB = 61, kC = 211;
  std::string payload;
  for (std::int64_t c = 0; c < kC; ++c) {
    for (std::int64_t b = 0; b < kB; ++b) {
      for (std::int64_t a = 0; a < kA; ++a) {
        payload += little_endian(static_cast<std::uint64_t>((a * kB + b) * kC + c), 4);
      }
    }
  }
  const std::string file =
      npy("{'descr': '<i4', 'fortran_order': True, 'shape': (7, 61, 211), }", payload);
  const Array array = read_npy(bytes(file));
  const std::vector<std::int32_t> found = values<std::int32_t>(array.view());
  for (std::size_t i = 0; i < found.size(); ++i) ASSERT_EQ(found[i], static_cast<int>(i));
  EXPECT_EQ(load_npy(write("fortran.npy", file)), array);
}

struct Refusal {
  const char* name;
  std::string file;
  const char* message;  // a part of it
};

void PrintTo(const Refusal& row, std::ostream* out) { *out << row.name; }

class NpyRefuses : public testing::TestWithParam<Refusal> {};

TEST_P(NpyRefuses, T11_WithItsReason) {
  const std::string message = refusal([&] { read_npy(bytes(GetParam().file), "x.npy"); });
  EXPECT_TRUE(message.starts_with("x.npy: ")) << message;
  EXPECT_NE(message.find(GetParam().message), std::string::npos) << message;
}

const Refusal kNpyRefusals[] = {
    {"Empty", "", "begins with \"\"; a .npy file begins with \"\\x93NUMPY\""},
    {"OtherMagic", "PK\3\4 and more", "begins with \"PK\\x03\\x04 a\""},
    {"EndsInVersion", "\x93NUMPY\1", "ends inside the first 12 bytes"},
    {"EndsInLength", "\x93NUMPY\2\0\1\0"s, "ends inside the first 12 bytes"},
    {"Version4", npy("{}", "", 4), "format version is 4.0; 1.0, 2.0 and 3.0 are allowed"},
    {"Version1Minor1", "\x93NUMPY\1\1\2\0{}"s, "format version is 1.1"},
    // rogersce/cnpy issue 106, both parts.
    {"CnpyHeaderBeyondData", "\x93NUMPY\1\0\xff\xff"s,
     "header length is 65535; the file has 0 bytes after the length"},
    {"CnpyPayloadShorterThanShape", npy(literal("<f8", "(1000000,)"), zeros(8)),
     "payload is 8 bytes; shape [1000000] of f64 needs 8000000"},
    // llohse/libnpy issue 44, both parts.
    {"LibnpyHeaderOf4GiB", "\x93NUMPY\2\0\xf0\xff\xff\xff"s,
     "header length is 4294967280; at most 65536 is allowed"},
    {"LibnpyProductWraps", npy(literal("<f4", "(4294967296, 4294967296)")),
     "shape [4294967296, 4294967296] of f32: the product exceeds 2^63 - 1 bytes"},
    // The dimension of ggml-org/llama.cpp pull request 18674.
    {"DimensionAbove2To42", npy(literal("|u1", "(4398046511105, 4194304)")), "the product exceeds"},
    {"ProductWrapsBehindZero", npy(literal("|u1", "(0, 4294967296, 4294967296)")),
     "the product exceeds"},
    {"HeaderAbove64KiB", npy(literal("<f4", "(0,)") + std::string(1 << 16, ' '), "", 2),
     "at most 65536 is allowed"},
    {"NoNewline", "\x93NUMPY\1\0\2\0{}"s, "header does not end with a newline"},
    {"EmptyHeader", "\x93NUMPY\1\0\0\0"s, "header does not end with a newline"},
    {"PayloadLonger", npy(literal("<f4", "(1,)"), zeros(5)),
     "payload is 5 bytes; shape [1] of f32 needs 4"},
    {"BigEndian", npy(literal(">f4", "(1,)"), zeros(4)),
     "field descr is \">f4\": big-endian data is not read; convert it to <f4"},
    {"Objects", npy(literal("|O", "(1,)"), "\x80\4N."),
     "field descr is \"|O\": Python objects (pickle) are never read"},
    {"Structure", npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (), }"),
     "field descr is a list: structured types are not supported"},
    {"Complex", npy(literal("<c8", "(1,)"), zeros(8)), "field descr is \"<c8\"; allowed are <f2, "},
    {"NoByteOrder", npy(literal("|f4", "(1,)"), zeros(4)), "field descr is \"|f4\"; allowed are"},
    {"EmptyDescr", npy(literal("", "(1,)"), zeros(4)), "field descr is \"\"; allowed are"},
    {"NoDictionary", npy("[]"), "header has \"[\" where '{' must stand"},
    {"UnknownKey", npy("{'size': 1}"), "header has key \"size\"; the keys are descr"},
    {"KeyTwice", npy("{'shape': (), 'shape': ()}"), "header has key \"shape\" twice"},
    {"KeyMissing", npy("{'descr': '<f4', 'shape': ()}", zeros(4)), "header lacks a key"},
    {"KeyUnquoted", npy("{descr: 1}"), "has no quoted string where a key must stand"},
    {"StringWithoutEnd", npy("{'descr"), "has a string without an end"},
    {"NoColon", npy("{'descr' '<f4'}"), "where ':' must stand"},
    {"NoEnd", npy("{'shape': ()"), "header has the end where '}' must stand"},
    {"GoesOn", npy(literal("<f4", "()") + "{}", zeros(4)), "header goes on after '}'"},
    {"OrderIsNumber", npy("{'fortran_order': 0}"), "field fortran_order is neither True nor False"},
    {"ShapeIsNumber", npy("{'shape': (3)}"), "field shape is (N); one dimension is written (N,)"},
    {"ShapeNegative", npy("{'shape': (-1,)}"), "a dimension that is no whole number >= 0"},
    {"ShapeFraction", npy("{'shape': (1.5,)}"), "field shape has no ',' between two dimensions"},
    {"ShapeLeadingZero", npy("{'shape': (01,)}"), "a dimension with a leading zero"},
    {"ShapeAbove63Bits", npy("{'shape': (9223372036854775808,)}"), "a dimension above 2^63 - 1"},
    {"ShapeOf65Dimensions", npy("{'shape': (" + ones(65) + ")}"), "more than 64 dimensions"},
};
INSTANTIATE_TEST_SUITE_P(Rows, NpyRefuses, testing::ValuesIn(kNpyRefusals),
                         [](const auto& row) { return row.param.name; });

TEST(Npy, WriterRefuses) {
  const Array array = counting(DType::bf16, {2});
  EXPECT_EQ(refusal([&] { write_npy(array.view()); }),
            "npy writer: type is bf16, which numpy does not have; write .safetensors instead");
  const View short_view = {DType::f32, {2}, std::as_bytes(std::span("1234", 4))};
  EXPECT_EQ(refusal([&] { write_npy(short_view); }),
            "npy writer: payload is 4 bytes; shape [2] of f32 needs 8");
  EXPECT_NE(refusal([&] {
              write_npy({DType::f32, {-1}, {}});
            }).find("dimensions must be >= 0"),
            std::string::npos);
}

// --- .safetensors ---

TEST(Safetensors, RoundTripsEveryTypeAlignedAndByName) {
  std::vector<Array> arrays;
  std::vector<NamedView> tensors;
  arrays.reserve(dtype_table().size());
  tensors.reserve(dtype_table().size());
  for (const DTypeInfo& info : dtype_table()) arrays.push_back(counting(info.type, {3, 1}));
  for (const Array& array : arrays) {
    tensors.push_back({"t." + std::string(dtype_info(array.type).name), array.view()});
  }
  const Metadata metadata = {{"format", "pt"}, {"", "a\"\\\n\x01/"}, {"caf\u00e9", "\U0001f600"}};
  const std::vector<std::byte> written = write_safetensors(tensors, metadata);
  const SafetensorsFile file = SafetensorsFile::parse(written);
  EXPECT_EQ(file.metadata(), metadata);
  ASSERT_EQ(file.size(), tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    SCOPED_TRACE(tensors[i].name);
    const View found = file.tensor(tensors[i].name);
    EXPECT_EQ(found.type, arrays[i].type);
    EXPECT_EQ(found.shape, arrays[i].shape);
    EXPECT_TRUE(std::ranges::equal(found.bytes, arrays[i].bytes));
    const auto offset = found.bytes.data() - written.data();
    EXPECT_EQ(offset % dtype_info(found.type).size, 0);
    if (i > 0) {
      EXPECT_LT(file.name(i - 1), file.name(i));
    }
  }
}

TEST(Safetensors, ReadsTheBytesThatTheReferenceLibraryWrites) {
  const std::string data = safetensors(
      "{\"__metadata__\":{\"format\":\"np\",\"\xc3\xa9\\n\":\"\\\"x\\\"\"},"
      "\"q\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
      "\"h\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[8,10]},"
      "\"m\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[10,13]}}    ",
      "\0\0\0\0\0\0\x80?\0>\1\0\1"s);
  const SafetensorsFile file = SafetensorsFile::parse(bytes(data));
  EXPECT_EQ(file.metadata(), (Metadata{{"format", "np"}, {"\u00e9\n", "\"x\""}}));
  EXPECT_EQ(file.size(), 3u);
  EXPECT_EQ(file.name(0), "h");
  EXPECT_EQ(values<float>(file.tensor("q")), (std::vector<float>{0, 1}));
  EXPECT_EQ(file.tensor("m").shape, std::vector<std::int64_t>{3});
  EXPECT_FALSE(file.contains("Q"));
}

TEST(Safetensors, EscapedNamesAreFoundDecoded) {
  const std::string zero = tensor("U8", "[0]", "[0,0]");
  const std::string data = safetensors("{\"\\u0061\\ud83d\\ude00\\/\":" + zero +
                                       ",\"b\\\\\":" + zero + ",\"\\u20aC\\u00e9\":" + zero + "}");
  const SafetensorsFile file = SafetensorsFile::parse(bytes(data));
  EXPECT_TRUE(file.contains("a\U0001f600/"));
  EXPECT_TRUE(file.contains("b\\"));
  EXPECT_TRUE(file.contains("\u20ac\u00e9"));
  EXPECT_FALSE(file.contains("\\u0061"));
}

TEST(Safetensors, NoTensorsAndEmptyOnes) {
  EXPECT_EQ(SafetensorsFile::parse(bytes(safetensors("{}"))).size(), 0u);
  EXPECT_EQ(SafetensorsFile::parse(bytes(safetensors("{ } \n"))).size(), 0u);
  const std::string data = safetensors(
      "{\"a\":" + tensor("U8", "[1]", "[0,1]") + ",\"b\":" + tensor("F32", "[0,7]", "[1,1]") + "}",
      "x");
  EXPECT_TRUE(SafetensorsFile::parse(bytes(data)).tensor("b").bytes.empty());
}

TEST(Safetensors, ViewsSayWhyTheyCannotBeReadAsAType) {
  alignas(4) const std::byte raw[8] = {};
  EXPECT_EQ(refusal([&] {
              View{DType::u8, {4}, std::span(raw, 4)}.as<float>();
            }),
            "tensor: its type is u8; read as f32");
  EXPECT_EQ(refusal([&] {
              View{DType::f32, {1}, std::span(raw + 1, 4)}.as<float>();
            }),
            "tensor: its address is not a multiple of 4; copy the bytes first");
}

class SafetensorsRefuses : public testing::TestWithParam<Refusal> {};

TEST_P(SafetensorsRefuses, T11_WithItsReason) {
  const std::string message =
      refusal([&] { SafetensorsFile::parse(bytes(GetParam().file), "x.safetensors"); });
  EXPECT_TRUE(message.starts_with("x.safetensors: ")) << message;
  EXPECT_NE(message.find(GetParam().message), std::string::npos) << message;
}

// A file whose one tensor, "q", is as given.
std::string one(const std::string& entry, const std::string& payload = "") {
  return safetensors("{\"q\":" + entry + "}", payload);
}

std::string metadata_of(std::size_t entries) {
  std::string text = "{\"__metadata__\":{";
  for (std::size_t i = 0; i < entries; ++i) {
    text += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":\"\"";
  }
  return text + "}}";
}

const Refusal kSafetensorsRefusals[] = {
    {"Empty", "", "has 0 bytes; a .safetensors file has at least 10"},
    {"HeaderBeyondFile", little_endian(3, 8) + "{}",
     "header length is 3; at most 2 is allowed in this file"},
    {"HeaderOf16EiB", little_endian(~std::uint64_t{7}, 8) + "{}",
     "header length is 18446744073709551608; at most 2 is allowed"},
    {"SpaceFirst", safetensors(" {}"), "header does not begin with '{'"},
    {"NoHeader", safetensors(""), "header does not begin with '{'"},
    {"GoesOn", safetensors("{}x"), "header byte 2: found \"x\" after the end of the header"},
    {"NoEnd", safetensors("{"), "header byte 1: found the end; '\"' must stand here"},
    {"NotATensor", one("1"), "header byte 5: found \"1\"; '{' must stand here"},
    {"Deep", one(std::string(100000, '[')), "found \"[\"; '{' must stand here"},
    {"NoComma", safetensors("{\"__metadata__\":{} \"q\""), "found \"\\\"\"; ',' or '}' must"},
    {"CommaAtEnd", safetensors("{\"__metadata__\":{},}"), "found \"}\"; '\"' must stand here"},
    {"NameTwice",
     safetensors("{\"a\":" + tensor("U8", "[0]", "[0,0]") +
                 ",\"\\u0061\":" + tensor("U8", "[0]", "[0,0]") + "}"),
     "occurs twice"},
    {"FieldUnknown", one("{\"size\":1}"),
     "tensor \"q\": has field \"size\"; fields are dtype, shape, data_offsets"},
    {"FieldTwice", one("{\"shape\":[],\"shape\":[]}"), "tensor \"q\": has field \"shape\" twice"},
    {"FieldMissing", one("{\"shape\":[]}"), "tensor \"q\": lacks a field; dtype, shape and data"},
    {"Dtype", one(tensor("F4", "[2]", "[0,1]"), "x"),
     "tensor \"q\": dtype is \"F4\"; allowed are F16, BF16, F32"},
    {"DtypeNumber", one("{\"dtype\":4}"), "found \"4\"; '\"' must stand here"},
    {"ShapeNegative", one(tensor("U8", "[-1]", "[0,0]")), "found \"-\"; a whole number >= 0"},
    {"ShapeFraction", one(tensor("U8", "[1.5]", "[0,1]")), "found \".\"; ',' or ']' must stand"},
    {"ShapeExponent", one(tensor("U8", "[1e3]", "[0,1]")), "found \"e\"; ',' or ']' must stand"},
    {"ShapeLeadingZero", one(tensor("U8", "[01]", "[0,1]")), "a number with a leading zero"},
    {"ShapeOf65", one(tensor("U8", "[" + ones(64) + "1]", "[0,1]"), "x"),
     "shape has more than 64 dimensions"},
    // ggml-org/llama.cpp pull request 18674: a dimension of 2^42 + 1; the product wraps to 0.
    {"LlamaProductWraps", one(tensor("U8", "[4398046511105,4194304,4398046511104]", "[0,0]")),
     "shape [4398046511105, 4194304, 4398046511104] of U8: the product exceeds 2^63 - 1 bytes"},
    // ml-explore/mlx pull request 3364: offsets that cover less than the shape.
    {"MlxOffsetsShorterThanShape", one(tensor("F32", "[1000,1000]", "[0,4]"), zeros(4)),
     "data_offsets is [0, 4]; shape [1000, 1000] of F32 needs 4000000 bytes"},
    {"OffsetsWrap", one(tensor("U8", "[8]", "[18446744073709551608,0]"), zeros(8)),
     "a number above 2^63 - 1"},
    {"OffsetsDescend", one(tensor("U8", "[0]", "[1,0]"), "x"), "data_offsets is [1, 0]; it must"},
    {"OffsetsBeyondFile", one(tensor("U8", "[2]", "[0,2]"), "x"),
     "data_offsets is [0, 2]; it must ascend and end within the payload of 1 bytes"},
    {"OffsetsThree", one(tensor("U8", "[1]", "[0,1,2]"), "x"), "found \",\"; ']' must stand here"},
    {"HoleBefore", one(tensor("U8", "[1]", "[1,2]"), "xx"),
     "tensor \"q\": begins at 1 and leaves a hole before it; it must begin at 0"},
    {"HoleAfter", one(tensor("U8", "[1]", "[0,1]"), "xx"),
     "payload is 2 bytes; the tensors cover 1"},
    {"Overlap",
     safetensors(
         "{\"a\":" + tensor("U8", "[2]", "[0,2]") + ",\"b\":" + tensor("U8", "[2]", "[1,3]") + "}",
         "xxx"),
     "tensor \"b\": begins at 1 and overlaps the tensor before it; it must begin at 2"},
    {"MetadataTwice", safetensors("{\"__metadata__\":{},\"__metadata__\":{}}"),
     "header has __metadata__ twice"},
    {"MetadataKeyTwice", safetensors("{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}"),
     "__metadata__ has key \"a\" twice"},
    {"MetadataNumber", safetensors("{\"__metadata__\":{\"a\":1}}"), "found \"1\"; '\"' must stand"},
    {"MetadataOf4097", safetensors(metadata_of(4097)), "__metadata__ has more than 4096 entries"},
    {"StringWithoutEnd", safetensors("{\"q"), "header byte 2: a string starts and does not end"},
    {"StringEndsInEscape", safetensors("{\"q\\"), "a string starts and does not end"},
    {"StringControl", safetensors("{\"\n\":1}"), "\"\\x0a\" in a string; control characters"},
    {"StringNotUtf8", safetensors("{\"\xc0\x80\":1}"), "\"\\xc0\" in a string; it must be UTF-8"},
    {"StringSurrogateUtf8", safetensors("{\"\xed\xa0\x80\":1}"), "it must be UTF-8"},
    {"StringBeyondUnicode", safetensors("{\"\xf4\x90\x80\x80\":1}"), "it must be UTF-8"},
    {"StringCutUtf8", safetensors("{\"\xe2\x82"), "it must be UTF-8"},
    {"EscapeUnknown", safetensors("{\"\\x41\":1}"), "escape \"\\\\x\"; JSON has no such escape"},
    {"EscapeShort", safetensors("{\"\\u00g1\":1}"), "\\u needs 4 hexadecimal digits"},
    {"EscapeLowAlone", safetensors("{\"\\udc00\":1}"), "a low surrogate without a high one"},
    {"EscapeHighAlone", safetensors("{\"\\ud800x\":1}"), "a high surrogate without a low one"},
    {"EscapeHighTwice", safetensors("{\"\\ud800\\ud800\":1}"), "a high surrogate without a low"},
};
INSTANTIATE_TEST_SUITE_P(Rows, SafetensorsRefuses, testing::ValuesIn(kSafetensorsRefusals),
                         [](const auto& row) { return row.param.name; });

TEST(Safetensors, MissingTensorsAreNamedBesideThoseThatAre) {
  const std::string data = one(tensor("U8", "[0]", "[0,0]"));
  EXPECT_EQ(refusal([&] { SafetensorsFile::parse(bytes(data), "x").tensor("k"); }),
            "x: has no tensor \"k\"; it has \"q\"");
}

TEST(Safetensors, WriterRefuses) {
  const auto message = [](std::vector<NamedView> tensors, const Metadata& metadata = {}) {
    return refusal([&] { write_safetensors(tensors, metadata); });
  };
  const View empty = {DType::f32, {0}, {}};
  EXPECT_EQ(message({{"a", empty}, {"a", empty}}),
            "safetensors writer: tensor name \"a\" occurs twice");
  EXPECT_EQ(message({{"__metadata__", empty}}),
            "safetensors writer: tensor name is __metadata__, which the format reserves");
  EXPECT_EQ(message({{"\xff", empty}}), "safetensors writer: tensor name \"\\xff\" is not UTF-8");
  EXPECT_EQ(message({}, {{"a", "\xff"}}),
            "safetensors writer: metadata value \"\\xff\" is not UTF-8");
  EXPECT_EQ(message({{"a", {DType::f32, {1}, {}}}}),
            "safetensors writer: tensor \"a\": payload is 0 bytes; shape [1] of f32 needs 4");
}

// --- files ---

TEST_F(IoFiles, SaveAndLoad) {
  const Array array = counting(DType::f32, {3, 5});
  save_npy(path("a.npy"), array.view());
  EXPECT_EQ(load_npy(path("a.npy")), array);
  const std::vector<NamedView> tensors = {{"a", array.view()}};
  save_safetensors(path("a.safetensors"), tensors);
  EXPECT_TRUE(std::ranges::equal(SafetensorsFile::open(path("a.safetensors")).tensor("a").bytes,
                                 array.bytes));
}

TEST_F(IoFiles, WritingReplacesWholeFilesUnderOpenViews) {
  const Array before = counting(DType::u8, {9}), after = counting(DType::u8, {3});
  save_safetensors(path("a"), std::vector<NamedView>{{"a", before.view()}});
  fs::create_symlink("a", path("link"));
  SafetensorsFile first = SafetensorsFile::open(path("a"));
  const SafetensorsFile open = std::move(first);
  save_safetensors(path("link"), std::vector<NamedView>{{"a", after.view()}});
  EXPECT_TRUE(std::ranges::equal(open.tensor("a").bytes, before.bytes));
  EXPECT_EQ(SafetensorsFile::open(path("a")).tensor("a").shape, after.shape);
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 2);
}

TEST_F(IoFiles, RefusesWhatIsNoRegularFile) {
  const std::string missing = path("missing.npy"), pipe = path("pipe.npy");
  EXPECT_EQ(refusal([&] { load_npy(missing); }),
            missing + ": cannot open: No such file or directory");
  EXPECT_EQ(refusal([&] { load_npy(folder_.string()); }),
            folder_.string() + ": is not a regular file");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(refusal([&] { SafetensorsFile::open(pipe); }), pipe + ": is not a regular file");
  EXPECT_EQ(refusal([&] { SafetensorsFile::open(write("empty", "")); }),
            path("empty") + ": has 0 bytes; a .safetensors file has at least 10");
}

TEST_F(IoFiles, RefusesToWriteWhereItCannot) {
  const View view = {DType::f32, {0}, {}};
  EXPECT_EQ(refusal([&] { save_npy(path("no/a.npy"), view); }),
            path("no/a.npy") + ": cannot open for writing: No such file or directory");
  EXPECT_EQ(refusal([&] { save_npy(folder_.string(), view); }),
            folder_.string() + ": cannot open for writing: Is a directory");
  const Array large = counting(DType::u8, {1 << 20});
  EXPECT_EQ(refusal([&] { save_npy("/dev/full", large.view()); }),
            "/dev/full: cannot write: No space left on device");
}

// --- memory: at most the file's size and 1 MiB ---

template <class Read>
std::size_t peak_of(const Read& read) {
  const std::size_t before = live_bytes;
  peak_bytes = before;
  read();
  return peak_bytes - before;
}

constexpr std::size_t kMiB = std::size_t{1} << 20;

TEST_F(IoFiles, MemoryOfNpyIsTheArray) {
  for (const char* order : {"False", "True"}) {
    const std::string header =
        "{'descr': '<f8', 'fortran_order': "s + order + ", 'shape': (1024, 1024)}";
    const std::string file = write("large.npy", npy(header, zeros(8 * kMiB)));
    EXPECT_LE(peak_of([&] { load_npy(file); }), 8 * kMiB + kMiB / 4) << order;
  }
  EXPECT_LE(peak_of([] { refusal([] { read_npy(bytes("\x93NUMPY\2\0\xf0\xff\xff\xff"s)); }); }),
            kMiB / 4);
}

TEST_F(IoFiles, MemoryOfSafetensorsIsBelowItsHeader) {
  std::string header = "{";  // entries as small as they get
  for (int i = 0; i < 100'000; ++i) {
    header += "\"" + std::to_string(i) + "\":" + tensor("U8", "[0]", "[0,0]") + ",";
  }
  header.back() = '}';
  const std::string many = write("many", safetensors(header));
  EXPECT_LE(peak_of([&] { EXPECT_EQ(SafetensorsFile::open(many).size(), 100'000u); }),
            header.size());
  const std::string most = write("most", safetensors(metadata_of(4096)));
  EXPECT_LE(peak_of([&] { EXPECT_EQ(SafetensorsFile::open(most).metadata().size(), 4096u); }),
            fs::file_size(most) + kMiB);
}

// --- the files in this repository ---

TEST(Corpus, HostileSeedsAreRefused) {
  int refused = 0;
  for (const fs::path folder : {"npy", "safetensors"}) {
    for (const auto& entry : fs::directory_iterator(kHere / "fuzz" / "corpus" / folder)) {
      const std::string path = entry.path().string();
      const std::string message = refusal([&] {
        if (folder == "npy") return (void)load_npy(path);
        SafetensorsFile::open(path);
      });
      if (!entry.path().filename().string().starts_with("hostile_")) continue;
      EXPECT_NE(message, "") << path;
      ++refused;
    }
  }
  EXPECT_EQ(refused, 8);
}

// Attention in fp64 on the stored Q, K, V is what the model computed from them.
TEST(RealData, MatchesTheModelsOwnOutput) {
  const SafetensorsFile file = SafetensorsFile::open((kHere / "data/minilm.safetensors").string());
  for (const std::string name : {"paragraph", "sentence", "nine"}) {
    const View shape = file.tensor(name + ".q");
    const auto q = values<float>(shape), k = values<float>(file.tensor(name + ".k")),
               v = values<float>(file.tensor(name + ".v")),
               out = values<float>(file.tensor(name + ".out"));
    ASSERT_EQ(shape.shape.size(), 4u);
    const auto heads = static_cast<std::size_t>(shape.shape[1]),
               n = static_cast<std::size_t>(shape.shape[2]),
               d = static_cast<std::size_t>(shape.shape[3]);
    double worst = 0;
    for (std::size_t h = 0; h < heads; ++h) {
      for (std::size_t i = 0; i < n; ++i) {
        std::vector<double> o(d);
        double l = 0;
        for (std::size_t j = 0; j < n; ++j) {
          double s = 0;
          for (std::size_t x = 0; x < d; ++x) {
            s += double{q[(h * n + i) * d + x]} * double{k[(h * n + j) * d + x]};
          }
          const double p = std::exp(s / std::sqrt(static_cast<double>(d)));
          l += p;
          for (std::size_t x = 0; x < d; ++x) o[x] += p * double{v[(h * n + j) * d + x]};
        }
        for (std::size_t x = 0; x < d; ++x) {
          worst = std::max(worst, std::abs(o[x] / l - double{out[(h * n + i) * d + x]}));
        }
      }
    }
    std::cout << name << ": " << n << " tokens, largest difference " << worst << '\n';
    EXPECT_LE(worst, 1e-5);
  }
  const SafetensorsFile books = SafetensorsFile::open((kHere / "data/books.safetensors").string());
  EXPECT_EQ(books.tensor("k").shape, (std::vector<std::int64_t>{6, 384}));
  EXPECT_EQ(books.metadata().at("query"), "pirates looking for gold");
}

}  // namespace
