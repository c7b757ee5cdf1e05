// Python's lock and the library: it is released before work begins, taken for as long as Python code runs,
// and never waited for by a thread that holds a lock of the library's.
#pragma once

#include <torch/csrc/utils/pybind.h>

#include <memory>
#include <utility>

#include "seigh/core/error.h"

namespace seigh::python {

namespace py = pybind11;

/// A reference that may be copied and dropped by any thread, with the lock or without.
using Reference = std::shared_ptr<py::object>;

inline Reference refer(py::object object) {
  return {new py::object(std::move(object)), [](py::object* last) {
            const py::gil_scoped_acquire gil;
            delete last;
          }};
}

/// What `body` gives, which runs with the lock. Ctrl-C within it is the library's Cancelled; any other
/// exception of Python's passes through as it is.
template <typename Body>
auto with_gil(const Body& body) {
  const py::gil_scoped_acquire gil;
  try {
    return body();
  } catch (py::error_already_set& error) {
    if (error.matches(PyExc_KeyboardInterrupt)) throw Cancelled();
    throw;
  }
}

}  // namespace seigh::python
