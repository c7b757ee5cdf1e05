// The stacked products of fully connected networks on another device, here a pretended one.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/device_memory.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/curvature/make.h"
#include "seigh/curvature/mlp_curvature.h"
#include "seigh/curvature/model_source.h"
#include "tests/support/expect_error.h"
#include "tests/support/pretended_device.h"
#include "tests/support/spectra.h"
#include "tests/support/tiny_problem.h"

namespace seigh {
namespace {

using test::PretendedDevice;
using test::relative_difference;

class StackedOnADevice : public ::testing::Test {
 protected:
  ~StackedOnADevice() override { PretendedDevice::set_limit(int64_t{1} << 40); }

  Dataset there(const Dataset& data) const { return {data.x.to(there_), data.y.to(there_), data.classes}; }
  std::shared_ptr<const ModelSource> source(const Mlp& model, const Dataset& data,
                                            at::ScalarType dtype = at::kDouble) const {
    return std::make_shared<ModelSource>(model, model.initial_parameters(3).to(there_),
                                         std::vector<at::Tensor>{}, there(data), Loss{}, dtype, "matrix");
  }
  static at::Tensor block(const Mlp& model, int64_t columns) {
    return random_gaussian(5, Stream::test, model.parameter_count(), 0, columns, at::kDouble);
  }

