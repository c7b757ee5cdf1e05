// A device that stands for an accelerator on a machine without one: libtorch's PrivateUse1, "pretended". Its
// addresses are those of nothing that may be read or written but by libtorch's copies, so that code which
// takes a tensor's data for the host's own ends in a crash here as it would there; what it gives out holds
// NaN in its first MiB, not zeros; every operator is libtorch's for the CPU, between two copies, and what of
// floating-point numbers is not deterministic on CUDA refuses to be where libtorch is to be: cumsum. Graphs
// are recorded as CUDA's are: on another stream than the default one, computing nothing, and broken off by
// whatever reads on the host; copies that need not be waited for are done as late as can be. What only a card
// can show (speed, rounding, kernels of several streams at once) it cannot.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace seigh::test {

/// Registered with libtorch when the program begins.
struct PretendedDevice {
  static c10::Device device();
  /// Bytes that its tensors hold.
  static int64_t held();
  /// The same once the thread of libtorch that goes backward there has let go of its last tensors.
  static int64_t held_at_rest();
  /// What it has; 2^40 at first.
  static void set_limit(int64_t bytes);
  /// The largest piece of the host's memory that can be page-locked for it; unlimited at first.
  static void set_page_locked(int64_t bytes);
  /// Whether, since this was asked last, a product or a convolution ran there while libtorch would have let a
  /// CUDA device round its operands to TF32.
  static bool rounded_to_tf32();
};

}  // namespace seigh::test
