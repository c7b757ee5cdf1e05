// Kernels of libtorch that curvature products do without: while a ReplacedKernels lives, its thread gets
//
//   - convolutions whose second derivative, and whose work on small maps, is faster (convolution.h);
//   - GELU, SiLU, layer norm, softmax and matrix products whose second derivatives are
//   (second_derivatives.h);
//   - under autocast on the CPU, norms in float32;
//   - attention by the mathematical kernel, as the fused ones have no second derivative;
//   - on devices convolutions on the smallest maps as matrix products (dense_maps.h).
//
// The replacements are registered with libtorch once, for the process, and outside of such a scope hand on to
// the kernels they stand for: nobody else notices. On devices attention and the smallest maps alone are
// replaced.
#pragma once

#include <string>
#include <vector>

namespace seigh {

class ReplacedKernels {
 public:
  /// `none`: within a scope, libtorch's own once more. `attention` alone is what libtorch's layers of batches
  /// and forward mode can see through.
  enum class Which { none, transparent, all };
  explicit ReplacedKernels(Which which = Which::all);
  ~ReplacedKernels();
  ReplacedKernels(const ReplacedKernels&) = delete;
  ReplacedKernels& operator=(const ReplacedKernels&) = delete;

  /// How often the fused attention has been replaced in this process so far.
  static long attention_count();

 private:
  Which before_;
};

}  // namespace seigh
