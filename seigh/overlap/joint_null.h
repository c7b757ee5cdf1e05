// Chance that keeps a network's symmetry: the mask as it is, on hidden units that have changed places.
//
// Where hidden units can change places without changing the function (Hecht-Nielsen 1990; one permutation for
// each hidden layer, for each residual stream, and for the heads of an attention layer, whole), the rows of
// what makes them, their biases and norms, and the columns of what reads them move together. This null takes
// such permutations at random, of all groups of units at once and independently, and leaves the eigenspace
// where it is:
//
//   overlap(pi) = (1/k) sum_{i in mask} l_{pi(i)}(k)
//
// The mask keeps its counts in every tensor, how many of its parameters share a unit, and which units of one
// layer go with which of the next; all that is taken from it is *which* units they are. Coarser than the
// two-way null, which keeps the units as well. Permutations are independent of each other, so there is no
// mixing to watch and p is exact: under the hypothesis that units are exchangeable, (1 + those at least as
// extreme) / (1 + permutations), two-sided.
//
// Cost: (mask entries) x (permutations) lookups for each size.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "seigh/core/context.h"

namespace seigh {

/// Parameters [outer, count, inner] that lie one after the other from `begin` of the flat vector on: unit u
/// has those at (., u, .).
struct UnitBlock {
  int64_t begin, outer, inner;
};

/// Units that may change places with each other, and all their parameters. A parameter may belong to a unit
/// of each of several groups.
struct UnitGroup {
  int64_t count = 0;
  std::vector<UnitBlock> blocks = {};
};

/// At n sizes, float64 [n].
struct JointNull {
  at::Tensor mean, deviation;  ///< over permutations
  at::Tensor p;                ///< two-sided; 1 where no permutation changes anything
  at::Tensor free;             ///< share of the mask's entries that some group can move
  bool defined() const { return mean.defined(); }
};

/// Where permutations take the parameters of `mask` [m]: int64 [samples, m]. Permutation s depends on (seed,
/// s) alone. Error on groups that do not fit [0, parameters) or that move one parameter in two ways that do
/// not commute.
at::Tensor permuted_masks(const std::vector<UnitGroup>& groups, const at::Tensor& mask, int64_t parameters,
                          int64_t samples, uint64_t seed);

/// leverage: float64 [n, D], l_i(k) of n spaces; the mask of space i is the first sizes[i] of `order`, int64
/// distinct parameters. Error on what does not fit. Throws Cancelled.
JointNull joint_null(const at::Tensor& leverage, const std::vector<int64_t>& sizes, const at::Tensor& order,
                     const std::vector<UnitGroup>& groups, int64_t samples, uint64_t seed,
                     const Context& context = Context());

}  // namespace seigh
