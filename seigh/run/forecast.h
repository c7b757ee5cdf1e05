// What a run would do and what it would cost, without doing it (seigh run --dry-run).
//
// What there is to do follows from the recipe and the folder; products, memory and disk from EighPlan. Times
// are measured: some steps of the training, one block of products of each kind and the algebra on blocks of
// that size, at parameters that are there or else at the initial ones; then scaled. What grows otherwise
// (cache misses of larger matrices, a tolerance reached early) makes them a rough guide.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/filesystem.h"
#include "seigh/eigen/eigh.h"
#include "seigh/recipe/recipe.h"
#include "seigh/results/inventory.h"
#include "seigh/run/plan.h"

namespace seigh {

struct Forecast {
  fs::path folder;
  bool there = false;       ///< whether it holds a run already
  std::vector<Item> items;  ///< its results, held against the recipe

  std::string network;  ///< in words
  int64_t parameters = 0;
  bool trained = true;  ///< false: parameters come from files
  std::vector<Stretch> training;
  RunPlan plan;
  std::vector<Decomposition> decompositions;  ///< those to be made
  int64_t overlaps = 0;                       ///< curves to be made
  int64_t pruned = 0, fine_tuning = 0;        ///< masks to be tried, steps of training after each
  bool adaptive = false;                      ///< products are the most there may be
  EighPlan solver, exact;                     ///< of one of them each
  int64_t available_memory = 0, measured_memory = 0;
  std::string device = "cpu";
  int64_t available_on_device = 0, measured_on_device = 0;  ///< 0: not known
  int64_t disk = 0, meanwhile = 0, free_disk = 0;  ///< bytes: of results to come, of unfinished ones, free

  /// Why there are no times: the data are not there, or are refused.
  std::string obstacle;
  struct Seconds {
    double step = 0, accuracy = 0;  ///< of the training: a step, the accuracy of one checkpoint
    /// Of the recipe's method: one product, the check of the matrix, and all beside them.
    double product = 0, check = 0, algebra = 0;
    double exact_product = 0, exact_check = 0, exact_algebra = 0;
    double overlap = 0;  ///< of one decomposition
  };
  std::optional<Seconds> seconds;

  double training_seconds() const;
  double solver_seconds() const;  ///< of one decomposition
  double exact_seconds() const;
  double all_seconds() const;
  /// For people, a line each.
  std::vector<std::string> lines() const;
};

/// For this process alone, whatever ranks there are; on context.device(). Writes nothing. Throws Error where
/// the run would be refused before it needs data.
Forecast forecast(const fs::path& folder, const Recipe& recipe, const fs::path& data_folder,
                  const Context& context = Context());

}  // namespace seigh
