// Tensors that the command line names, and their conversion to the types of attention.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "host/io/array.h"
#include "qkv/qkv.h"

namespace qkv::cli {

// Reads "FILE.npy" or "FILE.safetensors:NAME". `option` is what messages call it: "--q".
io::Array read_tensor(const std::string& option, const std::string& argument);

// The elements as `type` (f32, f16 or bf16). Allowed sources: f64, f32, f16, bf16.
io::Array as_float(const std::string& option, io::Array array, qkv_type type);

// Whole numbers that fit 32 bits. Allowed sources: every integer type.
io::Array as_int32(const std::string& option, const io::Array& array);

// Truth values. Allowed sources: bool, u8, i8.
io::Array as_bool(const std::string& option, io::Array array);

// The element type as qkv has it; QKV_TYPE_NONE where it has none.
qkv_type qkv_type_of(io::DType type);
io::DType dtype_of(qkv_type type);

// One element as a number, whatever its type.
double element(const io::View& view, int64_t index);

}  // namespace qkv::cli
