// What a curvature matrix is of, in a few numbers (core/fingerprint.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "seigh/curvature/curvature.h"
#include "seigh/data/dataset.h"

namespace seigh {

/// Random projections of the samples, of their targets and of the parameters (flat, [D]); then, of `h` unless
/// it is null, the loss and random projections of its gradient and of one product. Where ranks share samples
/// out, no operator has them all: then it is null. Texts are compared by first_difference(), whose words are
/// "samples", "targets", "parameters", "loss", "gradient" and "product". Cost: a pass over the samples, a
/// loss, a gradient and a product.
std::string fingerprint(CurvatureOperator* h, const Dataset& samples, const at::Tensor& parameters);

}  // namespace seigh
