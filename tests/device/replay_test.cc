// Products that are recorded once and replayed, on a pretended device (tests/support/pretended_device.h).
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "seigh/core/device_graph.h"
#include "seigh/core/device_memory.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/curvature/model_source.h"
#include "seigh/curvature/replayed.h"
#include "seigh/eigen/eigh.h"
#include "seigh/linop/linear_operator.h"
#include "tests/support/every_model.h"
#include "tests/support/expect_error.h"
#include "tests/support/pretended_device.h"
#include "tests/support/spectra.h"

namespace seigh {
namespace {

using test::PretendedDevice;
using test::relative_difference;

const c10::Device there = PretendedDevice::device();

std::vector<at::Tensor> read(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> all;
  for (const at::Tensor& t : tensors) all.push_back(t.cpu());
  return all;
}

TEST(DeviceGraph, RunsAgainOnWhatLiesThere) {
  ASSERT_TRUE(DeviceGraph::supported(there));
  EXPECT_FALSE(DeviceGraph::supported(at::kCPU));
  const at::Tensor x = at::ones({3}).to(there), y = at::zeros({3}).to(there), sum = at::zeros({3}).to(there);
  std::unique_ptr<DeviceGraph> graph;
  at::Tensor made;
  {
    const SideStream side(there);
    EXPECT_NE(current_stream(there).id(), 0);
    const auto work = [&] {
      made = at::matmul(x.view({1, 3}), x.view({3, 1})) + 1;
      y.copy_((x * 2).sin().narrow(0, 0, 3));
      sum.add_(x);
    };
    work();
    EXPECT_EQ(obstacle_to_recording(work), "");
    sum.zero_();
    graph = std::make_unique<DeviceGraph>(there, work);
  }
  EXPECT_EQ(current_stream(there).id(), 0);
  for (const double value : {3.0, -0.5, 7.0}) {
    x.fill_(value);
    sum.fill_(10);
    made.fill_(-1);
    graph->replay();
    const auto [product, sine, total] = [&] {
      const auto all = read({made, y, sum});
      return std::tuple(all[0].item<double>(), all[1], all[2]);
    }();
    EXPECT_FLOAT_EQ(product, 3 * value * value + 1);
    EXPECT_LT(relative_difference(sine, at::full({3}, std::sin(2 * value))), 1e-6);
    EXPECT_EQ(total[2].item<double>(), 10 + value);
  }
}

// Otherwise results of the recording itself would pass for those of a replay.
TEST(DeviceGraph, ComputesNothingWhenItIsRecorded) {
  const at::Tensor x = at::ones({3}).to(there);
  at::Tensor y;
  const SideStream side(there);
  DeviceGraph graph(there, [&] { y = x + 1; });
  EXPECT_TRUE(y.cpu().isnan().all().item<bool>());
  graph.replay();
  EXPECT_EQ(y.cpu()[0].item<double>(), 2);
}

// What is read on the host breaks a recording off, and is seen beforehand; afterwards all is as it was.
TEST(DeviceGraph, RefusesWhatTheHostReads) {
  const at::Tensor x = at::ones({3}).to(there);
  const at::Tensor mask = x > 0, host = at::ones({3}), place = at::zeros({1}, at::kLong).to(there);
  struct Case {
    const char* name;
    std::function<void()> work;
  };
  const std::vector<Case> cases = {
      {"aten::_local_scalar_dense", [&] { x.sum().item<float>(); }},
      {"aten::copy_", [&] { x.cpu(); }},
      {"aten::copy_", [&] { host.to(there); }},
      {"aten::nonzero", [&] { at::nonzero(mask); }},
      {"aten::masked_select", [&] { at::masked_select(x, mask); }},
      {"aten::normal_", [&] { x.clone().normal_(); }},
  };
  const SideStream side(there);
  for (const Case& c : cases) {
    EXPECT_EQ(obstacle_to_recording(c.work), c.name);
    if (std::string(c.name) != "aten::normal_") {
      EXPECT_THROW(DeviceGraph(there, c.work), c10::Error) << c.name;
    }
    at::Tensor y;
    DeviceGraph fine(there, [&] { y = x.index({place}) * 2; });
    fine.replay();
    EXPECT_EQ(y.cpu().item<double>(), 2) << c.name;
  }
  EXPECT_EQ(obstacle_to_recording([&] { x.index({place}) + at::dropout(x, 0.5, false)[0]; }), "");
  EXPECT_EQ(PretendedDevice::device(), there);
}

TEST(DeviceGraph, IsRecordedOnAStreamOfItsOwn) {
  EXPECT_THROW(DeviceGraph(there, [] {}), c10::Error);
  EXPECT_SEIGH_ERROR(DeviceGraph(at::kCPU, [] {}), "work on cpu cannot be recorded");
}

class Replayed : public ::testing::TestWithParam<test::ModelCase> {
 protected:
  ~Replayed() override { PretendedDevice::set_limit(int64_t{1} << 40); }

