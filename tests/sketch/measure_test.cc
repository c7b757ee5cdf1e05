#include "seigh/sketch/measure.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "seigh/core/dtype.h"
#include "seigh/core/filesystem.h"
#include "seigh/core/fingerprint.h"
#include "seigh/io/file.h"
#include "seigh/io/hdf5.h"
#include "seigh/linop/matrix_operator.h"
#include "seigh/sketch/sparse_sign.h"
#include "seigh/sketch/ssrft.h"
#include "tests/support/expect_error.h"
#include "tests/support/spectra.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

SketchPlan small_plan(int64_t k, int64_t s, int64_t width = 6, const std::string& kind = "ssrft") {
  return {.operator_name = "matrix",
          .rows = 60,
          .k = k,
          .s = s,
          .seed = 4,
          .test_matrix = kind,
          .dtype = at::kDouble,
          .width = width};
}

at::Tensor in_memory(const Sketch& sketch) {
  return sketch.outer->row_range(0, sketch.outer->rows());
}

at::Tensor some_matrix() {
  return test::spectral_matrix("polynomial", 60).matrix;
}

TEST(SparseSign, RowsHaveEightDistinctEntriesOfEqualSize) {
  const SparseSign omega(500, 40, 3, Stream::omega, at::kDouble);
  const at::Tensor m = omega.block(0, 40);
  EXPECT_TRUE(at::allclose(m.square().sum(1), at::ones({500}, at::kDouble)));
  EXPECT_TRUE(((m != 0).sum(1) == 8).all().item<bool>());
  // 4000 fair signs: beyond 5 standard deviations with probability below 1e-6.
  EXPECT_LT(std::abs((m.sign().sum() / std::sqrt(4000.0)).item<double>()), 5);
  // Columns are equally likely: chi-square with 39 degrees of freedom, beyond 90 with probability below 1e-5.
  const at::Tensor counts = (m != 0).sum(0).to(at::kDouble);
  EXPECT_LT(((counts - 100).square().sum() / 100).item<double>(), 90);
  EXPECT_TRUE(at::equal(omega.block(7, 5), m.slice(1, 7, 12)));
  const SparseSign other(500, 40, 3, Stream::psi, at::kDouble);
  EXPECT_FALSE(at::equal(other.block(0, 40), m));
}

TEST(SparseSign, ProductsAreThoseOfTheMatrix) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kComplexFloat, at::kComplexDouble}) {
    const SparseSign omega(300, 5, 3, Stream::omega, dtype);  // fewer columns than entries
    const at::Tensor x = random_gaussian(1, Stream::test, 300, 0, 7, dtype);
    const at::Tensor expected = at::matmul(omega.block(0, 5).to(wide(dtype)).t(), x.to(wide(dtype)));
    EXPECT_LT(test::relative_difference(omega.transposed_product(x), expected), 10 * epsilon(dtype));
  }
  EXPECT_SEIGH_ERROR(SparseSign(3, 4, 1, Stream::omega, at::kFloat), "between 1 and D");
}

TEST(Measure, TakesWhatItSays) {
  const at::Tensor a = some_matrix();
  for (const std::string kind : {"ssrft", "sparse"}) {
    MatrixOperator op(a);
    const Sketch sketch = measure(op, small_plan(7, 20, 6, kind));
    const at::Tensor omega = make_test_matrix(kind, 60, 20, 4, Stream::omega, at::kDouble)->block(0, 20);
    const at::Tensor psi = make_test_matrix(kind, 60, 20, 4, Stream::psi, at::kDouble)->block(0, 20);
    const at::Tensor y = at::matmul(a, omega);
    EXPECT_LT(test::relative_difference(in_memory(sketch), y.slice(1, 0, 7)), 1e-13);
    EXPECT_LT(test::relative_difference(sketch.inner, at::matmul(psi.t(), y)), 1e-13);
    EXPECT_LT(test::relative_difference(sketch.omega_outer, at::matmul(omega.t(), y.slice(1, 0, 7))), 1e-13);
    EXPECT_EQ(op.products(), 20);
  }
}

TEST(Measure, DoesNotDependOnTheBlockSize) {
  MatrixOperator op(some_matrix());
  const Sketch one = measure(op, small_plan(7, 20, 1));
  const Sketch many = measure(op, small_plan(7, 20, 64));
  EXPECT_LT(test::relative_difference(one.inner, many.inner), 1e-13);
  EXPECT_LT(test::relative_difference(in_memory(one), in_memory(many)), 1e-13);
}

