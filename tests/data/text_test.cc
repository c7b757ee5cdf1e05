#include "seigh/data/text.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "seigh/io/file.h"
#include "tests/support/environment.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

using test::Environment;
using test::TempFolder;

at::Tensor matrix(const std::vector<int64_t>& values, int64_t rows) {
  return at::tensor(values).reshape({rows, -1});
}

TEST(Text, WindowsAndShiftsByHand) {
  const TempFolder folder;
  // Distinct bytes in order: ' ' 'a' 'b' 'c' 0xe9, classes 0 to 4. 20 characters: 18 train, 2 test.
  write_file(folder / "abc.txt", "abc cab\xe9 bca abc ab b");
  const TextOptions options{.name = "abc", .data_folder = folder.path(), .context = 4};
  // The last two characters are " b"; one window of context 1.
  EXPECT_SEIGH_ERROR(load_text(options), (folder / "abc.txt").string(), "test part has 3", "context of 4");

  const DataSplits data = load_text({.name = "abc", .data_folder = folder.path(), .context = 1});
  EXPECT_EQ(data.name, "abc");
  EXPECT_EQ(data.source, folder.path().string());
  EXPECT_EQ(data.train.classes, 5);
  EXPECT_EQ(data.validation.size(), 0);
  EXPECT_EQ(data.validation.classes, 5);
  EXPECT_EQ(data.train.x.scalar_type(), at::kLong);
  //                                                a  b  c  _  c  a  b  e  _  b  c  a  _  a  b  c  _
  EXPECT_TRUE(at::equal(data.train.x, matrix({1, 2, 3, 0, 3, 1, 2, 4, 0, 2, 3, 1, 0, 1, 2, 3, 0}, 17)));
  EXPECT_TRUE(at::equal(data.train.y, matrix({2, 3, 0, 3, 1, 2, 4, 0, 2, 3, 1, 0, 1, 2, 3, 0, 1}, 17)));
  EXPECT_TRUE(at::equal(data.test.x, matrix({2, 0}, 2)));
  EXPECT_TRUE(at::equal(data.test.y, matrix({0, 2}, 2)));
}

TEST(Text, LeavesOutWhatFillsNoWindow) {
  const TempFolder folder;
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>('0' + i % 10);
  write_file(folder / "digits.txt", text);
  const DataSplits data = load_text({.name = "digits", .data_folder = folder.path(), .context = 8});
  // 90 characters: 11 windows of 8 use 89 with the one after them; 10 characters: one.
  ASSERT_EQ(data.train.x.sizes(), at::IntArrayRef({11, 8}));
  ASSERT_EQ(data.test.x.sizes(), at::IntArrayRef({1, 8}));
  EXPECT_TRUE(at::equal(data.train.x.flatten(), at::arange(88).remainder(10)));
  EXPECT_TRUE(at::equal(data.train.y.flatten(), at::arange(1, 89).remainder(10)));
  EXPECT_TRUE(at::equal(data.test.y[0], at::arange(1, 9)));
  // A window needs the character after it: 9 windows of 10 would use 91.
  EXPECT_EQ(load_text({.name = "digits", .data_folder = folder.path(), .context = 9}).train.size(), 9);
  EXPECT_SEIGH_ERROR(load_text({.name = "digits", .data_folder = folder.path(), .context = 10}), "test part",
                     "10");
}

TEST(Text, SearchesTheUsualPlaces) {
  const TempFolder folder;
  const Environment environment({{"SEIGH_DATA", (folder / "data").string()},
                                 {"XDG_CACHE_HOME", (folder / "cache").string()},
                                 {"HOME", (folder / "home").string()}});
  const auto source = [] { return load_text({.name = "t", .context = 2}).source; };
  EXPECT_SEIGH_ERROR(source(), "t.txt", (folder / "data/t").string(), (folder / "cache/seigh").string(),
                     "/usr/share/datasets/t", "--data");
  for (const std::string place : {"cache/seigh", "cache/seigh/t", "data", "data/t"}) {
    write_file(folder / place / "t.txt", std::string(40, 'x'));
    EXPECT_EQ(source(), (folder / place).string());
  }
}

TEST(Text, BadOptionsAreNamed) {
  EXPECT_SEIGH_ERROR(load_text({.context = 0}), "context of 0");
  EXPECT_SEIGH_ERROR(load_text({.name = "a/b"}), "a/b");
  EXPECT_SEIGH_ERROR(load_text({.name = ""}), "--data");
}

TEST(FirstSubset, IsTheFirstOnes) {
  EXPECT_TRUE(at::equal(first_subset(5, 3), at::arange(3)));
  EXPECT_EQ(first_subset(5, 0).numel(), 0);
  EXPECT_EQ(first_subset(5, 5).numel(), 5);
  EXPECT_SEIGH_ERROR(first_subset(5, 6), "6", "5");
  EXPECT_SEIGH_ERROR(first_subset(5, -1), "-1");
  EXPECT_TRUE(at::equal(first_subset(5, 2, 1), at::arange(2, 4)));
  EXPECT_SEIGH_ERROR(first_subset(5, 2, 2), "number 2", "fewer");
}

}  // namespace
}  // namespace seigh
