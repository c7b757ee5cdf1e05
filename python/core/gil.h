// Python's lock and the library: it is released before work begins, taken for as long as Python code runs,
// and never waited for by a thread that holds a lock of the library's.
#pragma once

#include <c10/util/Exception.h>
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

/// An exception of Python's on its way through the library, which takes it for none of its own troubles.
class PythonException : public Exception {
 public:
  explicit PythonException(py::error_already_set& error)
      : Exception(error.what()), error_(std::make_shared<py::error_already_set>(error)) {}
  /// Makes it Python's again. With the lock.
  void restore() const { error_->restore(); }

 private:
  std::shared_ptr<py::error_already_set> error_;
};

/// What `body` gives, which runs with the lock. Ctrl-C within it is the library's Cancelled, any other
/// exception of Python's a PythonException; but a device's being out of memory is what it was in C++, for
/// which smaller mini-batches may help.
template <typename Body>
auto with_gil(const Body& body) {
  const py::gil_scoped_acquire gil;
  PyErr_Clear();  // torch's engine leaves behind what has been handled since
  try {
    return body();
  } catch (py::error_already_set& error) {
    if (error.matches(PyExc_KeyboardInterrupt)) throw Cancelled();
    if (error.matches(py::module_::import("torch").attr("OutOfMemoryError")))
      throw c10::OutOfMemoryError({__func__, __FILE__, static_cast<uint32_t>(__LINE__)}, error.what());
    throw PythonException(error);
  }
}

}  // namespace seigh::python
