#include "seigh/data/resize.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <string>

#include "seigh/core/filesystem.h"
#include "seigh/io/npy.h"
#include "tests/support/expect_error.h"

namespace seigh {
namespace {

// Every file <name>_<height>x<width>.npy holds what Pillow made of <name>.npy (tests/data/resize/make.py).
TEST(Resize, EqualsPillowByteForByte) {
  const fs::path folder = SEIGH_TEST_DATA "/resize";
  int cases = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().stem();
    const size_t bar = name.find('_'), times = name.find('x', bar);
    if (entry.path().extension() != ".npy" || bar == std::string::npos) continue;
    SCOPED_TRACE(name);
    const at::Tensor images = read_npy(folder / (name.substr(0, bar) + ".npy"));
    const int64_t height = std::stol(name.substr(bar + 1)), width = std::stol(name.substr(times + 1));
    EXPECT_TRUE(at::equal(resize_bilinear(images, height, width), read_npy(entry.path())));
    ++cases;
  }
  EXPECT_EQ(cases, 18);
}

TEST(Resize, HalvingByHand) {
  // Support 2 about the centre 1 of 4 pixels: distances 0.5/2 and 1.5/2 on the right, 0.5/2 on the left,
  // hence weights 3, 3, 1 over 7 at the left edge and mirrored at the right.
  const at::Tensor row = at::empty({1, 1, 4}, at::kByte);
  const uint8_t values[] = {70, 7, 14, 140};
  std::copy(std::begin(values), std::end(values), row.data_ptr<uint8_t>());
  const at::Tensor half = resize_bilinear(row, 1, 2);
  EXPECT_EQ(half.data_ptr<uint8_t>()[0], (3 * 70 + 3 * 7 + 14 + 3) / 7);
  EXPECT_EQ(half.data_ptr<uint8_t>()[1], (7 + 3 * 14 + 3 * 140 + 3) / 7);
}

TEST(Resize, TakesStridedAndNoImages) {
  const at::Tensor images = at::arange(2 * 6 * 8, at::kInt).to(at::kByte).reshape({2, 6, 8});
  const at::Tensor turned = images.transpose(1, 2);
  EXPECT_TRUE(at::equal(resize_bilinear(turned, 3, 4), resize_bilinear(turned.contiguous(), 3, 4)));
  const at::Tensor same = resize_bilinear(turned, 8, 6);
  EXPECT_TRUE(at::equal(same, turned));
  EXPECT_TRUE(same.is_contiguous());
  EXPECT_NE(same.data_ptr(), turned.data_ptr());
  EXPECT_EQ(resize_bilinear(images.slice(0, 0, 0), 3, 4).sizes(), at::IntArrayRef({0, 3, 4}));
}

// More images than one task takes: each must land in its own place.
TEST(Resize, ImagesDoNotDependOnTheirNeighbours) {
  const at::Tensor images = at::arange(300 * 9 * 9, at::kInt).to(at::kByte).reshape({300, 9, 9});
  const at::Tensor all = resize_bilinear(images, 4, 5);
  for (const int64_t n : {0, 63, 64, 127, 128, 299})
    EXPECT_TRUE(at::equal(all.slice(0, n, n + 1), resize_bilinear(images.slice(0, n, n + 1), 4, 5))) << n;
}

TEST(Resize, BadArgumentsAreNamed) {
  const at::Tensor images = at::zeros({1, 4, 4}, at::kByte);
  EXPECT_SEIGH_ERROR(resize_bilinear(images, 0, 4), "0 x 4");
  EXPECT_SEIGH_ERROR(resize_bilinear(images, 4, -1), "4 x -1");
  EXPECT_SEIGH_ERROR(resize_bilinear(images.to(at::kFloat), 2, 2), "uint8");
  EXPECT_SEIGH_ERROR(resize_bilinear(images[0], 2, 2), "[N, H, W]");
  EXPECT_SEIGH_ERROR(resize_bilinear(images.slice(1, 0, 0), 2, 2), "0 x 4");
}

}  // namespace
}  // namespace seigh
