#include "seigh/core/full_precision.h"

#include <ATen/Context.h>
#include <c10/util/Exception.h>
#include <torch/version.h>

#include <array>
#include <cstddef>
#include <mutex>
#include <optional>

namespace seigh {
namespace {

std::mutex mutex;
int users = 0;

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

void enter() {
  Quiet quiet;
  const c10::WarningUtils::WarningHandlerGuard no_warnings(&quiet);
  at::Context& context = at::globalContext();
  for (Setting& s : settings) s.before = context.float32Precision(Float32Backend::CUDA, s.operation);
  convolutions = unless_contradictory([&] { return context.allowTF32CuDNN(); });
  products = unless_contradictory([&] { return context.float32MatmulPrecision(); });
  if (convolutions) context.setAllowTF32CuDNN(false);
  if (products) context.setAllowTF32CuBLAS(false);
  for (const Setting& s : settings)
    context.setFloat32Precision(Float32Backend::CUDA, s.operation, Float32Precision::IEEE);
}

void leave() {
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

void enter() {
  at::Context& context = at::globalContext();
  convolutions = context.allowTF32CuDNN();
  products = context.allowTF32CuBLAS();
  context.setAllowTF32CuDNN(false);
  context.setAllowTF32CuBLAS(false);
}
void leave() {
  at::globalContext().setAllowTF32CuDNN(convolutions);
  at::globalContext().setAllowTF32CuBLAS(products);
}

#endif

}  // namespace

FullPrecision::FullPrecision(c10::Device device) : active_(!device.is_cpu()) {
  if (!active_) return;
  const std::lock_guard lock(mutex);
  if (users == 0) enter();
  ++users;
}

FullPrecision::~FullPrecision() {
  if (!active_) return;
  const std::lock_guard lock(mutex);
  if (--users == 0) leave();
}

}  // namespace seigh
