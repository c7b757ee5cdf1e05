// What is asked of an eigensolver: one struct for all of them, for recipes and for the command.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/eigen/result.h"
#include "seigh/eigen/selection.h"

namespace seigh {

enum class Method { automatic, krylov, seigh, nystrom, hmt, dense };

/// All methods, automatic first.
const std::vector<Method>& methods();
std::string to_string(Method method);  ///< "auto", "krylov", ...
/// Throws Error on anything but a name to_string gives.
Method parse_method(const std::string& name);

/// More probes than these tell nothing more.
constexpr int64_t kMostProbes = 1'000'000;

/// LAPACK counts the numbers of its workspace, 2 D^2, in 32 bits.
constexpr int64_t kLargestDense = 32'766;

struct SolverOptions {
  Method method = Method::automatic;  ///< for eigh(); whoever calls a solver by its name has chosen
  int64_t k = 0;                      ///< eigenpairs wanted; with `error` the most that may be needed
  /// Products to spend, those of probes and checks not counted, D at most; 0: 2 k. krylov's then go on until
  /// all residuals and enclosures are within kKrylovTolerance |lambda_1|, at most 2 k or 20 blocks; with a
  /// tolerance or an error at most 20 k.
  int64_t products = 0;
  /// krylov: stop when all residuals are below tolerance |lambda_1| and no wanted eigenvalue can be larger
  /// than the one found by more than that; 0: when they are rounding.
  double tolerance = 0;
  /// krylov: as few pairs as bring the estimated ||H - H^||_F below error ||H||_F; 0: k pairs.
  double error = 0;
  Selection selection = Selection::magnitude;
  uint64_t seed = 0;
  int64_t probes = 30;  ///< products for the a-posteriori error; 0: no certificate of it
  /// krylov: products for a sharp bound on what was not found, and (two of them) for its rounding, whenever
  /// it might end; 0: none, so that pairs are certified by the probes alone, and missed ones are not looked
  /// for.
  int64_t checks = 35;
  int64_t block = 0;         ///< vectors per product; 0: the method's choice
  bool rounds = false;       ///< for plans: products do (LinearOperator::rounds()), so that k more follow
  bool independent = false;  ///< products must not depend on each other's results
  /// krylov: to begin from, [D, c], such as those of a similar operator; need not be orthonormal.
  Eigenvectors start = {};
  std::string test_matrix = "auto";  ///< of seigh and nystrom: a kind of sketch/test_matrix.h, or "auto"
  std::string storage = "full";      ///< seigh: of columns on disk, see SketchPlan
  /// krylov and seigh: folder (made if need be) of what a killed computation goes on from; seigh's
  /// measurements are then there and not in memory. A later call with the same options and operator
  /// continues; products, tolerance and error may differ. The caller removes it when the result is safe.
  /// Empty: nowhere.
  fs::path state = {};
  /// Of the operator (core/fingerprint.h), as far as it is known: a state of another one is refused.
  std::string fingerprint = {};
  double save_seconds =
      5;              ///< krylov: between savings, except of a basis on disk, which is saved at restarts
  int64_t basis = 0;  ///< krylov: most vectors of its basis; 0: what products and memory call for
  /// krylov: the basis in `state` even where memory would do. Where it would not, it is there anyway if there
  /// is a `state`; what does not fit the disk either is made up for by restarts.
  bool on_disk = false;

  /// Throws Error saying which value is out of range for an operator of `dimension` rows.
  void validate(int64_t dimension) const;
  /// `products`, `block` (krylov's) and `test_matrix` with their defaults filled in.
  SolverOptions resolved(int64_t dimension) const;
  /// Validated and resolved for one method.
  SolverOptions of(Method method, int64_t dimension) const;
};

}  // namespace seigh
