# What every target of the project is compiled with.
add_library(qkv_build_flags INTERFACE)
target_include_directories(qkv_build_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)

set(host_warnings -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  list(APPEND host_warnings -Wno-restrict)  # false alarms on std::string (GCC bug 105651)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  list(APPEND host_warnings -Wno-sign-conversion)  # part of clang's -Wconversion, not of GCC's
endif()
if(QKV_WERROR)
  list(APPEND host_warnings -Werror)
endif()
target_compile_options(qkv_build_flags INTERFACE "$<$<COMPILE_LANGUAGE:C,CXX>:${host_warnings}>")

if(QKV_HAS_CUDA)
  # -static-global-template-stub: kernels keep internal linkage, so that two copies of the library in one process do
  # not run each other's code. Warnings of ptxas fail the build, and what it only mentions of wgmma: strict_ptxas.sh.
  set(cuda_flags -static-global-template-stub=true --expt-relaxed-constexpr -Xcompiler=-Wall,-Wextra
                 -Xptxas=-warn-spills,-warn-lmem-usage)
  if(QKV_WERROR)
    list(APPEND cuda_flags -Werror=all-warnings -Xptxas=-Werror)
  endif()
  target_compile_options(qkv_build_flags INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:${cuda_flags}>")
endif()

if(QKV_SANITIZE)
  set(sanitize_flags -fsanitize=${QKV_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_compile_options(qkv_build_flags INTERFACE "$<$<COMPILE_LANGUAGE:C,CXX>:${sanitize_flags}>")
  target_link_options(qkv_build_flags INTERFACE -fsanitize=${QKV_SANITIZE})
endif()
if(QKV_FUZZ)
  target_compile_options(qkv_build_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=fuzzer-no-link>)
endif()
