// A matrix on the pretended device, for solvers.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>

#include "seigh/core/device_memory.h"
#include "seigh/linop/linear_operator.h"
#include "tests/support/pretended_device.h"

namespace seigh::test {

/// A matrix on the pretended device, that sees what is held there while a solver is at work.
class MatrixThere final : public LinearOperator {
 public:
  explicit MatrixThere(const at::Tensor& matrix, int64_t scratch = 0)
      : LinearOperator(matrix.size(0), matrix.scalar_type(), "matrix"),
        matrix_(matrix.to(PretendedDevice::device())),
        scratch_(scratch) {}
  c10::Device device() const override { return PretendedDevice::device(); }
  int64_t preferred_block() const override { return 8; }

  int64_t most_held = 0;  // when a product began
  int64_t from_host = 0;  // columns that came from there
  int64_t cut_at = 0;     // at so many products, the device has no more memory than is taken
  int64_t least_left = 1LL << 60;

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override {
    most_held = std::max(most_held, PretendedDevice::held());
    if (block.is_cpu()) from_host += block.size(1);
    const at::Tensor scratch = at::empty({scratch_}, at::TensorOptions(at::kByte).device(device()));
    least_left = std::min(least_left, DeviceMemory(device()).available());
    at::Tensor result = at::matmul(matrix_, block.to(device())).to(block.device());
    if (cut_at > 0 && products() >= cut_at) PretendedDevice::set_limit(PretendedDevice::held() + 4096);
    return result;
  }

 private:
  at::Tensor matrix_;
  int64_t scratch_;
};

}  // namespace seigh::test
