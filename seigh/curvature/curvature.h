// Curvature matrices of a mean loss, and what all their operators share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/linop/linear_operator.h"
#include "seigh/nn/loss.h"
#include "seigh/nn/model.h"
#include "seigh/nn/subset.h"

namespace seigh {

/// Of the mean loss L(theta) = (1/N) sum_n l_n(f_n(theta)) over N targets (samples, or samples x tokens),
/// with J_n = df_n/dtheta:
///   hessian           d^2 L / dtheta^2
///   ggn               generalised Gauss-Newton matrix (1/N) sum_n J_n^T l_n''(f_n) J_n (Schraudolph 2002)
///   empirical_fisher  (1/N) sum_n g_n g_n^T with g_n = J_n^T l_n'(f_n), the gradient of one target's loss
///   mc_fisher         the same with targets drawn from the network's own distribution, an unbiased estimate
///   of the
///                     Fisher matrix, which for cross-entropy is the ggn (Martens 2020, "New insights and
///                     perspectives on the natural gradient method")
enum class CurvatureKind { hessian, ggn, empirical_fisher, mc_fisher };

/// "hessian", "ggn", "empirical_fisher", "mc_fisher"; throws Error on another name.
CurvatureKind parse_curvature(const std::string& name);
std::string to_string(CurvatureKind kind);
/// All of them, in that order.
const std::vector<CurvatureKind>& curvature_kinds();

/// Where products come from: second derivatives (`autograd`), or central differences of the gradient in
/// float64 (`difference`; of the outputs for Gauss-Newton and Fisher matrices), which take first derivatives
/// alone: two gradients a product, and an error of some 1e-9 of it. `automatic`: second derivatives, unless
/// they are missing or found wrong (check.h). `graph`, `batched` and `stacked` are the ways of `autograd`: a
/// graph of the gradient that every vector goes back through, forward over reverse mode for all vectors of a
/// block at once, and the formulas of fully connected networks (mlp_curvature.h). On the CPU `autograd` is
/// `stacked` or else `graph`, with kernels of our own; elsewhere whichever was faster when it was tried.
enum class Products { automatic, autograd, graph, batched, stacked, difference };

/// "auto", "autograd", "graph", "batched", "stacked", "difference"; throws Error on another name.
Products parse_products(const std::string& name);

/// How products in float32 round; float64's are what they are. `tf32`: convolutions and matrix products on
/// CUDA devices take their operands to 11 bits, several times as fast and wrong by 1 to 3 %. `bf16`: they are
/// in bfloat16, operands and results of 8 bits (libtorch's autocast, CPU and CUDA), faster still and wrong by
/// several %; parameters, vectors and sums over samples stay in float32. What that comes to is measured
/// (check.h), and eigenpairs are held against products in float32 proper (eigen/refine.h).
enum class Precision { float32, tf32, bf16 };

/// "float32", "tf32", "bf16"; throws Error on another name.
Precision parse_precision(const std::string& name);
std::string to_string(Precision precision);

struct CurvatureOptions {
  CurvatureKind kind = CurvatureKind::hessian;
  Loss loss = {};
  at::ScalarType dtype = at::kFloat;  ///< of vectors and products: float32 or float64
  /// Samples whose activations are in memory at once; 0: chosen from the memory ceiling and the threads.
  int64_t batch_size = 0;
  int64_t most_samples = 0;  ///< at most so many, where batch_size is chosen; 0: no such limit
  Products products = Products::automatic;
  Precision precision = Precision::float32;
  /// On devices, products of small networks wait for the launches of their kernels: whether those are
  /// recorded once and replayed as one (replayed.h), or whichever is faster (on CUDA: not). True: throws
  /// where they cannot be.
  std::optional<bool> replay = {};
  /// Parameters the matrix is over; the others stay fixed. Patterns as in select_parameters(); empty: all.
  std::vector<std::string> parameters = {};
  double l2 = 0;        ///< adds l2/2 |theta|^2 to the loss: l2 to the diagonal
  int64_t draws = 1;    ///< of mc_fisher, targets drawn for each target
  uint64_t seed = 0;    ///< of mc_fisher's draws and of the vectors products are checked with
  int64_t reserve = 0;  ///< bytes of memory to leave to others when batch_size is chosen

  /// Throws Error on a value out of range.
  void validate() const;
};

class CurvatureOperator : public LinearOperator {
 public:
  /// Over the subset of `parameters` that `options` choose. Throws Error on options out of range.
  CurvatureOperator(const std::vector<ParameterSpec>& parameters, at::ScalarType dtype,
                    const CurvatureOptions& options, std::string name, const Context& context);

  /// Mean loss, with the L2 term if any.
  virtual double loss() = 0;
  /// Its gradient with respect to the operator's parameters: [D] of dtype().
  virtual at::Tensor gradient() = 0;
  /// What the user should know of how the products are computed, a line each: what had to be done more
  /// slowly.
  virtual std::vector<std::string> notes() const { return notes_; }
  /// How products are made, for people: "stacked", "graph, mini-batches of 100, replayed", "batched: 32
  /// vectors, ...
  virtual std::string way() const = 0;
  /// Of one vector in a block, roughly, as it was tried or is now, on a device; 0: not known. No product, and
  /// nothing of it stays.
  virtual double seconds_of_vector() { return 0; }
  void add_note(std::string note) { notes_.push_back(std::move(note)); }
  /// What was measured (check.h) of the products of this operator, and of those in full precision.
  double product_error() const override { return products_.error; }
  void set_product_error(double length) { products_.error = length; }
  void set_full_product_error(double length) { full_products_.error = length; }
  /// Those that were taken for it.
  at::Tensor known_products(uint64_t seed) const override { return known(products_, seed); }
  void set_known_products(at::Tensor products) { products_.known = std::move(products); }
  void set_known_full_products(at::Tensor products) { full_products_.known = std::move(products); }

  const CurvatureOptions& options() const { return options_; }
  const Context& context() const { return context_; }
  /// Samples per mini-batch (of batches that cannot be cut, the most).
  int64_t batch_size() const { return options_.batch_size; }

 protected:
  struct Measured {
    double error = 0;
    at::Tensor known;
  };
  at::Tensor known(const Measured& measured, uint64_t seed) const {
    return seed == options_.seed ? measured.known : at::Tensor();
  }
  const Measured& full_products() const { return full_products_; }

  CurvatureOptions options_;
  ParameterSubset subset_;
  Context context_;

 private:
  CurvatureOperator(ParameterSubset subset, at::ScalarType dtype, const CurvatureOptions& options,
                    std::string name, const Context& context);
  std::vector<std::string> notes_;
  Measured products_, full_products_;
};

}  // namespace seigh
