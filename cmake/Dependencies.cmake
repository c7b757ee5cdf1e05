# Everything seigh stands on. Debian 12's packages serve; point CMake elsewhere with
# -DCMAKE_PREFIX_PATH=/path/to/libtorch for a newer libtorch (1.13 and 2.x are supported).
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM)
  # mold 1.10 (Debian 12) can place the read-only-after-relocation range on a page that is not mapped, and the program
  # then does not start.
  add_link_options(-fuse-ld=mold -Wl,-z,norelro)
endif()

find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
# Only libtorch's headers and CPU library are wanted: TorchConfig.cmake of a CUDA build would ask for the whole
# toolkit at configure time, so Debian's layout is looked up first and the package file is the second choice.
find_path(TORCH_INCLUDE_DIR ATen/ATen.h PATH_SUFFIXES include)
find_library(TORCH_CPU_LIBRARY torch_cpu)
find_library(C10_LIBRARY c10)
if(NOT Torch_DIR AND TORCH_INCLUDE_DIR AND TORCH_CPU_LIBRARY AND C10_LIBRARY)
  add_library(seigh_torch INTERFACE)
  target_include_directories(seigh_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIR}
                             ${TORCH_INCLUDE_DIR}/torch/csrc/api/include)
  target_link_libraries(seigh_torch INTERFACE ${TORCH_CPU_LIBRARY} ${C10_LIBRARY} Threads::Threads)
else()
  find_package(Torch REQUIRED)
  add_library(seigh_torch INTERFACE)
  target_include_directories(seigh_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
  target_link_libraries(seigh_torch INTERFACE ${TORCH_LIBRARIES} Threads::Threads)
endif()
add_library(seigh::torch ALIAS seigh_torch)

find_package(ZLIB REQUIRED)
set(HDF5_PREFER_PARALLEL FALSE)
find_package(HDF5 REQUIRED COMPONENTS C)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json 3 REQUIRED)
find_package(tomlplusplus REQUIRED)
find_path(RANDOM123_INCLUDE_DIR Random123/philox.h REQUIRED)
add_library(seigh_third_party INTERFACE)
target_include_directories(seigh_third_party SYSTEM INTERFACE ${HDF5_INCLUDE_DIRS} ${RANDOM123_INCLUDE_DIR})
target_link_libraries(seigh_third_party INTERFACE ${HDF5_LIBRARIES} ZLIB::ZLIB CLI11::CLI11 nlohmann_json::nlohmann_json
                      tomlplusplus::tomlplusplus)
add_library(seigh::third_party ALIAS seigh_third_party)
