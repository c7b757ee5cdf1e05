// One door to all eigensolvers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "seigh/core/filesystem.h"
#include "seigh/core/progress.h"
#include "seigh/eigen/krylov.h"
#include "seigh/eigen/result.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

enum class Method { automatic, krylov, seigh, nystrom, hmt, dense };

/// All methods, automatic first.
const std::vector<Method>& methods();
std::string to_string(Method method);  ///< "auto", "krylov", ...
/// Throws Error on anything but a name to_string gives.
Method parse_method(const std::string& name);

struct EighOptions {
  Method method = Method::automatic;
  int64_t k = 0;  ///< eigenpairs wanted; with `error` the most that may be needed
  int64_t products =
      0;  ///< products to spend, those of the probes not counted; 0: 2 k, or what a tolerance takes
  double tolerance = 0;  ///< krylov: stop when the residuals are below tolerance |lambda_1|
  double error = 0;      ///< krylov: as few pairs as bring ||H - H^||_F below error ||H||_F
  Selection selection = Selection::magnitude;
  uint64_t seed = 0;
  int64_t probes = 30;                ///< products for the a-posteriori error; 0: no certificate
  int64_t block = 0;                  ///< vectors per product; 0: the method's choice
  bool independent = false;           ///< products must not depend on each other's results
  Eigenvectors start = {};            ///< krylov: to begin from
  std::string test_matrix = "ssrft";  ///< of seigh and nystrom, see sketch/test_matrix.h
  fs::path state = {};                ///< krylov and seigh: folder to go on from after a kill
  std::string storage = "full";       ///< seigh: of columns on disk, see SketchPlan
  int64_t basis = 0;                  ///< krylov: most vectors of its basis; 0: what memory allows
  bool on_disk = false;  ///< krylov: the basis in `state`; it is there too when memory is too little

  /// Throws Error saying which value is out of range for an operator of that size.
  void validate(int64_t dimension) const;
  /// The options as krylov takes them, and as the sketches do.
  KrylovOptions krylov() const;
};

/// Which method, why, and what it will cost.
struct EighPlan {
  Method method = Method::krylov;
  std::string reason;        ///< of the choice; empty when it was the user's
  int64_t products = 0;      ///< at most, those of the probes included
  double flops = 0;          ///< beside the products
  int64_t memory = 0;        ///< bytes beside the operator's
  int64_t basis = 0;         ///< krylov: vectors of its basis
  bool on_disk = false;      ///< krylov: the basis is in `state`
  int64_t disk = 0;          ///< bytes, of the state
  std::string text() const;  ///< one line for people
};

/// `memory`: bytes that may be taken. Throws Error on invalid options.
EighPlan plan_eigh(int64_t dimension, at::ScalarType dtype, const EighOptions& options, int64_t memory);

/// Eigenpairs of `op`. Throws Error on invalid options, too little memory, or when a product is not finite.
EigenResult eigh(LinearOperator& op, const EighOptions& options, Progress& progress = silent_progress());

}  // namespace seigh
