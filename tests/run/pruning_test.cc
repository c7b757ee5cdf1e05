// Masks that prune: how many, which, and of which tensors; the table of results as a file and in words.
#include "seigh/run/pruning.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "seigh/io/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace seigh {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<UnitLayout> layouts() {
  std::vector<UnitLayout> all = unit_layouts({{"a.weight", {4, 5}}, {"a.bias", {4}}, {"b.weight", {3, 4}}});
  all[1].eligible = false;
  return all;
}
constexpr int64_t kAll = 36, kPrunable = 32;

ScoreInputs inputs_of(const at::Tensor& theta) {
  ScoreInputs inputs;
  inputs.parameters = theta;
  return inputs;
}

std::vector<int64_t> indices(const at::Tensor& mask) {
  const at::Tensor found = mask.nonzero().flatten();
  return {found.data_ptr<int64_t>(), found.data_ptr<int64_t>() + found.numel()};
}

TEST(Pruning, KeepsTheNearestWholeNumber) {
  EXPECT_EQ(kept_of(100, 0.9), 10);  // 1 - 0.9 is not quite 0.1
  EXPECT_EQ(kept_of(172, 0.5), 86);
  EXPECT_EQ(kept_of(172, 0.99), 2);
  EXPECT_EQ(kept_of(3, 0.9), 0);
}

TEST(Pruning, RemovesTheLastOfTheOrderAndNothingElse) {
  // Magnitudes 1, 1, 2, 2, ...: every cut may meet a tie, which the lower index wins.
  const at::Tensor theta = at::arange(kAll, at::kDouble).div(2, "floor").add(1).mul(-1);
  const PruningRow row{.step = 1, .score = "magnitude"};
  const at::Tensor order = pruning_order(row, kPrunable, inputs_of(theta), layouts(), 7, Context());
  ASSERT_EQ(order.numel(), kPrunable);
  for (int64_t kept = 0; kept <= kPrunable; ++kept) {
    std::vector<std::pair<double, int64_t>> ranked;  // by hand
    for (int64_t i = 0; i < kAll; ++i)
      if (i < 20 || i >= 24) ranked.emplace_back(-std::abs(theta[i].item<double>()), i);
    std::sort(ranked.begin(), ranked.end());
    std::vector<int64_t> expected;
    for (size_t i = static_cast<size_t>(kept); i < ranked.size(); ++i) expected.push_back(ranked[i].second);
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(indices(pruned_by(order, kept, layouts())), expected) << kept;
  }
}

TEST(Pruning, AControlKeepsAsManyOfEachTensorAtOtherPlaces) {
  const at::Tensor theta = at::sin(at::arange(kAll, at::kDouble) * 5);
  const ScoreInputs inputs = inputs_of(theta);
  PruningRow row{.step = 1, .score = "magnitude"};
  const at::Tensor order = pruning_order(row, 12, inputs, layouts(), 7, Context());
  row.control = true;
  std::vector<std::vector<int64_t>> seen;
  for (row.draw = 0; row.draw < 3; ++row.draw) {
    const at::Tensor control = pruning_order(row, 12, inputs, layouts(), 7, Context());
    for (const int64_t kept : {3, 7, 12}) {
      const at::Tensor mine = pruned_by(control, kept, layouts()), score = pruned_by(order, kept, layouts());
      for (const auto& [begin, end] : {std::pair(0, 20), std::pair(20, 24), std::pair(24, 36)})
        EXPECT_EQ(mine.slice(0, begin, end).sum().item<int64_t>(),
                  score.slice(0, begin, end).sum().item<int64_t>());
      EXPECT_EQ(mine.sum().item<int64_t>(), kPrunable - kept);
    }
    seen.push_back(indices(pruned_by(control, 12, layouts())));
  }
  // Of some 10^7 masks.
  EXPECT_NE(seen[0], seen[1]);
  EXPECT_NE(seen[1], seen[2]);
  EXPECT_NE(seen[0], indices(pruned_by(order, 12, layouts())));
}

TEST(Pruning, DrawsOfARandomScoreDiffer) {
  const at::Tensor theta = at::sin(at::arange(kAll, at::kDouble) * 5);
  for (const char* score : {"random", "random_by_layer"}) {
    std::vector<std::vector<int64_t>> seen;
    for (int64_t draw = 0; draw < 3; ++draw) {
      const at::Tensor order = pruning_order({.step = 1, .score = score, .draw = draw}, 12, inputs_of(theta),
                                             layouts(), 7, Context());
      seen.push_back(indices(pruned_by(order, 12, layouts())));
      EXPECT_EQ(seen.back().size(), static_cast<size_t>(kPrunable - 12));
    }
    EXPECT_NE(seen[0], seen[1]);
    EXPECT_NE(seen[1], seen[2]);
  }
}

TEST(Pruning, SpreadsOverTheTensorsThatAreChosen) {
  const std::vector<ParameterSpec> all{{"a.weight", {2, 2}}, {"a.bias", {2}}, {"b.weight", {1, 2}}};
  const ParameterSubset some = select_parameters(all, {"*.weight"});
  const at::Tensor flat = at::arange(1, 7, at::kDouble);
  EXPECT_TRUE(at::equal(some.spread(all, flat), at::tensor({1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 5.0, 6.0})));
  EXPECT_TRUE(at::equal(some.gather(all, some.spread(all, flat)), flat));
}

