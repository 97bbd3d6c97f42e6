# The contract test on CUDA, twice from the same sources: gpu_contract_test for a real device, with libqkv as shipped;
# virtual/gpu_contract_test for the virtual GPU, with the second libqkv, whose kernels are PTX and whose CUDA runtime is
# found by library path.
add_library(qkv_test_place_cuda OBJECT support/place_cuda.cpp)
target_link_libraries(qkv_test_place_cuda PRIVATE qkv_test_flags)

add_library(qkv_gpu_contract OBJECT kernels/instances_test.cpp)
target_link_libraries(qkv_gpu_contract PRIVATE qkv qkv_test_cases)
set(gpu_objects $<TARGET_OBJECTS:qkv_contract> $<TARGET_OBJECTS:qkv_gpu_contract> $<TARGET_OBJECTS:qkv_test_place_cuda>
  $<TARGET_OBJECTS:qkv_verify_cuda>)
add_executable(gpu_contract_test ${gpu_objects})
target_link_libraries(gpu_contract_test PRIVATE qkv qkv_test_cases CUDA::cudart_static GTest::gtest_main)
qkv_discover(gpu_contract_test gpu)

add_library(qkv_virtual SHARED $<TARGET_OBJECTS:qkv_host> ${qkv_virtual_kernel_objects})
set_target_properties(qkv_virtual PROPERTIES
  OUTPUT_NAME qkv
  LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/virtual
  LINKER_LANGUAGE CXX
  CUDA_RUNTIME_LIBRARY Shared)
target_link_libraries(qkv_virtual PRIVATE qkv_build_flags OpenMP::OpenMP_CXX ${CMAKE_DL_LIBS} CUDA::cudart)
target_link_options(qkv_virtual PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/host/qkv.map -Wl,--no-undefined)
target_include_directories(qkv_virtual INTERFACE ${PROJECT_SOURCE_DIR}/include)

add_executable(gpu_contract_test_virtual ${gpu_objects})
set_target_properties(gpu_contract_test_virtual PROPERTIES
  OUTPUT_NAME gpu_contract_test
  RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/virtual
  CUDA_RUNTIME_LIBRARY Shared)
target_link_libraries(gpu_contract_test_virtual PRIVATE qkv_virtual qkv_test_cases CUDA::cudart GTest::gtest_main)

# The program `qkv` for the virtual GPU, virtual/qkv: the same objects with the second libqkv's kernels, as an archive,
# since the program looks inside.
add_library(qkv_static_virtual STATIC EXCLUDE_FROM_ALL $<TARGET_OBJECTS:qkv_host> ${qkv_virtual_kernel_objects}
  ${qkv_program_sources})
set_target_properties(qkv_static_virtual PROPERTIES CUDA_RUNTIME_LIBRARY Shared)
target_link_libraries(qkv_static_virtual PUBLIC OpenMP::OpenMP_CXX ${CMAKE_DL_LIBS} CUDA::cudart PRIVATE qkv_build_flags)
add_executable(qkv_cli_virtual $<TARGET_OBJECTS:qkv_cli_objects> $<TARGET_OBJECTS:qkv_cli_speed>
  $<TARGET_OBJECTS:qkv_softmax_rows_virtual> $<TARGET_OBJECTS:qkv_verify_cuda>)
set_target_properties(qkv_cli_virtual PROPERTIES
  OUTPUT_NAME qkv
  RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/virtual
  CUDA_RUNTIME_LIBRARY Shared)
target_link_libraries(qkv_cli_virtual PRIVATE qkv_build_flags qkv_cli_links qkv_static_virtual qkv_cli_blas)

# How calls live with the CUDA runtime around them (T14 to T18), for both as well.
set(runtime_sources gpu/runtime.cpp gpu/runtime_devices_test.cpp gpu/runtime_errors_test.cpp
  gpu/runtime_failing_calls_test.cpp gpu/runtime_graphs_test.cpp gpu/runtime_layer_test.cpp
  gpu/runtime_project_test.cpp gpu/runtime_streams_test.cpp gpu/trap_kernel.cu)
add_executable(gpu_runtime_test ${runtime_sources})
set_target_properties(gpu_runtime_test PROPERTIES CUDA_ARCHITECTURES "${QKV_CUDA_ARCHITECTURES}")
target_link_libraries(gpu_runtime_test PRIVATE qkv qkv_test_flags CUDA::cudart_static GTest::gtest_main)
target_compile_definitions(gpu_runtime_test PRIVATE QKV_TEST_SHARED_RUNTIME=0)
qkv_discover(gpu_runtime_test gpu)

