// The stages of a run. Each does what is missing in the run folder and leaves finished files alone, so each
// can be repeated, and a run that was stopped anywhere continues where it was.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/core/filesystem.h"
#include "seigh/curvature/curvature.h"
#include "seigh/data/dataset.h"
#include "seigh/eigen/result.h"
#include "seigh/linop/linear_operator.h"
#include "seigh/nn/loss.h"
#include "seigh/nn/model.h"
#include "seigh/nn/subset.h"
#include "seigh/overlap/scores.h"
#include "seigh/results/dynamics_file.h"
#include "seigh/results/eigen_file.h"
#include "seigh/results/pruning_file.h"
#include "seigh/results/run_folder.h"
#include "seigh/run/foreign.h"
#include "seigh/run/plan.h"
#include "seigh/train/checkpoint.h"

namespace seigh {

/// Of work that the root did for all ranks: every rank throws it, so that they may go on together.
class SharedError : public Error {
 public:
  using Error::Error;
};

/// What the root does alone, as all ranks see it: they wait for it, and where it throws Error they all throw
/// SharedError (one process alone: the error itself).
void by_root(const Context& context, const std::function<void()>& body);

class Run {
 public:
  /// Builds the network and checks the recipe's sizes against it. What takes the network is computed on
  /// context.device(), which is for the caller to set (Context::on()). Data are loaded when first needed,
  /// from `data_folder` as in MnistOptions. `foreign`: of a recipe whose network is elsewhere
  /// (make_foreign()); without it, only what needs no network can be done.
  Run(RunFolder folder, const fs::path& data_folder, const Context& context = Context(),
      std::shared_ptr<const Foreign> foreign = {});

  /// What can be known of a recipe without data and folder: does it fit its network, is its device there?
  /// Throws Error.
  static void check(const Recipe& recipe, const Foreign* foreign = nullptr);
  /// Checkpoints.
  void train();
  /// Decompositions of every checkpoint, split and method; `after_step` is called when those of a step are
  /// there. Throws Error when checkpoints are missing.
  void eigh(const std::function<void(int64_t step)>& after_step = {});
  /// Products alone, of the shards whose number leaves the remainder `part` when divided by `parts`; several
  /// processes may do so in one folder. Throws Error unless the method is seigh.
  void measure(int64_t part = 0, int64_t parts = 1);
  /// Decompositions from the products measured so far, be they fewer than planned; one line about each.
  std::vector<std::string> recover();
  /// Reads all measurements through, and measures so many columns of each matrix anew, at random: one line
  /// for everything that is damaged. With `repair`, damaged shards are removed, to be measured again.
  std::vector<std::string> verify(int64_t columns, bool repair);
  /// The matrix of a checkpoint (none named: the last of curvature.steps) over a split (none: the first of
  /// curvature.splits), checked as before a decomposition, for `body`, with what it is of. `reserve`: bytes
  /// to leave to body. All ranks apply it together. Throws Error when there is no such checkpoint.
  void with_matrix(std::optional<int64_t> step, const std::string& split, int64_t reserve,
                   const std::function<void(LinearOperator&, const EigenFileInfo&)>& body);
  /// Overlap curves of every decomposition, or of those of one step. Throws Error when decompositions or
  /// their eigenvectors are missing.
  void overlap(std::optional<int64_t> step = {});
  /// Pruned networks on the test data, those of the recipe that RUN/pruning.csv lacks, each kept there as
  /// soon as it is known. Nothing without prune.scores. Throws Error when what scores are made of is missing.
  void prune();
  /// Its results as a table; empty without prune.scores.
  std::vector<std::string> pruning() const;
  /// The data of the report page, from what is there: JSON (web/README.md).
  std::string page_data() const;
  /// dynamics.h5 from what is there, unless that is what it is of. Without `whatever_it_takes` only where it
  /// takes little (DynamicsCost::cheap()), and there are two steps; a note says so otherwise. None where it
  /// was not made. Throws Error as dynamics_of().
  std::optional<Dynamics> dynamics(bool whatever_it_takes = true);
  /// dynamics_with_<other>.h5 in the same way.
  Dynamics dynamics_with(const Run& other);
  /// report.html from what is there.
  void report();
  /// The result in words: a heading and one line per step.
  std::vector<std::string> headline() const;

  const RunFolder& folder() const { return folder_; }
  const RunPlan& plan() const { return plan_; }

 private:
  static void check(const Recipe& recipe, const Model& model, const ParameterSubset& subset,
                    const Loss& loss);
  EigenFile stored(const Decomposition& d) const;
  void check_foreign(const std::vector<int64_t>& missing) const;
  void train_alone(const std::vector<int64_t>& missing);
  void prune_alone(const std::vector<PruningRow>& missing, PruningFile there);
  ScoreInputs score_inputs(int64_t step, const std::string& split_name, const Checkpoint& checkpoint,
                           const std::set<std::string>& needed) const;
  PruningRow pruned_result(PruningRow row, const Checkpoint& whole, const at::Tensor& pruned);
  std::set<std::string> needed_of_model_at(int64_t step, const std::string& split) const;
  at::Tensor chosen(const std::string& split);
  Dataset chosen_samples(const std::string& split);
  void require_checkpoint(int64_t step) const;
  Checkpoint trained(int64_t step) const;
  Checkpoint checkpoint(int64_t step) const;
  EigenFileInfo file_info(const Decomposition& d);
  std::string recipe_of(Stage stage) const;
  void begin_partial(const Decomposition& d) const;
  std::string fingerprint(const Decomposition& d, const Checkpoint& checkpoint, CurvatureOperator& h);
  std::shared_ptr<const GraphSource> source_of(const Decomposition& d, const Checkpoint& checkpoint,
                                               at::ScalarType dtype, const std::string& name);
  bool model_file_lacks(int64_t step, const std::string& split_name) const;
  void write_model(const Decomposition& d, const Checkpoint& checkpoint, CurvatureOperator& h);
  std::unique_ptr<CurvatureOperator> matrix(const Decomposition& d, const Checkpoint& checkpoint,
                                            at::ScalarType dtype, int64_t reserve,
                                            const std::string& prefix = "");
  std::unique_ptr<LinearOperator> shared_out(CurvatureOperator& h) const;
  EigenResult solve(const Decomposition& d, const Checkpoint& checkpoint);
  void finish(const Decomposition& d, const EigenFileInfo& info, const EigenResult& result,
              const Checkpoint& checkpoint);
  void forget_partial(const Decomposition& d) const;
  void forget_finished_partial(const Decomposition& d) const;
  template <typename Body>
  void for_stores(bool make, const Body& body);
  const DataSplits& data();
  const DataSplits& placed_data();
  const Dataset& split(const std::string& name);
  Eigenvectors previous_vectors(int64_t step, const std::string& split_name) const;
  void decompose(int64_t step, const std::string& split_name, const Checkpoint& checkpoint);
  void tell(const std::vector<std::string>& notes);
  void write_overlap(const Decomposition& d, const EigenResult& result, const Checkpoint& checkpoint);

  Context context_;
  RunFolder folder_;
  fs::path data_folder_;
  std::optional<DataSplits> data_, placed_;  // as read; where the network is
  std::shared_ptr<const Foreign> foreign_;
  std::unique_ptr<Model> model_;
  ParameterSubset subset_;  // which the matrices are over
  Loss loss_;
  RunPlan plan_;
  std::map<std::string, Eigenvectors>
      previous_;                // last computed, by split, for warm starts where no file has them
  std::string fingerprint_;     // of the matrix made last
  std::set<std::string> told_;  // notes that the user has had
};

}  // namespace seigh
