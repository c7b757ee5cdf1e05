// Operators whose network lies on another device, here a pretended one (tests/support/pretended_device.h).
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <optional>

#include "seigh/core/context.h"
#include "seigh/core/deterministic.h"
#include "seigh/core/device_memory.h"
#include "seigh/core/full_precision.h"
#include "seigh/core/random.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/curvature/check.h"
#include "seigh/curvature/make.h"
#include "seigh/curvature/model_source.h"
#include "seigh/eigen/eigh.h"
#include "seigh/linop/matrix_operator.h"
#include "seigh/nn/loss.h"
#include "tests/support/every_model.h"
#include "tests/support/expect_error.h"
#include "tests/support/pretended_device.h"
#include "tests/support/spectra.h"

namespace seigh {
namespace {

using test::PretendedDevice;
using test::relative_difference;

class OnADevice : public ::testing::TestWithParam<test::ModelCase> {
 protected:
  OnADevice() { PretendedDevice::rounded_to_tf32(); }
  ~OnADevice() override { PretendedDevice::set_limit(int64_t{1} << 40); }

  std::shared_ptr<const ModelSource> source(c10::Device device, at::ScalarType dtype,
                                            int64_t samples = 6) const {
    const Dataset data = test::make_data(GetParam(), samples);
    std::vector<at::Tensor> buffers;
    for (const at::Tensor& buffer : test::running_statistics(*model_)) buffers.push_back(buffer.to(device));
    return std::make_shared<ModelSource>(*model_, parameters_.to(device), buffers,
                                         Dataset{data.x.to(device), data.y.to(device), data.classes}, Loss{},
                                         dtype, "matrix");
  }
  at::Tensor block(int64_t columns) const {
    return random_gaussian(5, Stream::test, model_->parameter_count(), 0, columns, at::kDouble);
  }

