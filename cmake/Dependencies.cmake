# Everything seigh stands on.
include(FindLibtorch)
message(STATUS "libtorch ${Libtorch_VERSION}: ${Libtorch_DIR}")

# at::parallel_for is a header template: compiled without OpenMP it is a serial loop. Linked is the run-time that
# libtorch brings, where it does: one process, one pool of threads.
find_package(OpenMP REQUIRED COMPONENTS CXX)
add_library(seigh_openmp INTERFACE)
target_compile_options(seigh_openmp INTERFACE ${OpenMP_CXX_FLAGS})
if(Libtorch_GOMP)
  list(GET Libtorch_GOMP 0 gomp)
  target_link_libraries(seigh_openmp INTERFACE ${gomp})
else()
  target_link_libraries(seigh_openmp INTERFACE ${OpenMP_CXX_LIBRARIES})
endif()

if(SEIGH_MPI)
  set(MPI_CXX_SKIP_MPICXX ON)
  find_package(MPI COMPONENTS C)
  if(NOT MPI_C_FOUND)
    message(FATAL_ERROR "MPI is missing: install it (Debian: libopenmpi-dev openmpi-bin), or build without it: -DSEIGH_MPI=OFF")
  endif()
endif()
find_package(ZLIB REQUIRED)
set(HDF5_PREFER_PARALLEL FALSE)
find_package(HDF5 REQUIRED COMPONENTS C)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json 3 REQUIRED)
find_package(tomlplusplus REQUIRED)
find_path(RANDOM123_INCLUDE_DIR Random123/philox.h REQUIRED)
mark_as_advanced(RANDOM123_INCLUDE_DIR)
add_library(seigh_third_party INTERFACE)
target_include_directories(seigh_third_party SYSTEM INTERFACE ${HDF5_INCLUDE_DIRS} ${RANDOM123_INCLUDE_DIR})
target_link_libraries(seigh_third_party INTERFACE ${HDF5_LIBRARIES} ZLIB::ZLIB CLI11::CLI11 nlohmann_json::nlohmann_json
                      tomlplusplus::tomlplusplus seigh_openmp)
add_library(seigh::third_party ALIAS seigh_third_party)

# Python runs the tests of the command line; the one that libtorch was looked for in, unless another is named.
if(SEIGH_BUILD_TESTS)
  set(Python3_FIND_VIRTUALENV FIRST)
  set(Python3_FIND_UNVERSIONED_NAMES FIRST)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
endif()
