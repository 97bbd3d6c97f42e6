// Whether this build is too slow for figures: without optimisation, or with a sanitizer.
#pragma once

namespace qkv::test {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(NDEBUG)
inline constexpr bool kSlowBuild = true;
#else
inline constexpr bool kSlowBuild = false;
#endif

}  // namespace qkv::test
