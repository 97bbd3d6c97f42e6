// Any bytes either are refused with a FormatError or are tensors that survive being written and
// read again, each found by its name.
#include <algorithm>
#include <cstdlib>
#include <span>

#include "host/io/safetensors.h"

namespace {

using namespace qkv::io;

void check(bool holds) {
  if (!holds) std::abort();
}

bool equal(const View& a, const View& b) {
  return a.type == b.type && a.shape == b.shape && std::ranges::equal(a.bytes, b.bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<NamedView> tensors;
  Metadata metadata;
  try {
    const SafetensorsFile file = SafetensorsFile::parse(std::as_bytes(std::span(data, size)));
    metadata = file.metadata();
    for (std::size_t i = 0; i < file.size(); ++i) {
      tensors.push_back({file.name(i), file.tensor(i)});
      check(equal(file.tensor(tensors.back().name), tensors.back().tensor));
    }
  } catch (const FormatError&) {
    return 0;
  }
  // From here on a FormatError is a bug and ends the run.
  const std::vector<std::byte> written = write_safetensors(tensors, metadata);
  const SafetensorsFile again = SafetensorsFile::parse(written);
  check(again.metadata() == metadata && again.size() == tensors.size());
  for (const NamedView& t : tensors) check(equal(again.tensor(t.name), t.tensor));
  return 0;
}
