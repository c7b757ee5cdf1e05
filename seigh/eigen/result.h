// What every solver returns: eigenpairs, what they cost, and how far they can be trusted.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "seigh/eigen/certificates.h"
#include "seigh/eigen/probes.h"
#include "seigh/tall/tall_matrix.h"

namespace seigh {

/// Orthonormal eigenvectors U = B M: a tall matrix B [D, r], in memory or not, on the host or while a solver
/// is at work on a device, and, optionally, a small matrix M, float64 [r, k] (U = B when M is undefined). Of
/// complex ones M, and all that is said to be float64 below, is complex128, and U^T the conjugate transpose.
/// The D x k matrix U itself is formed only on request.
class Eigenvectors {
 public:
  Eigenvectors() = default;
  explicit Eigenvectors(at::Tensor basis, at::Tensor coefficients = {}, Context context = Context());
  Eigenvectors(std::shared_ptr<const TallMatrix> basis, at::Tensor coefficients);

  /// U in room of its own: what else is in the tensors behind it is let go. For U = B; unchanged on disk.
  Eigenvectors compact() const;
  /// The same on the host, formed there if B lies on a device.
  Eigenvectors on_host() const;
  /// The same in each rank's memory as a whole, of those that share its rows, by pieces of columns. All must
  /// call this together.
  Eigenvectors on_every_rank() const;
  /// Whether U = B.
  bool formed() const { return !coefficients_.defined(); }
  /// U Y for Y like M, [k, any], with orthonormal columns. Forms no tall matrix.
  Eigenvectors rotated(const at::Tensor& y) const;
  /// Whether B is in memory, so that a pass over it costs little.
  bool in_memory() const;
  int64_t dimension() const { return basis_->rows(); }
  at::ScalarType dtype() const { return basis_->dtype(); }
  /// k; 0 where there are none at all.
  int64_t count() const;
  /// Whether the ranks share B's rows out (TallMatrix::divided); they then call the functions below together.
  bool divided() const { return basis_ && basis_->divided(); }
  /// Rows of U: float64 [n, k] for index int64 [n].
  at::Tensor rows(const at::Tensor& index) const;
  /// Rows [begin, begin + n) of U: float64 [n, k]; only this rank's where divided.
  at::Tensor row_range(int64_t begin, int64_t n) const;
  /// The same in float32 where that is exact to about 1e-4 of U's columns and twice as fast: where B is
  /// float32 and M well conditioned. For sums over many rows.
  at::Tensor rough_row_range(int64_t begin, int64_t n) const;
  /// Columns [begin, begin + count) of U: block [D, count] of the basis' dtype, where B lies.
  at::Tensor columns(int64_t begin, int64_t count) const;
  /// The columns `index` (int64 [n]) of U. Forms no tall matrix where U = B M.
  Eigenvectors select(const at::Tensor& index) const;
  /// U, block [D, k].
  at::Tensor all() const { return columns(0, count()); }
  /// U^T X in float64 [k, b] for a block X [D, b].
  at::Tensor transposed_times(const at::Tensor& x) const;
  /// U X for X float64 [k, b]: block [D, b] of the basis' dtype, where B lies.
  at::Tensor times(const at::Tensor& x) const;

 private:
  at::Tensor basis_in_memory() const;  // read if need be

  std::shared_ptr<const TallMatrix> basis_;
  at::Tensor coefficients_;
  mutable bool judged_ = false;
  mutable at::Tensor rough_;  // M in float32, where rough_row_range() may use it
};

struct EigenResult {
  std::string method;  ///< "krylov", "seigh", "nystrom", "hmt" or "dense"
  Selection selection = Selection::magnitude;
  at::Tensor eigenvalues;     ///< float64 [rank], leading one first
  Eigenvectors eigenvectors;  ///< orthonormal to about 1e-6 (float32) or better
  int64_t rank = 0;           ///< eigenpairs found; below the k asked for when the operator has lower rank
  uint64_t seed = 0;
  int64_t products = 0;  ///< matrix-vector products spent, those of probes and checks included
  int64_t checks = 0;    ///< krylov: of these, those that bound what was not found
  double seconds = 0;    ///< wall clock, all stages
  int64_t peak_bytes = 0;
  /// Upper bounds on ||H u_i - lambda_i u_i||, float64 [rank], `rounding` included: of dense, krylov and hmt
  /// from their own products, of sketches each true with all but kProbeFailure probability; undefined without
  /// probes.
  at::Tensor residuals;
  /// All that is known of the spectrum, `eigenvalues` first, float64: all D of dense, the Ritz values of
  /// krylov and hmt; of other sketches the eigenvalues alone.
  at::Tensor spectrum;
  std::optional<ErrorEstimate> error;  ///< a-posteriori certificate by probes; none for dense
  /// What residuals and enclosures allow for errors of the products: kRoundingSafety times what was measured.
  double rounding = 0;
  Certificates certificates;  ///< of every pair; nothing is defined without residuals
  /// seigh: eigenvectors from nine tenths of the sketch's columns, ten times, each in terms of
  /// `eigenvectors`: float32 [groups, rank, n], n < rank the smallest number of vectors of any
  /// (overlap/curves.h makes a spread of them); undefined where pairs were left out, or where they would take
  /// more than 256 MiB.
  at::Tensor replicates;
  /// How many pairs there are to certify where k were asked for: fewer where krylov found that there are no
  /// more.
  int64_t wanted(int64_t k) const {
    return method == "krylov" && selection == Selection::magnitude ? std::min(k, rank) : k;
  }
  int64_t converged = 0;          ///< krylov: leading pairs whose residual is within the tolerance asked
  double orthogonality_loss = 0;  ///< krylov: estimate of ||V^T V - I||_F of its basis
  double frobenius = 0;           ///< dense only: exact ||H||_F
  double asymmetry = 0;           ///< dense only: max |H - H^T| / max |H| before symmetrising
};

/// A measured root mean square stands for a bound by this factor.
inline constexpr double kRoundingSafety = 8;

}  // namespace seigh
