// How float32 rounds. On accelerators libtorch lets cuDNN's convolutions round their operands to TF32 (11
// bits) by default: Hessian products are then wrong by 1 to 3 % of their length.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

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

/// libtorch's autocast to bfloat16 (8 bits) in this thread: matrix products, convolutions and attention of
/// what lies on `device` are in bfloat16, the rest stays in float32. Weights are cast anew at every use:
/// libtorch's cache of them would outlive their values. Derivatives of a graph built within it are to be
/// taken outside.
class Autocast {
 public:
  /// Whether this libtorch has it for such devices.
  static bool exists(c10::Device device);
  /// `wanted` = false: nothing.
  explicit Autocast(c10::Device device, bool wanted = true);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  c10::DeviceType device_;
  bool active_, enabled_ = false, cached_ = false;
  c10::ScalarType dtype_ = c10::ScalarType::BFloat16;
};

}  // namespace seigh
