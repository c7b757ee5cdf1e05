// The state of a block Krylov iteration on disk, so that a killed run goes on from its last block.
//
// FOLDER/state.h5 holds the small matrices, written by the root; the columns of the basis are beside it
// (basis.h), written before the state that speaks of them, so what state.h5 names is always there.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

#include "seigh/core/filesystem.h"
#include "seigh/eigen/basis.h"

namespace seigh {

struct KrylovSnapshot {
  int64_t processed = 0, waiting = 0;  ///< columns of the basis: multiplied already, and not yet
  int64_t products = 0, draws = 0;     ///< spent; random columns drawn
  int64_t looked_at = 0;               ///< products at the last look at the Ritz pairs
  int64_t checked_at = 0;              ///< and at the last at what the basis leaves
  bool exhausted = false;              ///< nothing of the operator is left outside the basis
  bool done = false;                   ///< the last look found all that was asked for
  double norm = 0;                     ///< estimate of ||H||_2
  at::Tensor t, coupling;              ///< float64 [processed, processed] and [waiting, processed]
};

class KrylovState {
 public:
  /// `computation` tells one computation from another, `fingerprint` (core/fingerprint.h) the matrices.
  KrylovState(fs::path folder, std::string computation, std::string fingerprint, Context context);
  /// The snapshot kept in the folder, without its vectors; nothing when there is none. Throws Error when it
  /// is damaged or belongs to another computation.
  std::optional<KrylovSnapshot> read();
  /// Takes the vectors of that snapshot (none, if there was none) into `basis`, which is empty, and removes
  /// what else is left of a killed process. Throws Error when they are damaged.
  void load(const KrylovSnapshot& snapshot, Basis& basis) const;
  /// Keeps a snapshot and what the folder does not have yet of the basis.
  void save(const KrylovSnapshot& snapshot, Basis& basis);

 private:
  std::optional<KrylovSnapshot> read_file();
  Context context_;
  fs::path folder_;
  std::string computation_, fingerprint_;
  std::string remedy_;
  int64_t generation_ = 0;  // of the basis that state.h5 speaks of
};

}  // namespace seigh
