// The elements of tensors, by the names that tests call them.
#pragma once

#include "host/verify/elements.h"

namespace qkv::test {

using namespace verify;  // NOLINT(google-build-using-namespace): tests are about little else

}  // namespace qkv::test
