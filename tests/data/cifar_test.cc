#include "seigh/data/cifar.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "seigh/io/file.h"
#include "tests/support/environment.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

using test::Environment;
using test::TempFolder;

constexpr int kPerFile = 4;

// Pixel p of record n of file f is 31 f + 37 n + p mod 256 (p counts through the three planes), its label f +
// n mod 10.
std::string records(int f, int count = kPerFile) {
  std::string bytes;
  for (int n = 0; n < count; ++n) {
    bytes += static_cast<char>((f + n) % 10);
    for (int p = 0; p < 3072; ++p) bytes += static_cast<char>(31 * f + 37 * n + p);
  }
  return bytes;
}

void write_data(const fs::path& folder) {
  for (int f = 0; f < 5; ++f)
    write_file(folder / ("data_batch_" + std::to_string(f + 1) + ".bin"), records(f));
  write_file(folder / "test_batch.bin", records(5));
}

// `folder`/cifar-10-binary.tar.xz with the six files.
void write_archive(const fs::path& folder) {
  const TempFolder content;
  write_data(content / "cifar-10-batches-bin");
  fs::create_directories(folder);
  const std::string command = "tar -cJf '" + (folder / "cifar-10-binary.tar.xz").string() + "' -C '" +
                              content.path().string() + "' cifar-10-batches-bin";
  ASSERT_EQ(std::system(command.c_str()), 0);
}

CifarOptions options_for(const fs::path& folder) {
  CifarOptions options;
  options.data_folder = folder;
  options.validation_samples = 6;
  options.samples_per_file = kPerFile;
  return options;
}

TEST(Cifar, SplitsScalesAndLabels) {
  const TempFolder folder;
  write_data(folder.path());

  const DataSplits data = load_cifar10(options_for(folder.path()));

  EXPECT_EQ(data.name, "cifar-10");
  EXPECT_EQ(data.source, folder.path().string());
  ASSERT_EQ(data.train.size(), 14);
  ASSERT_EQ(data.validation.size(), 6);
  ASSERT_EQ(data.test.size(), 4);
  for (const Dataset* part : {&data.train, &data.validation, &data.test}) {
    EXPECT_EQ(part->classes, 10);
    EXPECT_EQ(part->x.scalar_type(), at::kFloat);
    EXPECT_EQ(part->y.scalar_type(), at::kLong);
    EXPECT_EQ(part->x.sizes(), at::IntArrayRef({part->size(), 3, 32, 32}));
  }
  for (int64_t sample = 0; sample < 24; ++sample) {
    const Dataset& part = sample < 14 ? data.train : sample < 20 ? data.validation : data.test;
    const int64_t row = sample - (sample < 14 ? 0 : sample < 20 ? 14 : 20), f = sample / 4, n = sample % 4;
    EXPECT_EQ(part.y[row].item<int64_t>(), (f + n) % 10);
    const at::Tensor expected = (at::arange(3072) + 31 * f + 37 * n).remainder(256).to(at::kFloat).div(255);
    EXPECT_TRUE(at::equal(part.x[row].flatten(), expected)) << sample;
  }
}

TEST(Cifar, NormalisesByTheTrainingPart) {
  const TempFolder folder;
  write_data(folder.path());
  CifarOptions options = options_for(folder.path());
  const DataSplits raw = load_cifar10(options);
  options.normalise = true;
  const DataSplits data = load_cifar10(options);
  const at::Tensor x = raw.train.x.to(at::kDouble).transpose(0, 1).reshape({3, -1});
  const at::Tensor mean = x.mean(1).reshape({3, 1, 1}), std = x.std(1, /*unbiased=*/false).reshape({3, 1, 1});
  for (const auto& [normal, plain] : {std::pair(data.train.x, raw.train.x),
                                      {data.validation.x, raw.validation.x},
                                      {data.test.x, raw.test.x}}) {
    // Values up to 2 in float32, two roundings.
    EXPECT_LT((normal - (plain.to(at::kDouble) - mean) / std).abs().max().item<double>(), 1e-6);
  }
}