  const c10::Device there_ = PretendedDevice::device();
  const std::unique_ptr<Model> model_ = make_model(GetParam().model, GetParam().sample, GetParam().classes);
  const at::Tensor parameters_ = model_->initial_parameters(2);
};

TEST_P(OnADevice, ProductsAreThoseOfTheCpu) {
  for (const CurvatureKind kind : curvature_kinds()) {
    for (const Products products :
         {Products::autograd, Products::graph, Products::batched, Products::difference}) {
      if (products == Products::difference && kind == CurvatureKind::mc_fisher) continue;  // as the other
      if (products == Products::autograd && kind != CurvatureKind::hessian) continue;  // one of the next two
      const CurvatureOptions options{.kind = kind, .dtype = at::kDouble, .products = products, .l2 = 0.1};
      AutogradCurvatureOperator here(source(at::kCPU, at::kDouble), options),
          there(source(there_, at::kDouble), options);
      EXPECT_EQ(there.device(), there_);
      const at::Tensor v = block(3), expected = here.apply(v);
      const at::Tensor from_host = there.apply(v), from_there = there.apply(v.to(there_));
      EXPECT_TRUE(from_host.is_cpu());
      EXPECT_EQ(from_there.device(), there_);
      const double same = products == Products::difference ? 1e-6 : 1e-11;
      EXPECT_LT(relative_difference(from_host, expected), same) << to_string(kind);
      EXPECT_TRUE(at::equal(from_there.cpu(), from_host)) << to_string(kind);
      EXPECT_NEAR(there.loss(), here.loss(), 1e-12);
      EXPECT_LT(relative_difference(there.gradient().cpu(), here.gradient()), 1e-11);
    }
  }
  EXPECT_FALSE(PretendedDevice::rounded_to_tf32());
}

class SolvedOnADevice : public OnADevice {};

TEST_P(SolvedOnADevice, EigenpairsAreThoseOfTheCpu) {
  const auto solve = [&](c10::Device device, at::ScalarType dtype) {
    const auto op = make_checked_operator(source(device, dtype), {.dtype = dtype}, "matrix", Context());
    EXPECT_TRUE(op->notes().empty()) << op->notes()[0];
    return eigh(*op, {.k = 3, .products = 24});
  };
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    const EigenResult here = solve(at::kCPU, dtype), there = solve(there_, dtype);
    const double first = here.eigenvalues.abs().max().item<double>();
    EXPECT_LT((here.eigenvalues - there.eigenvalues).abs().max().item<double>() / first,
              dtype == at::kFloat ? 1e-5 : 1e-10);
    EXPECT_EQ(there.certificates.certified(), here.certificates.certified());
  }
  EXPECT_FALSE(PretendedDevice::rounded_to_tf32());
}

TEST_P(OnADevice, MiniBatchesFitItsMemory) {
  const CurvatureOptions options{.dtype = at::kDouble, .products = Products::graph, .replay = false};
  const auto network = source(there_, at::kDouble, 40);
  const at::Tensor v = block(2);
  DeviceMemory memory(there_);
  at::Tensor expected;
  int64_t needed = 0;
  {
    AutogradCurvatureOperator ample(network, options);
    memory.reset_peak();
    const int64_t before = memory.held();
    expected = ample.apply(v);
    needed = memory.peak() - before;
    EXPECT_EQ(ample.batch_size(), 40);
    EXPECT_TRUE(ample.notes().empty());
  }
  {  // found when the operator is made
    PretendedDevice::set_limit(memory.held() + needed * 2 / 3);
    AutogradCurvatureOperator small(network, options);
    EXPECT_LT(small.batch_size(), 40);
    EXPECT_LT(relative_difference(small.apply(v), expected), 1e-11);
    EXPECT_TRUE(small.notes().empty());
  }
  PretendedDevice::set_limit(int64_t{1} << 40);
  {  // or only when it multiplies
    AutogradCurvatureOperator late(network, options);
    ASSERT_EQ(late.batch_size(), 40);
    PretendedDevice::set_limit(memory.held() + needed * 2 / 3);
    EXPECT_LT(relative_difference(late.apply(v), expected), 1e-11);
    EXPECT_LT(late.batch_size(), 40);
    ASSERT_EQ(late.notes().size(), 1U);
    EXPECT_NE(late.notes()[0].find("ran out of memory"), std::string::npos) << late.notes()[0];
    PretendedDevice::set_limit(memory.held() + 4096);
    EXPECT_SEIGH_ERROR(late.apply(v), "too little memory on pretended:0");
    PretendedDevice::set_limit(int64_t{1} << 40);
    EXPECT_LT(relative_difference(late.apply(v), expected), 1e-11) << "as if nothing had been";
  }
  PretendedDevice::set_limit(memory.held() + 4096);
  EXPECT_THROW(AutogradCurvatureOperator(network, options), MemoryError);
}

TEST_P(SolvedOnADevice, BatchesOfVectorsFitItsMemory) {
  const CurvatureOptions options{.dtype = at::kDouble, .products = Products::batched, .replay = false};
  const auto network = source(there_, at::kDouble, 20);
  const at::Tensor v = block(24);
  DeviceMemory memory(there_);
  const auto peak_of = [&](const auto& work) {
    memory.reset_peak();
    const int64_t before = memory.held();
    work();
    return memory.peak() - before;
  };
  std::optional<AutogradCurvatureOperator> ample;
  const int64_t largest = peak_of([&] { ample.emplace(network, options); });
  const at::Tensor expected =
      AutogradCurvatureOperator(source(at::kCPU, at::kDouble, 20), {.dtype = at::kDouble}).apply(v);
  EXPECT_EQ(ample->batch_size(), 20);
  EXPECT_GE(ample->vectors_at_once(), 32);
  const int64_t needed = peak_of([&] { EXPECT_LT(relative_difference(ample->apply(v), expected), 1e-11); });
  {  // a ceiling, kept and found when the operator is made
    const Context context(ContextOptions{.device_memory = memory.held() + largest / 2});
    AutogradCurvatureOperator small(network, options, "small", context);
    EXPECT_TRUE(small.vectors_at_once() < ample->vectors_at_once() || small.batch_size() < 20);
    memory.reset_peak();
    EXPECT_LT(relative_difference(small.apply(v), expected), 1e-11);
    EXPECT_LE(memory.peak(), context.device_memory());
  }
  PretendedDevice::set_limit(memory.held() + needed * 2 / 3);  // it runs out
  EXPECT_LT(relative_difference(ample->apply(v), expected), 1e-11);
  EXPECT_LT(ample->vectors_at_once(), 24);
}

std::vector<test::ModelCase> some_models() {
  std::vector<test::ModelCase> some;
  for (const test::ModelCase& model : test::every_model())
    if (model.name == "mlp" || model.name == "resnet_batch_norm" || model.name == "transformer_tied")
      some.push_back(model);
  return some;
}

INSTANTIATE_TEST_SUITE_P(SomeModels, SolvedOnADevice, ::testing::ValuesIn(some_models()),
                         [](const auto& of) { return of.param.name; });
INSTANTIATE_TEST_SUITE_P(EveryModel, OnADevice, ::testing::ValuesIn(test::every_model()),
                         [](const auto& of) { return of.param.name; });

// One of every_model(), with four samples.
struct NetworkThere {
  explicit NetworkThere(size_t number) : c(test::every_model()[number]) {}
  const test::ModelCase c;
  const std::unique_ptr<Model> model = make_model(c.model, c.sample, c.classes);
  const Dataset data = test::make_data(c, 4);
  const c10::Device device = PretendedDevice::device();
  const std::shared_ptr<const ModelSource> network = std::make_shared<ModelSource>(
      *model, model->initial_parameters(1).to(device), std::vector<at::Tensor>{},
      Dataset{data.x.to(device), data.y.to(device), data.classes}, Loss{}, at::kFloat, "matrix");
};

TEST(ADevice, KeepsItsMemoryFlat) {
  const NetworkThere there(0);
  const int64_t before = PretendedDevice::held();
  for (const Products products : {Products::graph, Products::batched}) {
    for (const bool replay : {false, true}) {
      int64_t with_graphs = 0;
      for (int round = 0; round < 3; ++round) {
        {
          AutogradCurvatureOperator op(there.network, {.products = products, .replay = replay});
          const at::Tensor v = at::ones({op.size(), 2});
          op.apply(v);
          if (round == 0) with_graphs = PretendedDevice::held_at_rest();
          for (int i = 0; i < 50; ++i) op.apply(v);
          EXPECT_EQ(PretendedDevice::held_at_rest(), with_graphs);
        }
        EXPECT_EQ(PretendedDevice::held_at_rest(), before);
      }
      EXPECT_EQ(with_graphs > before, products == Products::graph || replay);
    }
  }
}

// Otherwise the tests above could not find a tensor left behind.
TEST(ADevice, DoesNotMixWithTheHost) {
  const at::Tensor there = at::ones({4}).to(PretendedDevice::device());
  EXPECT_THROW(there + at::ones({4}), c10::Error);
  EXPECT_EQ((there + at::scalar_tensor(2)).sum().item<float>(), 12);
}

// libtorch's settings of what CUDA rounds to are what they were, inherited ones included, and can be read
// meanwhile.
TEST(FullPrecision, LeavesNoTrace) {
  using at::Float32Backend;
  using at::Float32Op;
  using at::Float32Precision;
  at::Context& context = at::globalContext();
  const auto now = [&](Float32Op op) { return context.float32Precision(Float32Backend::CUDA, op); };
  const auto all = [&] {
    return std::vector{now(Float32Op::CONV), now(Float32Op::RNN), now(Float32Op::MATMUL)};
  };
  const std::vector<Float32Precision> ieee(3, Float32Precision::IEEE);
  for (const char* const products : {"highest", "high", "medium"}) {
    for (const bool convolutions : {true, false}) {
      context.setFloat32MatmulPrecision(products);
      context.setAllowTF32CuDNN(convolutions);
      const std::vector<Float32Precision> before = all();
      const auto legacy = context.float32MatmulPrecision();
      {
        const FullPrecision one(PretendedDevice::device());
        const FullPrecision another(PretendedDevice::device());
        EXPECT_EQ(all(), ieee);
        EXPECT_FALSE(context.allowTF32CuDNN());
        EXPECT_FALSE(context.allowTF32CuBLAS());
        {
          const Tf32 coarse(PretendedDevice::device());
          EXPECT_EQ(all(), std::vector<Float32Precision>(3, Float32Precision::TF32));
          EXPECT_TRUE(context.allowTF32CuDNN());
          const FullPrecision within(PretendedDevice::device());
          EXPECT_TRUE(context.allowTF32CuBLAS()) << "the coarser one goes before";
        }
        EXPECT_EQ(all(), ieee);
      }
      {
        const Tf32 coarse(PretendedDevice::device());
        EXPECT_TRUE(context.allowTF32CuDNN());
      }
      EXPECT_EQ(all(), before) << products << convolutions;
      EXPECT_EQ(context.allowTF32CuDNN(), convolutions);
      EXPECT_EQ(context.float32MatmulPrecision(), legacy);
      const FullPrecision nothing(at::kCPU);
      EXPECT_EQ(all(), before);
    }
  }
  context.setFloat32MatmulPrecision("highest");
  context.setAllowTF32CuDNN(true);
  context.setFloat32Precision(Float32Backend::CUDA, Float32Op::MATMUL, Float32Precision::NONE);
  { const FullPrecision full(PretendedDevice::device()); }
  context.setFloat32Precision(Float32Backend::GENERIC, Float32Op::ALL, Float32Precision::TF32);
  EXPECT_EQ(now(Float32Op::MATMUL), Float32Precision::TF32) << "inherited as before";
  context.setFloat32Precision(Float32Backend::GENERIC, Float32Op::ALL, Float32Precision::NONE);
}

// Products alone, and only where that was asked for.
TEST(ADevice, RoundsToTf32WhereAsked) {
  const NetworkThere there(1);  // with convolutions
  for (const Products products : {Products::graph, Products::batched}) {
    const auto op =
        make_curvature_operator(there.network, {.products = products, .precision = Precision::tf32}, "m");
    const at::Tensor v = at::ones({op->size(), 2});
    PretendedDevice::rounded_to_tf32();
    op->apply(v);
    EXPECT_TRUE(PretendedDevice::rounded_to_tf32());
    op->loss();
    op->gradient();
    EXPECT_FALSE(PretendedDevice::rounded_to_tf32());
    ASSERT_EQ(op->notes().size(), 1U);
    EXPECT_NE(op->notes()[0].find("has no part in products in float32 on pretended"), std::string::npos)
        << op->notes()[0];
  }
}

// Never something else under that name.
TEST(ADevice, IsRefusedWhereItHasNoAutocast) {
  const NetworkThere there(0);
  EXPECT_SEIGH_ERROR(make_curvature_operator(there.network, {.precision = Precision::bf16}, "m"),
                     "this libtorch has no autocast on pretended:0; use \"float32\"");
}

// Without the clock, where libtorch is to be deterministic.
TEST(ADevice, ChoosesWithoutTheClock) {
  const NetworkThere there(0);
  at::globalContext().setDeterministicAlgorithms(true, false);
  const AutogradCurvatureOperator op(there.network, {});
  at::globalContext().setDeterministicAlgorithms(false, false);
  EXPECT_GT(op.vectors_at_once(), 1);
  EXPECT_EQ(op.way().find("batched: "), 0U) << op.way();
}

// Sampled classes are the host's, also where libtorch is to be deterministic.
TEST(ADevice, SamplesTargetsDeterministically) {
  const Loss loss;  // cross-entropy
  const at::Tensor outputs = random_gaussian(5, Stream::test, 40, 0, 7, at::kFloat);
  const at::Tensor here = sampled_targets(loss, outputs, 3, 0, 0);
  const Deterministic scope(true, PretendedDevice::device());
  EXPECT_TRUE(at::equal(sampled_targets(loss, outputs.to(PretendedDevice::device()), 3, 0, 0).cpu(), here));
}

TEST(ADevice, IsRefusedByOperatorsOfTheHost) {
  MatrixOperator op(at::eye(3, at::kDouble), "identity");
  EXPECT_SEIGH_ERROR(op.apply(at::ones({3, 1}, at::kDouble).to(PretendedDevice::device())),
                     "a block on pretended:0; it must be on the CPU");
}

// Its data are nobody's but libtorch's: otherwise the tests above could not fail.
TEST(ADeviceDeathTest, CannotBeReadByTheHost) {
  const at::Tensor t = at::ones({4}).to(PretendedDevice::device());
  EXPECT_DEATH(std::printf("%f", static_cast<double>(*static_cast<const float*>(t.const_data_ptr()))), "");
}

}  // namespace
}  // namespace seigh
