#include "seigh/eigen/basis.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "seigh/core/filesystem.h"
#include "seigh/core/random.h"
#include "seigh/io/file.h"
#include "seigh/io/hdf5.h"
#include "seigh/linop/linear_operator.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

constexpr int64_t kRows = 40'009, kColumns = 31;  // in float64 more than one panel of files

at::Tensor numbers(int64_t first, int64_t count, at::ScalarType dtype) {
  return random_gaussian(1, Stream::test, kRows, first, count, dtype);
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

class BasisTest : public testing::TestWithParam<bool> {
 protected:
  Basis make(at::ScalarType dtype) const {
    return Basis(kRows, 40, dtype, folder_.path(), GetParam(), Context());
  }
  test::TempFolder folder_;
};

TEST_P(BasisTest, IsTheMatrixOfItsColumns) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    Basis basis = make(dtype);
    EXPECT_EQ(basis.projections(numbers(50, 2, dtype)).sizes(), at::IntArrayRef({0, 2}));
    for (const auto& [first, count] : {std::pair{0, 8}, {8, 1}, {9, 22}})
      basis.append(numbers(first, count, dtype));
    const at::Tensor v = numbers(0, kColumns, dtype), exact = v.to(at::kDouble);
    EXPECT_EQ(basis.size(), kColumns);
    EXPECT_TRUE(at::equal(basis.columns(5, 10), v.slice(1, 5, 15)));
    EXPECT_TRUE(at::equal(basis.leading(9)->row_range(100, 50), v.slice(0, 100, 150).slice(1, 0, 9)));

    // Sums of 4 10^4 products of normal numbers; float32 within panels of 8192.
    const double rounding = dtype == at::kFloat ? 8192 * 6e-8 : 1e-9;
    const at::Tensor c = random_gaussian(2, Stream::test, kColumns, 0, 3, at::kDouble);
    const at::Tensor start = numbers(60, 3, dtype);
    EXPECT_LT(difference(basis.projections(start), at::matmul(exact.t(), start.to(at::kDouble))), rounding);
    const at::Tensor expected = start.to(at::kDouble) - at::matmul(exact, c);
    at::Tensor z = as_block(start.clone());
    basis.subtract(z, c);
    EXPECT_LT(difference(z, expected), 1e3 * (dtype == at::kFloat ? 6e-8 : 1e-16));
    at::Tensor again = as_block(start.clone());
    const at::Tensor left = basis.subtract_and_project(again, c);
    EXPECT_TRUE(at::equal(again, z));
    EXPECT_LT(difference(left, at::matmul(exact.t(), z.to(at::kDouble))), 40 * rounding);
  }
}

TEST_P(BasisTest, RestartsWithWhatWaitsBehind) {
  Basis basis = make(at::kFloat);
  basis.append(numbers(0, kColumns, at::kFloat));
  basis.keep();
  const at::Tensor y = random_gaussian(2, Stream::test, 20, 0, 12, at::kDouble);
  basis.restart(20, y);
  EXPECT_EQ(basis.size(), 12 + kColumns - 20);
  EXPECT_EQ(basis.generation(), 1);
  const at::Tensor rotated = at::matmul(numbers(0, 20, at::kFloat).to(at::kDouble), y);
  EXPECT_LT(difference(basis.columns(0, 12), rotated), 1e-5);
  EXPECT_TRUE(at::equal(basis.columns(12, kColumns - 20), numbers(20, kColumns - 20, at::kFloat)));
  basis.append(numbers(70, 1, at::kFloat));
  basis.keep();
  basis.forget_earlier();
  Basis other(kRows, 40, at::kFloat, folder_.path(), !GetParam(),
              Context());  // what one keeps, the other can take up
  other.load(1, basis.size(), "");
  EXPECT_TRUE(at::equal(other.columns(0, other.size()), basis.columns(0, basis.size())));
  basis.truncate(9);
  EXPECT_EQ(basis.size(), 9);
  EXPECT_EQ(basis.projections(numbers(0, 1, at::kFloat)).size(0), 9);
  EXPECT_SEIGH_ERROR(other.load(0, 8, "; begin anew"), "basis_0_0.h5", "is missing; begin anew");
}

TEST_P(BasisTest, RemovesWhatAKilledProcessLeft) {
  Basis basis = make(at::kFloat);
  basis.append(numbers(0, 3, at::kFloat));
  basis.keep();
  basis.append(numbers(3, 2, at::kFloat));
  basis.keep();
  for (const char* name : {"basis_1_0.h5", "basis_0_0.h5.tmp-77", "basis_0_30.h5", "basis_0_5_rank_2.h5"})
    write_file(folder_.path() / name, "left");
  write_file(folder_.path() / "state.h5", "kept");
  make(at::kFloat).load(0, 3, "");
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder_.path())) names.insert(entry.path().filename());
  EXPECT_EQ(names, (std::set<std::string>{"basis_0_0.h5", "state.h5"}));
}

TEST_P(BasisTest, DamagedFilesAreRefused) {
  Basis basis = make(at::kFloat);
  basis.append(numbers(0, 3, at::kFloat));
  basis.keep();
  const std::string path = (folder_.path() / "basis_0_0.h5").string();
  std::string bytes = read_file(path);
  bytes[bytes.size() / 2] ^= 1;  // in the columns, which are nearly all of it
  std::ofstream(path, std::ios::binary) << bytes;
  Basis other = make(at::kFloat);
  EXPECT_SEIGH_ERROR(other.load(0, 3, "; begin anew"), "checksum", "begin anew");
  EXPECT_SEIGH_ERROR(make(at::kDouble).load(0, 3, "; begin anew"), "does not fit");
  EXPECT_SEIGH_ERROR(make(at::kFloat).load(0, 50, ""), "there is room for 40");
  Hdf5Writer without_sums(path);
  without_sums.write("columns", numbers(0, 3, at::kFloat).t());
  without_sums.commit();
  EXPECT_SEIGH_ERROR(make(at::kFloat).load(0, 3, "; begin anew"), "does not fit", "begin anew");
}

INSTANTIATE_TEST_SUITE_P(Places, BasisTest, testing::Bool(),
                         [](const auto& place) { return place.param ? "OnDisk" : "InMemory"; });

}  // namespace
}  // namespace seigh
