// The dynamics of a run on disk: RUN/dynamics.h5 (docs/file_format.md), and as JSON.
//
// It is derived, like the report: made from checkpoints and decompositions, whose seals it names by a
// checksum, and made anew when they are others.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/overlap/dynamics.h"
#include "seigh/results/run_folder.h"

namespace seigh {

/// Similarities of one kind between all pairs of steps, at several sizes.
struct DynamicsMaps {
  /// "mask" (intersection over union); a split, or two, "train_test" (overlap of eigenspaces); with another
  /// run
  /// "<split>_<matrix>_<the other's matrix>".
  std::string name;
  std::vector<int64_t> steps;        ///< of the rows
  std::vector<int64_t> other_steps;  ///< of the columns; empty: the same, and the map is symmetric
  std::vector<int64_t> k;            ///< sizes
  std::vector<double> rho;           ///< the shares of D that they stand for
  std::vector<double> chance;        ///< what is expected of random masks, or subspaces
  at::Tensor values;                 ///< float64 [k, steps, columns]
  bool symmetric() const { return other_steps.empty(); }
  const std::vector<int64_t>& columns() const { return symmetric() ? steps : other_steps; }

  /// Of symmetric maps, one for each size: with the last recorded step for T, and with the one nearest to
  /// half of it, where there are records before it. Outer index: T and T/2.
  std::vector<std::vector<Crystallisation>> crystallisation = {};
};

/// What of the gradient of a split's loss lies in the top space, at each step.
struct DynamicsGradient {
  std::string split;
  std::vector<int64_t> steps;
  at::Tensor share;  ///< float64 [steps, K], for k = 1..K; NaN where the gradient is zero
};

struct Dynamics {
  int64_t parameters = 0;  ///< D
  std::string matrix;      ///< of the run
  std::string method;
  std::string other, other_matrix;  ///< the run that it is held against, the folder's name; empty: none
  std::vector<DynamicsMaps> maps = {};
  std::vector<DynamicsGradient> gradients = {};
  std::string notes = {};      ///< what could not be compared, a line each
  std::string made_from = {};  ///< DynamicsSources::digest()
};

/// What a run's dynamics are made of: the files that there are.
struct DynamicsSources {
  struct Space {
    std::string split;
    int64_t step;
    fs::path file;
  };
  std::vector<int64_t> checkpoints;  ///< steps, ascending
  std::vector<fs::path> checkpoint_files;
  std::vector<Space> spaces;  ///< decompositions by the run's method, by split, steps ascending
  std::vector<fs::path> gradient_files;
  /// Tells whether any of them has become another: a checksum of their names and seals.
  std::string digest() const;
};
/// Of the steps and splits that the recipe asks for.
DynamicsSources dynamics_sources(const RunFolder& folder, Method method);

/// The gradient of a split's loss at a step, over the parameters of the matrix: float32 or float64 [D]; none
/// where the run has none.
std::optional<at::Tensor> stored_gradient(const RunFolder& folder, int64_t step, const std::string& split,
                                          int64_t parameters);

/// Written completely or not at all.
void write_dynamics_file(const fs::path& path, const Dynamics& dynamics);
/// Throws Error naming the file when it is damaged or holds no dynamics.
Dynamics read_dynamics_file(const fs::path& path);
/// RUN/dynamics.h5 if it is of what is in the folder now; none where it is missing, damaged or of others.
std::optional<Dynamics> current_dynamics(const RunFolder& folder, Method method);

/// An object: "maps", objects of "name", "kind" ("iou" or "overlap"), "rho", "k", "steps", "other_steps" (of
/// maps that are not symmetric), "values", "chance"; "crystallisation", of "what", "rho", "k", "reference"
/// (T), "ceiling", "similarity0", "thresholds", "steps" and "before" (null where there is none: of "steps",
/// later than all of "before"); "gradient", of "split", "steps", "k", "share" [steps][k]; "notes". Numbers to
/// six digits.
std::string dynamics_json(const Dynamics& dynamics);

}  // namespace seigh
