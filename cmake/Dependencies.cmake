# Everything seigh stands on.
include(FindLibtorch)
seigh_find_libtorch()
if(Libtorch_PROBLEM)
  message(FATAL_ERROR "${Libtorch_PROBLEM}")
endif()
message(STATUS "libtorch ${Libtorch_VERSION}: ${Libtorch_DIR}")
# Those who include seigh in their project and link it from another folder see what it links.
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)

# at::parallel_for is a header template: compiled without OpenMP it is a serial loop. Linked is the run-time that
# libtorch brings, where it does: one process, one pool of threads.
find_package(OpenMP REQUIRED COMPONENTS CXX)
set(SEIGH_OPENMP_LIBRARIES ${OpenMP_CXX_LIBRARIES})
if(Libtorch_GOMP)
  set(SEIGH_OPENMP_LIBRARIES ${Libtorch_GOMP})
endif()

if(SEIGH_MPI)
  set(MPI_CXX_SKIP_MPICXX ON)
  find_package(MPI COMPONENTS C)
  if(SEIGH_MPI STREQUAL "AUTO")
    set(SEIGH_MPI ${MPI_C_FOUND})
  endif()
  if(SEIGH_MPI AND NOT MPI_C_FOUND)
    message(FATAL_ERROR "MPI is missing: install it (Debian: libopenmpi-dev openmpi-bin), or build without it: -DSEIGH_MPI=OFF")
  endif()
endif()
find_package(ZLIB REQUIRED)
set(HDF5_PREFER_PARALLEL FALSE)
find_package(HDF5 REQUIRED COMPONENTS C)
find_package(nlohmann_json 3 REQUIRED)
find_package(tomlplusplus REQUIRED)
find_path(RANDOM123_INCLUDE_DIR Random123/philox.h REQUIRED)
mark_as_advanced(RANDOM123_INCLUDE_DIR)
# Of HDF5's libraries seigh calls one; the others are what that one links itself.
set(SEIGH_HDF5_LIBRARY ${HDF5_C_LIBRARY_hdf5})
if(NOT SEIGH_HDF5_LIBRARY)
  set(SEIGH_HDF5_LIBRARY ${HDF5_LIBRARIES})
endif()
add_library(seigh_third_party INTERFACE)
target_compile_options(seigh_third_party INTERFACE ${OpenMP_CXX_FLAGS})
target_include_directories(seigh_third_party SYSTEM INTERFACE ${HDF5_INCLUDE_DIRS} ${RANDOM123_INCLUDE_DIR})
target_link_libraries(seigh_third_party INTERFACE ${SEIGH_HDF5_LIBRARY} ZLIB::ZLIB nlohmann_json::nlohmann_json
                      tomlplusplus::tomlplusplus ${SEIGH_OPENMP_LIBRARIES})
add_library(seigh::third_party ALIAS seigh_third_party)

if(SEIGH_BUILD_APP OR SEIGH_PYTHON)
  find_package(CLI11 REQUIRED)
endif()

# Python runs the tests of the command line; the one that libtorch was looked for in, unless another is named.
if(SEIGH_BUILD_TESTS)
  set(Python3_FIND_VIRTUALENV FIRST)
  set(Python3_FIND_UNVERSIONED_NAMES FIRST)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
endif()
