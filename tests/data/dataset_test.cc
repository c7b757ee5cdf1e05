#include "seigh/data/dataset.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "seigh/data/resize.h"
#include "seigh/io/file.h"
#include "tests/support/environment.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

using test::Environment;
using test::TempFolder;

at::Tensor integers(const std::vector<int64_t>& values) {
  at::Tensor t = at::arange(static_cast<int64_t>(values.size()), at::kLong);
  std::copy(values.begin(), values.end(), t.data_ptr<int64_t>());
  return t;
}

// `count` images of 16 x 16; pixel p of image n is 37 n + p mod 256, so all 256 values occur.
std::string image_file(int count) {
  std::string bytes("\0\0\x08\x03\0\0\0\0\0\0\0\x10\0\0\0\x10", 16);
  bytes[7] = static_cast<char>(count);
  for (int n = 0; n < count; ++n)
    for (int p = 0; p < 256; ++p) bytes += static_cast<char>(37 * n + p);
  return bytes;
}

// Labels n mod 10 + shift.
std::string label_file(int count, int shift = 0) {
  std::string bytes("\0\0\x08\x01\0\0\0\0", 8);
  bytes[7] = static_cast<char>(count);
  for (int n = 0; n < count; ++n) bytes += static_cast<char>(n % 10 + shift);
  return bytes;
}

// A small data set: `train` samples for training and 5 for testing.
void write_data(const fs::path& folder, int train = 12) {
  write_file(folder / "train-images-idx3-ubyte", image_file(train));
  write_file(folder / "train-labels-idx1-ubyte", label_file(train));
  write_file(folder / "t10k-images-idx3-ubyte", image_file(5));
  write_file(folder / "t10k-labels-idx1-ubyte", label_file(5));
}

MnistOptions options_for(const fs::path& folder) {
  MnistOptions options;
  options.data_folder = folder;
  options.image_size = 16;
  options.validation_samples = 4;
  return options;
}

TEST(Mnist, SplitsScalesAndLabels) {
  const TempFolder folder;
  write_data(folder.path());

  const DataSplits data = load_mnist(options_for(folder.path()));

  EXPECT_EQ(data.name, "mnist");
  EXPECT_EQ(data.source, folder.path().string());
  EXPECT_EQ(data.train.size(), 8);
  EXPECT_EQ(data.validation.size(), 4);
  EXPECT_EQ(data.test.size(), 5);
  for (const Dataset* part : {&data.train, &data.validation, &data.test}) {
    EXPECT_EQ(part->classes, 10);
    EXPECT_EQ(part->x.scalar_type(), at::kFloat);
    EXPECT_EQ(part->y.scalar_type(), at::kLong);
    EXPECT_EQ(part->x.sizes(), at::IntArrayRef({part->size(), 1, 16, 16}));
  }
  for (int64_t n = 0; n < 12; ++n) {
    const Dataset& part = n < 8 ? data.train : data.validation;
    const int64_t row = n < 8 ? n : n - 8;
    EXPECT_EQ(part.y[row].item<int64_t>(), n % 10);
    const at::Tensor pixels = part.x[row].reshape({256});
    for (int64_t p = 0; p < 256; ++p)  // exactly the correctly rounded quotient, 0 and 1 included
      ASSERT_EQ(pixels[p].item<float>(), static_cast<float>((37 * n + p) % 256) / 255.0f);
  }
}

TEST(Mnist, ResizesTheBytesBeforeScaling) {
  const TempFolder folder;
  write_data(folder.path());
  MnistOptions options = options_for(folder.path());
  options.validation_samples = 0;
  const at::Tensor full = load_mnist(options).train.x;
  options.image_size = 7;
  const at::Tensor small = load_mnist(options).train.x;

  const at::Tensor bytes = full.mul(255).round().to(at::kByte).squeeze(1);
  EXPECT_TRUE(at::equal(small, resize_bilinear(bytes, 7, 7).unsqueeze(1).to(at::kFloat).div(255)));
}

TEST(Mnist, LooksInTheNamedSubfolderFirst) {
  const TempFolder folder;
  write_data(folder.path(), 12);
  write_data(folder / "fashion-mnist", 11);
  MnistOptions options = options_for(folder.path());
  EXPECT_EQ(load_mnist(options).source, folder.path().string());
  options.name = "fashion-mnist";
  const DataSplits data = load_mnist(options);
  EXPECT_EQ(data.source, (folder / "fashion-mnist").string());
  EXPECT_EQ(data.train.size(), 7);
  EXPECT_EQ(data.name, "fashion-mnist");
}

