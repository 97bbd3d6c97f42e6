# Finds nvcc where the user did not name one: in PATH, where NVIDIA's installers put it, where `./dev` puts one. The
# first that is new enough wins, so that an old toolkit of the distribution does not hide a fitting one.
#
#   include(cmake/find_nvcc.cmake)       sets CMAKE_CUDA_COMPILER, unless it or $CUDACXX names a compiler
#   cmake -P cmake/find_nvcc.cmake       prints the path, or nothing
set(QKV_CUDA_MIN_VERSION 12.8)

function(qkv_find_nvcc result)
  set(${result} "" PARENT_SCOPE)
  if(DEFINED ENV{CUDACXX})
    set(${result} $ENV{CUDACXX} PARENT_SCOPE)
    return()
  endif()
  cmake_path(CONVERT "$ENV{PATH}" TO_CMAKE_PATH_LIST path)
  cmake_path(GET CMAKE_CURRENT_FUNCTION_LIST_DIR PARENT_PATH root)
  foreach(directory IN LISTS path ITEMS /usr/local/cuda/bin ${root}/.deps/cuda/bin)
    if(NOT EXISTS ${directory}/nvcc)
      continue()
    endif()
    execute_process(COMMAND ${directory}/nvcc --version OUTPUT_VARIABLE version ERROR_QUIET)
    if(version MATCHES "release ([0-9.]+)" AND CMAKE_MATCH_1 VERSION_GREATER_EQUAL QKV_CUDA_MIN_VERSION)
      set(${result} ${directory}/nvcc PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  qkv_find_nvcc(nvcc)
  execute_process(COMMAND ${CMAKE_COMMAND} -E echo ${nvcc})
elseif(NOT CMAKE_CUDA_COMPILER)
  qkv_find_nvcc(nvcc)
  if(nvcc)
    # Over the NOTFOUND that an earlier run without nvcc left in the cache.
    set(CMAKE_CUDA_COMPILER ${nvcc} CACHE FILEPATH "CUDA compiler" FORCE)
  endif()
endif()
