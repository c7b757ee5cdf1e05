#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "seigh/eigen/dense.h"
#include "seigh/eigen/seigh.h"
#include "seigh/io/file.h"
#include "seigh/linop/matrix_operator.h"
#include "seigh/report/page.h"
#include "seigh/results/eigen_file.h"
#include "seigh/results/finished.h"
#include "seigh/results/overlap_file.h"
#include "tests/support/expect_error.h"
#include "tests/support/spectra.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

const test::SpectralMatrix kMatrix = test::spectral_matrix("exponential", 30);

EigenFileInfo info() {
  EigenFileInfo about;
  about.matrix = "hessian";
  about.split = "test";
  about.step = 100;
  about.parameters = 30;
  about.samples = 3;
  about.k = 4;
  about.s = 12;
  about.dtype = "float64";
  about.sample_indices = at::tensor({2, 5, 7}, at::kLong);
  return about;
}

TEST(EigenFile, RoundTripOfASketch) {
  const test::TempFolder folder;
  MatrixOperator op(kMatrix.matrix);
  const EigenResult result = seigh(op, {.k = 4, .products = 12, .seed = 9, .probes = 8});
  write_eigen_file(folder.path() / "e.h5", info(), result, true);
  const EigenFile back = read_eigen_file(folder.path() / "e.h5", Vectors::if_small);
  EXPECT_EQ(back.info.split, "test");
  EXPECT_EQ(back.info.step, 100);
  EXPECT_TRUE(at::equal(back.info.sample_indices, info().sample_indices));
  EXPECT_TRUE(at::equal(back.result.eigenvalues, result.eigenvalues));
  EXPECT_TRUE(back.result.eigenvectors.in_memory());
  EXPECT_TRUE(at::equal(back.result.eigenvectors.all(), result.eigenvectors.all()));
  const Eigenvectors panels = read_eigen_file(folder.path() / "e.h5", Vectors::by_panels).result.eigenvectors;
  EXPECT_FALSE(panels.in_memory());
  EXPECT_TRUE(at::equal(panels.all(), result.eigenvectors.all()));
  EXPECT_TRUE(at::equal(back.result.residuals, result.residuals));
  EXPECT_NEAR(back.result.error->error(), result.error->error(), 1e-15);
  EXPECT_EQ(back.result.products, 20);
  EXPECT_EQ(back.result.seed, 9u);
}

TEST(EigenFile, RoundTripOfADenseResultWithoutVectors) {
  const test::TempFolder folder;
  MatrixOperator op(kMatrix.matrix);
  EigenFileInfo about = info();
  about.sketch_error = 0.25;
  const EigenResult result = dense(op, 4).result;
  write_eigen_file(folder.path() / "e.h5", about, result, false);
  const EigenFile back = read_eigen_file(folder.path() / "e.h5", Vectors::if_small);
  EXPECT_FALSE(back.has_vectors);
  EXPECT_EQ(back.info.sketch_error, 0.25);
  EXPECT_TRUE(at::equal(back.result.spectrum, result.spectrum));
  EXPECT_EQ(back.result.certificates.certified(), 4);
  EXPECT_TRUE(at::equal(back.result.certificates.low, result.certificates.low));
  EXPECT_TRUE(at::equal(back.result.certificates.last, result.certificates.last));
}

TEST(EigenFile, RoundTripOfComplexEigenvectors) {
  const test::TempFolder folder;
  MatrixOperator op(test::hermitian_matrix("exponential", 30).matrix.to(at::kComplexFloat));
  EigenFileInfo about = info();
  about.dtype = "complex64";
  const EigenResult result = seigh(op, {.k = 4, .products = 12, .seed = 9, .probes = 8});
  write_eigen_file(folder.path() / "e.h5", about, result, true);
  for (const Vectors how : {Vectors::if_small, Vectors::by_panels}) {
    const EigenFile back = read_eigen_file(folder.path() / "e.h5", how);
    EXPECT_TRUE(at::equal(back.result.eigenvectors.all(), result.eigenvectors.all()));
    EXPECT_EQ(back.result.error->beta, 2);
  }
}

TEST(EigenFile, OtherFilesAreRefused) {
  const test::TempFolder folder;
  write_file(folder.path() / "text.h5", "no hdf5");
  EXPECT_SEIGH_ERROR(read_eigen_file(folder.path() / "text.h5"), "text.h5");
  EXPECT_SEIGH_ERROR(read_eigen_file(folder.path() / "none.h5"), "none.h5");
  OverlapCurves curves;
  for (at::Tensor OverlapCurves::*member :
       {&OverlapCurves::magnitude, &OverlapCurves::best, &OverlapCurves::random_mean,
        &OverlapCurves::random_std, &OverlapCurves::random_by_layer_mean, &OverlapCurves::random_by_layer_std,
        &OverlapCurves::chance}) {
    curves.*member = at::rand({5}, at::kDouble);
  }
  curves.mask = at::arange(5);
  write_overlap_file(folder.path() / "o.h5", curves, {.random_masks = 7, .seed = 3});
  const OverlapCurves back = read_overlap_file(folder.path() / "o.h5");
  EXPECT_TRUE(at::equal(back.best, curves.best));
  EXPECT_TRUE(at::equal(back.mask, curves.mask));
  EXPECT_FALSE(back.nulls.defined());  // as files of earlier versions

  const DenseEigenspace space(at::eye(9, at::kDouble).slice(1, 0, 5));
  curves.nulls = overlap_nulls(space, curves.mask, {{3, 3, 1}});
  write_overlap_file(folder.path() / "o.h5", curves, {.random_masks = 7, .seed = 3});
  const OverlapNulls nulls = finished_overlap(folder.path() / "o.h5").nulls;
  EXPECT_TRUE(at::equal(nulls.output_unit.deviation, curves.nulls.output_unit.deviation));
  EXPECT_TRUE(at::equal(nulls.two_way.sizes, curves.nulls.two_way.sizes));
  EXPECT_TRUE(at::equal(nulls.two_way.effective, curves.nulls.two_way.effective));
  EXPECT_SEIGH_ERROR(read_eigen_file(folder.path() / "o.h5"), "not a seigh decomposition");
}

TEST(Page, HoldsItsDataAndNoMarkup) {
  const test::TempFolder folder;
  write_report_page(folder.path() / "r.html", "a <b> & c", R"({"title": "</script><b>", "x": 1})");
  const std::string page = read_file(folder.path() / "r.html");
  EXPECT_NE(page.find("<title>a &lt;b&gt; &amp; c</title>"), std::string::npos);
  EXPECT_EQ(page.find("SEIGH:"), std::string::npos);
  EXPECT_EQ(page.find("</script><b>"), std::string::npos);
  EXPECT_NE(read_report_data(folder.path() / "r.html").find("\\u003c/script>"), std::string::npos);
  // Nothing is loaded from elsewhere.
  for (const char* remote : {"src=\"http", "href=\"http", "@import", "url(http"}) {
    EXPECT_EQ(page.find(remote), std::string::npos) << remote;
  }
  write_file(folder.path() / "other.html", "<html></html>");
  EXPECT_SEIGH_ERROR(read_report_data(folder.path() / "other.html"), "no report page");
}

}  // namespace
}  // namespace seigh
