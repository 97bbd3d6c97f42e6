// The place of tests of the CUDA backend: device 0, a real or a virtual one.
#include "host/verify/place.h"

namespace qkv::verify {

Place& place() { return cuda_place(0); }

}  // namespace qkv::verify