  std::shared_ptr<const ModelSource> source(at::ScalarType dtype, const at::Tensor& parameters) const {
    const Dataset data = test::make_data(GetParam(), 5);
    std::vector<at::Tensor> buffers;
    for (const at::Tensor& buffer : test::running_statistics(*model_)) buffers.push_back(buffer.to(there));
    return std::make_shared<ModelSource>(*model_, parameters, buffers,
                                         Dataset{data.x.to(there), data.y.to(there), data.classes}, Loss{},
                                         dtype, "matrix");
  }
  at::Tensor block(uint64_t seed, int64_t columns, at::ScalarType dtype) const {
    return random_gaussian(seed, Stream::test, model_->parameter_count(), 0, columns, dtype);
  }

  const std::unique_ptr<Model> model_ = make_model(GetParam().model, GetParam().sample, GetParam().classes);
  const at::Tensor parameters_ = model_->initial_parameters(2).to(there);
};

// One vector after the other and in blocks, wherever they lie.
TEST_P(Replayed, IsWhatIsLaunched) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    const auto network = source(dtype, parameters_);
    for (const CurvatureKind kind : curvature_kinds()) {
      if (dtype == at::kFloat && kind != CurvatureKind::hessian) continue;
      for (const Products products : {Products::graph, Products::batched}) {
        const bool small = GetParam().name == "mlp";
        if (!small && (kind == CurvatureKind::empirical_fisher || dtype == at::kFloat)) continue;
        if (!small && products == Products::batched &&
            (kind != CurvatureKind::hessian || GetParam().name == "resnet_batch_norm"))
          continue;  // slow here
        CurvatureOptions options{
            .kind = kind, .dtype = dtype, .batch_size = 3, .products = products, .l2 = 0.1};
        options.replay = false;
        AutogradCurvatureOperator launched(network, options);
        EXPECT_EQ(launched.way().find("replayed"), std::string::npos);
        options.replay = true;
        if (products == Products::batched && kind == CurvatureKind::mc_fisher) {  // drawn on the host
          EXPECT_SEIGH_ERROR(AutogradCurvatureOperator(network, options),
                             "products cannot be replayed: aten::");
          continue;
        }
        AutogradCurvatureOperator replayed(network, options);
        EXPECT_NE(replayed.way().find(", replayed"), std::string::npos) << replayed.way();
        EXPECT_TRUE(replayed.notes().empty());
        const double same = dtype == at::kDouble ? 1e-12 : 1e-4;
        for (const int64_t columns : {1, 3, 1}) {
          const at::Tensor v = block(static_cast<uint64_t>(columns), columns, dtype);
          const at::Tensor expected = launched.apply(v), product = replayed.apply(v.to(there));
          EXPECT_LT(relative_difference(product.cpu(), expected), same) << to_string(kind) << columns;
          EXPECT_TRUE(at::equal(replayed.apply(v), product.cpu()));
        }
      }
    }
  }
}

std::vector<test::ModelCase> models() {  // every operation of the others is one of theirs
  std::vector<test::ModelCase> some = test::every_model();
  std::erase_if(some,
                [](const test::ModelCase& m) { return m.name == "resnet_group_norm" || m.name == "vit"; });
  return some;
}
INSTANTIATE_TEST_SUITE_P(Models, Replayed, ::testing::ValuesIn(models()),
                         [](const auto& of) { return of.param.name; });

