// NumPy's .npy files: format versions 1.0, 2.0 and 3.0, little-endian numbers and booleans.
//
// Refused, each with its reason: objects (pickle), structures, strings, complex numbers, big-endian
// data, headers above 64 KiB, payloads shorter or longer than the shape says.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "host/io/array.h"

namespace qkv::io {

// Data in Fortran order is transposed into C order on the way in. `source` names the data in
// messages.
Array read_npy(std::span<const std::byte> data, std::string_view source = "npy data");

// The same from a file. Memory: the array itself and less than 256 KiB beside it.
Array load_npy(const std::string& path);

// Format version 1.0 with the payload at a multiple of 64 bytes. Types that numpy lacks (bf16, the
// f8 types) are refused.
std::vector<std::byte> write_npy(const View& array);
void save_npy(const std::string& path, const View& array);

}  // namespace qkv::io