  const c10::Device there_ = PretendedDevice::device();
};

TEST_F(StackedOnADevice, ProductsAreThoseThroughAGraph) {
  struct Case {
    std::vector<int64_t> widths;
    int64_t samples;
    std::vector<std::string> parameters;
  };
  const std::vector<Case> cases{{{6, 5, 4, 3}, 17, {}},
                                {{5, 3}, 8, {}},     // no hidden layer
                                {{1, 1, 2}, 1, {}},  // one sample
                                {{6, 5, 4, 3}, 17, {"*weight"}},
                                {{6, 5, 4, 3}, 17, {"layers.0.bias", "layers.1.*"}}};
  for (const Case& c : cases) {
    for (const Activation activation : {Activation::tanh, Activation::relu, Activation::gelu}) {
      for (const Loss& loss : {Loss{LossKind::cross_entropy, 0.1}, Loss{LossKind::mean_squared_error}}) {
        for (const CurvatureKind kind : curvature_kinds()) {
          const Mlp model(c.widths, activation);
          const Dataset data = test::gaussian_data(c.samples, c.widths.front(), c.widths.back());
          const at::Tensor parameters = model.initial_parameters(3);
          CurvatureOptions options{
              .kind = kind, .loss = loss, .dtype = at::kDouble, .parameters = c.parameters, .l2 = 0.1};
          AutogradCurvatureOperator here(model, parameters, {}, data, options);
          const at::Tensor v = random_gaussian(5, Stream::test, here.size(), 0, 5, at::kDouble),
                           expected = here.apply(v);
          for (const auto& [tile, chunk] : std::vector<std::pair<int64_t, int64_t>>{{0, 0}, {4, 2}}) {
            options.batch_size = tile;
            MlpCurvatureOperator op(model, parameters.to(there_), there(data), options, "matrix", Context(),
                                    chunk);
            const at::Tensor of_host = op.apply(v), of_device = op.apply(v.to(there_));
            EXPECT_TRUE(of_host.device().is_cpu());
            EXPECT_EQ(of_device.device(), there_);
            EXPECT_LT(relative_difference(of_host, expected), 1e-12) << model.description() << tile << chunk;
            EXPECT_TRUE(at::equal(of_host, of_device.cpu()));
            EXPECT_NEAR(op.loss(), here.loss(), 1e-12);
            EXPECT_LT((op.gradient().cpu() - here.gradient()).norm().item<double>(), 1e-12);
            EXPECT_EQ(op.apply(v.slice(1, 0, 0)).size(1), 0);
          }
        }
      }
    }
  }
}

TEST_F(StackedOnADevice, DataMayStayOnTheHost) {
  const Mlp model({6, 5, 3}, Activation::tanh);
  const Dataset data = test::gaussian_data(17, 6, 3);
  const at::Tensor parameters = model.initial_parameters(3), v = block(model, 3);
  MlpCurvatureOperator here(model, parameters, data, {.dtype = at::kDouble}),
      op(model, parameters.to(there_), data, {.dtype = at::kDouble});
  EXPECT_LT(relative_difference(op.apply(v), here.apply(v)), 1e-13);
}

TEST_F(StackedOnADevice, AreChosenByNameAndWhereNothingIsTried) {
  const Mlp model({6, 5, 3}, Activation::tanh);
  const auto network = source(model, test::gaussian_data(17, 6, 3), at::kFloat);
  const auto way = [&](CurvatureOptions options) {
    options.dtype = at::kFloat;
    return make_curvature_operator(network, options, "matrix", Context())->way();
  };
  EXPECT_EQ(way({.products = Products::stacked}), "stacked: 256 vectors, mini-batches of 17");
  EXPECT_EQ(way({.products = Products::batched}).substr(0, 7), "batched");
  EXPECT_EQ(way({.products = Products::graph}).substr(0, 5), "graph");
  EXPECT_NE(way({.replay = true}).find("replayed"), std::string::npos);
  const std::string fastest = way({});
  EXPECT_TRUE(fastest.starts_with("stacked") || fastest.starts_with("batched")) << fastest;
  EXPECT_SEIGH_ERROR(way({.products = Products::stacked, .replay = true}), "never replayed");
  EXPECT_SEIGH_ERROR(way({.products = Products::stacked, .precision = Precision::tf32}), "full precision");
  EXPECT_FALSE(way({.precision = Precision::tf32}).starts_with("stacked"));
  at::globalContext().setDeterministicAlgorithms(true, false);
  const std::string untried = way({});
  at::globalContext().setDeterministicAlgorithms(false, false);
  EXPECT_EQ(untried.substr(0, 7), "stacked");
}

TEST_F(StackedOnADevice, FitItsMemory) {
  const Mlp model({40, 30, 30, 5}, Activation::tanh);
  const Dataset data = test::gaussian_data(300, 40, 5);
  const at::Tensor parameters = model.initial_parameters(3), v = block(model, 64);
  const at::Tensor expected = MlpCurvatureOperator(model, parameters, data, {.dtype = at::kDouble}).apply(v);
  DeviceMemory memory(there_);
  const at::Tensor moved = parameters.to(there_);
  const Dataset moved_data = there(data);
  const int64_t before = memory.held();
  const auto most = [&](int64_t ceiling) {
    const Context context(ContextOptions{.device_memory = ceiling});
    MlpCurvatureOperator op(model, moved, moved_data, {.dtype = at::kDouble}, "matrix", context);
    memory.reset_peak();
    EXPECT_LT(relative_difference(op.apply(v), expected), 1e-12);
    return memory.peak() - before;
  };
  const int64_t ample = most(0);
  for (const int64_t part : {2, 4, 8}) EXPECT_LE(most(before + ample / part), ample / part) << part;

  {  // it runs out
    MlpCurvatureOperator op(model, moved, moved_data, {.dtype = at::kDouble});
    const int64_t base = memory.held();
    PretendedDevice::set_limit(base + (ample - (base - before)) / 4);
    EXPECT_LT(relative_difference(op.apply(v), expected), 1e-12);
    EXPECT_LT(op.preferred_block(), 64);
    PretendedDevice::set_limit(base + 4096);
    EXPECT_THROW(op.apply(v), MemoryError);
    PretendedDevice::set_limit(int64_t{1} << 40);
    EXPECT_LT(relative_difference(op.apply(v), expected), 1e-12) << "as if nothing had been";
    const int64_t at_rest = memory.held();
    for (int i = 0; i < 50; ++i) op.apply(v);
    EXPECT_EQ(memory.held(), at_rest);
  }
  {  // what it is made of counts: parameters, their gradient, sampled targets
    const Mlp wide({300, 300, 10}, Activation::relu);
    const Dataset few = there(test::gaussian_data(20, 300, 10));
    const at::Tensor flat = wide.initial_parameters(3).to(there_);
    const Mlp narrow({10, 10, 100}, Activation::relu);
    const Dataset many = there(test::gaussian_data(500, 10, 100));
    const at::Tensor small = narrow.initial_parameters(3).to(there_);
    const int64_t start = memory.held();
    int64_t made = 0;
    for (int64_t room = int64_t{1} << 17; room <= int64_t{1} << 27; room *= 2) {
      const Context context(ContextOptions{.device_memory = start + room});
      for (const bool draws : {false, true}) {
        const CurvatureOptions options{.kind = draws ? CurvatureKind::mc_fisher : CurvatureKind::hessian,
                                       .dtype = at::kFloat,
                                       .draws = 40};
        const Mlp& network_there = draws ? narrow : wide;
        memory.reset_peak();
        const auto op = MlpCurvatureOperator::where_possible(network_there, draws ? small : flat,
                                                             draws ? many : few, options, "matrix", context);
        if (!op) continue;
        ++made;
        op->apply(
            random_gaussian(5, Stream::test, op->size(), 0, op->preferred_block(), at::kFloat).to(there_));
        EXPECT_LE(memory.peak() - start, room) << draws;
      }
    }
    EXPECT_GE(made, 4);
    EXPECT_LE(made, 18) << "not where there is no room";
    // A trial leaves nothing behind.
    const auto network = source(wide, few, at::kFloat);
    const auto held_by = [&](Products products) {
      const int64_t held = memory.held();
      const auto op = make_curvature_operator(network, {.products = products}, "matrix", Context());
      EXPECT_EQ(op->products(), 0);
      return op->way().starts_with("stacked") ? PretendedDevice::held_at_rest() - held : -1;
    };
    const int64_t by_name = held_by(Products::stacked), tried = held_by(Products::automatic);
    EXPECT_TRUE(tried == -1 || tried <= by_name + 4096) << tried << " " << by_name;
  }
  // No room for the base point: products that need none.
  const auto network = source(model, data);
  const int64_t base = (4 * (40 + 30 + 30 + 5) + 5) * 300 * 8 + 48 * model.parameter_count();
  const auto way = [&](int64_t room) {
    const Context context(ContextOptions{.device_memory = memory.held() + room});
    return make_curvature_operator(network, {.dtype = at::kDouble, .products = Products::stacked}, "matrix",
                                   context)
        ->way();
  };
  EXPECT_EQ(way(4 * base).substr(0, 7), "stacked");
  EXPECT_SEIGH_ERROR(way(base), "room");
}

}  // namespace
}  // namespace seigh