// A cubic of the entries that a mask chooses, which the derivatives count.
class Masked final : public GraphSource {
 public:
  explicit Masked(bool by_index) : by_index_(by_index) {}
  const std::vector<ParameterSpec>& parameters() const override { return parameters_; }
  std::vector<at::Tensor> leaves() const override { return {theta_.detach()}; }
  at::ScalarType dtype() const override { return at::kDouble; }
  int64_t samples() const override { return 1; }
  int64_t targets(int64_t, int64_t) const override { return 1; }
  bool supports(CurvatureKind kind) const override { return kind == CurvatureKind::hessian; }
  at::Tensor loss(const std::vector<at::Tensor>& leaves, int64_t, int64_t) const override {
    const at::Tensor cube = leaves[0] * leaves[0] * leaves[0];
    return (by_index_ ? cube.index({mask_}) : cube.masked_select(mask_)).square().sum();
  }

 private:
  bool by_index_;
  std::vector<ParameterSpec> parameters_ = {{"theta", {6}}};
  at::Tensor theta_ = at::arange(1, 7, at::kDouble).to(there), mask_ = theta_ > 2;
};

// Unasked for, what cannot be recorded is launched, whether that is seen beforehand or breaks a recording
// off.
TEST(WhatTheHostReads, IsLaunched) {
  for (const bool by_index : {false, true}) {
    const auto source = std::make_shared<Masked>(by_index);
    const char* const why =
        by_index ? "counting a mask while a graph is recorded" : "aten::masked_select cannot be recorded";
    EXPECT_SEIGH_ERROR(AutogradCurvatureOperator(source, {.dtype = at::kDouble, .replay = true}),
                       std::string("products cannot be replayed: ") + why);
    for (int round = 0; round < 2; ++round) {
      at::globalContext().setDeterministicAlgorithms(true, false);  // without the clock
      AutogradCurvatureOperator op(source, {.dtype = at::kDouble});
      at::globalContext().setDeterministicAlgorithms(false, false);
      EXPECT_EQ(op.way().find("replayed"), std::string::npos) << op.way();
      const std::vector<std::string> notes = op.notes();
      EXPECT_EQ(
          std::count(notes.begin(), notes.end(), std::string("products are launched, not replayed: ") + why),
          1);
      const at::Tensor v = at::ones({6, 2}, at::kDouble), theta = at::arange(1, 7, at::kDouble);
      EXPECT_LT(relative_difference(op.apply(v).select(1, 1), 30 * theta.pow(4) * (theta > 2)), 1e-12);
    }
  }
}

class ReplayedMlp : public Replayed {};
INSTANTIATE_TEST_SUITE_P(Smallest, ReplayedMlp, ::testing::Values(test::every_model()[0]),
                         [](const auto& of) { return of.param.name; });

// Parameters that are changed in place: what was recorded is let go, and products are those of the new ones.
TEST_P(ReplayedMlp, NoticesChangedParameters) {
  for (const Products products : {Products::graph, Products::batched}) {
    const at::Tensor parameters = parameters_.to(at::kDouble).clone();
    const CurvatureOptions options{.dtype = at::kDouble, .products = products, .replay = true};
    AutogradCurvatureOperator op(source(at::kDouble, parameters), options);
    const at::Tensor v = block(1, 1, at::kDouble), before = op.apply(v);
    parameters.mul_(2);
    const at::Tensor after = op.apply(v);
    AutogradCurvatureOperator anew(source(at::kDouble, parameters), options);
    EXPECT_LT(relative_difference(after, anew.apply(v)), 1e-11);
    EXPECT_GT(relative_difference(after, before), 1e-3);
    EXPECT_EQ(op.way().find("replayed"), std::string::npos) << op.way();
  }
}

// Blocks that are none of the recorded width, but for one.
TEST_P(ReplayedMlp, PadsBlocks) {
  AutogradCurvatureOperator op(source(at::kDouble, parameters_),
                               {.dtype = at::kDouble, .products = Products::batched, .replay = true}),
      launched(source(at::kDouble, parameters_),
               {.dtype = at::kDouble, .products = Products::graph, .replay = false});
  const int64_t width = op.vectors_at_once();
  ASSERT_GT(width, 8);
  for (const int64_t columns : {width - 1, width, 2 * width + 3, int64_t{2}}) {
    const at::Tensor v = block(4, columns, at::kDouble);
    EXPECT_LT(relative_difference(op.apply(v), launched.apply(v)), 1e-11) << columns;
  }
  EXPECT_NE(op.way().find(", replayed, single vectors replayed"), std::string::npos) << op.way();
}

