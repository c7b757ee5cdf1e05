// How good are the eigenpairs of each method at a given number of products? On exact Hessians of the MNIST
// network (D = 7030) along its training, and on matrices of named spectra (D = 2000).
//
//   accuracy [FOLDER]     writes FOLDER/accuracy.svg (default: here), prints the table
//
// "error" is ||H - H^||_F over the best possible of that rank; "sub" the overlap of the computed leading
// space with the exact one.
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "bench/support.h"
#include "bench/svg.h"
#include "seigh/core/context.h"
#include "seigh/core/error.h"
#include "seigh/core/filesystem.h"
#include "seigh/curvature/make.h"
#include "seigh/eigen/dense.h"
#include "seigh/eigen/eigh.h"
#include "seigh/linop/matrix_operator.h"
#include "seigh/nn/zoo.h"
#include "seigh/train/train.h"
#include "tests/support/spectra.h"

using namespace seigh;

namespace {

struct Exact {
  std::string name;
  at::Tensor matrix, values, vectors;  // float64; leading vectors only
  double norm_beyond(int64_t k) const { return values.slice(0, k).norm().item<double>(); }
  double overlap(const Eigenvectors& u, int64_t k) const {
    return (at::matmul(vectors.slice(1, 0, k).t(), u.columns(0, k).to(at::kDouble)).square().sum() /
            static_cast<double>(k))
        .item<double>();
  }
};

constexpr int64_t kPairs = 355;

std::vector<Exact> hessians() {
  const Mlp model({256, 20, 20, 20, 20, 20, 10}, Activation::tanh);
  const DataSplits data = load_mnist({.data_folder = {}, .image_size = 16});
  TrainOptions options;
  options.seed = 3;  // as recipes/mnist-mini.toml
  options.checkpoint_steps = {0, 100, 900, 990, 1000};
  Checkpoint start;
  start.parameters = model.initial_parameters(options.seed);
  const Dataset samples = data.train.select(balanced_subset(data.train.y, 10, 500));
  std::vector<Exact> all;
  train(model, data, options, start, [&](const Checkpoint& c) {
    const auto op =
        make_curvature_operator(model, c.parameters, {}, samples, {.dtype = at::kDouble}, "Hessian");
    const DenseResult d = dense(*op, kPairs);
    all.push_back({"MNIST Hessian, step " + std::to_string(c.step), d.matrix, d.result.spectrum,
                   d.result.eigenvectors.all()});
  });
  return all;
}

struct Point {
  int64_t products;
  double error;
};

// One row of the table; the error over the best.
double row(const Exact& exact, const std::string& method, const SolverOptions& options, bool print = true) {
  MatrixOperator op(exact.matrix.to(at::kFloat), exact.name);
  const EigenResult r = eigh(op, options);
  const int64_t k = options.k;
  const double error = exact_error(exact.matrix, r.eigenvalues, r.eigenvectors) / exact.norm_beyond(k);
  if (!print) return error;
  const double tail =
      r.rank < k ? 1 : std::abs(r.eigenvalues[k - 1].item<double>() / exact.values[k - 1].item<double>() - 1);
  std::printf("  %-9s %8lld %9.3f %8.4f %8.4f %9.1e %9lld\n", method.c_str(),
              static_cast<long long>(r.products), error,
              exact.overlap(r.eigenvectors, std::min<int64_t>(100, k)),
              exact.overlap(r.eigenvectors, std::min(k, r.rank)), tail,
              r.residuals.defined() ? static_cast<long long>(r.certificates.certified()) : -1LL);
  return error;
}

const std::vector<std::pair<Method, int64_t>> kMethods = {
    {Method::seigh, 0}, {Method::hmt, 0}, {Method::nystrom, 0}, {Method::krylov, 0}};

void table(const Exact& exact, int64_t k, const std::vector<int64_t>& budgets) {
  std::printf("%s, D = %lld, k = %lld\n  %-9s %8s %9s %8s %8s %9s %9s\n", exact.name.c_str(),
              static_cast<long long>(exact.matrix.size(0)), static_cast<long long>(k), "method", "products",
              "x optimal", "sub 100", "sub k", "tail rel.", "certified");
  for (const int64_t products : budgets) {
    for (const auto& [method, block] : kMethods) {
      if (method == Method::hmt && products < 2 * k) continue;
      row(exact, to_string(method), {.method = method, .k = k, .products = products, .seed = 1, .probes = 0});
    }
  }
}

}  // namespace

