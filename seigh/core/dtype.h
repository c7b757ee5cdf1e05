// The numbers that vectors are made of: float32, float64, complex64 and complex128. A complex matrix is
// Hermitian where a real one is symmetric; transposes are conjugate ones (mH), which leave real numbers as
// they are.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace seigh {

/// Whether vectors may have this dtype.
bool is_vector_dtype(at::ScalarType dtype);
/// "float32", "float64", "complex64" or "complex128".
std::string dtype_name(at::ScalarType dtype);
/// The dtype of that name. Throws Error on another.
at::ScalarType parse_dtype(const std::string& name);
/// What sums and small matrices are computed in: float64, or complex128 for complex numbers.
at::ScalarType wide(at::ScalarType dtype);
/// Bytes of one such number.
int64_t wide_bytes(at::ScalarType dtype);
/// The distance of 1 from the next number of that precision.
double epsilon(at::ScalarType dtype);
/// |x|^2 of every entry, real, in x's precision.
at::Tensor squared_abs(const at::Tensor& x);

}  // namespace seigh
