#include "seigh/curvature/small_maps.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/addmm_cpu_dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>

namespace seigh {
namespace {

// [A, B, P] to [slots * A, B]: pixel p becomes the matrix at slots[p], or is left out.
at::Tensor split_pixels(const at::Tensor& tensor, const std::vector<int64_t>& slots, int64_t count) {
  const int64_t a = tensor.size(0), b = tensor.size(1), pixels = static_cast<int64_t>(slots.size());
  const at::Tensor contiguous = tensor.contiguous();
  if (pixels == 1 && count == 1 && slots[0] == 0) return contiguous.view({a, b});
  at::Tensor result = at::empty({count * a, b}, tensor.options());
  AT_DISPATCH_FLOATING_TYPES(tensor.scalar_type(), "split_pixels", [&] {
    const scalar_t* const from = contiguous.data_ptr<scalar_t>();
    scalar_t* const to = result.data_ptr<scalar_t>();
    at::parallel_for(0, a, std::max<int64_t>(1, 32768 / (b * pixels)), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t p = 0; p < pixels; ++p) {
          if (slots[static_cast<size_t>(p)] < 0) continue;
          const scalar_t* const source = from + i * b * pixels + p;
          scalar_t* const target = to + (slots[static_cast<size_t>(p)] * a + i) * b;
          for (int64_t j = 0; j < b; ++j) target[j] = source[j * pixels];
        }
      }
    });
  });
  return result;
}

// The way back, to a tensor of `sizes`; pixels that were left out are zero.
at::Tensor join_pixels(const at::Tensor& matrices, const std::vector<int64_t>& slots, int64_t count,
                       const std::vector<int64_t>& sizes) {
  const int64_t a = sizes[0], b = sizes[1], pixels = static_cast<int64_t>(slots.size());
  if (pixels == 1 && count == 1 && slots[0] == 0) return matrices.view(sizes);
  const bool gaps = std::find(slots.begin(), slots.end(), -1) != slots.end();
  at::Tensor result = at::empty(sizes, matrices.options());
  AT_DISPATCH_FLOATING_TYPES(matrices.scalar_type(), "join_pixels", [&] {
    const scalar_t* const from = matrices.data_ptr<scalar_t>();
    scalar_t* const to = result.data_ptr<scalar_t>();
    at::parallel_for(0, a, std::max<int64_t>(1, 32768 / (b * pixels)), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        scalar_t* const row = to + i * b * pixels;
        if (gaps) std::memset(row, 0, static_cast<size_t>(b * pixels) * sizeof(scalar_t));
        for (int64_t p = 0; p < pixels; ++p) {
          if (slots[static_cast<size_t>(p)] < 0) continue;
          const scalar_t* const source = from + (slots[static_cast<size_t>(p)] * a + i) * b;
          for (int64_t j = 0; j < b; ++j) row[j * pixels + p] = source[j];
        }
      }
    });
  });
  return result;
}

// Rows of `count` matrices from the one at `slot` on.
at::Tensor rows(const at::Tensor& matrices, int64_t height, int64_t slot, int64_t count = 1) {
  return matrices.narrow(0, slot * height, count * height);
}

}  // namespace

