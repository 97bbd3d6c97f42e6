# The contract test on CUDA, twice from the same sources: gpu_contract_test for a real device, with libqkv as shipped;
# virtual/gpu_contract_test for the virtual GPU, with the second libqkv, whose kernels are PTX and whose CUDA runtime is
# found by library path.
add_library(qkv_test_place_cuda OBJECT place_cuda.cpp)
target_link_libraries(qkv_test_place_cuda PRIVATE qkv_test_flags)
target_include_directories(qkv_test_place_cuda SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})

set(gpu_sources ${contract_sources} instances_test.cpp $<TARGET_OBJECTS:qkv_test_place_cuda>)
add_executable(gpu_contract_test ${gpu_sources})
target_link_libraries(gpu_contract_test PRIVATE qkv qkv_test_cases CUDA::cudart_static GTest::gtest_main)
qkv_discover(gpu_contract_test gpu)

add_library(qkv_virtual SHARED $<TARGET_OBJECTS:qkv_host> $<TARGET_OBJECTS:qkv_kernels_virtual>)
set_target_properties(qkv_virtual PROPERTIES
  OUTPUT_NAME qkv
  LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/virtual
  LINKER_LANGUAGE CXX
  CUDA_RUNTIME_LIBRARY Shared)
target_link_libraries(qkv_virtual PRIVATE qkv_build_flags OpenMP::OpenMP_CXX qkv::dnnl hwy::hwy CUDA::cudart)
target_link_options(qkv_virtual PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/host/qkv.map -Wl,--no-undefined)
target_include_directories(qkv_virtual INTERFACE ${PROJECT_SOURCE_DIR}/include)

add_executable(gpu_contract_test_virtual ${gpu_sources})
set_target_properties(gpu_contract_test_virtual PROPERTIES
  OUTPUT_NAME gpu_contract_test
  RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/virtual
  CUDA_RUNTIME_LIBRARY Shared)
target_link_libraries(gpu_contract_test_virtual PRIVATE qkv_virtual qkv_test_cases CUDA::cudart GTest::gtest_main)

# One process a device and seed; the long rows are left to real devices.
if(TARGET vgpu-run)
  foreach(device h100 a100 t4)
    foreach(seed 1 2)
      set(name vgpu_contract_${device}_${seed})
      add_test(NAME ${name} COMMAND vgpu-run --device ${device} --seed ${seed} --
        $<TARGET_FILE:gpu_contract_test_virtual> --gtest_brief=1 --gtest_filter=-*/long_*)
      set_tests_properties(${name} PROPERTIES LABELS vgpu TIMEOUT 1500
        ENVIRONMENT "QKV_TEST_SEED=${seed};QKV_TEST_REPEATS=1")
    endforeach()
  endforeach()
endif()