TEST(Cifar, SearchesFoldersAndThenArchives) {
  const TempFolder folder;
  const Environment environment({{"SEIGH_DATA", (folder / "data").string()},
                                 {"XDG_CACHE_HOME", (folder / "cache").string()},
                                 {"HOME", (folder / "home").string()}});
  const auto source = [&] { return load_cifar10(options_for({})).source; };
  const fs::path unpacked = folder / "cache/seigh/cifar-10/cifar-10-batches-bin";

  EXPECT_SEIGH_ERROR(source(), "data_batch_1.bin", "cifar-10-binary.tar.xz", (folder / "data").string(),
                     (folder / "cache/seigh/cifar-10").string(), "/usr/share/datasets/cifar-10", "--data");
  write_archive(folder / "data");
  EXPECT_EQ(source(), unpacked.string());
  EXPECT_TRUE(at::equal(load_cifar10(options_for({})).test.y, at::tensor(std::vector<int64_t>{5, 6, 7, 8})));
  // Nothing but the result is left in the cache, and it serves without the archive.
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "cache/seigh"), fs::directory_iterator()), 1);
  fs::remove_all(folder / "data");
  EXPECT_EQ(source(), unpacked.string());
  write_data(folder / "data/cifar-10-batches-bin");
  EXPECT_EQ(source(), (folder / "data/cifar-10-batches-bin").string());
  write_data(folder / "data/cifar-10");
  EXPECT_EQ(source(), (folder / "data/cifar-10").string());
}

TEST(Cifar, ArchivesThatCannotBeUnpackedAreNamed) {
  const TempFolder folder;
  const Environment environment({{"XDG_CACHE_HOME", (folder / "cache").string()}});
  const fs::path archive = folder / "data/cifar-10-binary.tar.xz";
  write_archive(folder / "data");
  const auto load = [&] { load_cifar10(options_for(folder / "data")); };
  const std::string bytes = read_file(archive);
  write_file(archive, bytes.substr(0, bytes.size() / 2));
  EXPECT_SEIGH_ERROR(load(), archive.string(), "tar", "disk");
  EXPECT_EQ(fs::exists(folder / "cache/seigh/cifar-10/cifar-10-batches-bin"), false);
  write_file(archive, bytes);
  {
    const Environment no_programs({{"PATH", (folder / "nothing").string()}});
    EXPECT_SEIGH_ERROR(load(), archive.string(), "No such file");
  }
  // A half copy under the final name is not overwritten.
  write_file(folder / "cache/seigh/cifar-10/cifar-10-batches-bin/data_batch_1.bin", "x");
  EXPECT_SEIGH_ERROR(load(), (folder / "cache/seigh/cifar-10/cifar-10-batches-bin").string(),
                     "remove that folder");
  fs::remove_all(folder / "cache/seigh/cifar-10");
  load();
  // An archive of something else.
  fs::remove_all(folder / "cache/seigh");
  write_file(folder / "data/other", "x");
  const std::string command =
      "tar -cJf '" + archive.string() + "' -C '" + (folder / "data").string() + "' other";
  ASSERT_EQ(std::system(command.c_str()), 0);
  EXPECT_SEIGH_ERROR(load(), archive.string(), "cifar-10-batches-bin/data_batch_1.bin");
}

TEST(Cifar, DamagedFilesAreNamed) {
  const TempFolder folder;
  write_data(folder.path());
  const CifarOptions options = options_for(folder.path());
  const auto expect = [&](const std::string& bytes, const std::string& actual) {
    write_file(folder / "data_batch_3.bin", bytes);
    EXPECT_SEIGH_ERROR(load_cifar10(options), (folder / "data_batch_3.bin").string(), "12292", actual);
  };
  expect(records(2).substr(0, 12291), "12291");
  expect(records(2, 3), "9219");  // cut at the end of a record
  expect(records(2) + "x", "12293");
  expect("", "has 0");
  std::string bytes = records(2);
  bytes[3073] = 10;
  write_file(folder / "data_batch_3.bin", bytes);
  EXPECT_SEIGH_ERROR(load_cifar10(options), "data_batch_3.bin", "label 10 of sample 1");
  fs::remove(folder / "data_batch_3.bin");
  EXPECT_SEIGH_ERROR(load_cifar10(options), folder.path().string(), "lacks data_batch_3.bin", "--data");
}

TEST(Cifar, BadOptionsAreNamed) {
  const TempFolder folder;
  write_data(folder.path());
  for (const int64_t count : {-1, 20}) {
    CifarOptions options = options_for(folder.path());
    options.validation_samples = count;
    EXPECT_SEIGH_ERROR(load_cifar10(options), "between 0 and 19", "not " + std::to_string(count));
  }
  CifarOptions options = options_for(folder.path());
  options.samples_per_file = 0;
  EXPECT_SEIGH_ERROR(load_cifar10(options), "0 samples");
  // Images that are all the same cannot be normalised.
  for (int f = 0; f < 5; ++f) {
    std::string name = "data_batch_";  // in one expression GCC 14 warns of what is not there
    name.append(std::to_string(f + 1)).append(".bin");
    write_file(folder / name, std::string(3073 * kPerFile, '\3'));
  }
  options = options_for(folder.path());
  options.normalise = true;
  EXPECT_SEIGH_ERROR(load_cifar10(options), "channel 0", "constant");
}

}  // namespace
}  // namespace seigh
