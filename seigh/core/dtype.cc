#include "seigh/core/dtype.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/view_as_real.h>

#include <limits>

#include "seigh/core/error.h"

namespace seigh {
namespace {

constexpr at::ScalarType kVectorDtypes[] = {at::kFloat, at::kDouble, at::kComplexFloat, at::kComplexDouble};

}  // namespace

bool is_vector_dtype(at::ScalarType dtype) {
  for (const at::ScalarType known : kVectorDtypes) {
    if (dtype == known) return true;
  }
  return false;
}

std::string dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "float32";
    case at::kDouble:
      return "float64";
    case at::kComplexFloat:
      return "complex64";
    case at::kComplexDouble:
      return "complex128";
    default:
      return c10::toString(dtype);
  }
}

at::ScalarType parse_dtype(const std::string& name) {
  std::string known;
  for (const at::ScalarType dtype : kVectorDtypes) {
    if (dtype_name(dtype) == name) return dtype;
    known += (known.empty() ? "" : ", ") + dtype_name(dtype);
  }
  fail("there is no dtype \"", name, "\" of vectors; the kinds are ", known);
}

at::ScalarType wide(at::ScalarType dtype) {
  return at::isComplexType(dtype) ? at::kComplexDouble : at::kDouble;
}

int64_t wide_bytes(at::ScalarType dtype) {
  return static_cast<int64_t>(c10::elementSize(wide(dtype)));
}

double epsilon(at::ScalarType dtype) {
  return dtype == at::kFloat || dtype == at::kComplexFloat ? std::numeric_limits<float>::epsilon()
                                                           : std::numeric_limits<double>::epsilon();
}

at::Tensor squared_abs(const at::Tensor& x) {
  return x.is_complex() ? at::view_as_real(x.resolve_conj()).square().sum(-1) : x.square();
}

}  // namespace seigh
