// TorchScript networks and losses on another device, here a pretended one (tests/support/pretended_device.h).
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include "seigh/core/device_memory.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/curvature/model_source.h"
#include "seigh/nn/script_module.h"
#include "tests/support/expect_error.h"
#include "tests/support/pretended_device.h"
#include "tests/support/spectra.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_problem.h"

namespace seigh {
namespace {

using test::PretendedDevice;
using test::relative_difference;
using torch::jit::Module;

// Parameters, a buffer that training changes, one of integers, plain attributes of both kinds, and a device
// in the code, as tracing leaves it.
Module network() {
  const auto parameter = [](at::IntArrayRef shape, double from, double to) {
    return at::linspace(from, to, c10::multiply_integers(shape)).reshape(shape).requires_grad_(true);
  };
  Module net("Net");
  net.register_parameter("a", parameter({4, 3}, -1, 1.5), false);
  net.register_parameter("b", parameter({3, 4}, -.5, .7), false);
  net.register_buffer("shift", at::zeros({4}));
  net.register_buffer("order", at::arange(3, -1, -1));
  net.register_attribute("scale", c10::TensorType::get(), at::linspace(.5, 1.5, 4));
  net.register_attribute("last", c10::TensorType::get(), at::full({1}, 3, at::kLong));
  net.register_attribute("training", c10::BoolType::get(), true);
  net.define(R"(
def forward(self, x):
    h = torch.tanh(torch.linear(x, self.a)) * self.scale
    if self.training:
        self.shift.copy_(h.detach().mean(0))
    h = torch.index_select(h - self.shift, 1, self.order) * torch.ones([4], dtype=x.dtype, device=torch.device("cpu"))
    return torch.linear(h, self.b) + torch.index_select(h, 1, self.last)
)");
  return net;
}

class ScriptOnADevice : public ::testing::Test {
 protected:
  ScriptOnADevice() { network().save((folder_ / "net.pt").string()); }
  ~ScriptOnADevice() override { PretendedDevice::set_limit(int64_t{1} << 40); }

  std::shared_ptr<const ModelSource> source(const Model& model, const c10::Device& device,
                                            const Loss& loss = {}, at::ScalarType dtype = at::kDouble) const {
    return std::make_shared<ModelSource>(model, model.initial_parameters(0).to(device),
                                         moved(model.initial_buffers(), device), data_.on(device), loss,
                                         dtype, "matrix");
  }

  const c10::Device there_ = PretendedDevice::device();
  const test::TempFolder folder_;
  const Dataset data_ = test::gaussian_data(40, 3, 3);
};

TEST_F(ScriptOnADevice, IsTheSameAsOnTheCpu) {
  const ScriptModel model((folder_ / "net.pt").string());
  const at::Tensor p = model.initial_parameters(0);
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    for (const bool training : {false, true}) {
      std::vector<at::Tensor> buffers = {at::full({4}, .1)}, buffers_there = {buffers[0].to(there_)};
      const at::Tensor here =
          model.forward(unflatten(model.parameters(), p.to(dtype)), buffers, data_.x, training);
      const at::Tensor there = model.forward(unflatten(model.parameters(), p.to(dtype).to(there_)),
                                             buffers_there, data_.x.to(there_), training);
      EXPECT_EQ(there.device(), there_);
      EXPECT_EQ(there.scalar_type(), dtype);
      EXPECT_LT(relative_difference(there.cpu(), here), 1e-6);
      EXPECT_EQ(buffers_there[0].device(), there_);
      EXPECT_LT(relative_difference(buffers_there[0].cpu(), buffers[0]), 1e-6);
      EXPECT_EQ(buffers[0][0].item<float>() == .1F, !training);
    }
  }
  // The module's own buffers.
  const at::Tensor there = model.forward(unflatten(model.parameters(), p.to(there_)), {}, data_.x.to(there_));
  EXPECT_LT(relative_difference(there.cpu(), model.forward(unflatten(model.parameters(), p), {}, data_.x)),
            1e-6);
}

TEST_F(ScriptOnADevice, ProductsAreThoseOfTheCpu) {
  Module weighted("Loss");
  weighted.register_buffer("weight", at::linspace(.5, 2, 3));
  weighted.define(R"(
def forward(self, f, y):
    return torch.cross_entropy_loss(f, y, self.weight)
)");
  weighted.save((folder_ / "loss.pt").string());
  const ScriptModel model((folder_ / "net.pt").string());
  const Loss loss(load_script_loss((folder_ / "loss.pt").string()));
  const CurvatureOptions options{.dtype = at::kDouble, .batch_size = 7};
  AutogradCurvatureOperator here(source(model, c10::kCPU, loss), options),
      there(source(model, there_, loss), options);
  const at::Tensor v = random_gaussian(5, Stream::test, here.size(), 0, 2, at::kDouble);
  EXPECT_LT(relative_difference(there.apply(v), here.apply(v)), 1e-10);
  EXPECT_NEAR(there.loss(), here.loss(), 1e-12);
}

// Of what goes wrong within, the interpreter passes on only the text.
TEST_F(ScriptOnADevice, MiniBatchesFitItsMemory) {
  const ScriptModel model((folder_ / "net.pt").string());
  const auto network = source(model, there_);
  AutogradCurvatureOperator op(network, {.dtype = at::kDouble, .replay = false});
  const at::Tensor v = random_gaussian(5, Stream::test, op.size(), 0, 2, at::kDouble);
  DeviceMemory memory(there_);
  memory.reset_peak();
  const int64_t before = memory.held();
  const at::Tensor expected = op.apply(v);
  const int64_t needed = memory.peak() - before;
  AutogradCurvatureOperator late(network, {.dtype = at::kDouble, .replay = false});
  PretendedDevice::set_limit(memory.held() + needed / 2);
  EXPECT_LT(relative_difference(late.apply(v), expected), 1e-10);
  EXPECT_LT(late.batch_size(), 40);
}

TEST_F(ScriptOnADevice, SaysWhatDoesNotRunThere) {
  Module net("Net");
  net.register_parameter("a", at::ones({3, 3}).requires_grad_(true), false);
  net.define("def forward(self, x):\n    return torch.linear(x, self.a) + torch.zeros([3], dtype=x.dtype)\n");
  net.save((folder_ / "inside.pt").string());
  const ScriptModel model((folder_ / "inside.pt").string());
  const auto run = [&](const c10::Device& device) {
    return model.forward(unflatten(model.parameters(), model.initial_parameters(0).to(device)), {},
                         data_.x.to(device));
  };
  EXPECT_SEIGH_ERROR(run(there_), "inside.pt does not run on pretended:0: ",
                     "give tensors made inside it the device of its inputs");
  EXPECT_EQ(run(c10::kCPU).size(0), 40);
}

}  // namespace
}  // namespace seigh
