// What masks may be the largest parameters by.
//
// With theta the parameters, g the gradient of the loss, H the matrix, l_i = sum_j U_ij^2 over all its
// eigenvectors at hand:
//   magnitude |theta|; scaled_magnitude |theta| over the standard deviation of its tensor; gradient |g|; snip
//   |theta g| (Lee, Ajanthan, Torr, ICLR 2019); movement |theta - theta_0|; initial |theta_0| (theta_0 before
//   training); fisher, the mean of squared gradients of single samples; obd theta^2 H_ii / 2 (LeCun, Denker,
//   Solla, NIPS 1989), |.| of it where H_ii is negative; leverage l_i; curvature_leverage sum_j |lambda_j|
//   U_ij^2; random; random_by_layer, random but with the magnitude mask's counts in each tensor.
// "layerwise_" before a score: by rank within its tensor, so that every tensor gives the same share.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/overlap/eigenspace.h"
#include "seigh/overlap/units.h"

namespace seigh {

/// What scores are made of, [D] each; what a score does not need may be undefined.
struct ScoreInputs {
  at::Tensor parameters;
  at::Tensor initial;   ///< parameters before training
  at::Tensor gradient;  ///< of the mean loss of the samples
  at::Tensor fisher;    ///< mean of squared gradients of single samples
  at::Tensor diagonal;  ///< of the matrix
  const Eigenspace* space = nullptr;
  at::Tensor eigenvalues;  ///< [K]
  uint64_t seed = 0;
};

/// Names of all scores, without layerwise ones.
const std::vector<std::string>& score_names();
/// Whether there is a score of that name, layerwise or not.
bool is_score(const std::string& name);
/// Which of "initial", "gradient", "fisher", "diagonal", "space" a score needs; empty where the parameters
/// do.
std::string score_needs(const std::string& name);

/// float64 [D], not negative: the larger, the sooner in the mask. Error where there is no such score or what
/// it needs is missing, of another size, or not finite. leverage and curvature_leverage: one pass over U.
at::Tensor scores(const std::string& name, const ScoreInputs& inputs, const std::vector<UnitLayout>& layouts,
                  const Context& context = Context());

}  // namespace seigh