add_executable(gpu_runtime_test_virtual ${runtime_sources})
set_target_properties(gpu_runtime_test_virtual PROPERTIES
  OUTPUT_NAME gpu_runtime_test
  RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/virtual
  CUDA_ARCHITECTURES "${QKV_VIRTUAL_ARCHITECTURES}"
  CUDA_RUNTIME_LIBRARY Shared)
target_compile_definitions(gpu_runtime_test_virtual PRIVATE QKV_TEST_SHARED_RUNTIME=1)
target_link_libraries(gpu_runtime_test_virtual PRIVATE qkv_virtual qkv_test_flags CUDA::cudart GTest::gtest_main)

# One process a device and seed; the long rows are left to real devices. `ctest -C full -L seeds` has more seeds, with two
# repeats. Kernels for plain CUDA cores run on the T4, but not on the cases made for others, and with a second seed on the
# H100; elsewhere the cases that they would take are skipped, and said to be. Under QKV_TEST_SHARE a process takes a share
# of its cases; those beside it begin elsewhere, so that together they have most cases once on some device.
if(TARGET vgpu-run)
  # qkv_share(variable): the command before a program that takes a share, each time with the next offset.
  set(next_share 0)
  macro(qkv_share variable)
    set(${variable} ${CMAKE_CURRENT_SOURCE_DIR}/gpu/share.sh ${next_share})
    math(EXPR next_share "${next_share} + 1")
  endmacro()

  # qkv_virtual_contract(device seed label repeats [property value]...)
  function(qkv_virtual_contract device seed label repeats)
    set(configurations "")
    if(label STREQUAL "seeds")
      set(configurations CONFIGURATIONS full)
    endif()
    set(name vgpu_contract_${device}_${seed})
    set(left_out */long_*)
    set(environment QKV_TEST_SEED=${seed} QKV_TEST_REPEATS=${repeats})
    if(device STREQUAL "t4")
      string(APPEND left_out :*/tiles_*:*/bounds_*:*/tails_*)  # made for tensor cores
      if(label STREQUAL "vgpu")
        string(APPEND left_out :*/splits_*:*/warpgroups_*:*/wide_*)  # so are these: `seeds` has them
      endif()
    else()
      string(APPEND left_out :*T12_TailsOfEveryLength*)  # dims that tensor cores decline
      if(NOT (device STREQUAL "h100" AND seed EQUAL 2))
        string(APPEND left_out :*T6_*:*TopIndex*)  # which plain CUDA cores alone have
        list(APPEND environment QKV_TEST_KERNELS=simt_additive,sm80_additive,sm80_forward,sm80_hard,sm80_tf32x3,sm80_tf32x3_hard,sm80_top_k,sm90_forward,sm90_hard,sm90_wide)
      endif()
    endif()
    # Even seeds have one multiprocessor: plans then take tall tiles and do not split, as large problems do. And their
    # tensor cores add as the device's do; with odd seeds sums are exact until they are rounded once.
    math(EXPR odd "${seed} % 2")
    set(even "")
    if(odd EQUAL 0)
      set(even --sms 1 --mma truncate)
    endif()
    # Projections are a library's here, and layers are made of kernels that others test: once on a device of each kind is
    # enough.
    if(NOT seed EQUAL 1 OR device STREQUAL "rtx4090")
      string(APPEND left_out :Project.*:*/Layer.*:LayerCall.*)
    endif()
    qkv_share(share)
    set(next_share ${next_share} PARENT_SCOPE)
    add_test(NAME ${name} COMMAND ${share} $<TARGET_FILE:vgpu-run> --device ${device} --seed ${seed} ${even} --
      $<TARGET_FILE:gpu_contract_test_virtual> --gtest_brief=1 --gtest_filter=-${left_out} ${configurations})
    set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT 3600
      ENVIRONMENT "${environment}")
  endfunction()
  foreach(device h100 a100 rtx4090)
    foreach(seed 1 2)
      qkv_virtual_contract(${device} ${seed} vgpu 1)
    endforeach()
    foreach(seed RANGE 3 8)
      qkv_virtual_contract(${device} ${seed} seeds 2)
    endforeach()
  endforeach()
  foreach(seed RANGE 9 16)
    qkv_virtual_contract(h100 ${seed} seeds 2)
  endforeach()
  qkv_virtual_contract(t4 1 vgpu 1)
  foreach(seed RANGE 2 8)
    qkv_virtual_contract(t4 ${seed} seeds 2)
  endforeach()

  # Everything asynchronous completes at issue, or as late as it may.
  foreach(async early late)
    qkv_share(share)
    add_test(NAME vgpu_contract_h100_${async} COMMAND ${share} $<TARGET_FILE:vgpu-run> --device h100 --seed 1
      --async ${async} --
      $<TARGET_FILE:gpu_contract_test_virtual> --gtest_brief=1 --gtest_filter=-*/long_*:*T6_*:*TopIndex*:*T12_TailsOfEveryLength*:Instances*:Project.*:*/Layer.*_bf16:*/Layer.*_wide_*:LayerCall.*)
    set_tests_properties(vgpu_contract_h100_${async} PROPERTIES LABELS vgpu TIMEOUT 3600
      ENVIRONMENT "QKV_TEST_SEED=1;QKV_TEST_REPEATS=1;QKV_TEST_KERNELS=sm90_forward,sm90_hard,sm90_wide")
  endforeach()

  # qkv_counting_test(name gtest_library): counts of the contract test's launches, by the virtual GPU.
  function(qkv_counting_test name gtest)
    add_executable(${name}_test attention/${name}_test.cpp support/counted_launches.cpp $<TARGET_OBJECTS:qkv_test_place_host>)
    target_link_libraries(${name}_test PRIVATE qkv_test_fakes qkv_test_cases qkv_verify qkv_static ${gtest})
    target_compile_definitions(${name}_test PRIVATE
      "QKV_VGPU_RUN=\"$<TARGET_FILE:vgpu-run>\""
      "QKV_GPU_CONTRACT_TEST=\"$<TARGET_FILE:gpu_contract_test_virtual>\"")
    add_dependencies(${name}_test vgpu-run gpu_contract_test_virtual)
    add_test(NAME vgpu_${name} COMMAND ${name}_test --gtest_brief=1)
    set_tests_properties(vgpu_${name} PROPERTIES LABELS vgpu TIMEOUT 900)
  endfunction()
  qkv_counting_test(counted_work GTest::gtest)
  target_compile_definitions(counted_work_test PRIVATE
    "QKV_COUNTED_WORK=\"${CMAKE_CURRENT_SOURCE_DIR}/attention/counted_work.md\"")
  qkv_counting_test(split_work GTest::gtest_main)
  qkv_counting_test(sm90_work GTest::gtest_main)

  add_test(NAME vgpu_short_splits COMMAND vgpu-run --device a100 --seed 1 --sms 8 --
    $<TARGET_FILE:gpu_contract_test_virtual> --gtest_brief=1 --gtest_filter=*/tails_split_*)
  set_tests_properties(vgpu_short_splits PROPERTIES LABELS vgpu TIMEOUT 300 ENVIRONMENT QKV_TEST_REPEATS=1)

  add_test(NAME vgpu_same_bits COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/attention/same_bits.sh $<TARGET_FILE:vgpu-run> h100
    $<TARGET_FILE:gpu_contract_test_virtual>)
  set_tests_properties(vgpu_same_bits PROPERTIES LABELS vgpu TIMEOUT 600)

  # Projections where cuBLASLt is not installed.
  add_test(NAME vgpu_project_without_cublaslt COMMAND vgpu-run --quiet --device h100 --
    $<TARGET_FILE:gpu_contract_test_virtual> --gtest_brief=1 --gtest_filter=Project.SaysWhatIsMissing)
  set_tests_properties(vgpu_project_without_cublaslt PROPERTIES LABELS vgpu ENVIRONMENT QKV_CUBLASLT=/nowhere)

  # The program's demo, with cuBLAS as the virtual GPU stands in for it.
  foreach(place "h100;sm90_forward" "a100;sm80_forward" "t4;simt_forward")
    list(POP_FRONT place device)
    add_test(NAME vgpu_demo_${device} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/gpu/demo_test.sh $<TARGET_FILE:vgpu-run> ${device}
      $<TARGET_FILE:qkv_cli_virtual> ${place})
    set_tests_properties(vgpu_demo_${device} PROPERTIES LABELS vgpu TIMEOUT 300)
  endforeach()

  # qkv_virtual_risk(name device seed filter [option...])
  function(qkv_virtual_risk name device seed filter)
    add_test(NAME vgpu_${name}_${device}_${seed} COMMAND vgpu-run --device ${device} --seed ${seed} ${ARGN} --
      $<TARGET_FILE:gpu_runtime_test_virtual> --gtest_brief=1 --gtest_filter=${filter})
    set_tests_properties(vgpu_${name}_${device}_${seed} PROPERTIES LABELS vgpu TIMEOUT 300)
  endfunction()
  foreach(place "h100;1" "t4;2")
    qkv_virtual_risk(T14 ${place} T14_*)
    qkv_virtual_risk(T15 ${place} T15_* --gpus 4)
    qkv_virtual_risk(T16 ${place} T16_*-*Fault*)
    qkv_virtual_risk(T18 ${place} T18_*)
  endforeach()
  qkv_virtual_risk(T17 h100 1 T17_* --gpus 2)


  # qkv_driver_test(name [option...]): tests of what another driver answers than usual.
  function(qkv_driver_test name)
    add_executable(${name}_test gpu/${name}_test.cpp)
    set_target_properties(${name}_test PROPERTIES
      RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/virtual
      CUDA_RUNTIME_LIBRARY Shared)
    target_link_libraries(${name}_test PRIVATE qkv_virtual qkv_test_flags CUDA::cudart GTest::gtest_main)
    add_test(NAME vgpu_${name} COMMAND vgpu-run --device h100 ${ARGN} -- $<TARGET_FILE:${name}_test> --gtest_brief=1)
    set_tests_properties(vgpu_${name} PROPERTIES LABELS vgpu)
  endfunction()
  qkv_driver_test(driver --driver 12.2)
  # What the program says of it, where a GPU was named, asked for, or would have been taken.
  foreach(command info "demo --device cuda:0" "verify --seconds 0 --kernel cpu_merge")
    string(REPLACE " " ";" arguments "${command}")
    string(REGEX REPLACE " .*" "" name "${command}")
    add_test(NAME vgpu_driver_${name}
      COMMAND vgpu-run --quiet --device h100 --driver 12.2 -- $<TARGET_FILE:qkv_cli_virtual> ${arguments})
    set_tests_properties(vgpu_driver_${name} PROPERTIES LABELS vgpu PASS_REGULAR_EXPRESSION
      "for CUDA 12\\.2 and older, this build of qkv is of CUDA 1[23]\\.[0-9]+; update the driver to [0-9]+ or newer, or build")
  endforeach()
  if(QKV_HAS_SM90)
    qkv_driver_test(tensor_map)
    set_tests_properties(vgpu_tensor_map PROPERTIES ENVIRONMENT VGPU_MAP_ADDRESSES=own)
  endif()

  if(TARGET qkv_virtual_kernel_attention_mask_summary)
    # mask_summary by itself: what a forward kernel makes of it, the contract test sees.
    add_executable(mask_summary_test attention/mask_summary_test.cpp
      $<TARGET_OBJECTS:qkv_virtual_kernel_attention_mask_summary>)
    set_target_properties(mask_summary_test PROPERTIES
      RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/virtual
      CUDA_RUNTIME_LIBRARY Shared)
    target_link_libraries(mask_summary_test PRIVATE qkv_test_flags CUDA::cudart GTest::gtest_main)
    add_test(NAME vgpu_mask_summary COMMAND vgpu-run --device h100 -- $<TARGET_FILE:mask_summary_test> --gtest_brief=1)
    set_tests_properties(vgpu_mask_summary PROPERTIES LABELS vgpu)
  endif()

  # `qkv verify` on devices of every kind, with no more time than it must take; and with faults planted in kernels.
  # qkv_virtual_verify(device part)
  function(qkv_virtual_verify device part)
    add_test(NAME vgpu_verify_${part}_${device} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/verify/vgpu_verify.sh
      $<TARGET_FILE:vgpu-run> $<TARGET_FILE:qkv_cli_virtual> ${device} ${part})
    set_tests_properties(vgpu_verify_${part}_${device} PROPERTIES LABELS vgpu TIMEOUT 900)
  endfunction()
  foreach(device h100 a100 t4)
    qkv_virtual_verify(${device} all)
  endforeach()
  qkv_virtual_verify(t4 faults)

  add_test(NAME vgpu_T16_faults
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/gpu/gpu_faults.sh $<TARGET_FILE:vgpu-run> h100
            $<TARGET_FILE:gpu_runtime_test_virtual>)
  set_tests_properties(vgpu_T16_faults PROPERTIES LABELS vgpu)
endif()
