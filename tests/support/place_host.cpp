// The place of tests of the CPU backend: host memory.
#include "host/verify/place.h"

namespace qkv::verify {

Place& place() { return host_place(); }

}  // namespace qkv::verify
