# Libraries that libqkv itself needs.
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(hwy REQUIRED)
include(cmake/dnnl.cmake)
