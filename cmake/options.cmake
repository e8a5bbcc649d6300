# SPDX-License-Identifier: Apache-2.0
# What all of our own C is compiled with, and the one file of C++.
add_library(nabla_flags INTERFACE)
target_compile_options(nabla_flags INTERFACE
  $<$<COMPILE_LANGUAGE:C>:-Wall;-Wextra;-Wshadow;-Wconversion;-Werror;-fno-math-errno;-ffp-contract=off>)
target_compile_options(nabla_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wconversion;-Werror>)
target_compile_definitions(nabla_flags INTERFACE _GNU_SOURCE)
if(NABLA_SANITIZE)
  target_compile_options(nabla_flags INTERFACE
    $<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${NABLA_SANITIZE};-fno-omit-frame-pointer;-g>)
  target_link_options(nabla_flags INTERFACE -fsanitize=${NABLA_SANITIZE})
endif()
find_package(OpenMP REQUIRED COMPONENTS C)
