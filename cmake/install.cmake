# SPDX-License-Identifier: Apache-2.0
# What `make install` puts where: headers, static and shared libraries, pkg-config file and CMake package; with the
# engine also its library, the command and the demo model. The build links the static libraries (tests reach
# internals that way); the shared ones are made here of the same objects, with a soname and only NABLA_API visible.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

function(nabla_shared target output)
  add_library(${target}_shared SHARED $<TARGET_OBJECTS:${target}>)
  set_target_properties(${target}_shared PROPERTIES OUTPUT_NAME ${output} EXPORT_NAME ${target} LINKER_LANGUAGE C
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
  target_include_directories(${target}_shared INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  if(NABLA_SANITIZE)
    target_link_options(${target}_shared PRIVATE -fsanitize=${NABLA_SANITIZE})
  endif()
  install(TARGETS ${target}_shared EXPORT nabla_targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(TARGETS ${target} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()

nabla_shared(nabla nabla)
target_link_libraries(nabla_shared PRIVATE OpenMP::OpenMP_C m)
set(NABLA_PC_PRIVATE "-fopenmp -lm") # what the static library needs beside itself
if(NABLA_CUDA)
  target_link_libraries(nabla_shared PRIVATE CUDA::cudart_static)
  if(TARGET nabla_cuda)
    target_sources(nabla_shared PRIVATE $<TARGET_OBJECTS:nabla_cuda>)
  endif()
  string(APPEND NABLA_PC_PRIVATE " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -ldl -lrt -lpthread")
endif()
install(FILES include/nabla/nabla.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/nabla)

if(TARGET nabla_video)
  nabla_shared(nabla_video nabla-video)
  if(NABLA_SENTENCEPIECE)
    set_target_properties(nabla_video_shared PROPERTIES LINKER_LANGUAGE CXX)
  endif()
  get_target_property(libraries nabla_video LINK_LIBRARIES)
  list(FILTER libraries EXCLUDE REGEX "^nabla")
  target_link_libraries(nabla_video_shared PUBLIC nabla_shared PRIVATE ${libraries})
  install(FILES include/nabla/video.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/nabla)
endif()
if(TARGET nabla_cli)
  install(TARGETS nabla_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/nabla/models)
endif()

install(EXPORT nabla_targets NAMESPACE nabla:: FILE nabla-targets.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nabla)
configure_package_config_file(cmake/nabla-config.cmake.in ${CMAKE_BINARY_DIR}/nabla-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nabla)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/nabla-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/nabla-config.cmake ${CMAKE_BINARY_DIR}/nabla-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nabla)
# relative, so that `cmake --install --prefix` may choose another place
file(RELATIVE_PATH NABLA_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/nabla.pc.in ${CMAKE_BINARY_DIR}/nabla.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/nabla.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
