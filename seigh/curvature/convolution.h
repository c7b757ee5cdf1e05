// Faster convolutions and second derivatives of convolutions.
//
// A convolution is linear in its input x and in its weight w, so all parts of its double backward pass are
// convolutions of the same geometry: with g the gradient of the output and (X, W) the directions,
//
//     output part   conv(X, w) + conv(x, W)
//     input part    conv's input gradient of g at weight W
//     weight part   conv's weight gradient of g at input X
//
// libtorch (1.13 and 2.x) computes the last two as transposed or regrouped convolutions of unusual shape, for
// which no fast kernel exists; written as above they run at the speed of an ordinary backward pass.
//
// On small maps, where the ordinary kernels are slow too, convolutions and their gradients are computed as
// matrix products (small_maps.h).
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace seigh {

/// Replaces libtorch's double backward of convolutions on the CPU, and those of its convolutions that are
/// faster as matrix products, for the whole process; does nothing when called again. Holds for every dtype,
/// stride, padding, dilation, group count and for transposed convolutions.
void use_fast_convolution_derivatives();
/// Why convolutions on `device` do without them, for the user; empty when they do not.
std::string convolution_derivatives_obstacle(const c10::Device& device);

}  // namespace seigh