TEST(Mnist, SearchesTheUsualPlacesInOrder) {
  const TempFolder folder;
  const MnistOptions options = options_for({});
  const auto source = [&] { return load_mnist(options).source; };
  {
    const Environment environment(
        {{"SEIGH_DATA", ""}, {"XDG_CACHE_HOME", ""}, {"HOME", (folder / "home").string()}});
    write_data(folder / "home/.cache/seigh/mnist");
    EXPECT_EQ(source(), (folder / "home/.cache/seigh/mnist").string());
  }
  const Environment environment({{"SEIGH_DATA", (folder / "data").string()},
                                 {"XDG_CACHE_HOME", (folder / "cache").string()},
                                 {"HOME", (folder / "home").string()}});
  EXPECT_SEIGH_ERROR(source(), "train-images-idx3-ubyte", (folder / "data").string(),
                     (folder / "data/mnist").string(), (folder / "cache/seigh/mnist").string(),
                     "/usr/share/datasets/mnist", "put its four files there", "--data FOLDER");
  write_data(folder / "cache/seigh/mnist");
  EXPECT_EQ(source(), (folder / "cache/seigh/mnist").string());
  write_data(folder / "data");
  EXPECT_EQ(source(), (folder / "data").string());
}

TEST(Mnist, IncompleteOrMismatchedFilesAreNamed) {
  const TempFolder folder;
  write_data(folder.path());
  const MnistOptions options = options_for(folder.path());
  const auto file = [&](const char* name) { return folder / name; };

  fs::remove(file("t10k-labels-idx1-ubyte"));
  EXPECT_SEIGH_ERROR(load_mnist(options), "t10k-labels-idx1-ubyte", folder.path().string(), "its four files",
                     "--data");
  write_file(file("t10k-labels-idx1-ubyte"), label_file(6));
  EXPECT_SEIGH_ERROR(load_mnist(options), "t10k-labels-idx1-ubyte", "5 images", "6 labels");
  write_file(file("t10k-labels-idx1-ubyte"), label_file(5, 6));
  EXPECT_SEIGH_ERROR(load_mnist(options), "t10k-labels-idx1-ubyte", "label 10 of sample 4", "0..9");
  write_file(file("t10k-labels-idx1-ubyte"), image_file(5));
  EXPECT_SEIGH_ERROR(load_mnist(options), "t10k-labels-idx1-ubyte", "rank 3, not 1");
  write_file(file("t10k-labels-idx1-ubyte"), label_file(0));
  write_file(file("t10k-images-idx3-ubyte"), image_file(0));
  EXPECT_SEIGH_ERROR(load_mnist(options), "t10k-images-idx3-ubyte", "no images");
}

TEST(Mnist, BadOptionsAreNamed) {
  const TempFolder folder;
  write_data(folder.path());
  MnistOptions options = options_for(folder.path());
  options.name = "cifar";
  EXPECT_SEIGH_ERROR(load_mnist(options), "cifar", "fashion-mnist");
  options = options_for(folder.path());
  options.image_size = 0;
  EXPECT_SEIGH_ERROR(load_mnist(options), "not 0");
  for (const int64_t count : {-1, 12}) {
    options = options_for(folder.path());
    options.validation_samples = count;
    EXPECT_SEIGH_ERROR(load_mnist(options), "not " + std::to_string(count), "0 and 11");
  }
}

TEST(Dataset, SelectCopiesInOrder) {
  const Dataset data{at::arange(8, at::kFloat).reshape({4, 2}), at::arange(4, at::kLong), 4};
  const Dataset part = data.select(integers({3, 0, 3}));
  EXPECT_EQ(part.size(), 3);
  EXPECT_EQ(part.classes, 4);
  EXPECT_TRUE(at::equal(part.y, integers({3, 0, 3})));
  EXPECT_TRUE(at::equal(part.x, data.x.index_select(0, integers({3, 0, 3}))));
  part.x.zero_();
  EXPECT_EQ(data.x[3][1].item<float>(), 7);
  EXPECT_EQ(Dataset().size(), 0);
}