SmallMapConvolution::SmallMapConvolution(at::IntArrayRef x, at::IntArrayRef w, at::IntArrayRef stride,
                                         at::IntArrayRef padding, at::IntArrayRef dilation)
    : x_sizes_(x.vec()), w_sizes_(w.vec()), y_sizes_{x[0], w[0]} {
  for (size_t d = 0; d < 2; ++d) {
    y_sizes_.push_back((x[d + 2] + 2 * padding[d] - dilation[d] * (w[d + 2] - 1) - 1) / stride[d] + 1);
  }
  const int64_t h = x[2], width = x[3], oh = y_sizes_[2], ow = y_sizes_[3];
  const int64_t phase_width = (width + stride[1] - 1) / stride[1];
  const auto column = [&](int64_t ix) { return ix % stride[1] * phase_width + ix / stride[1]; };
  x_slots_.assign(static_cast<size_t>(h * width), -1);
  w_slots_.assign(static_cast<size_t>(w[2] * w[3]), -1);
  for (int64_t p = 0; p < oh * ow; ++p) y_slots_.push_back(p);
  y_count_ = oh * ow;
  x_count_ = h * stride[1] * phase_width;
  for (int64_t ky = 0; ky < w[2]; ++ky) {
    for (int64_t kx = 0; kx < w[3]; ++kx) {
      bool met = false;
      const int64_t shift = kx * dilation[1] - padding[1];  // ix = ox * stride + shift
      const int64_t first = shift < 0 ? (-shift + stride[1] - 1) / stride[1] : 0;
      const int64_t last = shift < width ? std::min((width - 1 - shift) / stride[1], ow - 1) : -1;
      for (int64_t oy = 0; oy < oh && first <= last; ++oy) {
        const int64_t iy = oy * stride[0] - padding[0] + ky * dilation[0];
        if (iy < 0 || iy >= h) continue;
        for (int64_t ox = first; ox <= last; ++ox) {
          const int64_t ix = ox * stride[1] + shift;
          x_slots_[static_cast<size_t>(iy * width + ix)] = iy * stride[1] * phase_width + column(ix);
        }
        runs_.push_back({w_count_, oy * ow + first,
                         iy * stride[1] * phase_width + column(first * stride[1] + shift), last - first + 1});
        met = true;
      }
      if (met) w_slots_[static_cast<size_t>(ky * w[3] + kx)] = w_count_++;
    }
  }
}

at::Tensor SmallMapConvolution::output(const at::Tensor& x, const at::Tensor& w,
                                       const at::Tensor& bias) const {
  const int64_t n = x_sizes_[0], o = w_sizes_[0];
  const at::Tensor pixels = split_pixels(x, x_slots_, x_count_), taps = split_pixels(w, w_slots_, w_count_);
  at::Tensor y = at::empty({y_count_ * n, o}, x.options());
  bias.defined() ? y.copy_(bias.expand_as(y)) : y.zero_();
  for (const Run& run : runs_) {
    at::Tensor part = rows(y, n, run.out, run.count);
    at::cpu::addmm_(part, rows(pixels, n, run.in, run.count), rows(taps, o, run.tap).t());
  }
  return join_pixels(y, y_slots_, y_count_, y_sizes_);
}

at::Tensor SmallMapConvolution::input_gradient(const at::Tensor& grad_output, const at::Tensor& w) const {
  const int64_t n = x_sizes_[0], o = w_sizes_[0];
  const at::Tensor g = split_pixels(grad_output, y_slots_, y_count_),
                   taps = split_pixels(w, w_slots_, w_count_);
  const at::Tensor gx = at::zeros({x_count_ * n, x_sizes_[1]}, w.options());
  for (const Run& run : runs_) {
    at::Tensor part = rows(gx, n, run.in, run.count);
    at::cpu::addmm_(part, rows(g, n, run.out, run.count), rows(taps, o, run.tap));
  }
  return join_pixels(gx, x_slots_, x_count_, x_sizes_);
}

at::Tensor SmallMapConvolution::weight_gradient(const at::Tensor& grad_output, const at::Tensor& x) const {
  const int64_t n = x_sizes_[0], o = w_sizes_[0];
  const at::Tensor g = split_pixels(grad_output, y_slots_, y_count_),
                   pixels = split_pixels(x, x_slots_, x_count_);
  const at::Tensor gw = at::zeros({w_count_ * o, w_sizes_[1]}, x.options());
  for (const Run& run : runs_) {
    at::Tensor part = rows(gw, o, run.tap);
    at::cpu::addmm_(part, rows(g, n, run.out, run.count).t(), rows(pixels, n, run.in, run.count));
  }
  return join_pixels(gw, w_slots_, w_count_, w_sizes_);
}

}  // namespace seigh
