# Finds the libtorch of the user's own PyTorch and defines the target seigh::torch. Serves twice: for seigh's own build,
# and from the installed package for those who link seigh. PyTorch's own package file is not used: that of a CUDA
# build asks for the whole CUDA toolkit, of which only libtorch's headers and libraries are needed here.
#
# Looked for, in this order:
#   -DSEIGH_TORCH=DIR            a libtorch, or the folder of a Python's torch: DIR/include, DIR/lib
#   -DTorch_DIR, CMAKE_PREFIX_PATH
#   the folders given            the libtorch that an installed seigh was built with
#   torch of a Python            Python3_EXECUTABLE, an active virtual environment, python3 on PATH
#   the system's libtorch        Debian 13's libtorch-dev

set(SEIGH_TORCH "" CACHE PATH "Folder of a libtorch or of a Python's torch; empty: the Python's, then the system's")

# seigh_find_libtorch([FOLDER...]) sets
#   Libtorch_PROBLEM   why there is none that serves, in one line; empty when there is
#   Libtorch_VERSION
#   Libtorch_INCLUDE   folders of headers
#   Libtorch_DIR       folder of libraries
#   Libtorch_LIBRARIES
#   Libtorch_CUDA      libraries of a CUDA build, besides
#   Libtorch_GOMP      the OpenMP run-time it brings along, if it does
function(seigh_find_libtorch)
  set(oldest 2.6)
  set(Libtorch_PROBLEM "" PARENT_SCOPE)

  # Folders with include/ and lib/.
  set(candidates)
  if(SEIGH_TORCH)
    set(candidates ${SEIGH_TORCH})
  else()
    # PyTorch's package file is in DIR/share/cmake/Torch, or DIR/lib/x86_64-linux-gnu/cmake/Torch.
    set(folders ${CMAKE_PREFIX_PATH})
    foreach(prefix IN LISTS CMAKE_PREFIX_PATH)
      if(EXISTS ${prefix}/Torch/TorchConfig.cmake)
        list(APPEND folders ${prefix}/../..)
      endif()
    endforeach()
    if(Torch_DIR)
      list(PREPEND folders ${Torch_DIR}/../../.. ${Torch_DIR}/../../../..)
    endif()
    list(APPEND folders ${ARGN})
    foreach(folder IN LISTS folders)
      cmake_path(NORMAL_PATH folder)
      if(EXISTS ${folder}/include/ATen/ATen.h)
        list(APPEND candidates ${folder})
      endif()
    endforeach()
    if(NOT candidates)
      set(python ${Python3_EXECUTABLE})
      if(NOT python)
        find_program(python python3 HINTS $ENV{VIRTUAL_ENV}/bin NO_CACHE)
      endif()
      if(python)
        execute_process(COMMAND ${python} -c
                        "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '', end='')"
                        OUTPUT_VARIABLE of_python ERROR_QUIET)
        if(of_python AND EXISTS ${of_python}/include/ATen/ATen.h)
          list(APPEND candidates ${of_python})
        endif()
      endif()
    endif()
  endif()
  unset(include)
  unset(torch_cpu)
  unset(c10)
  set(where)
  if(candidates)
    set(where PATHS ${candidates} NO_DEFAULT_PATH)
  endif()
  find_path(include ATen/ATen.h ${where} PATH_SUFFIXES include NO_CACHE)
  foreach(name IN ITEMS torch_cpu c10)
    find_library(${name} ${name} ${where} PATH_SUFFIXES lib lib/${CMAKE_LIBRARY_ARCHITECTURE} NO_CACHE)
  endforeach()
  if(NOT include OR NOT torch_cpu OR NOT c10)
    set(in)
    if(SEIGH_TORCH)
      set(in " in ${SEIGH_TORCH}")
    endif()
    set(Libtorch_PROBLEM "No libtorch found${in}: install PyTorch (pip install torch), or name one: -DSEIGH_TORCH=/path/to/torch" PARENT_SCOPE)
    return()
  endif()
  string(REGEX REPLACE "/$" "" include "${include}")
  cmake_path(GET torch_cpu PARENT_PATH dir)

  set(version 0)
  foreach(header IN ITEMS torch/headeronly/version.h torch/csrc/api/include/torch/version.h torch/version.h)
    if(EXISTS ${include}/${header})
      file(STRINGS ${include}/${header} lines REGEX "^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) +[0-9]+")
      if(lines)
        string(REGEX REPLACE "[^;]*_(MAJOR|MINOR|PATCH) +([0-9]+)" "\\2" numbers "${lines}")
        list(JOIN numbers "." version)
        break()
      endif()
    endif()
  endforeach()
  if(version VERSION_LESS oldest)
    set(Libtorch_PROBLEM "The libtorch in ${dir} is ${version}; seigh needs ${oldest} or newer (pip install torch, or -DSEIGH_TORCH=/path/to/torch)" PARENT_SCOPE)
    return()
  endif()
  # Wheels before 2.7 are built with the C++ ABI of before 2011, in which std::string is another type.
  file(STRINGS ${c10} abi REGEX "_ZN3c105ErrorC[12]E[A-Za-z0-9_]*NSt7__cxx1112basic_string" LIMIT_COUNT 1)
  if(NOT abi)
    set(Libtorch_PROBLEM "The libtorch in ${dir} (${version}) is built with the C++ ABI of before 2011, as PyPI's wheels before 2.7 are; take a newer one (pip install 'torch>=2.7')" PARENT_SCOPE)
    return()
  endif()

  # A CUDA build registers its kernels when its libraries are loaded, so they are linked although nothing names them.
  set(cuda)
  foreach(name IN ITEMS torch_cuda c10_cuda)
    if(EXISTS ${dir}/lib${name}.so)
      list(APPEND cuda ${dir}/lib${name}.so)
    endif()
  endforeach()
  # The OpenMP run-time that a wheel brings is the one that is loaded; another beside it would fight for the cores.
  file(GLOB gomp ${dir}/libgomp*.so*)
  if(gomp)
    list(GET gomp 0 gomp)
  endif()
  set(includes ${include} ${include}/torch/csrc/api/include)

  if(NOT TARGET seigh::torch)
    add_library(seigh::torch INTERFACE IMPORTED GLOBAL)
    target_include_directories(seigh::torch SYSTEM INTERFACE ${includes})
    target_link_libraries(seigh::torch INTERFACE ${torch_cpu} ${c10} -pthread)
    if(cuda)
      target_link_libraries(seigh::torch INTERFACE -Wl,--push-state,--no-as-needed ${cuda} -Wl,--pop-state)
    endif()
  endif()
  set(Libtorch_VERSION ${version} PARENT_SCOPE)
  set(Libtorch_INCLUDE ${includes} PARENT_SCOPE)
  set(Libtorch_DIR ${dir} PARENT_SCOPE)
  set(Libtorch_LIBRARIES ${torch_cpu} ${c10} PARENT_SCOPE)
  set(Libtorch_CUDA ${cuda} PARENT_SCOPE)
  set(Libtorch_GOMP ${gomp} PARENT_SCOPE)
endfunction()