TEST(Measure, RefusesImpossibleSizes) {
  MatrixOperator op(at::eye(60, at::kDouble));
  EXPECT_SEIGH_ERROR(measure(op, small_plan(0, 5)), "k must be at least 1");
  EXPECT_SEIGH_ERROR(measure(op, small_plan(6, 5)), "s must be at least k");
  EXPECT_SEIGH_ERROR(measure(op, small_plan(6, 61)), "s must not exceed the number of parameters");
  MatrixOperator other(at::eye(59, at::kDouble));
  EXPECT_SEIGH_ERROR(measure(other, small_plan(6, 12)), "not what the plan measures");
}

TEST(Store, HoldsTheSameAsMemory) {
  const test::TempFolder folder;
  MatrixOperator op(some_matrix());
  SketchStore store(folder.path() / "s", small_plan(8, 20));
  measure(op, store);
  const Sketch stored = sketch_of(store), direct = measure(op, small_plan(8, 20));
  EXPECT_TRUE(at::equal(in_memory(stored), in_memory(direct)));
  EXPECT_TRUE(at::equal(stored.inner, direct.inner));
  EXPECT_TRUE(at::equal(stored.omega_outer, direct.omega_outer));
  // By panels of 5 rows, and rows in any order, repeated.
  const auto panels = store.outer(5 * 8 * 8);
  EXPECT_EQ(panels->panel_rows(), 5);
  EXPECT_TRUE(at::equal(gram(*panels), gram(*panels)));
  EXPECT_LT(test::relative_difference(gram(*panels), at::matmul(in_memory(direct).t(), in_memory(direct))),
            1e-13);
  const at::Tensor index = at::tensor({59, 3, 3, 0, 17}, at::kLong);
  EXPECT_TRUE(at::equal(panels->select_rows(index), in_memory(direct).index_select(0, index)));
}

TEST(Store, HoldsComplexColumns) {
  for (const at::ScalarType dtype : {at::kComplexFloat, at::kComplexDouble}) {
    const test::TempFolder folder;
    const at::Tensor a = test::hermitian_matrix("polynomial", 60).matrix;
    MatrixOperator op(a.to(dtype));
    SketchPlan plan = small_plan(8, 20);
    plan.dtype = dtype;
    SketchStore store(folder.path() / "s", plan);
    measure(op, store);
    EXPECT_EQ(SketchStore(folder.path() / "s").plan().dtype, dtype);
    for (int64_t shard = 0; shard < 4; ++shard) EXPECT_NO_THROW(store.verify(shard));
    const double tolerance = 100 * epsilon(dtype);
    EXPECT_LT(remeasure(op, store, 13), tolerance);
    const Sketch sketch = sketch_of(store);
    const at::Tensor omega = Ssrft(60, 20, 4, Stream::omega, dtype).block(0, 20).to(at::kComplexDouble);
    const at::Tensor psi = Ssrft(60, 20, 4, Stream::psi, dtype).block(0, 20).to(at::kComplexDouble);
    const at::Tensor y = at::matmul(a, omega), outer = y.slice(1, 0, 8);
    EXPECT_LT(test::relative_difference(in_memory(sketch).to(at::kComplexDouble), outer), tolerance);
    EXPECT_LT(test::relative_difference(sketch.inner, at::matmul(psi.mH(), y)), tolerance);
    EXPECT_LT(test::relative_difference(sketch.omega_outer, at::matmul(omega.mH(), outer)), tolerance);
    EXPECT_LT(test::relative_difference(gram(*store.outer(1000)), at::matmul(outer.mH(), outer)), tolerance);
    const at::Tensor index = at::tensor({59, 3, 3, 0, 17}, at::kLong);
    EXPECT_TRUE(at::equal(store.outer(1000)->select_rows(index), in_memory(sketch).index_select(0, index)));
    plan.storage = "float16";
    EXPECT_SEIGH_ERROR(SketchStore(folder.path() / "h", plan), "complex columns");
  }
}

TEST(Store, MeasuresOnlyWhatIsMissing) {
  const test::TempFolder folder;
  MatrixOperator whole(some_matrix()), op(some_matrix());
  SketchStore reference(folder.path() / "r", small_plan(8, 20)),
      store(folder.path() / "s", small_plan(8, 20));
  measure(whole, reference);
  measure(op, store, 1, 3);  // shards 1 of 0..3
  EXPECT_EQ(store.finished(), std::vector<int64_t>{1});
  EXPECT_EQ(op.products(), 6);
  SketchStore again(folder.path() / "s", small_plan(8, 20));
  measure(op, again);
  EXPECT_EQ(op.products(), 20);
  for (int64_t shard = 0; shard < 4; ++shard)
    EXPECT_EQ(read_file(store.shard_file(shard)), read_file(reference.shard_file(shard)));
  EXPECT_SEIGH_ERROR(SketchStore(folder.path() / "s", small_plan(9, 20)), "holds other measurements");
}

