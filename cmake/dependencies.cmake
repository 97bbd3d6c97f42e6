# Libraries that libqkv itself needs.
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(hwy REQUIRED)

# Debian's package file of oneDNN insists on OpenCL, which the CPU engine does not use.
find_path(QKV_DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.hpp REQUIRED)
find_library(QKV_DNNL_LIBRARY dnnl REQUIRED)
add_library(qkv_dnnl INTERFACE)
target_include_directories(qkv_dnnl SYSTEM INTERFACE ${QKV_DNNL_INCLUDE_DIR})
target_link_libraries(qkv_dnnl INTERFACE ${QKV_DNNL_LIBRARY})
