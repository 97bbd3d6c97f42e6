# Libraries that libqkv itself needs.
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(hwy REQUIRED)

# qkv_cpu_headers: the headers of Highway and oneDNN. Of Highway nothing else is used; oneDNN is opened by its SONAME when
# the CPU backend first computes (host/core/cpu/onednn.h). Debian's package file of oneDNN insists on OpenCL,
# which the CPU engine does not use.
find_path(QKV_DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.h REQUIRED)
find_library(QKV_DNNL_LIBRARY dnnl REQUIRED)
add_library(qkv_cpu_headers INTERFACE)
target_include_directories(qkv_cpu_headers SYSTEM INTERFACE
  ${QKV_DNNL_INCLUDE_DIR} $<TARGET_PROPERTY:hwy::hwy,INTERFACE_INCLUDE_DIRECTORIES>)
target_compile_definitions(qkv_cpu_headers INTERFACE HWY_IS_DEBUG_BUILD=0)  # else it calls its library

# What is built finds oneDNN where it was found now, what is installed where the loader looks.
cmake_path(GET QKV_DNNL_LIBRARY PARENT_PATH dnnl_dir)
if(NOT dnnl_dir IN_LIST CMAKE_CXX_IMPLICIT_LINK_DIRECTORIES)
  list(APPEND CMAKE_BUILD_RPATH ${dnnl_dir})
endif()
