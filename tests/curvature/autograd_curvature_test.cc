#include "seigh/curvature/autograd_curvature.h"

#include <gtest/gtest.h>

#include "seigh/curvature/mlp_curvature.h"
#include "seigh/eigen/dense.h"
#include "seigh/nn/mlp.h"
#include "tests/support/expect_error.h"
#include "tests/support/spectra.h"
#include "tests/support/tiny_problem.h"

namespace seigh {
namespace {

using test::relative_difference;

struct Case {
  Activation activation;
  LossKind loss;
};

class HessianTest : public ::testing::TestWithParam<Case> {
 protected:
  const Mlp model_{{6, 5, 4, 3}, GetParam().activation};
  const at::Tensor parameters_ = model_.initial_parameters(3);
  const Dataset data_ = test::gaussian_data(17, 6, 3);

  AutogradCurvatureOperator make(int64_t batch_size = 0, at::ScalarType dtype = at::kDouble) const {
    return {
        model_, parameters_, {}, data_, {.loss = GetParam().loss, .dtype = dtype, .batch_size = batch_size}};
  }
  at::Tensor block(int64_t columns, uint64_t seed = 5) const {
    return random_gaussian(seed, Stream::test, model_.parameter_count(), 0, columns, at::kDouble);
  }
};

TEST_P(HessianTest, EqualsDifferencesOfGradients) {
  AutogradCurvatureOperator h = make();
  const at::Tensor v = block(1);
  EXPECT_LT(
      relative_difference(h.apply(v).select(1, 0), test::difference_product(model_, parameters_, data_,
                                                                            GetParam().loss, v.select(1, 0))),
      1e-6);
}

TEST_P(HessianTest, GradientEqualsAPlainBackwardPass) {
  AutogradCurvatureOperator h = make(5);
  EXPECT_LT(
      relative_difference(h.gradient(), test::plain_gradient(model_, parameters_, data_, GetParam().loss)),
      1e-13);
}

TEST_P(HessianTest, IsSymmetricAndLinear) {
  AutogradCurvatureOperator h = make();
  const at::Tensor u = block(1, 6), v = block(1, 7);
  const at::Tensor hu = h.apply(u), hv = h.apply(v);
  const double scale = (u.norm() * hv.norm()).item<double>();
  EXPECT_LT(std::abs(((u * hv).sum() - (hu * v).sum()).item<double>()) / scale, 1e-12);
  EXPECT_LT(relative_difference(h.apply(2 * u - 3 * v), 2 * hu - 3 * hv), 1e-12);
}

TEST_P(HessianTest, ABlockIsItsColumns) {
  AutogradCurvatureOperator h = make();
  const at::Tensor v = block(4);
  const at::Tensor together = h.apply(v);
  for (int64_t j = 0; j < 4; ++j) {
    EXPECT_LT(relative_difference(h.apply(v.slice(1, j, j + 1)), together.slice(1, j, j + 1)), 1e-12);
  }
}

// Of a block, three workers take its vectors, one at a time; of what is left over, its samples.
TEST_P(HessianTest, VectorsAreDividedAmongWorkers) {
  for (const CurvatureKind kind : {CurvatureKind::hessian, CurvatureKind::ggn, CurvatureKind::mc_fisher}) {
    const CurvatureOptions options{.kind = kind, .loss = GetParam().loss, .dtype = at::kDouble, .l2 = 0.5};
    AutogradCurvatureOperator one(model_, parameters_, {}, data_, options, "one", Context({.threads = 1}));
    AutogradCurvatureOperator three(model_, parameters_, {}, data_, options, "three",
                                    Context({.threads = 3}));
    ASSERT_FALSE(one.divides_vectors());
    ASSERT_TRUE(three.divides_vectors());
    for (int64_t columns = 0; columns <= 7; ++columns) {
      const at::Tensor v = block(columns, 8), first = three.apply(v);
      ASSERT_EQ(first.sizes(), v.sizes());
      EXPECT_TRUE(at::equal(three.apply(v), first));
      for (int64_t j = 0; j < columns; ++j) {
        EXPECT_LT(relative_difference(first.slice(1, j, j + 1), one.apply(v.slice(1, j, j + 1))), 1e-12)
            << to_string(kind) << ", " << columns << " columns, column " << j;
      }
    }
  }
}

TEST_P(HessianTest, MiniBatchesOfUnequalSizeAreWeightedRightly) {
  const at::Tensor v = block(3);
  const at::Tensor whole = make().apply(v);
  for (const int64_t batch_size : {1, 5, 16})
    EXPECT_LT(relative_difference(make(batch_size).apply(v), whole), 1e-12);
  EXPECT_NEAR(make(5).loss(), make().loss(), 1e-14);
}

TEST_P(HessianTest, GgnEqualsTheStackedOne) {
  // MlpCurvatureOperator is tested against explicit Jacobians.
  const at::Tensor v = block(3);
  MlpCurvatureOperator stacked(model_, parameters_, data_,
                               {.kind = CurvatureKind::ggn, .loss = GetParam().loss, .dtype = at::kDouble});
  for (const int64_t batch_size : {0, 5}) {
    AutogradCurvatureOperator ggn(model_, parameters_, {}, data_,
                                  {.kind = CurvatureKind::ggn,
                                   .loss = GetParam().loss,
                                   .dtype = at::kDouble,
                                   .batch_size = batch_size});
    EXPECT_LT(relative_difference(ggn.apply(v), stacked.apply(v)), 1e-12);
    EXPECT_LT(relative_difference(ggn.gradient(), make().gradient()), 1e-13);
  }
}

TEST_P(HessianTest, Float32AgreesWithFloat64) {
  const at::Tensor v = block(2);
  // eps = 6e-8 through some ten layers of sums of up to 17 x 6 terms.
  EXPECT_LT(relative_difference(make(0, at::kFloat).apply(v.to(at::kFloat)).to(at::kDouble), make().apply(v)),
            1e-5);
}

INSTANTIATE_TEST_SUITE_P(ActivationsAndLosses, HessianTest,
                         ::testing::Values(Case{Activation::tanh, LossKind::cross_entropy},
                                           Case{Activation::relu, LossKind::cross_entropy},
                                           Case{Activation::gelu, LossKind::cross_entropy},
                                           Case{Activation::tanh, LossKind::mean_squared_error},
                                           Case{Activation::gelu, LossKind::mean_squared_error}));

TEST(Hessian, OfALinearModelWithSquaredLossIsKnown) {
  // outputs = W x + b, loss = (1/N) sum |Wx + b - t|^2 / C: H = (2 / (C N)) sum (x, 1)(x, 1)^T for every
  // output.
  const Mlp model({3, 2}, Activation::tanh);
  const Dataset data = test::gaussian_data(11, 3, 2);
  AutogradCurvatureOperator h(model, model.initial_parameters(1), {}, data,
                              {.loss = LossKind::mean_squared_error, .dtype = at::kDouble});
  const at::Tensor x = at::cat({data.x.to(at::kDouble), at::ones({11, 1}, at::kDouble)}, 1);
  const at::Tensor moment = at::matmul(x.t(), x) * (2.0 / (2 * 11));
  const at::Tensor got = materialize(h);
  // Parameter order: W row 0 (0..2), W row 1 (3..5), b (6, 7).
  for (int64_t output = 0; output < 2; ++output) {
    const at::Tensor index = at::tensor({3 * output, 3 * output + 1, 3 * output + 2, 6 + output}, at::kLong);
    EXPECT_LT((got.index_select(0, index).index_select(1, index) - moment).abs().max().item<double>(), 1e-14);
  }
  EXPECT_EQ(got[0][3].item<double>(), 0);
}

TEST(Hessian, RefusesWhatItCannotUse) {
  const Mlp model({3, 2}, Activation::tanh);
  const Dataset data = test::gaussian_data(4, 3, 2);
  at::Tensor parameters = model.initial_parameters(1);
  EXPECT_SEIGH_ERROR(AutogradCurvatureOperator(model, parameters, {}, Dataset{}, {}), "empty");
  EXPECT_SEIGH_ERROR(AutogradCurvatureOperator(model, parameters, {}, data, {.batch_size = -1}),
                     "batch_size");
  EXPECT_SEIGH_ERROR(
      AutogradCurvatureOperator(model, parameters.slice(0, 0, 5), {}, data, {}).apply(at::ones({8, 1})),
      "too short");
  parameters[2] = std::nan("");
  EXPECT_SEIGH_ERROR(AutogradCurvatureOperator(model, parameters, {}, data, {}), "parameters hold NaN");
}

}  // namespace
}  // namespace seigh
