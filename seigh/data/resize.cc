#include "seigh/data/resize.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "seigh/core/error.h"
#include "seigh/core/parallel.h"

namespace seigh {
namespace {

// Weights are integers in units of 2^-22: 8 bits of pixel and 22 of weight leave a bit for rounding and one
// for the sign.
constexpr int kPrecision = 22;
constexpr int32_t kHalf = 1 << (kPrecision - 1);

// One direction of the filter: output pixel i is the sum of weights[i * taps + k] * input[first[i] + k], k <
// count[i].
struct Filter {
  int64_t in, out, taps;
  std::vector<int64_t> first, count;
  std::vector<int32_t> weights;
};

Filter make_filter(int64_t in, int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  // When shrinking, the triangle is widened to cover the input pixels that an output pixel stands for:
  // antialiasing.
  const double filter_scale = std::max(scale, 1.0);
  const double support = filter_scale;
  Filter filter{in, out, static_cast<int64_t>(std::ceil(support)) * 2 + 1, {}, {}, {}};
  filter.weights.assign(static_cast<size_t>(out * filter.taps), 0);
  std::vector<double> weights;
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
    const int64_t end = std::min<int64_t>(in, static_cast<int64_t>(centre + support + 0.5));
    weights.clear();
    double sum = 0;
    for (int64_t x = first; x < end; ++x) {
      const double distance = (static_cast<double>(x) - centre + 0.5) / filter_scale;
      weights.push_back(std::max(0.0, 1.0 - std::abs(distance)));
      sum += weights.back();
    }
    for (size_t k = 0; k < weights.size(); ++k)  // none is negative, so + 0.5 rounds half away from zero
      filter.weights[static_cast<size_t>(i * filter.taps) + k] =
          static_cast<int32_t>(0.5 + weights[k] / sum * (1 << kPrecision));
    filter.first.push_back(first);
    filter.count.push_back(end - first);
  }
  return filter;
}

uint8_t to_byte(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kPrecision, 0, 255));
}

// Resizes `lines` sequences of filter.in vectors of `width` bytes: width 1 goes along rows, the row length
// down columns.
void apply(const Filter& filter, int64_t lines, int64_t width, const uint8_t* from, uint8_t* to,
           std::vector<int32_t>& sums) {
  sums.resize(static_cast<size_t>(width));
  for (int64_t line = 0; line < lines; ++line, from += filter.in * width)
    for (int64_t i = 0; i < filter.out; ++i, to += width) {
      const int32_t* weights = filter.weights.data() + i * filter.taps;
      const uint8_t* input = from + filter.first[i] * width;
      if (width == 1) {
        int32_t sum = kHalf;
        for (int64_t k = 0; k < filter.count[i]; ++k) sum += weights[k] * input[k];
        to[0] = to_byte(sum);
        continue;
      }
      std::fill(sums.begin(), sums.end(), kHalf);
      for (int64_t k = 0; k < filter.count[i]; ++k, input += width)
        for (int64_t x = 0; x < width; ++x) sums[x] += weights[k] * input[x];
      for (int64_t x = 0; x < width; ++x) to[x] = to_byte(sums[x]);
    }
}

}  // namespace

at::Tensor resize_bilinear(const at::Tensor& images, int64_t height, int64_t width) {
  require(images.dim() == 3 && images.scalar_type() == at::kByte && images.device().is_cpu(),
          "resize_bilinear needs uint8 images [N, H, W] on the CPU");
  require(height >= 1 && width >= 1, "images cannot be resized to ", height, " x ", width, " pixels");
  const int64_t count = images.size(0), in_height = images.size(1), in_width = images.size(2);
  require(in_height >= 1 && in_width >= 1, "images of ", in_height, " x ", in_width,
          " pixels cannot be resized");
  const bool across = width != in_width, down = height != in_height;
  if (!across && !down) return images.clone(at::MemoryFormat::Contiguous);
  const at::Tensor input = images.contiguous();
  at::Tensor output = at::empty({count, height, width}, input.options());
  const Filter horizontal = make_filter(in_width, width), vertical = make_filter(in_height, height);
  const auto* from = input.data_ptr<uint8_t>();
  auto* to = output.data_ptr<uint8_t>();

  constexpr int64_t kBatch = 64;  // images per task
  parallel_for((count + kBatch - 1) / kBatch, [&](int64_t batch) {
    std::vector<uint8_t> middle(static_cast<size_t>(in_height * width));
    std::vector<int32_t> sums;
    for (int64_t n = batch * kBatch; n < std::min(count, (batch + 1) * kBatch); ++n) {
      const uint8_t* image = from + n * in_height * in_width;
      uint8_t* result = to + n * height * width;
      // A pass that keeps its size would change nothing and is left out.
      if (across) apply(horizontal, in_height, 1, image, down ? middle.data() : result, sums);
      if (down) apply(vertical, 1, width, across ? middle.data() : image, result, sums);
    }
  });
  return output;
}

}  // namespace seigh
