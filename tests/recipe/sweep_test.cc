#include "seigh/recipe/sweep.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "seigh/core/filesystem.h"
#include "tests/support/expect_error.h"

namespace seigh {
namespace {

using Names = std::vector<std::string>;

Sweep parse(const std::string& text, const Names& overrides = {}) {
  return parse_sweep(text, "folder/thing.toml", overrides);
}

Names folders(const Sweep& sweep) {
  Names names;
  for (const SweepRun& run : sweep.runs) names.push_back(run.folder);
  return names;
}

TEST(Sweep, SeedsAlone) {
  const Sweep sweep = parse("seed = 7\n[sweep]\nseeds = 3\n");
  EXPECT_EQ(folders(sweep), (Names{"base-seed-7", "base-seed-8", "base-seed-9"}));
  EXPECT_EQ(sweep.runs[2].recipe.seed, 9);
  EXPECT_EQ(sweep.runs[2].recipe.name, "thing: base, seed 9");
  EXPECT_EQ(sweep.base, "base");
  EXPECT_EQ(folders(parse("[sweep]\nseeds = [5, 2]\n")), (Names{"base-seed-5", "base-seed-2"}));
  EXPECT_EQ(folders(parse("seed = 1\n", {"sweep.seeds=2"})), (Names{"base-seed-1", "base-seed-2"}));
}

TEST(Sweep, OneFactorAtATimeAroundTheRecipe) {
  const Sweep sweep = parse(
      "seed = 1\n[train]\nlearning_rate = 0.3\n[sweep]\nseeds = 2\nkey = \"train.learning_rate\"\n"
      "values = [0.1, 0.3, 1]\n[[sweep.factors]]\nkey = \"model.hidden\"\nvalues = [[20, 20], [7]]\n");
  EXPECT_EQ(sweep.variants,
            (Names{"base", "learning_rate=0.1", "learning_rate=1", "hidden=[20, 20]", "hidden=[7]"}));
  ASSERT_EQ(sweep.runs.size(), 10U);
  EXPECT_EQ(sweep.runs[1].folder, "learning_rate=0.1-seed-1");
  EXPECT_EQ(sweep.runs[1].recipe.train.learning_rate, .1);
  EXPECT_EQ(sweep.runs[1].overrides, (Names{"train.learning_rate = 0.1"}));
  EXPECT_EQ(sweep.runs[3].folder, "hidden=-20-20-seed-1");
  EXPECT_EQ(sweep.runs[3].recipe.train.learning_rate, .3);
  EXPECT_EQ(sweep.runs[9].recipe.model.hidden, (std::vector<int64_t>{7}));
  EXPECT_EQ(sweep.runs[9].recipe.seed, 2);
}

TEST(Sweep, StepsFollowEachVariant) {
  const Sweep sweep =
      parse("[train]\nsteps = 20\ncheckpoints = 10\n[sweep]\nkey = \"train.steps\"\nvalues = [40]\n");
  EXPECT_EQ(sweep.runs[1].recipe.train.checkpoints, (std::vector<int64_t>{0, 10, 20, 30, 40}));
}

TEST(Sweep, VariantsAndSubsets) {
  const std::string text =
      "[[sweep.variants]]\nname = \"a wide one\"\nset = { \"model.hidden\" = [50], train.steps = 10 }\n"
      "[[sweep.variants]]\nname = \"relu/2\"\nset = { model = { activation = \"relu\" } }\n";
  const Sweep sweep = parse("[sweep]\nsubsets = 2\n" + text);
  EXPECT_EQ(sweep.base, "");
  EXPECT_EQ(folders(sweep), (Names{"a-wide-one-seed-12345", "a-wide-one-seed-12345-subset-1",
                                   "relu-2-seed-12345", "relu-2-seed-12345-subset-1"}));
  EXPECT_EQ(sweep.runs[1].recipe.curvature.subset, 1);
  EXPECT_EQ(sweep.runs[1].recipe.train.steps, 10);
  EXPECT_EQ(sweep.runs[2].recipe.model.activation, "relu");
  EXPECT_EQ(sweep.runs[3].label(sweep.subsets), "relu/2, seed 12345, subset 1");
  EXPECT_EQ(sweep.runs[3].recipe.name, "thing: relu-2, seed 12345, subset 1");
  EXPECT_EQ(parse("[sweep]\nbase = true\n" + text).variants, (Names{"base", "a wide one", "relu/2"}));
}

// What a variant changes decides nothing of the training where only the curvature is another's.
TEST(Sweep, RunsThatShareTheirTraining) {
  const Sweep sweep = parse("[sweep]\nsubsets = 2\nkey = \"eigh.k\"\nvalues = [5]\nat_loss = 0.5\n");
  ASSERT_EQ(sweep.runs.size(), 4U);
  for (const SweepRun& run : sweep.runs)
    EXPECT_EQ(record(run.recipe, Stage::train), record(sweep.runs[0].recipe, Stage::train));
  EXPECT_NE(record(sweep.runs[1].recipe, Stage::eigh), record(sweep.runs[0].recipe, Stage::eigh));
  EXPECT_EQ(sweep.at_loss, .5);
}

TEST(Sweep, TheTextReadsBackAsTheSameRuns) {
  const Sweep sweep = parse(
      "[data]\nx = \"x.npy\"\n[model]\nmodule = \"net.pt\"\n[train]\nsteps = 30\ncheckpoints = \"log\"\n"
      "learning_rate = 0.1\n[sweep]\nseeds = 2\nkey = \"data.x\"\nvalues = [\"other/x.npy\"]\n"
      "[[sweep.variants]]\nname = \"\\\"q\\\"\"\nset = { \"model.module\" = \"b.pt\", eigh.tolerance = 1e-3 "
      "}\n",
      {"eigh.k=7", "sweep.subsets=2", "train.learning_rate=0.30000000000000004"});
  const Sweep again = parse_sweep(sweep.text, "elsewhere/recipe.toml");
  EXPECT_EQ(again.name, "thing");
  EXPECT_EQ(again.text, sweep.text);
  EXPECT_EQ(folders(again), folders(sweep));
  ASSERT_EQ(again.runs.size(), 12U);
  for (size_t i = 0; i < sweep.runs.size(); ++i) {
    EXPECT_EQ(to_toml(again.runs[i].recipe), to_toml(sweep.runs[i].recipe)) << i;
    EXPECT_EQ(again.runs[i].recipe.eigh.k, 7);
  }
  const std::string here = fs::absolute("folder").string();
  EXPECT_EQ(again.runs[2].variant, "x=other/x.npy");
  EXPECT_EQ(again.runs[2].recipe.data.x, here + "/other/x.npy");
  EXPECT_EQ(again.runs[4].recipe.model.module, here + "/b.pt");
  EXPECT_EQ(again.runs[0].recipe.train.learning_rate, 0.30000000000000004);
}

TEST(Sweep, OrdinaryRecipesAreNone) {
  EXPECT_SEIGH_ERROR(parse_recipe("[sweep]\nseeds = 2\n", "r.toml"), "r.toml", "[sweep]", "seigh run");
  EXPECT_SEIGH_ERROR(parse_recipe("", "r.toml", {"sweep.seeds=2"}), "--set sweep.seeds=2", "seigh run");
}

TEST(Sweep, WhatIsWrongIsNamed) {
  const auto wrong = [](const std::string& text) { return parse("[sweep]\n" + text); };
  EXPECT_SEIGH_ERROR(wrong("seed = 3\n"), "thing.toml:2", "unknown key \"sweep.seed\"", "sweep.seeds");
  EXPECT_SEIGH_ERROR(wrong("seeds = 0\n"), "thing.toml:2", "between 1 and", "not 0");
  EXPECT_SEIGH_ERROR(wrong("seeds = 1.5\n"), "sweep.seeds", "1.5");
  EXPECT_SEIGH_ERROR(wrong("seeds = []\n"), "sweep.seeds", "of 0");
  EXPECT_SEIGH_ERROR(wrong("seeds = [1, 1]\n"), "1 twice");
  EXPECT_SEIGH_ERROR(wrong("seeds = [-1]\n"), "-1");
  EXPECT_SEIGH_ERROR(wrong("seeds = [\"a\\u001b\"]\n"), "not a\\x1b");
  EXPECT_SEIGH_ERROR(wrong("subsets = 1000000\n"), "sweep.subsets", "1000000");
  EXPECT_SEIGH_ERROR(wrong("seeds = 500\nsubsets = 500\n"), "more than 10000 runs");
  EXPECT_SEIGH_ERROR(wrong("at_loss = nan\n"), "sweep.at_loss");
  EXPECT_SEIGH_ERROR(wrong("base = 1\n"), "true or false");
  EXPECT_SEIGH_ERROR(wrong("base = false\n"), "leaves no runs");
  EXPECT_SEIGH_ERROR(wrong("key = \"train.steps\"\n"), "train.steps", "needs values");
  EXPECT_SEIGH_ERROR(wrong("values = [1]\n"), "needs key");
  EXPECT_SEIGH_ERROR(wrong("key = 3\nvalues = [1]\n"), "needs key");
  EXPECT_SEIGH_ERROR(wrong("key = \"train.steps\"\nvalues = []\n"), "at least one");
  EXPECT_SEIGH_ERROR(wrong("key = \"train.learning_rat\"\nvalues = [1]\n"), "thing.toml:3",
                     "train.learning_rat", "nearest known key is \"train.learning_rate\"");
  EXPECT_SEIGH_ERROR(wrong("key = \"train.learning_rate\"\nvalues = [0.1, \"x\"]\n"), "must be a number");
  EXPECT_SEIGH_ERROR(wrong("key = \"train.learning_rate\"\nvalues = [0.1, { a = 1 }]\n"), "thing.toml:3");
  EXPECT_SEIGH_ERROR(wrong("key = \"train.learning_rate\"\nvalues = [0.1, 0.1]\n"), "two variants",
                     "learning_rate=0.1");
  EXPECT_SEIGH_ERROR(wrong("key = \"model.patch\"\nvalues = [2, 8]\n"), "no value of model.patch changes");
  EXPECT_SEIGH_ERROR(wrong("key = \"train.learning_rate\"\nvalues = [0.3]\n"), "no value of");
  EXPECT_SEIGH_ERROR(wrong("key = \"seed\"\nvalues = [1, 2]\n"), "sweep.seeds");
  EXPECT_SEIGH_ERROR(wrong("key = \"curvature.subset\"\nvalues = [1]\n"), "sweep.subsets");
  EXPECT_SEIGH_ERROR(wrong("key = \"sweep.seeds\"\nvalues = [1]\n"), "nest");
  EXPECT_SEIGH_ERROR(wrong("factors = 3\n"), "[[sweep.factors]]");
  EXPECT_SEIGH_ERROR(wrong("variants = [1]\n"), "[[sweep.variants]]");
  const auto named = [](const std::string& name, const std::string& more = "set = { \"eigh.k\" = 5 }\n") {
    return parse("[[sweep.variants]]\nname = " + name + "\n" + more);
  };
  EXPECT_SEIGH_ERROR(named("\"a\"", ""), "\"a\"", "needs set");
  EXPECT_SEIGH_ERROR(named("\"a\"", "set = { \"eigh.k\" = 5 }\nvalues = [1]\n"), "unknown key \"values\"");
  EXPECT_SEIGH_ERROR(named("\"a\"", "set = { \"eigh.kk\" = 5 }\n"), "eigh.kk",
                     "nearest known key is \"eigh.k\"");
  EXPECT_SEIGH_ERROR(named("3"), "needs a name");
  EXPECT_SEIGH_ERROR(named("\"\""), "needs a name");
  EXPECT_SEIGH_ERROR(named("\"a\\u0007b\""), "printable", "a\\x07b");
  EXPECT_SEIGH_ERROR(named("\"" + std::string(101, 'a') + "\""), "at most 100");
  EXPECT_SEIGH_ERROR(named("\"a/b\"",
                           "set = { \"eigh.k\" = 5 }\n[[sweep.variants]]\nname = \"a b\"\n"
                           "set = { \"eigh.k\" = 6 }\n"),
                     "\"a/b\" and \"a b\"", "the same folder, a-b");
  EXPECT_SEIGH_ERROR(named("\"a\"",
                           "set = { \"eigh.k\" = 5 }\n[[sweep.variants]]\nname = \"a\"\n"
                           "set = { \"eigh.k\" = 6 }\n"),
                     "two variants \"a\"");
  EXPECT_SEIGH_ERROR(
      parse("[sweep]\nbase = true\n[[sweep.variants]]\nname = \"base\"\nset = { \"eigh.k\" = 5 }\n"),
      "\"base\" is the name of the recipe itself");
  EXPECT_SEIGH_ERROR(parse("[sweep]\nkey = \"train.steps\"\nvalues = [5]\n[curvature]\nsteps = [1000]\n"),
                     "step 1000");
}

TEST(Sweep, FoldersArePlainFileNames) {
  for (const std::string name : {"../../etc", ".hidden", "a b", "日本", "-x", "x/../../y", "..."}) {
    const Sweep sweep = parse("[[sweep.variants]]\nname = \"" + name + "\"\nset = { \"eigh.k\" = 5 }\n");
    const std::string folder = sweep.runs[0].folder;
    EXPECT_EQ(folder.find('/'), std::string::npos) << folder;
    EXPECT_NE(folder.front(), '.') << folder;
    EXPECT_NE(folder.front(), '-') << folder;
    EXPECT_TRUE(std::all_of(folder.begin(), folder.end(), [](char c) { return 32 < c; })) << folder;
    EXPECT_EQ(sweep.runs[0].variant, name);
  }
}

TEST(Sweep, TenThousandRuns) {
  std::string values;
  for (int i = 1; i < 10'000; ++i) values += std::to_string(i) + ", ";
  EXPECT_EQ(parse("[sweep]\nkey = \"eigh.k\"\nvalues = [" + values + "]\n").runs.size(),
            9999U);  // 100 is the base's
  EXPECT_SEIGH_ERROR(parse("[sweep]\nkey = \"eigh.k\"\nvalues = [" + values + "10000, 10001]\n"),
                     "at most 10000");
}

}  // namespace
}  // namespace seigh
