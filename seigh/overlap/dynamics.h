// How masks and eigenspaces change along a run: similarities of all pairs of steps, when they settle, and
// what of a gradient lies in the top space.
//
// Eigenvectors are read by panels of rows. A block of steps is held against another, as many at a time as
// memory allows: whole, where their vectors fit, and then the product of two steps is used as soon as it is
// there; otherwise by panels, with the products U_s^T U_t of all pairs of the two blocks summed up in
// float64, or float32 vectors multiplied in their own precision within a few thousand rows. Cost: 2 D k^2
// flops a pair of steps, k the largest size, n (n + 1) / 2 pairs of n steps with each other; each vector is
// read once for every block. Memory: what is given, and at least 8 k^2 bytes and a panel of two steps.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/overlap/eigenspace.h"

namespace seigh {

/// The share `rho` of D parameters, max(round(rho D), 1). Error unless 0 < rho <= 1 and D >= 1.
int64_t size_of_share(double rho, int64_t dimension);

/// Intersection over union of the first k entries of rows[s] and of columns[t], for each k of `sizes`:
/// float64 [sizes, rows, columns]. rows, columns: orders of parameters below `dimension` (int64, distinct,
/// CPU), as magnitude_order() gives them, each of as many as the largest size or more. O(rows columns k)
/// time, 4 D bytes. Error on orders that are none, or too short. Throws Cancelled.
at::Tensor mask_similarity(const std::vector<at::Tensor>& rows, const std::vector<at::Tensor>& columns,
                           int64_t dimension, const std::vector<int64_t>& sizes,
                           const Context& context = Context());

/// ||U_s^T U_t||_F^2 / k of the first k vectors of rows[s] and columns[t], for each k of `sizes`: float64
/// [sizes, rows, columns]. Where both lists are the same, each pair is computed once. `bytes`: memory for
/// vectors and products. Error unless all are of one dimension, have as many vectors as the largest size, and
/// are in one piece (not divided()); on NaN. Progress in products of a step with a block. Throws Cancelled.
/// On the context's device, with a third of what it has free, if that is not the CPU.
at::Tensor eigenspace_similarity(const std::vector<const Eigenspace*>& rows,
                                 const std::vector<const Eigenspace*>& columns,
                                 const std::vector<int64_t>& sizes, int64_t bytes = int64_t{256} << 20,
                                 const Context& context = Context());

/// ||U_k^T g||^2 / ||g||^2 for k = 1..K: float64 [K]; NaN of a gradient that is zero. gradient: [D], float32
/// or float64, finite. One pass over U, `bytes` of its rows at a time. Error otherwise.
at::Tensor gradient_in_space(const Eigenspace& space, const at::Tensor& gradient,
                             int64_t bytes = int64_t{256} << 20, const Context& context = Context());

/// When a similarity with the one of step T has got near its end: c(s) = (similarity(s, T) - chance) /
/// (ceiling - chance).
struct Crystallisation {
  int64_t reference = 0;   ///< T
  double similarity0 = 0;  ///< of the first recorded step with T
  double ceiling = 1;      ///< what two samples at step T reach; 1 of one sample with itself
  struct Passage {
    double threshold = 0;
    /// The first recorded step before T from which on c is above the threshold, at all of them; none: not
    /// even at the last one, so that it is later (censored), or c means nothing.
    std::optional<int64_t> step = {};
    /// The recorded step before that one, where c was not yet, or had not stayed above; of a censored passage
    /// the last one before T; none: there is none.
    std::optional<int64_t> before = {};
  };
  std::vector<Passage> passages = {};
};

/// similarity: float64 [n], of each of the recorded `steps` (ascending) with steps[reference]; only those
/// before it are looked at. No passage where the ceiling is not above chance. Error where they do not fit.
Crystallisation crystallisation(const std::vector<int64_t>& steps, const at::Tensor& similarity,
                                int64_t reference, double chance, double ceiling = 1,
                                const std::vector<double>& thresholds = {.5, .8, .9});

/// Which of the recorded steps is nearest to half the last one, the earlier of two: an index.
int64_t half_way(const std::vector<int64_t>& steps);

}  // namespace seigh
