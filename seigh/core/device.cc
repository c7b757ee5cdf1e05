#include "seigh/core/device.h"

#include <ATen/ops/ones.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Exception.h>
#include <torch/version.h>

#include <cstdlib>

#include "seigh/core/device_memory.h"
#include "seigh/core/error.h"
#include "seigh/core/printable.h"

namespace seigh {
namespace {

const char* const kElse = "or compute on the CPU: leave it out, or --device cpu";

c10::Device parsed(const std::string& name) {
  try {
    return c10::Device(name);
  } catch (const c10::Error&) {
    fail("device \"", shortened(name, 60), "\": libtorch ", TORCH_VERSION,
         " knows no such device; name one as cuda, cuda:1 or cpu");
  }
}

// "CUDA", "XPU".
std::string in_words(const c10::Device& device) {
  return c10::DeviceTypeName(device.type(), /*lower_case=*/device.is_privateuseone());
}

}  // namespace

c10::Device usable_device(const std::string& name, const Ranks& ranks) {
  c10::Device device = parsed(name);
  const std::string is = "device \"" + shortened(name, 60) + "\": ";
  if (device.is_cpu()) {
    require(!device.has_index() || device.index() == 0, is, "there is one CPU; name it cpu");
    return c10::kCPU;
  }
  require(!device.is_meta(), is, "it computes nothing; name one as cuda, cuda:1 or cpu");
  const std::string kind = in_words(device);
  require(c10::impl::hasDeviceGuardImpl(device.type()), is, "this libtorch (", TORCH_VERSION,
          ") was built without ", kind, "; build seigh with one that has it (-DSEIGH_TORCH), ", kElse);
  int count = 0;
  try {
    count = c10::impl::getDeviceGuardImpl(device.type())->deviceCount();
  } catch (const c10::Error&) {  // as good as none
  }
  require(count > 0, is, "this machine has no ", kind, " device, or no driver for it; ", kElse);
  if (!device.has_index()) device.set_index(static_cast<c10::DeviceIndex>(ranks.number() % count));
  require(device.index() < count, is, "there ",
          count == 1 ? "is one here, number 0" : text_of("are ", count, " here, 0 to ", count - 1),
          "; name one that is there, ", kElse);
  try {
    const at::Tensor two = at::ones({2}, at::TensorOptions().device(device)).sum();
    require(two.item<double>() == 2, is, "it does not add up; ", kElse);
  } catch (const c10::Error& error) {
    fail(is, first_line(error.what_without_backtrace()), "; ", kElse);
  }
  return device;
}

std::string visible_devices() {
  std::string all;
  for (const char* name :
       {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"}) {
    const char* const value = std::getenv(name);
    all.append(value != nullptr ? value : "all").append(";");
  }
  return all;
}

Context on_device(const Context& context, const std::string& name) {
  const Ranks& ranks = context.ranks();
  const c10::Device device = usable_device(name, ranks);
  const Context there = context.on(device);
  if (device.is_cpu() || ranks.beside() == 1) return there;
  // Those that count the same devices from the first on, or all that are sent to one by its number.
  const int count = c10::impl::getDeviceGuardImpl(device.type())->deviceCount();
  const int sharing =
      parsed(name).has_index() ? ranks.beside() : (ranks.beside() - device.index() + count - 1) / count;
  return sharing_device(there, sharing);
}

Context sharing_device(const Context& context, int ranks) {
  if (ranks == 1 || context.device().is_cpu() || context.device_memory() > 0) return context;
  const DeviceMemory memory(context.device());
  return memory.obstacle().empty()
             ? context.with_device_memory(memory.held() + memory.available() / ranks + 1)
             : context;
}

}  // namespace seigh
