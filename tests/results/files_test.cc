#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "seigh/eigen/dense.h"
#include "seigh/eigen/seigh.h"
#include "seigh/io/file.h"
#include "seigh/linop/matrix_operator.h"
#include "seigh/report/page.h"
#include "seigh/results/dynamics_file.h"
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
}

TEST(OverlapFile, ComesBackAsItWas) {
  const test::TempFolder folder;
  const fs::path path = folder.path() / "o.h5";
  OverlapStudy study;
  OverlapCurves& bare = study.masks.emplace_back().curves;
  for (at::Tensor OverlapCurves::*member :
       {&OverlapCurves::magnitude, &OverlapCurves::best, &OverlapCurves::chance})
    bare.*member = at::rand({5}, at::kDouble);
  bare.mask = at::arange(5);
  write_overlap_file(path, study, {.random_masks = 7, .seed = 3});
  EXPECT_TRUE(at::equal(read_overlap_file(path).masks[0].curves.best, bare.best));
  EXPECT_FALSE(finished_overlap(path).nulls.defined());  // as files of earlier versions

  const std::vector<UnitLayout> layouts{{3, 3, 1}};
  const DenseEigenspace space(at::eye(9, at::kDouble).slice(1, 0, 5));
  study.masks.clear();
  for (const char* score : {"magnitude", "a.npy"}) {
    OverlapStudy::Mask& mask = study.masks.emplace_back();
    mask.score = score;
    mask.population = "chosen";
    mask.curves = overlap_curves(space, at::rand({9}), layouts, {.random_masks = 5});
  }
  const at::Tensor scores = at::rand({9});
  const Anatomy found = anatomy(
      space, {{scores, &layouts, &study.masks[0].curves}, {scores, &layouts, &study.masks[1].curves}});
  study.space = found.space;
  study.masks[0].anatomy = found.masks[0];
  study.masks[1].anatomy = found.masks[1];
  study.tensors = {{"w", {3, 3}}};
  write_overlap_file(path, study, {.random_masks = 5, .seed = 3});
  const OverlapStudy back = finished_study(path);
  ASSERT_EQ(back.masks.size(), 2u);
  EXPECT_EQ(back.masks[1].label(), "a.npy@chosen");
  EXPECT_EQ(back.tensors[0].name, "w");
  EXPECT_TRUE(at::equal(back.space.energy, study.space.energy));
  for (size_t i = 0; i < 2; ++i) {
    const OverlapStudy::Mask &one = back.masks[i], &two = study.masks[i];
    EXPECT_TRUE(at::equal(one.curves.mask, two.curves.mask));
    EXPECT_EQ(one.curves.eligible, 9);
    EXPECT_TRUE(at::equal(one.curves.nulls.output_unit.deviation, two.curves.nulls.output_unit.deviation));
    EXPECT_TRUE(at::equal(one.curves.nulls.two_way.effective, two.curves.nulls.two_way.effective));
    EXPECT_EQ(one.curves.bands.input_unit.p, two.curves.bands.input_unit.p);
    EXPECT_TRUE(at::equal(one.anatomy.counts, two.anatomy.counts));
    EXPECT_TRUE(at::equal(one.anatomy.by_size_layer, two.anatomy.by_size_layer));
    EXPECT_EQ(one.anatomy.two_way.value, two.anatomy.two_way.value);
  }
  EXPECT_SEIGH_ERROR(read_eigen_file(path), "not a seigh decomposition");
}

// A symmetric map with its crystallisation, one of two splits, and a gradient, of three steps.
Dynamics some_dynamics() {
  Dynamics dynamics;
  dynamics.parameters = 1000;
  dynamics.matrix = "hessian";
  dynamics.method = "krylov";
  dynamics.notes = "one\ntwo\n";
  dynamics.made_from = "0123456789abcdef";
  DynamicsMaps train;
  train.name = "train";
  train.steps = {0, 10, 40};
  train.k = {5, 10};
  train.rho = {.005, .01};
  train.chance = {.005, .01};
  train.values = at::rand({2, 3, 3}, at::kDouble);
  Crystallisation passage = crystallisation(train.steps, at::tensor({.1, .6, 1.0}, at::kDouble), 2, .005);
  train.crystallisation = {{passage, passage}};
  DynamicsMaps both = train;
  both.name = "train_test";
  both.other_steps = {0, 10, 40, 50};
  both.values = at::rand({2, 3, 4}, at::kDouble);
  both.crystallisation = {};
  dynamics.maps = {train, both};
  dynamics.gradients = {{"train", {0, 40}, at::rand({2, 12}, at::kDouble)}};
  return dynamics;
}