TEST_P(ReplayedMlp, SolvesAsItDoesOtherwise) {
  const auto solve = [&](bool replay) {
    AutogradCurvatureOperator op(source(at::kDouble, parameters_), {.dtype = at::kDouble, .replay = replay});
    return eigh(op, {.k = 3, .tolerance = 1e-8, .block = 1});
  };
  const EigenResult replayed = solve(true), launched = solve(false);
  EXPECT_LT(relative_difference(replayed.eigenvalues, launched.eigenvalues), 1e-10);
}

// What is recorded counts as taken, and goes with the operator; where there is no room for it, products are
// launched.
TEST_P(ReplayedMlp, FitsTheMemory) {
  const auto network = source(at::kDouble, parameters_);
  const at::Tensor v = block(1, 1, at::kDouble);
  DeviceMemory memory(there);
  const int64_t before = PretendedDevice::held_at_rest();
  const CurvatureOptions options{.dtype = at::kDouble, .products = Products::graph, .replay = true},
      launched{.dtype = at::kDouble, .products = Products::graph, .replay = false};
  AutogradCurvatureOperator plain(network, launched);
  const at::Tensor expected = plain.apply(v);
  const int64_t graphs = PretendedDevice::held_at_rest() - before;
  int64_t most = 0, taken = 0;
  {
    memory.reset_peak();
    const int64_t start = PretendedDevice::held_at_rest();
    AutogradCurvatureOperator op(network, options);
    most = memory.peak() - start;
    taken = PretendedDevice::held_at_rest() - start;
    EXPECT_GT(taken, graphs) << "with what is recorded";
    EXPECT_LT(relative_difference(op.apply(v), expected), 1e-12);
    EXPECT_EQ(PretendedDevice::held_at_rest() - start, taken);
  }
  EXPECT_EQ(PretendedDevice::held_at_rest() - before, graphs);
  int replays = 0;
  for (int64_t more = most + 4096; more > graphs; more -= most / 10) {
    PretendedDevice::set_limit(PretendedDevice::held_at_rest() + more);
    try {
      AutogradCurvatureOperator op(network, options);
      EXPECT_LT(relative_difference(op.apply(v), expected), 1e-12);
      ++replays;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("memory"), std::string::npos) << error.what();
    }
    at::globalContext().setDeterministicAlgorithms(true, false);
    try {
      AutogradCurvatureOperator op(network, {.dtype = at::kDouble, .products = Products::graph});
      EXPECT_TRUE(op.notes().empty()) << op.notes()[0];
      EXPECT_LT(relative_difference(op.apply(v), expected), 1e-11);
    } catch (const MemoryError&) {  // not even for what is launched
    }
    at::globalContext().setDeterministicAlgorithms(false, false);
    PretendedDevice::set_limit(int64_t{1} << 40);
    EXPECT_EQ(PretendedDevice::held_at_rest() - before, graphs);
  }
  EXPECT_GT(replays, 0);
  const int64_t left = memory.available();
  {
    const DeviceMemory::Reserved pool(there, 1000);
    EXPECT_EQ(memory.available(), left - 1000);
  }
  EXPECT_EQ(memory.available(), left);
}

// A product that is another one each time is no product to record.
TEST_P(ReplayedMlp, IsComparedWithWhatIsLaunched) {
  double factor = 1;
  const auto scaled = [&](double by) {
    return [&factor, by](const at::Tensor& vectors, const at::Tensor& products) {
      at::mul_out(const_cast<at::Tensor&>(products), vectors,
                  at::scalar_tensor(factor, vectors.scalar_type()));
      factor *= by;
    };
  };
  const auto options = at::TensorOptions(at::kDouble).device(there);
  const Context context;
  EXPECT_SEIGH_ERROR(ReplayedProduct(scaled(1.001), scaled(1.001), {6, 2}, options, {}, context),
                     "what is replayed differs from what is launched by 0.");
  factor = 3;
  ReplayedProduct fine(scaled(1), scaled(1), {6, 2}, options, {}, context);
  const at::Tensor v = block(1, 3, at::kDouble).narrow(0, 0, 6).to(there), product = at::zeros_like(v);
  fine.multiply(v, product, context);
  EXPECT_LT(relative_difference(product.cpu(), 3 * v.cpu()), 1e-15);
}

}  // namespace
}  // namespace seigh
