# QKV_CUDA_FLAVOUR=12: kernels and programs for drivers from 525 on, which CUDA 13's runtime does not accept. nvcc 13
# compiles to PTX, whose version is lowered to CUDA 12.9's; ptxas 12.9 makes the machine code, and runtime 12.9 is linked.
#
# For that a toolkit is put together in the build folder, and nvcc is taken from there: CUDA 13's, as links, but for ptxas
# (12.9's), cicc (a script around CUDA 13's, which lowers the version), the runtime's library and headers (12.9's). Device
# code is compiled with CUDA 13's headers, which belong to its compiler; host code sees 12.9's, which belong to the runtime.
# nvcc itself is a copy: it looks for its tools beside the file that it really is.
set(QKV_CUDA12_DIR "${PROJECT_SOURCE_DIR}/.deps/cuda12" CACHE PATH
  "CUDA 12.9 for QKV_CUDA_FLAVOUR=12: a toolkit, or the folder into which pip has installed cuda12-requirements.txt")

# Links every entry of `from` that `to` lacks.
function(qkv_link_missing from to)
  file(MAKE_DIRECTORY ${to})
  file(GLOB entries LIST_DIRECTORIES TRUE RELATIVE ${from} ${from}/*)
  foreach(entry IN LISTS entries)
    if(NOT EXISTS ${to}/${entry})
      file(CREATE_LINK ${from}/${entry} ${to}/${entry} SYMBOLIC)
    endif()
  endforeach()
endfunction()

# qkv_cuda12_toolkit(nvcc folder): makes `folder`, in which bin/nvcc is the compiler; `nvcc` is CUDA 13's.
function(qkv_cuda12_toolkit nvcc folder)
  file(REAL_PATH ${nvcc} nvcc)
  cmake_path(GET nvcc PARENT_PATH bin13)
  cmake_path(GET bin13 PARENT_PATH cuda13)
  # The packages keep apart what a toolkit has in one folder.
  set(tools12 ${QKV_CUDA12_DIR})
  set(runtime12 ${QKV_CUDA12_DIR})
  if(EXISTS ${QKV_CUDA12_DIR}/nvidia/cuda_nvcc)
    set(tools12 ${QKV_CUDA12_DIR}/nvidia/cuda_nvcc)
    set(runtime12 ${QKV_CUDA12_DIR}/nvidia/cuda_runtime)
  endif()
  execute_process(COMMAND ${tools12}/bin/ptxas --version OUTPUT_VARIABLE version ERROR_QUIET)
  if(NOT version MATCHES "release 12\\.9")
    message(FATAL_ERROR "QKV_CUDA_FLAVOUR=12 needs ptxas 12.9 in QKV_CUDA12_DIR (${QKV_CUDA12_DIR}); `./dev gpu-kit` "
      "fetches it, see INSTALL.md")
  endif()

  file(REMOVE_RECURSE ${folder})
  file(MAKE_DIRECTORY ${folder}/bin ${folder}/nvvm/bin ${folder}/include ${folder}/lib)
  file(COPY_FILE ${nvcc} ${folder}/bin/nvcc)
  file(CREATE_LINK ${tools12}/bin/ptxas ${folder}/bin/ptxas SYMBOLIC)
  file(WRITE ${folder}/bin/nvcc.profile "TOP = $(_HERE_)/..
CICC_PATH = $(TOP)/nvvm/bin
NVVMIR_LIBRARY_DIR = ${cuda13}/nvvm/libdevice
PATH += $(CICC_PATH):$(_HERE_):
INCLUDES += \"-I${cuda13}/include\" $(_SPACE_)
SYSTEM_INCLUDES += \"-isystem\" \"${cuda13}/include/cccl\" $(_SPACE_)
LIBRARIES =+ $(_SPACE_) \"-L$(TOP)/lib\"
")
  file(CREATE_LINK ${cuda13}/nvvm/bin/cicc ${folder}/nvvm/bin/cicc13 SYMBOLIC)
  file(CREATE_LINK ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/cuda12_cicc.sh ${folder}/nvvm/bin/cicc SYMBOLIC)
  qkv_link_missing(${bin13} ${folder}/bin)
  # cuBLAS's headers are CUDA 13's, and need its data types: those of 12.9, and more.
  file(CREATE_LINK ${cuda13}/include/library_types.h ${folder}/include/library_types.h SYMBOLIC)
  qkv_link_missing(${runtime12}/include ${folder}/include)
  qkv_link_missing(${tools12}/include ${folder}/include)
  qkv_link_missing(${cuda13}/include ${folder}/include)
  foreach(lib IN ITEMS lib64 lib)
    if(EXISTS ${runtime12}/${lib}/libcudart_static.a)
      qkv_link_missing(${runtime12}/${lib} ${folder}/lib)
      break()
    endif()
  endforeach()
  file(CREATE_LINK lib ${folder}/lib64 SYMBOLIC)
  if(NOT EXISTS ${folder}/lib/libcudart.so)
    file(GLOB cudart ${folder}/lib/libcudart.so.*)
    list(GET cudart 0 cudart)
    file(CREATE_LINK ${cudart} ${folder}/lib/libcudart.so SYMBOLIC)
  endif()
endfunction()

# Makes CMAKE_CUDA_COMPILER the one of such a toolkit. CUDA 12's own nvcc is taken as it is.
macro(qkv_use_cuda12)
  set(toolkit ${PROJECT_BINARY_DIR}/cuda12)
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE nvcc_version)
  if(NOT nvcc_version MATCHES "release 12\\.")
    if(NOT CMAKE_CUDA_COMPILER STREQUAL "${toolkit}/bin/nvcc")
      if(EXISTS ${PROJECT_BINARY_DIR}/build.ninja)
        message(FATAL_ERROR "this build folder is of another QKV_CUDA_FLAVOUR; 12 needs a folder of its own")
      endif()
      qkv_cuda12_toolkit(${CMAKE_CUDA_COMPILER} ${toolkit})
      set(CMAKE_CUDA_COMPILER ${toolkit}/bin/nvcc CACHE FILEPATH "CUDA compiler" FORCE)
    endif()
    # Packed as these drivers can read it. The name of the tools is for ccache, which knows a compiler by nvcc alone.
    file(SHA256 ${toolkit}/bin/ptxas tools)
    file(SHA256 ${toolkit}/nvvm/bin/cicc script)
    string(SUBSTRING "${tools}" 0 12 tools)
    string(SUBSTRING "${script}" 0 12 script)
    add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:--compress-mode=speed;-Xfatbin=-compress-all>"
      "$<$<COMPILE_LANGUAGE:CUDA>:-DQKV_CUDA_TOOLS=${tools}_${script}>")
  endif()
endmacro()
