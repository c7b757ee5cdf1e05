#include "seigh/eigen/dense.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "seigh/core/context.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/random.h"
#include "seigh/core/timer.h"
#include "seigh/eigen/options.h"
#include "seigh/tall/placement.h"

namespace seigh {

int64_t dense_bytes(int64_t dimension, at::ScalarType dtype) {
  constexpr int64_t kOverflowing = 100'000'000;
  if (dimension > kOverflowing) return std::numeric_limits<int64_t>::max();
  return 4 * wide_bytes(dtype) * dimension * dimension;
}

namespace {

// On `place`.
at::Tensor materialize_at(LinearOperator& op, c10::Device place, const Context& context) {
  const int64_t n = op.size();
  const int64_t width = op.preferred_block();
  at::Tensor matrix = empty_block_at(place, n, n, wide(op.dtype()));
  context.progress().begin("whole matrix of " + op.name(), n, "products");
  for (int64_t begin = 0; begin < n; begin += width) {
    const int64_t count = std::min(width, n - begin);
    context.check_cancelled();
    at::Tensor unit = empty_block(n, count, op.dtype(), matrix.device()).zero_();
    unit.diagonal(-begin).fill_(1);
    matrix.slice(1, begin, begin + count).copy_(op.apply(unit));
    context.progress().advance(count);
  }
  context.progress().end();
  return matrix;
}

// |A|_2 of a skew-symmetric A, from above in all but very unlucky cases: block power iteration, and a tenth.
double spectral_norm(const at::Tensor& a) {
  at::Tensor x =
      random_gaussian(0, Stream::check, a.size(0), 0, std::min<int64_t>(8, a.size(0)), a.scalar_type())
          .to(a.device());
  double norm = 0;
  for (int i = 0; i < 6; ++i) {
    const at::Tensor q = std::get<0>(at::linalg_qr(x));
    x = at::matmul(a, q);
    norm = at::linalg_svdvals(x.cpu())[0].item<double>();
  }
  return 1.1 * norm;
}

// Where the matrix is, or where its device has no room for the decomposition, on the host.
std::tuple<at::Tensor, at::Tensor> decomposed(at::Tensor& matrix) {
  try {
    return at::linalg_eigh(matrix);
  } catch (const c10::OutOfMemoryError&) {
    if (matrix.is_cpu()) throw;
  }
  matrix = matrix.cpu();
  return at::linalg_eigh(matrix);
}

DenseResult solve(LinearOperator& op, int64_t k, Selection selection, const Context& context);

}  // namespace

at::Tensor materialize(LinearOperator& op, const Context& context) {
  const Context::Scope scope(context);
  return materialize_at(op, at::kCPU, context);
}

DenseResult dense(LinearOperator& op, int64_t k, Selection selection, const Context& context) {
  require(1 <= k && k <= op.size(), "dense: k must lie between 1 and the number of parameters, ", op.size(),
          ", not ", k);
  // Before the products, which take longest.
  require(op.size() <= kLargestDense, "dense: D = ", op.size(), " is more than LAPACK can decompose, ",
          kLargestDense, "; use another method");
  const int64_t needed = dense_bytes(op.size(), op.dtype()),
                left = context.ranks().agree(context.memory().available());
  if (needed >= left)
    throw MemoryError(text_of("dense: the whole matrix of D = ", op.size(), " and its decomposition take ",
                              format_bytes(needed), " of memory, ", format_bytes(left),
                              " are left; raise the ceiling (--memory) or use another method"));
  const Context::Scope scope(context);
  LinearOperator& full = op.in_full_precision();
  return on_device_of(op, "dense", [&] { return solve(full, k, selection, context); });
}

namespace {

DenseResult solve(LinearOperator& op, int64_t k, Selection selection, const Context& context) {
  const Timer timer;
  const int64_t bytes = dense_bytes(op.size(), op.dtype());
  at::Tensor matrix = materialize_at(op, place_of(op, op.preferred_block(), bytes, context), context);
  const double largest = matrix.abs().max().item<double>();
  EigenResult result;
  double asymmetric = 0;  // the norm of the part that is dropped
  {
    const at::Tensor difference = matrix - matrix.mH();
    result.asymmetry = largest > 0 ? difference.abs().max().item<double>() / largest : 0;
    if (result.asymmetry > 0) asymmetric = 0.5 * spectral_norm(difference);
    matrix.sub_(difference, 0.5);
  }
  context.check_cancelled();
  context.progress().begin("eigenvalues of " + op.name(), 1, "decompositions");
  auto [values, vectors] = decomposed(matrix);
  values = values.cpu();
  context.progress().advance(1);
  context.progress().end();
  const at::Tensor order = selection_order(values, k, selection);
  result.method = "dense";
  result.selection = selection;
  result.spectrum = values.index_select(0, order);
  // Of one sign, there may be fewer.
  result.rank = k;
  if (selection == Selection::positive) result.rank = std::min(k, (values > 0).sum().item<int64_t>());
  if (selection == Selection::negative) result.rank = std::min(k, (values < 0).sum().item<int64_t>());
  result.eigenvalues = result.spectrum.slice(0, 0, result.rank).clone();
  result.eigenvectors = Eigenvectors(
      as_block(vectors.index_select(1, order.slice(0, 0, result.rank).to(vectors.device()))).cpu(), {},
      context);
  result.products = op.size();
  result.frobenius = result.spectrum.norm().item<double>();
  // LAPACK's pairs are those of a matrix within a small multiple of eps ||H||_2; that of products made in
  // another order than their transposed ones, or less precisely, is as far off as these differ.
  result.rounding = kRoundingSafety * std::max(asymmetric, op.product_error());
  const double bound = result.rounding + 10 * std::numeric_limits<double>::epsilon() *
                                             (values.numel() > 0 ? values.abs().max().item<double>() : 0);
  const at::Tensor residuals = at::full_like(result.spectrum, bound);
  result.residuals = residuals.slice(0, 0, result.rank).clone();
  result.certificates = certify_pairs(result.spectrum, residuals, result.rank, selection, k,
                                      rounding_bounds(result.spectrum, bound), op.size());
  result.seconds = timer.seconds();
  result.peak_bytes = peak_memory_bytes();
  return {std::move(result), matrix.cpu()};
}

}  // namespace

double exact_error(const at::Tensor& matrix, const at::Tensor& eigenvalues,
                   const Eigenvectors& eigenvectors) {
  const at::Tensor u = eigenvectors.all().to(matrix.scalar_type());
  const at::Tensor right = (u * eigenvalues).mH();
  double squared = 0;
  constexpr int64_t kRows = 512;
  for (int64_t begin = 0; begin < u.size(0); begin += kRows) {
    const int64_t end = std::min(begin + kRows, u.size(0));
    squared += squared_abs(matrix.slice(0, begin, end) - at::matmul(u.slice(0, begin, end), right))
                   .sum()
                   .item<double>();
  }
  return std::sqrt(squared);
}

}  // namespace seigh
