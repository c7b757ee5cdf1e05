// Symmetric matrices with named spectra and random eigenvectors, and the checks shared by solver tests.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <string>

#include "seigh/core/dtype.h"
#include "seigh/core/random.h"
#include "tests/support/haar.h"

namespace seigh::test {

/// Eigenvalues float64 [n] by falling magnitude.
inline at::Tensor named_spectrum(const std::string& name, int64_t n) {
  const at::Tensor i = at::arange(n, at::kDouble);
  if (name == "low_rank_10") return at::where(i < 10, 10.0 - i, at::zeros_like(i));
  if (name == "exponential") return at::pow(0.9, i);
  if (name == "polynomial") return 1.0 / (1.0 + i);
  if (name == "indefinite") return at::pow(0.9, i) * at::where(i.remainder(3) == 1, -1.0, 1.0);
  if (name == "clustered") return at::where(i < 5, 3.0, at::where(i < 12, 1.0, 1e-3 / (1.0 + i)));
  if (name == "plus_minus") return at::pow(0.85, (i / 2).floor()) * at::where(i.remainder(2) == 1, -1.0, 1.0);
  TORCH_CHECK(false, "no spectrum called ", name);
}

struct SpectralMatrix {
  at::Tensor matrix, eigenvalues, eigenvectors;
};

inline SpectralMatrix spectral_matrix(const std::string& name, int64_t n, uint64_t seed = 1) {
  const at::Tensor u = haar_basis(seed, n, n);
  const at::Tensor values = named_spectrum(name, n);
  const at::Tensor a = at::matmul(u * values, u.t());
  return {0.5 * (a + a.t()), values, u};
}

/// The same with complex eigenvectors: complex128, Hermitian.
inline SpectralMatrix hermitian_matrix(const std::string& name, int64_t n, uint64_t seed = 1) {
  const at::Tensor u =
      std::get<0>(at::linalg_qr(random_gaussian(seed, Stream::test, n, 0, n, at::kComplexDouble)));
  const at::Tensor values = named_spectrum(name, n);
  const at::Tensor a = at::matmul(u * values, u.mH());
  return {0.5 * (a + a.mH()), values, u};
}

/// ||U^T U - I||_max, of complex U with the conjugate transpose.
inline double orthonormality_error(const at::Tensor& u) {
  const at::Tensor d = u.to(wide(u.scalar_type()));
  return (at::matmul(d.mH(), d) - at::eye(d.size(1), d.options())).abs().max().item<double>();
}

inline double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return std::sqrt((squared_abs(a - b).sum() / squared_abs(b).sum()).item<double>());
}

}  // namespace seigh::test
