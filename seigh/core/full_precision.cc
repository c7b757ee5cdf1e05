#include "seigh/core/full_precision.h"

#include <ATen/Context.h>
#include <torch/version.h>

#include <array>
#include <cstddef>
#include <mutex>

namespace seigh {
namespace {

std::mutex mutex;
int users = 0;

#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 13)

using at::Float32Backend;
using at::Float32Op;
using at::Float32Precision;
constexpr std::array<Float32Op, 3> kOperations = {Float32Op::CONV, Float32Op::RNN, Float32Op::MATMUL};
std::array<Float32Precision, 3> before;

void enter() {
  at::Context& context = at::globalContext();
  for (size_t i = 0; i < kOperations.size(); ++i) {
    before[i] = context.float32Precision(Float32Backend::CUDA, kOperations[i]);
    context.setFloat32Precision(Float32Backend::CUDA, kOperations[i], Float32Precision::IEEE);
  }
}
void leave() {
  for (size_t i = 0; i < kOperations.size(); ++i)
    at::globalContext().setFloat32Precision(Float32Backend::CUDA, kOperations[i], before[i]);
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
  if (users++ == 0) enter();
}

FullPrecision::~FullPrecision() {
  if (!active_) return;
  const std::lock_guard lock(mutex);
  if (--users == 0) leave();
}

}  // namespace seigh
