// What XTrace and XDiag share: a random range, and its bases without one of the test vectors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>

#include "seigh/core/context.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

/// Y = A Omega = Q R.
struct RandomRange {
  at::Tensor q;  ///< block [D, n]
  at::Tensor r;  ///< R of wide() [n, n]
  /// Unit vectors [n, n] of wide(): Q (I - s_i s_i^H) Q^H projects on the range of Y without column i.
  at::Tensor s;
  double frobenius = 0;  ///< |A|_F, as |Y|_F estimates it
};

/// Test vectors [begin, end): a block of op.dtype() whose numbers have variance 1.
using TestVectors = std::function<at::Tensor(int64_t begin, int64_t end)>;

/// Spends n products.
RandomRange random_range(LinearOperator& op, int64_t n, const TestVectors& omega, const Context& context);

/// Calls body(begin, end) for blocks of columns as the operator likes them; reports them as products.
void for_columns(const LinearOperator& op, int64_t n, const Context& context,
                 const std::function<void(int64_t begin, int64_t end)>& body);

/// The diagonal, float64 [D], by D products with unit vectors.
at::Tensor exact_diagonal(LinearOperator& op, const Context& context);

/// What products are off by, as the root mean square length for unit vectors.
double product_rounding(const LinearOperator& op, double frobenius);

/// Throws MemoryError where `needed` bytes for `what` are not to be had.
void require_memory(const std::string& what, int64_t needed, const std::string& remedy,
                    const Context& context);

/// One standard deviation of the mean over n > 3 independent samples, as Student's t has it with n - 1
/// degrees of freedom, given the sum of their squared differences from their mean.
at::Tensor standard_error(const at::Tensor& squared_differences, int64_t n);
/// Leave-one-out estimates share most of their range, and so part of their error, which their spread does not
/// show: of spectra as in tests/spectrum the error was up to 1.6 times the spread's.
inline constexpr double kShared = 1.5;

}  // namespace seigh
