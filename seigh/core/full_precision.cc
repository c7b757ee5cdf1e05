#include "seigh/core/full_precision.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/Exception.h>
#include <torch/version.h>

#include <array>
#include <cstddef>
#include <mutex>
#include <optional>

namespace seigh {
namespace {

std::mutex mutex;
// Who wants what; the coarser one goes before.
int of_full = 0, of_coarse = 0;
enum class Rounding { theirs, full, coarse };
Rounding now = Rounding::theirs;

#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 11)

using at::Float32Backend;
using at::Float32Op;
using at::Float32Precision;

struct Setting {
  Float32Op operation;
  Float32Precision before = Float32Precision::NONE;
};
std::array<Setting, 3> settings = {{{Float32Op::CONV}, {Float32Op::RNN}, {Float32Op::MATMUL}}};
// The older settings of the same, which libtorch refuses to read where they contradict the newer ones.
std::optional<bool> convolutions;
std::optional<at::Float32MatmulPrecision> products;

struct Quiet final : c10::WarningHandler {  // the older ones are deprecated
  void process(const c10::Warning&) override {}
};

template <typename Read>
auto unless_contradictory(const Read& read) -> std::optional<decltype(read())> {
  try {
    return read();
  } catch (const c10::Error&) {
    return std::nullopt;
  }
}

void remember() {
  Quiet quiet;
  const c10::WarningUtils::WarningHandlerGuard no_warnings(&quiet);
  at::Context& context = at::globalContext();
  for (Setting& s : settings) s.before = context.float32Precision(Float32Backend::CUDA, s.operation);
  convolutions = unless_contradictory([&] { return context.allowTF32CuDNN(); });
  products = unless_contradictory([&] { return context.float32MatmulPrecision(); });
}

void set(bool tf32) {
  Quiet quiet;
  const c10::WarningUtils::WarningHandlerGuard no_warnings(&quiet);
  at::Context& context = at::globalContext();
  if (convolutions) context.setAllowTF32CuDNN(tf32);
  if (products) context.setAllowTF32CuBLAS(tf32);
  for (const Setting& s : settings)
    context.setFloat32Precision(Float32Backend::CUDA, s.operation,
                                tf32 ? Float32Precision::TF32 : Float32Precision::IEEE);
}

void restore() {
  Quiet quiet;
  const c10::WarningUtils::WarningHandlerGuard no_warnings(&quiet);
  at::Context& context = at::globalContext();
  if (convolutions) context.setAllowTF32CuDNN(*convolutions);
  if (products) {
    context.setFloat32MatmulPrecision(*products == at::Float32MatmulPrecision::HIGHEST ? "highest"
                                      : *products == at::Float32MatmulPrecision::HIGH  ? "high"
                                                                                       : "medium");
  }
  for (const Setting& s : settings) {  // NONE: inherited
    context.setFloat32Precision(Float32Backend::CUDA, s.operation, Float32Precision::NONE);
    if (context.float32Precision(Float32Backend::CUDA, s.operation) != s.before)
      context.setFloat32Precision(Float32Backend::CUDA, s.operation, s.before);
  }
}

#else

bool convolutions = false, products = false;

void remember() {
  convolutions = at::globalContext().allowTF32CuDNN();
  products = at::globalContext().allowTF32CuBLAS();
}
void set(bool tf32) {
  at::globalContext().setAllowTF32CuDNN(tf32);
  at::globalContext().setAllowTF32CuBLAS(tf32);
}
void restore() {
  at::globalContext().setAllowTF32CuDNN(convolutions);
  at::globalContext().setAllowTF32CuBLAS(products);
}

#endif

void count(int& users, int by) {
  const std::lock_guard lock(mutex);
  users += by;
  const Rounding wanted = of_coarse > 0 ? Rounding::coarse : of_full > 0 ? Rounding::full : Rounding::theirs;
  if (wanted == now) return;
  if (now == Rounding::theirs) remember();
  if (wanted == Rounding::theirs) {
    restore();
  } else {
    set(wanted == Rounding::coarse);
  }
  now = wanted;
}

}  // namespace

FullPrecision::FullPrecision(c10::Device device) : active_(!device.is_cpu()) {
  if (active_) count(of_full, 1);
}
FullPrecision::~FullPrecision() {
  if (active_) count(of_full, -1);
}

Tf32::Tf32(c10::Device device, bool wanted) : active_(wanted && !device.is_cpu()) {
  if (active_) count(of_coarse, 1);
}
Tf32::~Tf32() {
  if (active_) count(of_coarse, -1);
}

bool Autocast::exists(c10::Device device) {
  if (!at::autocast::is_autocast_available(device.type())) return false;
  // A device may have the key and no operation that heeds it.
  const auto product = c10::Dispatcher::singleton().findSchema({"aten::mm", ""});
  return product && product->hasKernelForDispatchKey(
                        at::autocast::get_autocast_dispatch_key_from_device_type(device.type()));
}

Autocast::Autocast(c10::Device device, bool wanted) : device_(device.type()), active_(wanted) {
  if (!active_) return;
  enabled_ = at::autocast::is_autocast_enabled(device_);
  dtype_ = at::autocast::get_autocast_dtype(device_);
  cached_ = at::autocast::is_autocast_cache_enabled();
  at::autocast::set_autocast_cache_enabled(false);
  at::autocast::set_autocast_dtype(device_, at::kBFloat16);
  at::autocast::set_autocast_enabled(device_, true);
}
Autocast::~Autocast() {
  if (!active_) return;
  at::autocast::set_autocast_enabled(device_, enabled_);
  at::autocast::set_autocast_dtype(device_, dtype_);
  at::autocast::set_autocast_cache_enabled(cached_);
}

}  // namespace seigh
