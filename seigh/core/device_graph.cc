#include "seigh/core/device_graph.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>
#include <torch/version.h>

#include <exception>
#include <mutex>
#include <utility>

#include "seigh/core/error.h"

#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 13)
#include <ATen/core/GraphImplInterface.h>
#define SEIGH_REGISTERED_GRAPHS 1
#endif
#ifdef SEIGH_CUDA_GRAPHS  // libtorch registers none for CUDA (up to 2.14 at least)
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#endif

namespace seigh {
namespace {

// What obstacle_to_recording() has met.
std::mutex watching;
std::mutex noting;
std::string met;

bool copies_between_devices(const at::RecordFunction& call) {
  const auto inputs = call.inputs();
  return inputs.size() >= 2 && inputs[0].isTensor() && inputs[1].isTensor() &&
         inputs[0].toTensor().defined() && inputs[1].toTensor().defined() &&
         inputs[0].toTensor().device() != inputs[1].toTensor().device();
}

std::unique_ptr<at::ObserverContext> look(const at::RecordFunction& call) {
  const auto name = call.operator_name();
  if (!name) return nullptr;
  const auto op = c10::Dispatcher::singleton().findSchema(*name);
  // Composite ones are made of others, which are seen too.
  if (!op || op->hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd)) return nullptr;
  // Indices are numbers of the device's; masks go through nonzero.
  const bool refused = op->hasTag(at::Tag::data_dependent_output) ||
                       op->hasTag(at::Tag::nondeterministic_seeded) ||
                       (op->hasTag(at::Tag::dynamic_output_shape) && name->name != "aten::index") ||
                       (name->name == "aten::copy_" && copies_between_devices(call));
  if (!refused) return nullptr;
  const std::lock_guard lock(noting);
  if (met.empty()) met = name->name;
  return nullptr;
}

}  // namespace

class DeviceGraph::Recording {
 public:
  virtual ~Recording() = default;
  virtual void begin() = 0;
  virtual void end() = 0;
  virtual void abandon() noexcept = 0;  // instead of end()
  virtual void replay() = 0;
};

namespace {

using Recording = DeviceGraph::Recording;

#ifdef SEIGH_REGISTERED_GRAPHS
class Registered final : public Recording {
 public:
  explicit Registered(c10::DeviceType type) : graph_(at::create_graph_impl(type)) {}
  void begin() override { graph_->capture_begin(); }
  void end() override { graph_->capture_end(); }
  void abandon() noexcept override {
    try {
      graph_->capture_end();
    } catch (const std::exception&) {
    }
  }
  void replay() override { graph_->replay(); }

 private:
  std::unique_ptr<at::GraphImplInterface> graph_;
};
#endif

#ifdef SEIGH_CUDA_GRAPHS
class Cuda final : public Recording {
 public:
  explicit Cuda(c10::Device device)
      : device_(device.index()), graph_(std::make_unique<at::cuda::CUDAGraph>()) {}
  void begin() override {
    pool_ = at::cuda::graph_pool_handle();
    // The caller's other threads may do what they like meanwhile.
    graph_->capture_begin(pool_, cudaStreamCaptureModeThreadLocal);
  }
  void end() override { graph_->capture_end(); }
  // Where CUDA has broken off the recording, capture_end() throws before it has undone what capture_begin()
  // did.
  void abandon() noexcept override {
    try {
      graph_->capture_end();
      return;
    } catch (const std::exception&) {
    }
    try {
      c10::cuda::CUDACachingAllocator::endAllocateToPool(device_, pool_);
      c10::cuda::CUDACachingAllocator::releasePool(device_, pool_);
    } catch (const std::exception&) {
    }
    static_cast<void>(graph_.release());        // the allocator of pinned memory may go on asking it
    struct Quiet final : c10::WarningHandler {  // it is empty
      void process(const c10::Warning&) override {}
    } quiet;
    const c10::WarningUtils::WarningHandlerGuard no_warnings(&quiet);
    try {  // the generator of random numbers takes itself for recorded until a recording ends well
      at::cuda::CUDAGraph healed;
      healed.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
      healed.capture_end();
    } catch (const std::exception&) {
    }
  }
  void replay() override { graph_->replay(); }

 private:
  c10::DeviceIndex device_;
  std::unique_ptr<at::cuda::CUDAGraph> graph_;
  at::MempoolId_t pool_ = {0, 0};
};
#endif

// None where there is no way to record.
std::unique_ptr<Recording> make_recording([[maybe_unused]] c10::Device device) {
#ifdef SEIGH_REGISTERED_GRAPHS
  if (at::has_graph_impl(device.type())) return std::make_unique<Registered>(device.type());
#endif
#ifdef SEIGH_CUDA_GRAPHS
  if (device.is_cuda()) return std::make_unique<Cuda>(device);
#endif
  return nullptr;
}

}  // namespace

SideStream::SideStream(c10::Device device)
    : guard_((current_stream(device).synchronize(), new_stream(device))) {}

SideStream::~SideStream() {
  try {
    guard_.current_stream().synchronize();
  } catch (const std::exception&) {  // what has gone wrong there shows at the next use of the device
  }
}

c10::Stream current_stream(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

c10::Stream new_stream(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

std::string obstacle_to_recording(const std::function<void()>& work) {
  const std::lock_guard alone(watching);
  met.clear();
  const at::CallbackHandle handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(&look).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
  try {
    work();
  } catch (...) {
    at::removeCallback(handle);
    throw;
  }
  at::removeCallback(handle);
  return met;
}

bool DeviceGraph::supported(c10::Device device) {
  return !device.is_cpu() && make_recording(device) != nullptr;
}

DeviceGraph::DeviceGraph(c10::Device device, const std::function<void()>& work)
    : recording_(make_recording(device)) {
  require(recording_ != nullptr, "work on ", device, " cannot be recorded by this libtorch");
  recording_->begin();
  try {
    work();
  } catch (...) {
    recording_->abandon();
    throw;
  }
  try {
    recording_->end();
  } catch (...) {
    recording_->abandon();
    throw;
  }
}

DeviceGraph::~DeviceGraph() = default;

void DeviceGraph::replay() {
  recording_->replay();
}

}  // namespace seigh
