# SPDX-License-Identifier: Apache-2.0
# Whether there is a CUDA compiler to build the GPU side with: NABLA_CUDA becomes ON or OFF. A build with it needs
# neither driver nor GPU, to build or to run on the CPU.
set(NABLA_CUDA AUTO CACHE STRING "the GPU side of libnabla: AUTO (where nvcc is found), ON, OFF")
set_property(CACHE NABLA_CUDA PROPERTY STRINGS AUTO ON OFF)
string(TOUPPER "${NABLA_CUDA}" NABLA_CUDA)
if(NABLA_CUDA STREQUAL "AUTO" OR NABLA_CUDA)
  include(CheckLanguage)
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    # where NVIDIA's packages put it, which is often not on PATH
    find_program(NABLA_NVCC nvcc PATHS /usr/local/cuda/bin)
    mark_as_advanced(NABLA_NVCC)
    if(NABLA_NVCC)
      set(CMAKE_CUDA_COMPILER ${NABLA_NVCC})
    endif()
  endif()
  # Each file names its own architectures (src/attention/CMakeLists.txt).
  set(CMAKE_CUDA_ARCHITECTURES OFF)
  if(NOT CMAKE_CUDA_COMPILER)
    check_language(CUDA)
  endif()
  if(CMAKE_CUDA_COMPILER)
    set(NABLA_CUDA ON)
  elseif(NABLA_CUDA STREQUAL "AUTO")
    set(NABLA_CUDA OFF)
  else()
    message(FATAL_ERROR "NABLA_CUDA is ON and no nvcc was found; set CMAKE_CUDA_COMPILER, or CUDACXX in the environment")
  endif()
endif()
if(NABLA_CUDA)
  enable_language(CUDA)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.5)
    message(FATAL_ERROR "${CMAKE_CUDA_COMPILER} is of CUDA ${CMAKE_CUDA_COMPILER_VERSION}; the GPU side needs 12.5 or "
      "later. Set CMAKE_CUDA_COMPILER to another, or NABLA_CUDA to OFF to build without it")
  endif()
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  find_package(CUDAToolkit REQUIRED)
  message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}")

  # What kernels for every card from 8.0 on are compiled for: newer ones than those named compile the PTX when they run.
  set(NABLA_CUDA_TARGETS --generate-code=arch=compute_80,code=[compute_80,sm_80]
                         --generate-code=arch=compute_90,code=[sm_90])
  # Flags of all our kernels. Nothing of libstdc++: no exceptions, no guarded statics.
  function(nabla_cuda_flags target)
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-O3;$<$<NOT:$<CONFIG:Release>>:-lineinfo>;-Xfatbin=-compress-all;\
-Xcompiler=-Wall,-Wextra,-fvisibility=hidden,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics>")
  endfunction()
elseif(NABLA_CUDA STREQUAL "OFF")
  message(STATUS "CUDA: none (no nvcc, or NABLA_CUDA is OFF); this build has no GPU side")
endif()
