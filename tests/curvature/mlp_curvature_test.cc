#include "seigh/curvature/mlp_curvature.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <limits>

#include "seigh/core/context.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/eigen/dense.h"
#include "tests/support/expect_error.h"
#include "tests/support/spectra.h"
#include "tests/support/tiny_problem.h"

namespace seigh {
namespace {

using test::relative_difference;

struct Case {
  std::vector<int64_t> widths;
  Activation activation;
  LossKind loss;
  int64_t samples;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Activation activation : {Activation::tanh, Activation::relu, Activation::gelu}) {
    for (const LossKind loss : {LossKind::cross_entropy, LossKind::mean_squared_error}) {
      all.push_back({{6, 5, 4, 3}, activation, loss, 17});
      all.push_back({{7, 9, 2}, activation, loss, 1});
    }
  }
  all.push_back({{5, 3}, Activation::tanh, LossKind::cross_entropy, 8});  // no hidden layer
  all.push_back({{3, 4, 5, 6, 5, 4, 130}, Activation::gelu, LossKind::cross_entropy, 150});
  return all;
}

at::Tensor block(int64_t rows, int64_t columns, uint64_t seed = 5) {
  return random_gaussian(seed, Stream::test, rows, 0, columns, at::kDouble);
}

TEST(MlpCurvature, HessianEqualsAutograd) {
  for (const Case& c : cases()) {
    const Mlp model(c.widths, c.activation);
    const Dataset data = test::gaussian_data(c.samples, c.widths.front(), c.widths.back());
    const at::Tensor parameters = model.initial_parameters(3);
    const at::Tensor v = block(model.parameter_count(), 5);
    AutogradCurvatureOperator autograd(model, parameters, {}, data, {.loss = c.loss, .dtype = at::kDouble});
    const at::Tensor expected = autograd.apply(v);
    // Tiles and chunks of every size give the same sums.
    for (const int64_t tile : {0, 1, 4}) {
      for (const int64_t chunk : {0, 1, 3}) {
        MlpCurvatureOperator op(model, parameters, data,
                                {.loss = c.loss, .dtype = at::kDouble, .batch_size = tile}, "", Context(),
                                chunk);
        EXPECT_LT(relative_difference(op.apply(v), expected), 1e-12)
            << model.description() << " " << to_string(c.loss);
      }
    }
  }
}

// Of numbers as targets, which are no class numbers: outside 0..C-1, and fractions.
TEST(MlpCurvature, FloatingTargetsOfMeanSquaredError) {
  const Mlp model({6, 5, 3}, Activation::tanh);
  Dataset data = test::gaussian_data(17, 6, 3);
  data.y = random_gaussian(9, Stream::test, 17, 0, 3, at::kDouble).mul(5).contiguous().to(at::kFloat);
  const at::Tensor parameters = model.initial_parameters(3), v = block(model.parameter_count(), 4);
  for (const CurvatureKind kind : {CurvatureKind::hessian, CurvatureKind::ggn,
                                   CurvatureKind::empirical_fisher, CurvatureKind::mc_fisher}) {
    const CurvatureOptions options{
        .kind = kind, .loss = LossKind::mean_squared_error, .dtype = at::kDouble, .draws = 3, .seed = 5};
    AutogradCurvatureOperator autograd(model, parameters, {}, data, options);
    CurvatureOptions tiles = options;
    tiles.batch_size = 4;
    MlpCurvatureOperator op(model, parameters, data, tiles);
    EXPECT_LT(relative_difference(op.apply(v), autograd.apply(v)), 1e-12) << to_string(kind);
    EXPECT_NEAR(op.loss(), autograd.loss(), 1e-12);
    EXPECT_LT(relative_difference(op.gradient(), autograd.gradient()), 1e-12);
  }
  data.y[3][1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_SEIGH_ERROR(MlpCurvatureOperator(model, parameters, data, {.loss = LossKind::mean_squared_error}),
                     "targets hold NaN");
}

// With many draws the Monte-Carlo Fisher matrix is the generalised Gauss-Newton matrix; the error falls as
// 1 / sqrt(draws N).
TEST(MlpCurvature, MonteCarloFisherOfEveryLossByName) {
  const Mlp model({4, 3, 2}, Activation::tanh);
  const Dataset data = test::gaussian_data(10, 4, 2);
  const at::Tensor parameters = model.initial_parameters(3);
  for (const LossKind loss :
       {LossKind::cross_entropy, LossKind::mean_squared_error, LossKind::binary_cross_entropy}) {
    const auto matrix = [&](CurvatureKind kind) {
      AutogradCurvatureOperator op(
          model, parameters, {}, data,
          {.kind = kind, .loss = loss, .dtype = at::kDouble, .draws = 4000, .seed = 1});
      return materialize(op);
    };
    // 40 000 squares of numbers whose own spread is about their size: 5 / 200, and twice that.
    EXPECT_LT(relative_difference(matrix(CurvatureKind::mc_fisher), matrix(CurvatureKind::ggn)), 0.05)
        << to_string(loss);
  }
}

// J^T H_L J from explicit Jacobians, one backward pass per output.
at::Tensor explicit_ggn(const Mlp& model, const at::Tensor& parameters, const Dataset& data, LossKind loss) {
  const at::Tensor leaf = parameters.to(at::kDouble).requires_grad_(true);
  const at::Tensor outputs = model.forward(unflatten(model.parameters(), leaf), {}, data.x.to(at::kDouble));
  const int64_t n = outputs.size(0), classes = outputs.size(1);
  at::Tensor sum = at::zeros({leaf.numel(), leaf.numel()}, at::kDouble);
  const at::Tensor p = outputs.detach().softmax(1);
  for (int64_t i = 0; i < n; ++i) {
    std::vector<at::Tensor> rows;
    for (int64_t k = 0; k < classes; ++k) {
      rows.push_back(torch::autograd::grad({outputs[i][k]}, {leaf}, {}, /*retain_graph=*/true)[0]);
    }
    const at::Tensor jacobian = at::stack(rows);
    const at::Tensor inner = loss == LossKind::cross_entropy
                                 ? p[i].diag() - p[i].outer(p[i])
                                 : at::eye(classes, at::kDouble) * (2.0 / classes);
    sum += at::matmul(jacobian.t(), at::matmul(inner, jacobian)) / n;
  }
  return sum;
}

TEST(MlpCurvature, GgnEqualsExplicitJacobians) {
  for (const Case& c : cases()) {
    if (c.widths.back() > 10) continue;  // too many backward passes
    const Mlp model(c.widths, c.activation);
    const Dataset data = test::gaussian_data(c.samples, c.widths.front(), c.widths.back());
    const at::Tensor parameters = model.initial_parameters(3);
    MlpCurvatureOperator op(model, parameters, data,
                            {.kind = CurvatureKind::ggn, .loss = c.loss, .dtype = at::kDouble});
    EXPECT_LT(relative_difference(materialize(op), explicit_ggn(model, parameters, data, c.loss)), 1e-12)
        << model.description() << " " << to_string(c.loss);
  }
}

TEST(MlpCurvature, GgnIsTheHessianOfALinearModel) {
  const Mlp model({5, 3}, Activation::tanh);
  const Dataset data = test::gaussian_data(9, 5, 3);
  const at::Tensor parameters = model.initial_parameters(3), v = block(model.parameter_count(), 4);
  MlpCurvatureOperator hessian(model, parameters, data, {.dtype = at::kDouble});
  MlpCurvatureOperator ggn(model, parameters, data, {.kind = CurvatureKind::ggn, .dtype = at::kDouble});
  EXPECT_LT(relative_difference(ggn.apply(v), hessian.apply(v)), 1e-13);
}

TEST(MlpCurvature, EqualsDifferencesOfGradients) {
  const Mlp model({6, 5, 4, 3}, Activation::gelu);
  const Dataset data = test::gaussian_data(17, 6, 3);
  const at::Tensor parameters = model.initial_parameters(3), v = block(model.parameter_count(), 1);
  MlpCurvatureOperator op(model, parameters, data, {.dtype = at::kDouble});
  EXPECT_LT(relative_difference(
                op.apply(v).select(1, 0),
                test::difference_product(model, parameters, data, LossKind::cross_entropy, v.select(1, 0))),
            1e-6);
}

class MlpProducts : public ::testing::Test {
 protected:
  const Mlp model_{{12, 10, 10, 4}, Activation::tanh};
  const Dataset data_ = test::gaussian_data(60, 12, 4);
  const at::Tensor parameters_ = model_.initial_parameters(3);
  MlpCurvatureOperator make(at::ScalarType dtype = at::kDouble) const {
    return {model_, parameters_, data_, {.dtype = dtype}};
  }
};

TEST_F(MlpProducts, AreSymmetricLinearAndColumnwise) {
  MlpCurvatureOperator op = make();
  const at::Tensor v = block(op.size(), 7), hv = op.apply(v);
  const at::Tensor gram = at::matmul(v.t(), hv);
  EXPECT_LT(relative_difference(gram, gram.t()), 1e-12);
  const at::Tensor mix = block(7, 3, 8);
  EXPECT_LT(relative_difference(op.apply(at::matmul(v, mix)), at::matmul(hv, mix)), 1e-12);
  for (int64_t j = 0; j < 7; ++j) {
    EXPECT_LT(relative_difference(op.apply(v.slice(1, j, j + 1)), hv.slice(1, j, j + 1)), 1e-12);
  }
  EXPECT_EQ(op.apply(v.slice(1, 0, 0)).size(1), 0);
}

TEST_F(MlpProducts, AreReproducibleAndIndependentOfThreads) {
  MlpCurvatureOperator op = make();
  const at::Tensor v = block(op.size(), 40);
  at::set_num_threads(2);
  const at::Tensor two = op.apply(v);
  EXPECT_TRUE(at::equal(two, op.apply(v)));
  at::set_num_threads(1);
  EXPECT_LT(relative_difference(op.apply(v), two), 1e-14);
  at::set_num_threads(2);
}

TEST_F(MlpProducts, Float32AgreesWithFloat64) {
  MlpCurvatureOperator exact = make(), fast = make(at::kFloat);
  const at::Tensor v = block(exact.size(), 6);
  // eps = 6e-8 through four layers of sums of up to 60 terms.
  EXPECT_LT(relative_difference(fast.apply(v.to(at::kFloat)).to(at::kDouble), exact.apply(v)), 1e-5);
}

TEST_F(MlpProducts, LabelSmoothingMovesTheTargets) {
  MlpCurvatureOperator op(model_, parameters_, data_,
                          {.loss = {LossKind::cross_entropy, 0.2}, .dtype = at::kDouble});
  const at::Tensor v = block(op.size(), 1);
  const at::Tensor p = parameters_.to(at::kDouble);
  const auto gradient = [&](const at::Tensor& at) {
    const at::Tensor leaf = at.detach().requires_grad_(true);
    const at::Tensor outputs =
        model_.forward(unflatten(model_.parameters(), leaf), {}, data_.x.to(at::kDouble));
    return torch::autograd::grad({loss_sum({LossKind::cross_entropy, 0.2}, outputs, data_.y) / data_.size()},
                                 {leaf})[0];
  };
  const at::Tensor d = v.select(1, 0) * 1e-4;
  EXPECT_LT(relative_difference(op.apply(v).select(1, 0), (gradient(p + d) - gradient(p - d)) / 2e-4), 1e-6);
}

TEST_F(MlpProducts, BadInputIsRefused) {
  EXPECT_SEIGH_ERROR(MlpCurvatureOperator(model_, parameters_, Dataset{}), "empty");
  EXPECT_SEIGH_ERROR(MlpCurvatureOperator(model_, at::full({model_.parameter_count()}, std::nan("")), data_),
                     "NaN");
  EXPECT_SEIGH_ERROR(MlpCurvatureOperator(model_, parameters_, test::gaussian_data(6, 12, 5)),
                     "targets run from 0 to 4");
  EXPECT_SEIGH_ERROR(MlpCurvatureOperator(model_, parameters_, test::gaussian_data(6, 11, 4)), "first width");
  EXPECT_SEIGH_ERROR(
      MlpCurvatureOperator(model_, parameters_, data_, {.loss = {LossKind::cross_entropy, 1.5}}),
      "label smoothing");
}

}  // namespace
}  // namespace seigh
