// How float32 rounds on accelerators. libtorch lets cuDNN's convolutions round their operands to TF32 (11
// bits) by default: Hessian products are then wrong by 1 to 3 % of their length.
#pragma once

#include <c10/core/Device.h>

namespace seigh {

/// For as long as one lives, products and convolutions on CUDA devices round to float32, in the whole
/// process: libtorch has one setting for all threads. What it was is put back when the last one goes. Nothing
/// on the CPU.
class FullPrecision {
 public:
  explicit FullPrecision(c10::Device device);
  ~FullPrecision();
  FullPrecision(const FullPrecision&) = delete;
  FullPrecision& operator=(const FullPrecision&) = delete;

 private:
  bool active_;
};

/// Within it, the other way: they round their operands to TF32, in the whole process, also where a
/// FullPrecision lives.
class Tf32 {
 public:
  /// `wanted` = false: nothing.
  explicit Tf32(c10::Device device, bool wanted = true);
  ~Tf32();
  Tf32(const Tf32&) = delete;
  Tf32& operator=(const Tf32&) = delete;

 private:
  bool active_;
};

}  // namespace seigh