Recipe recipe(const std::string& prune) {
  return parse_recipe("[train]\nsteps = 20\ncheckpoints = 10\n" + prune, "r.toml");
}

TEST(Pruning, WhatMayBePruned) {
  const auto count = [](const Recipe& r, const std::vector<ParameterSpec>& specs) {
    return eligible_count(prunable(r, select_parameters(specs, {})));
  };
  const std::vector<ParameterSpec> plain{{"a.weight", {4, 5}}, {"a.bias", {4}}},
      with_norms{{"a.weight", {4, 5}}, {"a.bias", {4}}, {"bn.weight", {4}}, {"bn.bias", {4}}};
  EXPECT_EQ(count(recipe(""), plain), 24);
  EXPECT_EQ(count(recipe(""), with_norms), 20);
  EXPECT_EQ(count(recipe("[overlap]\nparameters = [\"*.bias\"]\n"), with_norms), 8);
}

TEST(Pruning, RowsOfARecipe) {
  EXPECT_TRUE(pruning_rows(recipe("")).empty());
  const Recipe r = recipe(
      "[prune]\nscores = [\"magnitude\", \"random\"]\nsparsities = [0.9, 0.5]\ndraws = 2\n"
      "steps = 10\n");
  const std::vector<PruningRow> rows = pruning_rows(r);
  ASSERT_EQ(rows.size(), 3 * (1 + 2 + 2 * 2 + 2 * 2u));  // steps 0, 10, 20
  EXPECT_EQ(rows[0].score, "none");
  EXPECT_EQ(rows[1].sparsity, 0.5);
  EXPECT_EQ(recipe("[prune]\nscores = [\"magnitude\"]\n").prune.steps, std::vector<int64_t>{20});
  std::vector<PruningRow> there(rows.begin() + 2, rows.end());
  EXPECT_EQ(missing_rows(r, there).size(), 2u);
  EXPECT_EQ(missing_rows(r, {}).size(), rows.size());
  EXPECT_TRUE(missing_rows(r, rows).empty());
}

std::vector<PruningRow> some_rows() {
  return {{.step = 5, .score = "none", .prunable = 10, .kept = 10, .accuracy = 0.75, .loss = 0.1},
          {.step = 5,
           .score = "snip",
           .sparsity = 0.9,
           .prunable = 10,
           .kept = 1,
           .accuracy = 1.0 / 3,
           .loss = 2,
           .tuned_accuracy = 0.5,
           .tuned_loss = 1e-300},
          {.step = 5,
           .score = "snip",
           .sparsity = 0.9,
           .control = true,
           .draw = 0,
           .prunable = 10,
           .kept = 1,
           .accuracy = 0.25,
           .loss = 3,
           .tuned_accuracy = kNan},
          {.step = 5,
           .score = "snip",
           .sparsity = 0.9,
           .control = true,
           .draw = 1,
           .prunable = 10,
           .kept = 1,
           .accuracy = 0.5,
           .loss = 3,
           .tuned_accuracy = kNan}};
}

TEST(PruningFile, ComesBackAsItWas) {
  const test::TempFolder folder;
  const fs::path path = folder.path() / "pruning.csv";
  write_pruning_file(path, {"seed = 3\ntrain.loss = \"a,b\"\n", some_rows()});
  const PruningFile file = read_pruning_file(path);
  EXPECT_EQ(file.recipe, "seed = 3\ntrain.loss = \"a,b\"\n");
  ASSERT_EQ(file.rows.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    const PruningRow &a = file.rows[i], b = some_rows()[i];
    EXPECT_TRUE(a.same_mask(b));
    EXPECT_EQ(a.kept, b.kept);
    EXPECT_EQ(a.prunable, b.prunable);
    EXPECT_EQ(a.accuracy, b.accuracy);
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_TRUE(a.tuned_loss == b.tuned_loss || (std::isnan(a.tuned_loss) && std::isnan(b.tuned_loss)));
  }
  EXPECT_EQ(file.rows[1].tuned_loss, 1e-300);
  const std::vector<std::string> table = pruning_table(file.rows);
  ASSERT_EQ(table.size(), 6u);
  EXPECT_EQ(table[0], "step 5: test accuracy by share of parameters pruned; of none 0.75, fine-tuned nan");
  EXPECT_NE(table[2].find("0.3333"), std::string::npos) << table[2];
  EXPECT_NE(table[3].find("0.5000"), std::string::npos) << table[3];
  EXPECT_NE(table[4].find("0.3750"), std::string::npos) << table[4];  // the mean of two draws
}

TEST(PruningFile, SaysWhereItIsDamaged) {
  const test::TempFolder folder;
  const fs::path path = folder.path() / "pruning.csv";
  write_pruning_file(path, {"seed = 3\n", some_rows()});
  const std::string good = read_file(path);
  EXPECT_SEIGH_ERROR((write_file(path, "x" + good), read_pruning_file(path)), "pruning.csv",
                     "delete the file");
  EXPECT_SEIGH_ERROR((write_file(path, good.substr(0, good.size() - 9)), read_pruning_file(path)),
                     "no line of results", "delete the file");
  EXPECT_SEIGH_ERROR((write_file(path, "# seigh pruning 1\n# seed = 3\n"), read_pruning_file(path)),
                     "columns");
  EXPECT_SEIGH_ERROR((write_file(path, good + "5,snip,1.5,0,0,1,1,1,1,1,1\n"), read_pruning_file(path)),
                     "1.5");
}

}  // namespace
}  // namespace seigh
