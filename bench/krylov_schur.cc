// How many products does block Krylov need beside SLEPc's Krylov-Schur, for the same residuals of the same
// operator? The Hessian of 3c3d (D = 895 210) on 100 test images of CIFAR-10, k = 200 pairs of largest
// magnitude, all residuals below 1e-3 |lambda_1|.
//
//   krylov_schur [CHECKPOINT]     a checkpoint of recipes/cifar10-3c3d.toml; default: trains 200 steps
#include <ATen/Parallel.h>
#include <slepceps.h>
#include <torch/types.h>

#include <cmath>
#include <cstdio>

#include "bench/support.h"
#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/curvature/make.h"
#include "seigh/data/cifar.h"
#include "seigh/eigen/krylov.h"
#include "seigh/nn/zoo.h"
#include "seigh/train/train.h"

using namespace seigh;

namespace {

constexpr int64_t kPairs = 200;
constexpr double kTolerance = 1e-3;

PetscErrorCode multiply(Mat shell, Vec x, Vec y) {
  LinearOperator* op = nullptr;
  MatShellGetContext(shell, &op);
  const PetscScalar* from = nullptr;
  PetscScalar* to = nullptr;
  VecGetArrayRead(x, &from);
  VecGetArray(y, &to);
  const at::TensorOptions real = at::TensorOptions().dtype(at::kDouble);
  const at::Tensor v = at::from_blob(const_cast<PetscScalar*>(from), {op->size(), 1}, real).to(op->dtype());
  at::from_blob(to, {op->size(), 1}, real).copy_(op->apply(v));
  VecRestoreArrayRead(x, &from);
  VecRestoreArray(y, &to);
  return 0;
}

Checkpoint trained(const Model& model, const DataSplits& data) {
  TrainOptions options;
  options.steps = 200;
  options.batch_size = 128;
  options.learning_rate = 0.0226;
  options.optimizer.weight_decay = 0.002;
  options.checkpoint_steps = {200};
  Checkpoint start, last;
  start.parameters = model.initial_parameters(options.seed);
  train(model, data, options, start, [&](const Checkpoint& c) { last = c; });
  return last;
}

void row(const char* solver, int64_t products, double seconds, double worst, int64_t within) {
  std::printf(
      "  %-22s %8lld products %8.1f s   largest residual / |lambda_1| %.1e, %lld of %lld within 1e-3\n",
      solver, static_cast<long long>(products), seconds, worst, static_cast<long long>(within),
      static_cast<long long>(kPairs));
  std::fflush(stdout);
}

// Residuals by products, not by anybody's recurrence.
void check(const char* solver, LinearOperator& op, int64_t products, double seconds, const at::Tensor& values,
           const at::Tensor& vectors) {
  const int64_t k = values.numel();
  at::Tensor residuals = at::empty({k}, at::kDouble);
  for (int64_t begin = 0; begin < k; begin += 20) {
    const at::Tensor u = vectors.slice(1, begin, begin + 20);
    residuals.slice(0, begin, begin + 20)
        .copy_((op.apply(u).to(at::kDouble) - u.to(at::kDouble) * values.slice(0, begin, begin + 20))
                   .norm(2, 0));
  }
  const at::Tensor relative = residuals / values.abs().max();
  row(solver, products, seconds, relative.max().item<double>(),
      (relative <= kTolerance).sum().item<int64_t>());
}

}  // namespace

int main(int argc, char** argv) try {
  PetscFunctionBeginUser;
  SlepcInitialize(nullptr, nullptr, nullptr, nullptr);
  at::set_num_threads(available_cores());
  const auto model = make_model({.kind = "3c3d"}, {3, 32, 32}, 10);
  const DataSplits data = load_cifar10({.data_folder = {}, .normalise = true});
  const Checkpoint c = argc > 1 ? read_checkpoint(argv[1], *model) : trained(*model, data);
  const auto op =
      make_curvature_operator(*model, c.parameters, c.buffers,
                              data.test.select(balanced_subset(data.test.y, 10, 100)), {}, "Hessian");
  std::printf("Hessian of 3c3d at step %lld, D = %lld, k = %lld, tolerance %.0e |lambda_1|\n",
              static_cast<long long>(c.step), static_cast<long long>(op->size()),
              static_cast<long long>(kPairs), kTolerance);
  double largest = 0;
  const auto block_krylov = [&](const char* name, int64_t basis) {
    const EigenResult r =
        krylov(*op, {.k = kPairs, .tolerance = kTolerance, .seed = 1, .probes = 0, .basis = basis});
    largest = std::abs(r.eigenvalues[0].item<double>());
    check(name, *op, r.products, r.seconds, r.eigenvalues, r.eigenvectors.all());
  };
  block_krylov("block Krylov", 0);

  Mat shell;
  EPS eps;
  const PetscInt d = static_cast<PetscInt>(op->size());
  MatCreateShell(PETSC_COMM_SELF, d, d, d, d, op.get(), &shell);
  MatShellSetOperation(shell, MATOP_MULT, reinterpret_cast<void (*)()>(multiply));
  EPSCreate(PETSC_COMM_SELF, &eps);
  EPSSetOperators(eps, shell, nullptr);
  EPSSetProblemType(eps, EPS_HEP);
  EPSSetType(eps, EPSKRYLOVSCHUR);
  EPSSetWhichEigenpairs(eps, EPS_LARGEST_MAGNITUDE);
  EPSSetDimensions(eps, kPairs, PETSC_DEFAULT, PETSC_DEFAULT);  // a basis of 2 k, its default
  EPSSetConvergenceTest(eps, EPS_CONV_ABS);
  EPSSetTolerances(eps, kTolerance * largest, 1000);
  const int64_t before = op->products();
  const Timer timer;
  EPSSolve(eps);
  const double seconds = timer.seconds();
  const int64_t products = op->products() - before;
  PetscInt converged = 0;
  EPSGetConverged(eps, &converged);
  const int64_t k = std::min<int64_t>(converged, kPairs);
  at::Tensor values = at::empty({k}, at::kDouble), vectors = empty_block(op->size(), k, at::kFloat);
  Vec v;
  MatCreateVecs(shell, &v, nullptr);
  for (int64_t i = 0; i < k; ++i) {
    PetscScalar value;
    EPSGetEigenpair(eps, static_cast<PetscInt>(i), &value, nullptr, v, nullptr);
    values[i] = value;
    const PetscScalar* from = nullptr;
    VecGetArrayRead(v, &from);
    vectors.select(1, i).copy_(
        at::from_blob(const_cast<PetscScalar*>(from), {op->size()}, at::TensorOptions().dtype(at::kDouble)));
    VecRestoreArrayRead(v, &from);
  }
  check("SLEPc Krylov-Schur", *op, products, seconds, values, vectors);
  VecDestroy(&v);
  block_krylov("block Krylov, basis 400", 400);
  EPSDestroy(&eps);
  MatDestroy(&shell);
  SlepcFinalize();
  return 0;
} catch (const seigh::Error& error) {
  std::fprintf(stderr, "krylov_schur: %s\n", error.what());
  return 2;
}