int main(int argc, char** argv) try {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  at::set_num_threads(available_cores());
  const fs::path folder = argc > 1 ? argv[1] : ".";
  const std::vector<Exact> trained = hessians();
  std::vector<Exact> named;
  for (const std::string name : {"exponential", "polynomial", "indefinite", "clustered", "plus_minus"}) {
    const auto m = test::spectral_matrix(name, 2000);
    named.push_back({name, m.matrix, m.eigenvalues, m.eigenvectors.slice(1, 0, kPairs)});
  }
  bench::Chart chart("Error over the best possible of rank k against matrix-vector products", "products",
                     "error / optimal");
  for (const Exact& exact : trained) {
    if (exact.name.ends_with("900") || exact.name.ends_with("990")) continue;  // only where warm starts begin
    table(exact, kPairs, {400, 710, 1420});
    table(exact, 100, {200, 400});
    bench::Panel panel{exact.name + ", k = 355", {}};
    for (const auto& [method, block] : kMethods) {
      bench::Series series{to_string(method), {}};
      for (const int64_t products : {360, 400, 500, 600, 710, 900, 1100, 1420}) {
        if (method == Method::hmt && products < 2 * kPairs) continue;
        series.points.emplace_back(
            products,
            row(exact, "", {.method = method, .k = kPairs, .products = products, .seed = 1, .probes = 0},
                false));
      }
      panel.series.push_back(std::move(series));
    }
    chart.add(std::move(panel));
  }
  for (const Exact& exact : named) {
    table(exact, 100, {200, 400});
    bench::Panel panel{exact.name + ", k = 100", {}};
    for (const auto& [method, block] : kMethods) {
      bench::Series series{to_string(method), {}};
      for (const int64_t products : {110, 150, 200, 250, 300, 400}) {
        if (method == Method::hmt && products < 200) continue;
        series.points.emplace_back(
            products, row(exact, "",
                          {.method = method, .k = 100, .products = products, .seed = 1, .probes = 0}, false));
      }
      panel.series.push_back(std::move(series));
    }
    chart.add(std::move(panel));
  }

  std::printf("block size of krylov at 710 products, k = 355, step 1000\n");
  for (const int64_t block : {8, 17, 32, 71, 142})
    row(trained.back(), "b = " + std::to_string(block),
        {.method = Method::krylov, .k = kPairs, .products = 710, .seed = 1, .probes = 0, .block = block});

  std::printf(
      "products to a residual of tolerance |lambda_1|, Hessian of step 1000: cold, and warm from an earlier "
      "one\n"
      "  %5s %9s %6s %10s %10s\n",
      "k", "tolerance", "cold", "from 990", "from 900");
  for (const int64_t k : {20, 50, 100}) {
    for (const double tolerance : {1e-2, 1e-3, 1e-4}) {
      MatrixOperator op(trained.back().matrix);
      SolverOptions options{.method = Method::krylov, .k = k, .tolerance = tolerance, .seed = 1, .probes = 0};
      long long spent[3];
      for (int from = 0; from < 3; ++from) {
        if (from > 0)
          options.start = Eigenvectors(as_block(trained[from == 1 ? 3 : 2].vectors.slice(1, 0, k)));
        spent[from] = eigh(op, options).products;
      }
      std::printf("  %5lld %9.0e %6lld %10lld %10lld\n", static_cast<long long>(k), tolerance, spent[0],
                  spent[1], spent[2]);
    }
  }
  fs::create_directories(folder);
  const fs::path file = folder / "accuracy.svg";
  std::ofstream(file) << chart.svg();
  std::printf("figure: %s\n", file.c_str());
} catch (const seigh::Error& error) {
  std::fprintf(stderr, "accuracy: %s\n", error.what());
  return 2;
}