TEST(Store, TwoProcessesShareTheColumns) {
  const test::TempFolder folder;
  SketchStore(folder.path() / "s", small_plan(8, 20));
  SketchStore mine(folder.path() / "s"), theirs(folder.path() / "s");
  EXPECT_TRUE(mine.claim(2));
  EXPECT_FALSE(theirs.claim(2));
  EXPECT_TRUE(theirs.claim(3));
  {
    SketchStore dead(folder.path() / "s");
    EXPECT_TRUE(dead.claim(1));
  }
  EXPECT_TRUE(theirs.claim(1));  // a process that ended holds nothing
  theirs.release(1);
  MatrixOperator op(some_matrix());
  measure(op, mine);  // but for the two others' shard
  EXPECT_EQ(mine.finished(), (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(op.products(), 18);
}

TEST(Store, AFlippedByteIsFound) {
  const test::TempFolder folder;
  MatrixOperator op(some_matrix());
  SketchStore store(folder.path() / "s", small_plan(8, 20));
  measure(op, store);
  for (int64_t shard = 0; shard < 4; ++shard) EXPECT_NO_THROW(store.verify(shard));
  for (const char* name : {"outer", "inner", "omega_outer"}) {
    const std::string good = read_file(store.shard_file(1));
    std::string bad = good;
    const at::ScalarType dtype = name == std::string("outer") ? store.plan().dtype : at::kDouble;
    bad[static_cast<size_t>(Hdf5Reader(store.shard_file(1)).offset(name, dtype)) + 9] ^= 4;
    write_file(store.shard_file(1), bad);
    EXPECT_SEIGH_ERROR(store.verify(1), "checksum");
    write_file(store.shard_file(1), good.substr(0, good.size() - 100));
    EXPECT_SEIGH_ERROR(store.verify(1), "columns_000001.h5");
    write_file(store.shard_file(1), good);
  }
  EXPECT_TRUE(damaged_shards(store).empty());
  EXPECT_LT(remeasure(op, store, 13), 1e-14);
  MatrixOperator other(2 * some_matrix());
  EXPECT_NEAR(remeasure(other, store, 13), 0.5, 1e-12);
}

TEST(Store, NoBitOfAFileIsTrusted) {
  const test::TempFolder folder;
  MatrixOperator op(some_matrix());
  SketchStore store(folder.path() / "s", small_plan(8, 20));
  measure(op, store);
  const std::string good = read_file(store.shard_file(1)), plan = read_file(store.folder() / "plan.h5");
  for (size_t bit = 0; bit < 8 * good.size(); bit += 101) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    write_file(store.shard_file(1), bad);
    EXPECT_SEIGH_ERROR(store.verify(1), "columns_000001.h5");
  }
  write_file(store.shard_file(1), good);
  for (size_t bit = 0; bit < 8 * plan.size(); bit += 307) {
    std::string bad = plan;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    write_file(store.folder() / "plan.h5", bad);
    EXPECT_SEIGH_ERROR(SketchStore(store.folder()), "plan.h5");
  }
}

// 0 / 0 is no difference: of the zero matrix every column is sound.
TEST(Store, TheZeroMatrixIsMeasuredAsSoundlyAsAnother) {
  const test::TempFolder folder;
  MatrixOperator zero(0 * some_matrix()), other(some_matrix());
  SketchStore store(folder.path() / "s", small_plan(8, 20));
  measure(zero, store);
  EXPECT_EQ(remeasure(zero, store, 13), 0);
  EXPECT_NEAR(remeasure(other, store, 13), 1, 1e-12);
  SketchStore another(folder.path() / "t", small_plan(8, 20));
  measure(other, another);
  EXPECT_GT(remeasure(zero, another, 13), 1e10);
}

TEST(Store, BelongsToOneMatrix) {
  const test::TempFolder folder;
  Fingerprint one, two;
  one.add("samples", 1, 0.1);
  two.add("samples", 2, 0.1);
  SketchStore store(folder.path() / "s", small_plan(8, 20));
  store.tie_to("");
  EXPECT_EQ(SketchStore(store.folder()).plan().fingerprint, "");
  store.tie_to(one.text());
  SketchStore again(store.folder());
  EXPECT_EQ(again.plan().fingerprint, one.text());
  again.tie_to(one.text());
  again.tie_to("");
  EXPECT_SEIGH_ERROR(again.tie_to(two.text()), "plan.h5", "samples were others");
}

struct Notes final : Progress {
  void note(std::string_view text) override { all.emplace_back(text); }
  std::vector<std::string> all;
};

TEST(Store, DamagedShardsAreMeasuredAgain) {
  const test::TempFolder folder;
  MatrixOperator op(some_matrix());
  SketchStore store(folder.path() / "s", small_plan(8, 20)), other(folder.path() / "s");
  measure(op, store);
  std::vector<std::string> good;
  for (int64_t shard = 0; shard < 4; ++shard) good.push_back(read_file(store.shard_file(shard)));
  write_file(store.shard_file(0), good[0].substr(0, good[0].size() / 2));  // torn
  write_file(store.shard_file(1), good[2]);                                // another shard's
  std::string flipped = good[2];
  flipped[static_cast<size_t>(Hdf5Reader(store.shard_file(2)).offset("inner", at::kDouble)) + 9] ^= 16;
  write_file(store.shard_file(2), flipped);
  EXPECT_EQ(damaged_shards(store).size(), 3);
  EXPECT_EQ(damaged_shards(store, 1, 2).size(), 1);  // of shards 1 and 3
  ASSERT_FALSE(other.remove_damaged(3));             // it is sound
  const auto notes = std::make_shared<Notes>();
  measure(op, store, 0, 1, Context({.progress = notes}));
  EXPECT_EQ(notes->all.size(), 3);
  for (int64_t shard = 0; shard < 4; ++shard)
    EXPECT_EQ(read_file(store.shard_file(shard)), good[static_cast<size_t>(shard)]);
  EXPECT_EQ(op.products(), 20 + 18);
  // One that another process is making anew stays.
  fs::remove(store.shard_file(2));
  ASSERT_TRUE(other.claim(2));
  write_file(store.shard_file(2), flipped);
  EXPECT_FALSE(store.remove_damaged(2));
  other.release(2);
  EXPECT_TRUE(store.remove_damaged(2));
}

TEST(Store, SixteenBitsRoundOnce) {
  for (const std::string storage : {"float16", "bfloat16"}) {
    const test::TempFolder folder;
    MatrixOperator op(some_matrix());
    SketchPlan plan = small_plan(8, 20);
    plan.storage = storage;
    SketchStore store(folder.path() / "s", plan);
    measure(op, store);
    EXPECT_TRUE(damaged_shards(store).empty());
    EXPECT_LT(remeasure(op, store, 13), 1e-14);
    const std::string good = read_file(store.shard_file(1));
    std::string bad = good;
    bad[static_cast<size_t>(Hdf5Reader(store.shard_file(1)).offset("scale", at::kDouble)) + 6] ^= 16;
    write_file(store.shard_file(1), bad);
    EXPECT_EQ(damaged_shards(store).size(), 1);
    write_file(store.shard_file(1), good);
    const Sketch kept = sketch_of(SketchStore(folder.path() / "s")), held = measure(op, plan),
                 exact = measure(op, small_plan(8, 20));
    // On disk, what stands in memory; rounded to 11 or 8 bits of each entry, but for those too small for
    // float16.
    EXPECT_TRUE(at::equal(in_memory(kept), in_memory(held)));
    EXPECT_TRUE(at::equal(kept.omega_outer, held.omega_outer));
    const at::Tensor y = in_memory(exact), error = (in_memory(kept) - y).abs();
    const double ulp = storage == "float16" ? 0x1p-11 : 0x1p-8;
    EXPECT_TRUE((error <= ulp * y.abs() + 0x1p-38 * y.abs().amax(0)).all().item<bool>());
    EXPECT_GT((error / y.abs()).max().item<double>(), ulp / 2);
    const at::Tensor omega = Ssrft(60, 20, 4, Stream::omega, at::kDouble).block(0, 20);
    EXPECT_LT(test::relative_difference(kept.omega_outer, at::matmul(omega.t(), in_memory(kept))), 1e-13);
  }
}

TEST(Store, FewerColumnsMakeASmallerSketch) {
  const test::TempFolder folder;
  MatrixOperator op(some_matrix());
  SketchStore store(folder.path() / "s", small_plan(12, 24, 6));
  EXPECT_SEIGH_ERROR(sketch_of(store), "no measurements yet");
  measure(op, store, 2, 4);
  EXPECT_SEIGH_ERROR(sketch_of(store), "none of the first k columns");
  measure(op, store, 1, 4);
  const Sketch sketch = sketch_of(store);
  EXPECT_EQ(sketch.products, 12);
  const at::Tensor omega = Ssrft(60, 24, 4, Stream::omega, at::kDouble).block(6, 12);
  EXPECT_LT(test::relative_difference(sketch.omega_outer, at::matmul(omega.t(), in_memory(sketch))), 1e-13);
  EXPECT_TRUE(at::equal(sketch.outer_columns, at::arange(6)));
}

TEST(Store, SaysHowMuchRoomItNeeds) {
  const test::TempFolder folder;
  SketchPlan plan = small_plan(8, 20);
  plan.rows = int64_t{1} << 50;
  EXPECT_SEIGH_ERROR(SketchStore(folder.path() / "s", plan), "of disk in");
}

}  // namespace
}  // namespace seigh
