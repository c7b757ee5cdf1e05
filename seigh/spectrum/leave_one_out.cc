#include "seigh/spectrum/leave_one_out.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/real.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/tall/qr.h"

namespace seigh {

void for_columns(const LinearOperator& op, int64_t n, const Context& context,
                 const std::function<void(int64_t begin, int64_t end)>& body) {
  const int64_t width = op.preferred_block();
  for (int64_t begin = 0; begin < n; begin += width) {
    const int64_t end = std::min(begin + width, n);
    context.check_cancelled();
    body(begin, end);
    context.progress().advance(end - begin);
  }
}

RandomRange random_range(LinearOperator& op, int64_t n, const TestVectors& omega, const Context& context) {
  RandomRange range;
  range.q = empty_block(op.size(), n, op.dtype());
  for_columns(op, n, context, [&](int64_t begin, int64_t end) {
    range.q.slice(1, begin, end).copy_(op.apply(omega(begin, end)));
  });
  range.r = qr_in_place(range.q, context);
  // Ranks multiply it together, and where Y has fewer dimensions rounding decides what it is.
  context.ranks().agree_on(range.q);
  context.ranks().agree_on(range.r);
  const auto [u, sigma, vh] = at::linalg_svd(range.r, /*full_matrices=*/false);
  const double largest = sigma[0].item<double>();
  range.frobenius = at::linalg_vector_norm(sigma).item<double>() / std::sqrt(static_cast<double>(n));
  // R^-H = U Sigma^-1 V^H. What is below rounding may as well be rounding; of a zero matrix all is.
  const at::Tensor floored =
      sigma.clamp_min(largest > 0 ? largest * epsilon(op.dtype()) : 1.0).to(u.scalar_type());
  const at::Tensor inverse = at::matmul(u / floored, vh);
  range.s = inverse / at::linalg_vector_norm(inverse, 2, 0, /*keepdim=*/true);
  return range;
}

at::Tensor exact_diagonal(LinearOperator& op, const Context& context) {
  at::Tensor diagonal = at::empty({op.size()}, at::kDouble);
  for_columns(op, op.size(), context, [&](int64_t begin, int64_t end) {
    at::Tensor unit = empty_block(op.size(), end - begin, op.dtype()).zero_();
    unit.diagonal(-begin).fill_(1);
    diagonal.slice(0, begin, end).copy_(at::real(op.apply(unit).diagonal(-begin)));
  });
  return diagonal;
}

double product_rounding(const LinearOperator& op, double frobenius) {
  // Of a unit vector in a random direction, |A v| is |A|_F / sqrt(D) on average. A few operations each round.
  constexpr double kRoundings = 4;
  return std::max(op.product_error(),
                  kRoundings * epsilon(op.dtype()) * frobenius / std::sqrt(static_cast<double>(op.size())));
}

void require_memory(const std::string& what, int64_t needed, const std::string& remedy,
                    const Context& context) {
  const int64_t left = context.ranks().agree(context.memory().available());
  if (needed >= left)
    throw MemoryError(text_of(what, " takes ", format_bytes(needed), " of memory, ", format_bytes(left),
                              " are left; ", remedy, " or raise the ceiling (--memory)"));
}

at::Tensor standard_error(const at::Tensor& squared_differences, int64_t n) {
  // s^2 / n times nu / (nu - 2), nu = n - 1, s^2 with n - 1 as well.
  const double count = static_cast<double>(n);
  return (squared_differences / (count * (count - 3))).sqrt();
}

}  // namespace seigh
