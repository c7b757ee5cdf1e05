// Antialiased bilinear resizing of 8-bit images, byte for byte as Pillow's Image.resize(size, BILINEAR) does
// it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace seigh {

/// Resizes uint8 images [N, H, W] to [N, height, width]: a triangle filter whose support is scaled by the
/// reduction factor, 22-bit fixed-point weights, horizontal pass first, each pass rounded to 8 bits.
at::Tensor resize_bilinear(const at::Tensor& images, int64_t height, int64_t width);

}  // namespace seigh
