#include "seigh/run/recipe.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "seigh/run/own_network.h"
#include "tests/support/expect_error.h"

namespace seigh {
namespace {

Recipe parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return parse_recipe(text, "folder/thing.toml", overrides);
}

TEST(Recipe, DefaultsAndTheNameOfTheFile) {
  const Recipe r = parse("");
  EXPECT_EQ(r.name, "thing");
  EXPECT_EQ(r.eigh.s, 2 * r.eigh.k);
  EXPECT_EQ(r.train.checkpoints, (std::vector<int64_t>{0, 1000}));
  EXPECT_EQ(r.curvature.steps, r.train.checkpoints);
}

TEST(Recipe, ANumberOfStepsMeansEveryNth) {
  const Recipe r = parse("[train]\nsteps = 250\ncheckpoints = 100\n[dense]\nsteps = [100]\n");
  EXPECT_EQ(r.train.checkpoints, (std::vector<int64_t>{0, 100, 200}));
  EXPECT_EQ(r.dense.steps, (std::vector<int64_t>{100}));
}

TEST(Recipe, IsReadBackUnchanged) {
  const Recipe r = parse(
      "[train]\nsteps = 250\ncheckpoints = 50\nlearning_rate = 0.1\n[curvature]\nsteps = [0, "
      "50]\n[dense]\nsteps = 50\n",
      {"eigh.k=7", "curvature.splits=[\"test\"]"});
  const Recipe back = parse_recipe(to_toml(r), "recipe.toml");
  EXPECT_TRUE(differences(r, back).empty()) << differences(r, back)[0];
  EXPECT_EQ(back.name, "thing");
  EXPECT_EQ(back.train.learning_rate, 0.1);
}

TEST(Recipe, OverridesWinAndABareWordIsAString) {
  const Recipe r = parse("[eigh]\nk = 5\n", {"eigh.k=6", "data.name=fashion-mnist", "eigh.vectors=false"});
  EXPECT_EQ(r.eigh.k, 6);
  EXPECT_EQ(r.data.name, "fashion-mnist");
  EXPECT_FALSE(r.eigh.vectors);
  EXPECT_SEIGH_ERROR(parse("", {"eigh.k"}), "expected KEY=VALUE");
  EXPECT_SEIGH_ERROR(parse("", {"eigh.kk=3"}), "unknown key");
}

TEST(Recipe, UnknownKeysNameLineAndNearestKey) {
  EXPECT_SEIGH_ERROR(parse("\n[eigh]\nkk = 3\n"),
                     "folder/thing.toml:3: unknown key \"eigh.kk\"; the nearest known key is \"eigh.k\"");
  EXPECT_SEIGH_ERROR(parse("[training]\nsteps = 3\n"), "\"train.steps\"");
  EXPECT_SEIGH_ERROR(parse("learning_rate = 3\n"), "\"train.learning_rate\"");
}

TEST(Recipe, WrongTypesAndValuesAreRefused) {
  EXPECT_SEIGH_ERROR(parse("[eigh]\nk = \"many\"\n"), "thing.toml:2: eigh.k must be an integer");
  EXPECT_SEIGH_ERROR(parse("[eigh]\nk = 2.5\n"), "eigh.k must be an integer");
  EXPECT_SEIGH_ERROR(parse("[eigh]\nvectors = 1\n"), "true or false");
  EXPECT_SEIGH_ERROR(parse("[eigh]\nk = 9\ns = 8\n"), "eigh.s must be at least eigh.k: s = 8, k = 9");
  EXPECT_SEIGH_ERROR(parse("[eigh]\nk = 0\n"), "eigh.k must be at least 1");
  EXPECT_SEIGH_ERROR(parse("[train]\nsteps = 10\ncheckpoints = [11]\n"), "outside 0..10");
  EXPECT_SEIGH_ERROR(parse("[curvature]\nsteps = [5]\n"), "not among train.checkpoints");
  EXPECT_SEIGH_ERROR(parse("[curvature]\nsplits = [\"tests\"]\n"), "\"tests\" is none of");
  EXPECT_SEIGH_ERROR(parse("[train]\ncheckpoints = 0\n"), "at least 1");
  EXPECT_SEIGH_ERROR(parse("[eigh\n"), "thing.toml:1:");
  EXPECT_SEIGH_ERROR(load_recipe("/nowhere/x.toml"), "/nowhere/x.toml");
}

TEST(Recipe, FilesOfOnesOwnStartAtTheRecipeAndThoseOfSetAtTheCurrentFolder) {
  const Recipe r = parse_recipe(
      "[model]\nmodule = \"net.pt\"\nweights = \"../w/{step:04}.safetensors\"\n[data]\nx = \"d.h5:in\"\n"
      "[train]\nloss = \"l.pt\"\ncheckpoints = [0, 70]\n",
      "/home/me/thing.toml", {"data.y=y.npy"});
  EXPECT_EQ(r.model.module, "/home/me/net.pt");
  EXPECT_EQ(r.train.loss, "/home/me/l.pt");
  EXPECT_EQ(r.data.x, "/home/me/d.h5:in");
  EXPECT_EQ(r.data.y, (std::filesystem::current_path() / "y.npy").string());
  EXPECT_EQ(weights_file(r, 70), "/home/w/0070.safetensors");
  EXPECT_EQ(r.train.steps, 70);
  EXPECT_EQ(r.curvature.splits, std::vector<std::string>{"train"});
  EXPECT_TRUE(brings_weights(r));
  EXPECT_TRUE(differences(r, parse_recipe(to_toml(r), "/elsewhere/recipe.toml")).empty());

  const Recipe own = parse("[model]\nmodule = \"net.pt\"\n");
  EXPECT_EQ(own.train.checkpoints, std::vector<int64_t>{0});
  EXPECT_TRUE(brings_weights(own));
  EXPECT_EQ(own.curvature.splits.size(), 2U);  // a data set known by name
  EXPECT_FALSE(brings_weights(parse("[model]\nmodule = \"net.pt\"\n[train]\nsteps = 5\n")));
}

TEST(Recipe, DifferencesNameTheKey) {
  EXPECT_EQ(differences(parse("[eigh]\nk = 5\ns = 10"), parse("[eigh]\nk = 6\ns = 10")),
            std::vector<std::string>{"eigh.k: 5 / 6"});
}

TEST(Recipe, TheReferenceDescribesEveryKeyOfTheResolvedRecipe) {
  const std::string reference = recipe_reference();
  for (const char* key : {"data.name", "eigh.vectors", "overlap.random_masks", "seed"}) {
    EXPECT_NE(reference.find(key), std::string::npos) << key;
  }
}

}  // namespace
}  // namespace seigh
