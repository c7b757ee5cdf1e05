// The stages of a run. Each does what is missing in the run folder and leaves finished files alone, so each
// can be repeated, and a run that was stopped anywhere continues where it was.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "seigh/base/progress.h"
#include "seigh/eigen/result.h"
#include "seigh/problem/checkpoint.h"
#include "seigh/problem/dataset.h"
#include "seigh/problem/loss.h"
#include "seigh/problem/model.h"
#include "seigh/problem/subset.h"
#include "seigh/run/run_folder.h"

namespace seigh {

class Run {
 public:
  /// Builds the network and checks the recipe's sizes against it. Data are loaded when first needed, from
  /// `data_folder` as in MnistOptions.
  Run(RunFolder folder, const std::filesystem::path& data_folder, Progress& progress = silent_progress());

  /// What can be known of a recipe without data and folder: does it fit its network? Throws Error.
  static void check(const Recipe& recipe);
  /// Checkpoints.
  void train();
  /// Decompositions of every checkpoint, split and method. Throws Error when checkpoints are missing.
  void eigh();
  /// Overlap curves of every decomposition. Throws Error when decompositions or their eigenvectors are
  /// missing.
  void overlap();
  /// report.html from what is there.
  void report();
  /// The result in words: a heading and one line per step.
  std::vector<std::string> headline() const;

  const RunFolder& folder() const { return folder_; }

 private:
  static void check(const Recipe& recipe, const ParameterSubset& subset, const Loss& loss);
  struct Decomposition;  // one (step, split, method)
  std::vector<Decomposition> decompositions() const;
  const DataSplits& data();
  const Dataset& split(const std::string& name);
  void decompose(int64_t step, const std::string& split_name, const Checkpoint& checkpoint);
  void tell(const std::vector<std::string>& notes);
  void write_overlap(const Decomposition& d, const Eigenvectors& vectors, const Checkpoint& checkpoint);

  RunFolder folder_;
  std::filesystem::path data_folder_;
  std::optional<DataSplits> data_;
  std::unique_ptr<Model> model_;
  ParameterSubset subset_;  // which the matrices are over
  Loss loss_;
  Progress& progress_;
  std::set<std::string> told_;  // notes that the user has had
};

}  // namespace seigh
