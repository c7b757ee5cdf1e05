// One door to all eigensolvers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "seigh/core/context.h"
#include "seigh/eigen/options.h"
#include "seigh/eigen/result.h"
#include "seigh/linop/linear_operator.h"

namespace seigh {

/// Which method, why, and what it will cost.
struct EighPlan {
  Method method = Method::krylov;
  std::string reason;        ///< of the choice; empty when it was the user's
  int64_t products = 0;      ///< at most, those of the probes included
  int64_t refining = 0;      ///< of these, those in full precision that refine what rounded ones found
  double flops = 0;          ///< beside the products
  int64_t memory = 0;        ///< bytes beside the operator's, on the host
  int64_t on_device = 0;     ///< bytes on the operator's device
  int64_t basis = 0;         ///< krylov: vectors of its basis
  bool on_disk = false;      ///< krylov: the basis is in `state`
  int64_t disk = 0;          ///< bytes, of the state
  std::string text() const;  ///< one line for people
};

/// `memory`: bytes that may be taken by each of so many ranks; `device_memory`: on the operator's device, of
/// one rank. Throws Error on invalid options.
EighPlan plan_eigh(int64_t dimension, at::ScalarType dtype, const SolverOptions& options, int64_t memory,
                   const Ranks& ranks = Ranks(), int64_t device_memory = 0);

/// What a basis may have on the device of an operator, beside its products; 0 on the CPU.
int64_t basis_memory(c10::Device device, const Context& context);

/// Eigenpairs of `op`. Throws Error on invalid options, too little memory, or when a product is not finite.
EigenResult eigh(LinearOperator& op, const SolverOptions& options, const Context& context = Context());

}  // namespace seigh
