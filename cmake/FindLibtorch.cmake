# Finds the libtorch of the user's own PyTorch and defines the target seigh::torch. Serves twice: for seigh's own build,
# and from the installed package for those who link seigh. PyTorch's own package file is not used: that of a CUDA
# build asks for the whole CUDA toolkit, of which only libtorch's headers and libraries are needed here.
#
# Looked for, in this order:
#   -DSEIGH_TORCH=DIR            a libtorch, or the folder of a Python's torch: DIR/include, DIR/lib
#   -DTorch_DIR, CMAKE_PREFIX_PATH
#   torch of the Python found    Python3_EXECUTABLE, an active virtual environment, python3 on PATH
#   the system's libtorch        Debian 13's libtorch-dev
# Sets Libtorch_VERSION, Libtorch_DIR (where the libraries are), Libtorch_CUDA and Libtorch_GOMP (the OpenMP run-time
# it brings along, if it does).

set(SEIGH_TORCH "" CACHE PATH "Folder of a libtorch or of a Python's torch; empty: the Python's, then the system's")
set(_oldest 2.6)

# The folder with include/ and lib/ of each candidate, the first that has both.
set(_candidates)
set(_system /usr)
if(SEIGH_TORCH)
  set(_candidates ${SEIGH_TORCH})
  set(_system)
else()
  if(Torch_DIR)  # .../share/cmake/Torch
    cmake_path(SET _from_config NORMALIZE "${Torch_DIR}/../../..")
    list(APPEND _candidates ${_from_config})
  endif()
  foreach(_prefix IN LISTS CMAKE_PREFIX_PATH)
    if(EXISTS ${_prefix}/include/ATen/ATen.h)
      list(APPEND _candidates ${_prefix})
    endif()
  endforeach()
  if(NOT _candidates)
    set(Python3_FIND_VIRTUALENV FIRST)
    set(Python3_FIND_UNVERSIONED_NAMES FIRST)
    find_package(Python3 COMPONENTS Interpreter QUIET)
    if(Python3_EXECUTABLE)
      execute_process(COMMAND ${Python3_EXECUTABLE} -c
                      "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '', end='')"
                      OUTPUT_VARIABLE _of_python ERROR_QUIET)
      if(_of_python AND EXISTS ${_of_python}/include/ATen/ATen.h)
        list(APPEND _candidates ${_of_python})
      endif()
    endif()
  endif()
endif()
unset(TORCH_INCLUDE_DIR CACHE)
unset(TORCH_CPU_LIBRARY CACHE)
unset(C10_LIBRARY CACHE)
if(_candidates)
  find_path(TORCH_INCLUDE_DIR ATen/ATen.h PATHS ${_candidates} PATH_SUFFIXES include NO_DEFAULT_PATH)
  find_library(TORCH_CPU_LIBRARY torch_cpu PATHS ${_candidates} PATH_SUFFIXES lib NO_DEFAULT_PATH)
  find_library(C10_LIBRARY c10 PATHS ${_candidates} PATH_SUFFIXES lib NO_DEFAULT_PATH)
elseif(_system)
  find_path(TORCH_INCLUDE_DIR ATen/ATen.h)
  find_library(TORCH_CPU_LIBRARY torch_cpu)
  find_library(C10_LIBRARY c10)
endif()
mark_as_advanced(TORCH_INCLUDE_DIR TORCH_CPU_LIBRARY C10_LIBRARY)
if(NOT TORCH_INCLUDE_DIR OR NOT TORCH_CPU_LIBRARY OR NOT C10_LIBRARY)
  message(FATAL_ERROR "No libtorch found: install PyTorch (pip install torch), or name one: -DSEIGH_TORCH=/path/to/torch")
endif()

set(_version_header ${TORCH_INCLUDE_DIR}/torch/csrc/api/include/torch/version.h)
if(NOT EXISTS ${_version_header})
  set(_version_header ${TORCH_INCLUDE_DIR}/torch/version.h)
endif()
set(_headers ${TORCH_INCLUDE_DIR}/torch/headeronly/version.h ${_version_header})
set(Libtorch_VERSION 0)
foreach(_header IN LISTS _headers)
  if(EXISTS ${_header})
    file(STRINGS ${_header} _lines REGEX "^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) +[0-9]+")
    if(_lines)
      string(REGEX REPLACE "[^;]*_(MAJOR|MINOR|PATCH) +([0-9]+)" "\\2" _numbers "${_lines}")
      list(JOIN _numbers "." Libtorch_VERSION)
      break()
    endif()
  endif()
endforeach()
cmake_path(GET TORCH_CPU_LIBRARY PARENT_PATH Libtorch_DIR)
if(Libtorch_VERSION VERSION_LESS ${_oldest})
  message(FATAL_ERROR "The libtorch in ${Libtorch_DIR} is ${Libtorch_VERSION}; seigh needs ${_oldest} or newer (pip install torch, or -DSEIGH_TORCH=/path/to/torch)")
endif()
# Wheels before 2.7 are built with the C++ ABI of before 2011, in which std::string is another type.
file(STRINGS ${C10_LIBRARY} _abi REGEX "_ZN3c105ErrorC[12]E[A-Za-z0-9_]*NSt7__cxx1112basic_string" LIMIT_COUNT 1)
if(NOT _abi)
  message(FATAL_ERROR "The libtorch in ${Libtorch_DIR} (${Libtorch_VERSION}) is built with the C++ ABI of before 2011, as PyPI's wheels before 2.7 are; take a newer one (pip install 'torch>=2.7')")
endif()

# A CUDA build registers its kernels when its libraries are loaded, so they are linked although nothing names them.
set(Libtorch_CUDA OFF)
set(_cuda_libraries)
foreach(_name torch_cuda c10_cuda)
  if(EXISTS ${Libtorch_DIR}/lib${_name}.so)
    list(APPEND _cuda_libraries ${Libtorch_DIR}/lib${_name}.so)
    set(Libtorch_CUDA ON)
  endif()
endforeach()
# The OpenMP run-time that a wheel brings is the one that is loaded; another beside it would fight for the cores.
file(GLOB Libtorch_GOMP ${Libtorch_DIR}/libgomp*.so*)

if(NOT TARGET seigh::torch)
  find_package(Threads REQUIRED)
  add_library(seigh::torch INTERFACE IMPORTED)
  target_include_directories(seigh::torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIR}
                             ${TORCH_INCLUDE_DIR}/torch/csrc/api/include)
  target_link_libraries(seigh::torch INTERFACE ${TORCH_CPU_LIBRARY} ${C10_LIBRARY} Threads::Threads)
  if(_cuda_libraries)
    target_link_libraries(seigh::torch INTERFACE -Wl,--push-state,--no-as-needed ${_cuda_libraries} -Wl,--pop-state)
  endif()
endif()