TEST(BalancedSubset, FirstOfEachClassAndTheLowestGiveOneMore) {
  const at::Tensor labels = integers({2, 2, 0, 1, 0, 2, 1, 0, 1, 2});
  EXPECT_TRUE(at::equal(balanced_subset(labels, 3, 6), integers({0, 1, 2, 3, 4, 6})));
  EXPECT_TRUE(at::equal(balanced_subset(labels, 3, 4), integers({0, 2, 3, 4})));
  EXPECT_TRUE(at::equal(balanced_subset(labels, 3, 5), integers({0, 2, 3, 4, 6})));
  EXPECT_EQ(balanced_subset(labels, 3, 0).numel(), 0);
}

TEST(BalancedSubset, SubsetsAreDisjointAndEachIsBalanced) {
  at::Tensor labels = at::arange(60, at::kLong).mul(7).remainder(3);
  std::vector<int64_t> taken;
  for (int64_t subset = 0; subset < 5; ++subset) {
    const at::Tensor index = balanced_subset(labels, 3, 10, subset);  // 4 of class 0, 3 of 1 and 2
    for (int64_t i = 0; i < 10; ++i) taken.push_back(index[i].item<int64_t>());
    EXPECT_EQ(labels.index_select(0, index).eq(0).sum().item<int64_t>(), 4);
    EXPECT_EQ(labels.index_select(0, index).eq(1).sum().item<int64_t>(), 3);
  }
  std::sort(taken.begin(), taken.end());
  EXPECT_EQ(std::unique(taken.begin(), taken.end()), taken.end());
  EXPECT_TRUE(at::equal(balanced_subset(integers({0, 1, 0, 1, 1, 0}), 2, 2, 2), integers({4, 5})));
  EXPECT_SEIGH_ERROR(balanced_subset(labels, 3, 10, 5), "subsets 0 to 5", "need 24 of class 0", "only 20");
  EXPECT_SEIGH_ERROR(balanced_subset(labels, 3, 10, -1), "-1");
  EXPECT_SEIGH_ERROR(balanced_subset(labels, 3, 10, int64_t{1} << 62), "no disjoint subset");
}

TEST(BalancedSubset, BadArgumentsAreNamed) {
  const at::Tensor labels = integers({0, 0, 1});
  EXPECT_SEIGH_ERROR(balanced_subset(labels, 2, 4), "needs 2 of class 1", "only 1");
  EXPECT_SEIGH_ERROR(balanced_subset(labels, 1, 1), "label 1 of sample 2");
  EXPECT_SEIGH_ERROR(balanced_subset(labels, 0, 1), "not 0");
  EXPECT_SEIGH_ERROR(balanced_subset(labels, 2, -1), "-1");
  EXPECT_SEIGH_ERROR(balanced_subset(labels.to(at::kInt), 2, 1), "int64");
}

TEST(NoisyLabels, ReplaceAShareByOtherClasses) {
  const int64_t n = 20000, classes = 5;
  const at::Tensor labels = at::arange(n).remainder(classes), noisy = noisy_labels(labels, classes, 0.3, 7);
  EXPECT_TRUE(at::equal(noisy, noisy_labels(labels, classes, 0.3, 7)));
  EXPECT_FALSE(at::equal(noisy, noisy_labels(labels, classes, 0.3, 8)));
  const at::Tensor by = (noisy - labels).remainder(classes);  // how much further
  // Binomial counts, within five deviations; failure probability 3e-6 over seeds, the seed is fixed.
  for (int64_t d = 0; d < classes; ++d) {
    const double p = d == 0 ? 0.7 : 0.3 / 4, count = by.eq(d).sum().item<double>();
    EXPECT_LT(std::abs(count - p * n), 5 * std::sqrt(n * p * (1 - p))) << d;
  }
  EXPECT_TRUE(at::equal(noisy_labels(labels, classes, 0, 7), labels));
  EXPECT_FALSE(noisy_labels(labels, classes, 1, 7).eq(labels).any().item<bool>());
  EXPECT_SEIGH_ERROR(noisy_labels(labels, 1, 0.5, 7), "1 class");
  EXPECT_SEIGH_ERROR(noisy_labels(labels, 5, 1.5, 7), "between 0 and 1");
}

}  // namespace
}  // namespace seigh
