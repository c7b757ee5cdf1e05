// The measurements of SEIGH: everything a recovery needs, taken while the products are in memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "seigh/core/context.h"
#include "seigh/linop/linear_operator.h"
#include "seigh/sketch/store.h"
#include "seigh/tall/tall_matrix.h"

namespace seigh {

/// Y = H Omega[:, :k], W = Psi^T H Omega and Omega^T Y, for independent test matrices Omega, Psi in R^{D x
/// s}; of complex ones, ^T is the conjugate transpose and complex128 takes the place of float64. Where
/// columns are missing, Omega has as many fewer.
struct Sketch {
  uint64_t seed = 0;
  std::shared_ptr<const TallMatrix> outer;  ///< Y, [D, k], on the operator's device if there is room
  at::Tensor inner;                         ///< W, float64 [s, n] for the n columns measured
  at::Tensor outer_columns;                 ///< which columns of W belong to Y: int64 [k]
  at::Tensor omega_outer;                   ///< Omega^T Y for the Omega measured with, float64 [n, k]
  int64_t products = 0;                     ///< products spent: n
};

/// Measures `op` once with each of s test vectors, in memory: plan.width columns at a time (0: the operator's
/// preference). Cost: s products, the test matrices' products, D k numbers. Every column is independent of
/// the others.
Sketch measure(LinearOperator& op, const SketchPlan& plan, const Context& context = Context());

/// The same into a store: makes the shards that are missing, or damaged, and that no other process is making,
/// of those whose number leaves the remainder `part` when divided by `parts`. Throws Error when the operator
/// is not the plan's.
void measure(LinearOperator& op, SketchStore& store, int64_t part = 0, int64_t parts = 1,
             const Context& context = Context());

/// Reads through the finished shards among those of a part: what is wrong with the damaged ones, by number.
std::map<int64_t, std::string> damaged_shards(const SketchStore& store, int64_t part = 0, int64_t parts = 1,
                                              const Context& context = Context());

/// What is in a store. Throws Error when fewer columns are there than outer ones among them.
Sketch sketch_of(const SketchStore& store);

/// Measures a column of a store's plan anew: the relative difference of its Psi^T y from the one in the
/// store. Throws Error when it is not there.
double remeasure(LinearOperator& op, const SketchStore& store, int64_t column,
                 const Context& context = Context());

}  // namespace seigh
