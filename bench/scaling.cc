// Strong and weak scaling over MPI ranks of one thread each: products of SEIGH (shards), of krylov (blocks,
// rows of the basis) and recovery (rows). The same work for any number of ranks (strong), or as much for each
// (weak).
//
//   mpirun -n 1|2|4 --oversubscribe bench_scaling
#include <ATen/Parallel.h>
#include <unistd.h>

#include <cstdio>

#include "bench/support.h"
#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/core/filesystem.h"
#include "seigh/core/random.h"
#include "seigh/curvature/make.h"
#include "seigh/data/cifar.h"
#include "seigh/eigen/eigh.h"
#include "seigh/eigen/seigh.h"
#include "seigh/mpi/mpi.h"
#include "seigh/nn/zoo.h"
#include "seigh/sketch/measure.h"
#include "seigh/tall/tall_matrix.h"

using namespace seigh;

namespace {

std::unique_ptr<const Context> everybody;

Ranks& world() {
  return everybody->ranks();
}

// Seconds until the last rank is ready.
template <typename Body>
double seconds(const Body& body) {
  world().wait();
  const Timer timer;
  body();
  world().wait();
  return timer.seconds();
}

double products(LinearOperator& op, int64_t s) {
  const fs::path folder =
      fs::temp_directory_path() / ("seigh-scaling-" + std::to_string(world().agree(getpid())));
  SketchPlan plan{.operator_name = op.name(),
                  .rows = op.size(),
                  .k = s / 2,
                  .s = s,
                  .seed = 1,
                  .test_matrix = "sparse",
                  .dtype = op.dtype(),
                  .width = 4};
  double took = 0;
  {
    SketchStore store = SketchStore::together(folder, plan, *everybody);
    took = seconds([&] { measure(op, store, world().rank(), world().size(), *everybody); });
  }
  if (world().root()) fs::remove_all(folder);
  return took;
}

double recovery(int64_t rows) {
  const DividedTallMatrix y(
      rows, random_gaussian(1, Stream::test, world().share(rows).count, 0, 256, at::kFloat), *everybody);
  const at::Tensor probes = random_gaussian(1, Stream::test, rows, 300, 10, at::kFloat);
  return seconds([&] {
    gram(y);
    transposed_product(y, probes);
  });
}

}  // namespace

int main() try {
  everybody = std::make_unique<Context>(ContextOptions{.threads = 1, .ranks = start_mpi()});
  at::set_num_threads(1);
  const int64_t n = world().size();
  const auto model = make_model({.kind = "3c3d"}, {3, 32, 32}, 10);
  const DataSplits data = load_cifar10({.data_folder = {}, .normalise = true});
  const auto op =
      make_curvature_operator(*model, model->initial_parameters(1), {},
                              data.test.select(balanced_subset(data.test.y, 10, 50)), {}, "3c3d", *everybody);
  op->apply(random_gaussian(1, Stream::test, op->size(), 0, 1, at::kFloat));  // memory and graphs are there
  const double strong = products(*op, 96), weak = products(*op, 32 * n);
  const double krylov = seconds([&] {
    eigh(*op, {.method = Method::krylov, .k = 16, .products = 96, .seed = 1, .probes = 0, .block = 16},
         *everybody);
  });
  const double rows_strong = recovery(int64_t{1} << 20), rows_weak = recovery(n << 18);
  if (world().root()) {
    std::printf(
        "%lld ranks: 96 products %.2f s, 32 a rank %.2f s; krylov, 96 products %.2f s; recovery of 2^20 rows "
        "%.2f s, "
        "2^18 a rank %.2f s\n",
        static_cast<long long>(n), strong, weak, krylov, rows_strong, rows_weak);
    std::fflush(stdout);
  }
  stop_mpi(0);
  return 0;
} catch (const seigh::Error& error) {
  std::fprintf(stderr, "scaling: %s\n", error.what());
  seigh::stop_mpi(2);
  return 2;
}
