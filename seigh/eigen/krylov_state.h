// The state of a block Krylov iteration on disk, so that a killed run goes on from its last block.
//
// FOLDER/state.h5 holds the small matrices, FOLDER/basis_<generation>_<first column>.h5 the columns of the
// basis, each file written once; a restart, which changes all columns, begins a new generation. Columns are
// written before the state that speaks of them, so what state.h5 names is always there. Several ranks keep
// their rows in files of their own (..._rank_<r>.h5); the root writes the state.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace seigh {

struct KrylovSnapshot {
  int64_t processed = 0, waiting = 0;  ///< columns of the basis: multiplied already, and not yet
  int64_t products = 0, draws = 0;     ///< spent; random columns drawn
  int64_t generation = 0;              ///< restarts so far
  int64_t looked_at = 0;               ///< products at the last look at the Ritz pairs
  bool exhausted = false;              ///< nothing of the operator is left outside the basis
  bool done = false;                   ///< the last look found all that was asked for
  double norm = 0;                     ///< estimate of ||H||_2
  at::Tensor t, coupling;              ///< float64 [processed, processed] and [waiting, processed]
  at::Tensor at_breakdown;  ///< the wanted Ritz values when the basis last was invariant, if it ever was
};

class KrylovState {
 public:
  /// `fingerprint` tells one computation from another.
  KrylovState(std::filesystem::path folder, std::string fingerprint);
  /// The snapshot kept in the folder and, in the first columns of `basis`, its vectors; nothing when there is
  /// none. Throws Error when it is damaged, belongs to another computation, or does not fit the basis.
  std::optional<KrylovSnapshot> load(const at::Tensor& basis);
  /// Keeps a snapshot; of the basis, only columns that are not yet on disk are written.
  void save(const KrylovSnapshot& snapshot, const at::Tensor& basis);

 private:
  std::filesystem::path columns_file(int64_t generation, int64_t first) const;
  std::filesystem::path folder_;
  std::string fingerprint_;
  int64_t generation_ = -1, saved_ = 0;  // columns of that generation on disk
};

}  // namespace seigh
