#include "seigh/curvature/fingerprint.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/matmul.h>

#include <algorithm>
#include <cmath>

#include "seigh/core/fingerprint.h"
#include "seigh/core/random.h"

namespace seigh {
namespace {

at::Tensor gaussian(int64_t n, int64_t column) {
  return random_gaussian(0, Stream::check, n, column, 1, at::kDouble).select(1, 0);
}

struct Projection {
  double value = 0, norm = 0;
};

// <u, X v> of the numbers of samples X [N, n] and random u, v; its standard deviation is |X|_F, so that any
// other number in X shows. `column` numbers the random vectors.
Projection project(const at::Tensor& numbers, int64_t column) {
  const int64_t rows = numbers.size(0);
  if (numbers.numel() == 0) return {};
  const at::Tensor matrix = numbers.reshape({rows, -1});
  const at::Tensor u = gaussian(rows, column), v = gaussian(matrix.size(1), column + 1);
  constexpr int64_t kRows = 1000;  // in float64 at once
  double value = 0, squares = 0;
  for (int64_t begin = 0; begin < rows; begin += kRows) {
    const int64_t end = std::min(begin + kRows, rows);
    const at::Tensor piece = matrix.slice(0, begin, end).to(at::kDouble);
    value += at::dot(u.slice(0, begin, end), at::matmul(piece, v)).item<double>();
    squares += piece.square().sum().item<double>();
  }
  return {value, std::sqrt(squares)};
}

}  // namespace

std::string fingerprint(CurvatureOperator* h, const Dataset& samples, const at::Tensor& parameters) {
  // Files give the same numbers everywhere, but a resized image may be rounded otherwise on another machine.
  constexpr double kData = 1e-5;
  Fingerprint print;
  const Projection x = project(samples.x, 10), y = project(samples.y, 12),
                   theta = project(parameters.reshape({1, -1}), 14);
  print.add("samples", x.value, kData * x.norm);
  print.add("targets", y.value, kData * y.norm);
  print.add("parameters", theta.value, 1e-9 * theta.norm);
  if (h == nullptr) return print.text();
  // Of a trained network nearly everything cancels in loss and gradient, so rounding is large beside them;
  // another network or loss differs by far more.
  const bool single = h->dtype() == at::kFloat;
  const double relative = single ? 0.05 : 1e-3, rounding = single ? 1e-5 : 1e-12;
  const double scale = std::sqrt(static_cast<double>(h->size()));
  const double loss = h->loss();
  print.add("loss", loss, relative * std::abs(loss) + rounding);
  const Projection g = project(h->gradient().cpu().reshape({1, -1}), 16);
  print.add("gradient", g.value, relative * g.norm + rounding * scale);
  const Projection p =
      project(h->apply(random_gaussian(0, Stream::check, h->size(), 18, 1, h->dtype())).t(), 19);
  print.add("product", p.value, relative * p.norm + rounding * scale);
  return print.text();
}

}  // namespace seigh
