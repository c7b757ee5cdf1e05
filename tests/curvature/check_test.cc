// What is looked for before a matrix is decomposed, on operators and losses that are wrong in known ways.
#include "seigh/curvature/check.h"

#include <gtest/gtest.h>

#include <cmath>

#include "seigh/core/context.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/curvature/make.h"
#include "seigh/curvature/model_source.h"
#include "seigh/eigen/probes.h"
#include "seigh/nn/mlp.h"
#include "seigh/tall/divided.h"
#include "tests/support/expect_error.h"
#include "tests/support/second_derivative.h"
#include "tests/support/spectra.h"
#include "tests/support/tiny_problem.h"

namespace seigh {
namespace {

using test::relative_difference;

// (A + E) v for a symmetric A and an E that is not; |E v| is `error` on average for unit vectors.
struct Inexact final : CurvatureOperator {
  at::Tensor a;
  Inexact(int64_t d, double error) : CurvatureOperator({{"p", {d}}}, at::kDouble, {}, "inexact", Context()) {
    const at::Tensor g = random_gaussian(1, Stream::test, d, 0, d, at::kDouble),
                     e = random_gaussian(2, Stream::test, d, 0, d, at::kDouble);
    a = (g + g.t()) / std::sqrt(2.0 * static_cast<double>(d)) +
        e * (error / std::sqrt(static_cast<double>(d)));
  }
  std::string way() const override { return "explicit"; }
  double loss() override { return 1; }
  at::Tensor gradient() override { return at::ones({size()}, at::kDouble); }
  at::Tensor apply_impl(const at::Tensor& block) override { return at::matmul(a, block); }
};

TEST(ProductError, IsFoundFromTheAsymmetry) {
  for (const double error : {1e-12, 1e-8}) {
    Inexact op(300, error);
    check_products(op);
    // |N(0, 1)| for two products; a factor of ten either way is left with probability .92.
    EXPECT_GT(op.product_error(), error / 10);
    EXPECT_LT(op.product_error(), error * 10);
    DividedColumns divided(op, Context());
    EXPECT_EQ(divided.product_error(), op.product_error());
    DividedSamples part(op, 0.25, Context());
    EXPECT_EQ(part.product_error(), op.product_error() / 4);
  }
  Inexact op(300, 0.1);
  EXPECT_SEIGH_ERROR(check_products(op), "not symmetric");
}

TEST(ProductError, IsThatOfTheProducts) {
  const Mlp model({5, 6, 4}, Activation::tanh);
  const Dataset data = test::gaussian_data(30, 5, 4);
  const at::Tensor parameters = model.initial_parameters(1);
  const at::Tensor v = test::random_direction(model.parameter_count(), 3).unsqueeze(1);
  for (const CurvatureKind kind : curvature_kinds()) {
    const CurvatureOptions exact{.kind = kind, .dtype = at::kDouble}, single{.kind = kind};
    const auto source = [&](at::ScalarType dtype) {
      return std::make_shared<ModelSource>(model, parameters, std::vector<at::Tensor>(), data, Loss(), dtype,
                                           "mlp");
    };
    const auto right = make_checked_operator(source(at::kDouble), exact, "exact");
    const auto rounded = make_checked_operator(source(at::kFloat), single, "rounded");
    const double off =
        (rounded->apply(v.to(at::kFloat)).to(at::kDouble) - right->apply(v)).norm().item<double>() /
        v.norm().item<double>();
    EXPECT_LT(off, 5 * rounded->product_error()) << to_string(kind);
    EXPECT_LT(rounded->product_error(), 1e-5) << to_string(kind);
    EXPECT_LT(right->product_error(), 1e-13) << to_string(kind);
    // Differences are the same matrix, to the error that was measured.
    CurvatureOptions by_differences = exact;
    by_differences.products = Products::difference;
    const auto differences = make_checked_operator(source(at::kDouble), by_differences, "differences");
    EXPECT_LT((differences->apply(v) - right->apply(v)).norm().item<double>() / v.norm().item<double>(),
              5 * differences->product_error());
    EXPECT_LT(differences->product_error(), 1e-8);
  }
}

TEST(Check, ItsFirstProductsAreTheProbes) {
  const Mlp model({5, 6, 4}, Activation::tanh);
  const Dataset data = test::gaussian_data(30, 5, 4);
  const at::Tensor parameters = model.initial_parameters(1);
  const auto source = std::make_shared<ModelSource>(model, parameters, std::vector<at::Tensor>(), data,
                                                    Loss(), at::kFloat, "mlp");
  const CurvatureOptions options{.seed = 3};
  const auto fresh = make_curvature_operator(source, options, "fresh");
  const auto checked = make_checked_operator(source, options, "checked");
  EXPECT_EQ(checked->products(), 3);  // A u, A v, A w; A' x is another operator's
  const Probes these(*checked, 5, 3), those(*fresh, 5, 3);
  EXPECT_EQ(checked->products(), 3 + 5 - 2);
  EXPECT_LT(relative_difference(these.products(0, 5), those.products(0, 5)), 1e-5);
  EXPECT_FALSE(checked->known_products(4).defined());  // of another seed
  DividedColumns alone(*checked, Context());
  EXPECT_TRUE(alone.known_products(3).defined());
}

TEST(ProductError, DrawsBelongToSamplesInAnyOrder) {
  const Mlp model({5, 6, 4}, Activation::tanh);
  const Dataset data = test::gaussian_data(30, 5, 4);
  const ModelSource source(model, model.initial_parameters(1), {}, data, Loss(), at::kDouble, "mlp");
  const auto again = source.again(random_permutation(1, Stream::test, 30), at::kDouble);
  const CurvatureOptions options{.kind = CurvatureKind::mc_fisher, .dtype = at::kDouble, .batch_size = 7};
  AutogradCurvatureOperator one(
      std::make_shared<ModelSource>(model, model.initial_parameters(1), std::vector<at::Tensor>(), data,
                                    Loss(), at::kDouble, "mlp"),
      options),
      other(again, options);
  const at::Tensor v = test::random_direction(model.parameter_count(), 3).unsqueeze(1);
  EXPECT_LT(relative_difference(other.apply(v), one.apply(v)), 1e-12);
}

// A loss of the user's own, from a function of outputs and targets.
template <typename F>
struct OwnLoss final : CustomLoss {
  F function;
  explicit OwnLoss(F f) : function(std::move(f)) {}
  std::string name() const override { return "own.pt"; }
  at::Tensor mean(const at::Tensor& outputs, const at::Tensor& targets) const override {
    return function(outputs, targets);
  }
};
template <typename F>
Loss own(F f) {
  return Loss(std::make_shared<OwnLoss<F>>(std::move(f)));
}

class OwnLosses : public ::testing::Test {
 protected:
  AutogradCurvatureOperator make(const Loss& loss, int64_t batch_size,
                                 CurvatureKind kind = CurvatureKind::hessian) const {
    return {model_,
            parameters_,
            {},
            data_,
            {.kind = kind, .loss = loss, .dtype = at::kDouble, .batch_size = batch_size}};
  }
  // Every class's samples together, so that mini-batches differ in theirs.
  const Mlp model_{{5, 6, 3}, Activation::tanh};
  const at::Tensor parameters_ = model_.initial_parameters(1).to(at::kDouble);
  const Dataset data_{random_gaussian(1, Stream::test, 24, 0, 5, at::kDouble), at::arange(24).div(8, "floor"),
                      3};
  const at::Tensor v_ = test::random_direction(model_.parameter_count(), 3).unsqueeze(1);
};

TEST_F(OwnLosses, WeightsCountWhateverTheMiniBatches) {
  const at::Tensor weights = at::tensor(std::vector<double>{1, 5, 20}, at::kDouble);
  const Loss weighted = own([&](const at::Tensor& f, const at::Tensor& y) {
    return at::cross_entropy_loss(f, y, weights.to(f.scalar_type()));
  });
  const Loss ignoring = own([](const at::Tensor& f, const at::Tensor& y) {
    return at::cross_entropy_loss(f, y, {}, at::Reduction::Mean, /*ignore_index=*/0);
  });
  for (const Loss& loss : {weighted, ignoring}) {
    for (const CurvatureKind kind :
         {CurvatureKind::hessian, CurvatureKind::ggn, CurvatureKind::empirical_fisher}) {
      auto whole = make(loss, 24, kind);
      for (const int64_t batch_size : {1, 5, 8}) {
        auto op = make(loss, batch_size, kind);
        EXPECT_LT(relative_difference(op.apply(v_), whole.apply(v_)), 1e-12) << batch_size;
        EXPECT_NEAR(op.loss(), whole.loss(), 1e-12);
      }
    }
  }
}

TEST_F(OwnLosses, ThatCannotBeCutAreTakenWhole) {
  const Loss ratio = own([](const at::Tensor& f, const at::Tensor& y) {
    const at::Tensor p = at::softmax(f, 1), t = at::one_hot(y, 3).to(f.scalar_type());
    return 1 - (2 * (p * t).sum(0) / (p.sum(0) + t.sum(0))).mean();
  });
  auto op = make(ratio, 4);
  EXPECT_EQ(op.batch_size(), 24);
  ASSERT_EQ(op.notes().size(), 1U);
  EXPECT_NE(op.notes()[0].find("own.pt"), std::string::npos);
  EXPECT_SEIGH_ERROR(make(ratio, 0, CurvatureKind::empirical_fisher),
                     "is no matrix of this network and loss");
  const Loss sum = own([](const at::Tensor& f, const at::Tensor& y) {
    return at::cross_entropy_loss(f, y, {}, at::Reduction::Sum);
  });
  EXPECT_SEIGH_ERROR(make(sum, 0), "own.pt is not a mean over samples");
}

TEST_F(OwnLosses, SayWhichSampleAndOperationIsNotFinite) {
  Dataset data = data_;
  data.x = data_.x.clone();
  data.numbers = at::arange(100, 124);
  data.x[17].zero_();
  struct Root : Model {
    Root() { parameters_ = {{"w", {3, 5}}}; }
    std::string description() const override { return "root"; }
    at::Tensor initial_parameters(uint64_t) const override { return at::ones({15}); }
    at::Tensor forward(const std::vector<at::Tensor>& p, const std::vector<at::Tensor>&, const at::Tensor& x,
                       bool) const override {
      return at::sqrt(at::linear(x, p[0]).square());
    }
  } model;
  AutogradCurvatureOperator op(model, random_gaussian(4, Stream::test, 15, 0, 1, at::kDouble).select(1, 0),
                               {}, data, {.dtype = at::kDouble, .batch_size = 5});
  EXPECT_SEIGH_ERROR(check_products(op), "gradient of the loss of sample 117 is not finite", "operation Pow");
}

}  // namespace
}  // namespace seigh