TEST(DynamicsFile, RoundTrip) {
  const test::TempFolder folder;
  const Dynamics written = some_dynamics();
  write_dynamics_file(folder.path() / "d.h5", written);
  const Dynamics back = read_dynamics_file(folder.path() / "d.h5");
  EXPECT_EQ(back.parameters, 1000);
  EXPECT_EQ(back.matrix, "hessian");
  EXPECT_EQ(back.method, "krylov");
  EXPECT_EQ(back.other, "");
  EXPECT_EQ(back.notes, written.notes);
  EXPECT_EQ(back.made_from, written.made_from);
  ASSERT_EQ(back.maps.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(back.maps[i].name, written.maps[i].name);
    EXPECT_EQ(back.maps[i].steps, written.maps[i].steps);
    EXPECT_EQ(back.maps[i].other_steps, written.maps[i].other_steps);
    EXPECT_EQ(back.maps[i].k, written.maps[i].k);
    EXPECT_EQ(back.maps[i].rho, written.maps[i].rho);
    EXPECT_EQ(back.maps[i].chance, written.maps[i].chance);
    EXPECT_TRUE(at::equal(back.maps[i].values, written.maps[i].values));
  }
  EXPECT_TRUE(back.maps[0].symmetric());
  EXPECT_FALSE(back.maps[1].symmetric());
  ASSERT_EQ(back.maps[0].crystallisation.size(), 1u);
  ASSERT_EQ(back.maps[0].crystallisation[0].size(), 2u);
  const Crystallisation& passage = back.maps[0].crystallisation[0][1];
  EXPECT_EQ(passage.reference, 40);
  EXPECT_EQ(passage.similarity0, .1);
  ASSERT_EQ(passage.passages.size(), 3u);
  EXPECT_EQ(passage.passages[0].threshold, .5);
  EXPECT_EQ(passage.passages[0].step, 10);
  EXPECT_EQ(passage.passages[0].before, 0);
  EXPECT_FALSE(passage.passages[2].step.has_value());
  EXPECT_EQ(passage.passages[2].before, 10);
  ASSERT_EQ(back.gradients.size(), 1u);
  EXPECT_EQ(back.gradients[0].steps, written.gradients[0].steps);
  EXPECT_TRUE(at::equal(back.gradients[0].share, written.gradients[0].share));
}

TEST(DynamicsFile, WhatDoesNotFitIsRefused) {
  const test::TempFolder folder;
  const fs::path path = folder.path() / "d.h5";
  const auto refused = [&](const std::function<void(Dynamics&)>& spoil, const std::string& says) {
    Dynamics dynamics = some_dynamics();
    spoil(dynamics);
    write_dynamics_file(path, dynamics);
    EXPECT_SEIGH_ERROR(read_dynamics_file(path), "d.h5", says);
  };
  refused([](Dynamics& d) { d.maps[0].steps.pop_back(); }, "train_similarity has shape");
  refused([](Dynamics& d) { d.maps[1].other_steps.push_back(60); }, "train_test_similarity has shape");
  refused([](Dynamics& d) { d.maps[0].chance.pop_back(); }, "different numbers of sizes");
  refused([](Dynamics& d) { d.maps[0].values = d.maps[0].values.to(at::kFloat); }, "train_similarity");
  refused([](Dynamics& d) { d.gradients[0].steps.push_back(60); }, "train_gradient_share has shape");
  MatrixOperator op(kMatrix.matrix);
  write_eigen_file(path, info(), dense(op, 4).result, false);
  EXPECT_SEIGH_ERROR(read_dynamics_file(path), "d.h5", "no dynamics");
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
