// Any bytes either are refused with a FormatError or are an array that survives being written and
// read again.
#include <cstdlib>
#include <span>

#include "host/io/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qkv::io;
  Array array;
  try {
    array = read_npy(std::as_bytes(std::span(data, size)));
  } catch (const FormatError&) {
    return 0;
  }
  if (array.bytes.size() > size) std::abort();
  if (read_npy(write_npy(array.view())) != array) std::abort();
  return 0;
}
