// Functions that device code calls and the system provides: vprintf, __assertfail, malloc, free.
//
// CUDA C++ programming guide, "Formatted output" and "Dynamic global memory allocation".
#pragma once

#include <string>

#include "common/types.h"

namespace vgpu {

class Warp;
struct Instr;

// Prints for one lane; returns the number of arguments, as the device's printf does.
u64 device_printf(Warp& warp, const Instr& in, int lane, u64 format, u64 arguments);
// A zero-terminated string at a generic address; stops at the allocation's end.
std::string read_string(Warp& warp, u64 address);
u64 device_malloc(Warp& warp, u64 bytes);
void device_free(Warp& warp, const Instr& in, int lane, u64 address);

}  // namespace vgpu
