# The target qkv::dnnl, oneDNN. Debian's package file of oneDNN insists on OpenCL, which the CPU engine does not use.
# Installed with a static libqkv, whose users link oneDNN themselves.
find_path(QKV_DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.hpp REQUIRED)
find_library(QKV_DNNL_LIBRARY dnnl REQUIRED)
if(NOT TARGET qkv::dnnl)
  add_library(qkv::dnnl INTERFACE IMPORTED GLOBAL)
  target_include_directories(qkv::dnnl SYSTEM INTERFACE ${QKV_DNNL_INCLUDE_DIR})
  target_link_libraries(qkv::dnnl INTERFACE ${QKV_DNNL_LIBRARY})
endif()
