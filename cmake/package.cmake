# What `cmake --install` puts where (components runtime, development, program), and `cpack -G DEB`: libqkv0, libqkv-dev.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/qkv)

install(TARGETS qkv EXPORT qkvTargets
  LIBRARY COMPONENT runtime NAMELINK_COMPONENT development
  ARCHIVE COMPONENT development
  FILE_SET HEADERS COMPONENT development
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT qkvTargets NAMESPACE qkv:: DESTINATION ${package_dir} COMPONENT development)

configure_package_config_file(cmake/qkvConfig.cmake.in package/qkvConfig.cmake INSTALL_DESTINATION ${package_dir})
# As the SONAME promises: what links against 0.1 runs with every later 0.x.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/package/qkvConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/package/qkvConfig.cmake ${PROJECT_BINARY_DIR}/package/qkvConfigVersion.cmake
  DESTINATION ${package_dir} COMPONENT development)

# What a static libqkv leaves to its linker: `pkg-config --static --libs qkv`.
set(QKV_PC_LIBS_PRIVATE "")
if(NOT BUILD_SHARED_LIBS)
  set(QKV_PC_LIBS_PRIVATE -lgomp -lstdc++ -lm -lpthread -ldl)
  if(QKV_HAS_CUDA)
    list(PREPEND QKV_PC_LIBS_PRIVATE -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static)
    list(APPEND QKV_PC_LIBS_PRIVATE -lrt)
  endif()
endif()
list(JOIN QKV_PC_LIBS_PRIVATE " " QKV_PC_LIBS_PRIVATE)
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX
  BASE_DIRECTORY ${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/pkgconfig OUTPUT_VARIABLE QKV_PC_PREFIX)
configure_file(cmake/qkv.pc.in package/qkv.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/package/qkv.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT development)

if(NOT PROJECT_IS_TOP_LEVEL)
  return()
endif()

# Debian packages, of a build with CMAKE_INSTALL_PREFIX=/usr, which puts the library where Debian does.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME qkv)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY ${PROJECT_DESCRIPTION})
set(CPACK_PACKAGE_CONTACT "The qkv developers <qkv@localhost>")
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/package)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_COMPONENTS_ALL runtime development)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)

# No linker and no dpkg-shlibdeps sees that libqkv opens oneDNN.
file(STRINGS ${QKV_DNNL_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h dnnl_version REGEX "define DNNL_VERSION_(MAJOR|MINOR) ")
string(REGEX REPLACE "[^0-9]*([0-9]+)[^0-9]*" "\\1." dnnl_version "${dnnl_version}")
string(REGEX MATCH "^([0-9]+)\\.[0-9]+" dnnl_version "${dnnl_version}")
set(dnnl_package "libdnnl${CMAKE_MATCH_1} (>= ${dnnl_version})")

set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME libqkv${PROJECT_VERSION_MAJOR})
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_DEPENDS ${dnnl_package})
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")
set(CPACK_COMPONENT_RUNTIME_DESCRIPTION
  "The shared library: scores every query against every key, sums the values by the weights; on CPUs and CUDA GPUs.")

set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libqkv-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
if(BUILD_SHARED_LIBS)
  set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "${CPACK_DEBIAN_RUNTIME_PACKAGE_NAME} (= ${PROJECT_VERSION})")
else()
  set(CPACK_COMPONENTS_ALL development)
  set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS ${dnnl_package})
endif()
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION "Headers for C and C++20, CMake package and pkg-config file.")
include(CPack)
