# Writes the commit that is being built into a header, at every build, touching it only when it changes.
#   cmake -DSOURCE=<repository> -DHEADER=<file> -P git_id.cmake
# A source tree without git may name its commit in the environment variable QKV_GIT_ID.
set(id "$ENV{QKV_GIT_ID}")
if(NOT id)
  execute_process(COMMAND git -C ${SOURCE} rev-parse --short=12 HEAD OUTPUT_VARIABLE id
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(failed)
    set(id unknown)
  else()
    execute_process(COMMAND git -C ${SOURCE} status --porcelain --untracked-files=no
      OUTPUT_VARIABLE changes ERROR_QUIET)
    if(changes)
      string(APPEND id "-modified")
    endif()
  endif()
endif()
# And git's name for the content of kernels/ there, so that a result says which kernels it is of.
execute_process(COMMAND git -C ${SOURCE} rev-parse --short=12 HEAD:kernels OUTPUT_VARIABLE kernels
  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
file(CONFIGURE OUTPUT ${HEADER} @ONLY CONTENT [=[
#pragma once

namespace qkv::bench {

inline constexpr const char* kGitId = "@id@";
inline constexpr const char* kKernels = "@kernels@";

}  // namespace qkv::bench
]=])
