#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "seigh/linop/linear_operator.h"
#include "seigh/linop/matrix_operator.h"
#include "seigh/tall/panels.h"
#include "seigh/tall/tall_matrix.h"
#include "tests/support/expect_error.h"
#include "tests/support/spectra.h"

namespace seigh {
namespace {

TEST(LinearOperator, CountsProductsAndReturnsContiguousColumns) {
  MatrixOperator op(at::eye(5, at::kDouble) * 2);
  const at::Tensor v = random_gaussian(1, Stream::test, 5, 0, 3, at::kDouble);
  const at::Tensor y = op.apply(v);
  EXPECT_TRUE(at::equal(y, 2 * v));
  EXPECT_EQ(y.stride(0), 1);
  EXPECT_EQ(y.stride(1), 5);
  EXPECT_EQ(op.products(), 3);
}

TEST(LinearOperator, AcceptsAnyLayoutOfTheBlock) {
  const auto [a, values, u] = test::spectral_matrix("indefinite", 12);
  MatrixOperator op(a);
  const at::Tensor v = random_gaussian(1, Stream::test, 12, 0, 4, at::kDouble);
  EXPECT_LT(test::relative_difference(op.apply(v.contiguous()), at::matmul(a, v)), 1e-14);
}

TEST(AsBlock, HasTheSameNumbersInColumns) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kComplexDouble}) {
    for (const int64_t rows : {1, 5, 4096, 9001}) {
      for (const int64_t columns : {0, 1, 2, 7, 40}) {
        const at::Tensor wide = at::randn({rows, columns + 3}, at::TensorOptions(dtype));
        // By rows, part of wider rows, by columns already, every other row, and a conjugate.
        for (const at::Tensor& x :
             {wide.slice(1, 0, columns).contiguous(), wide.slice(1, 2, columns + 2),
              wide.slice(1, 0, columns).t().contiguous().t(), wide.slice(0, 0, rows, 2).slice(1, 0, columns),
              wide.slice(1, 0, columns).contiguous().conj()}) {
          const at::Tensor block = as_block(x);
          EXPECT_TRUE(block.equal(x)) << dtype << ' ' << x.sizes();
          EXPECT_TRUE(block.t().is_contiguous());
          EXPECT_FALSE(block.is_conj());
        }
      }
    }
  }
}

TEST(LinearOperator, RefusesWrongShapesAndTypes) {
  MatrixOperator op(at::eye(5, at::kDouble));
  EXPECT_SEIGH_ERROR(op.apply(at::ones({4, 2}, at::kDouble)), "expected a block of shape (5, b)");
  EXPECT_SEIGH_ERROR(op.apply(at::ones({5}, at::kDouble)), "expected a block");
  EXPECT_SEIGH_ERROR(op.apply(at::ones({5, 2}, at::kFloat)), "expected dtype");
  EXPECT_EQ(op.products(), 0);
}

TEST(LinearOperator, ANonFiniteProductIsAnError) {
  DiagonalOperator op(at::full({3}, std::nan(""), at::kDouble));
  EXPECT_SEIGH_ERROR(op.apply(at::ones({3, 1}, at::kDouble)), "NaN");
}

TEST(MatrixOperator, RefusesWhatIsNoSymmetricMatrix) {
  EXPECT_SEIGH_ERROR(MatrixOperator(at::ones({3, 4}, at::kDouble)), "square");
  EXPECT_SEIGH_ERROR(MatrixOperator(at::arange(9, at::kDouble).reshape({3, 3})), "not symmetric");
  EXPECT_SEIGH_ERROR(MatrixOperator(at::full({3, 3}, std::nan(""), at::kDouble)), "NaN");
  EXPECT_SEIGH_ERROR(MatrixOperator(at::ones({3, 3}, at::kLong)), "cannot be of dtype Long");
  // Symmetric, but not Hermitian.
  EXPECT_SEIGH_ERROR(MatrixOperator(at::complex(at::ones({3, 3}), at::ones({3, 3}))), "not Hermitian");
  // Rounding of a symmetric product is no asymmetry.
  at::Tensor a = at::eye(3, at::kDouble);
  a[0][1] = 1e-16;
  EXPECT_NO_THROW(MatrixOperator{a});
}

// Gamma_n = n eps bounds the relative error of a dot product; norms of the factors are O(sqrt(rows)) here.
TEST(Panels, AgreeWithPlainProducts) {
  const at::Tensor x = random_gaussian(1, Stream::test, 9000, 0, 7, at::kDouble);
  const at::Tensor y = random_gaussian(2, Stream::test, 9000, 0, 5, at::kDouble);
  const at::Tensor m = random_gaussian(3, Stream::test, 7, 0, 4, at::kDouble);
  EXPECT_LT(test::relative_difference(transposed_product(x, y), at::matmul(x.t(), y)), 1e-11);
  EXPECT_LT(test::relative_difference(transposed_product(x, x), at::matmul(x.t(), x)), 1e-13);
  EXPECT_LT(test::relative_difference(times_small(x, m), at::matmul(x, m)), 1e-13);
  const at::Tensor p = at::matmul(x, m);
  EXPECT_LT(test::relative_difference(gram_of_product(MemoryTallMatrix(x), m), at::matmul(p.t(), p)), 1e-13);
}

TEST(Panels, AccumulateFloat32BlocksInFloat64) {
  const at::Tensor x = random_gaussian(1, Stream::test, 200'000, 0, 2, at::kFloat);
  const at::Tensor exact = at::matmul(x.t().to(at::kDouble), x.to(at::kDouble));
  EXPECT_LT(test::relative_difference(transposed_product(x, x), exact),
            1e-13);  // float32 sums would give 1e-6
}

}  // namespace
}  // namespace seigh
