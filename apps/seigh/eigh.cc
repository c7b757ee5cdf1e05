// seigh eigh: decompositions of a run folder, or of a symmetric matrix in a file.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "apps/seigh/commands.h"
#include "apps/seigh/terminal_progress.h"
#include "seigh/base/error.h"
#include "seigh/eigen/dense.h"
#include "seigh/eigen/seigh.h"
#include "seigh/io/hdf5.h"
#include "seigh/io/npy.h"
#include "seigh/linop/matrix_operator.h"
#include "seigh/report/eigen_file.h"
#include "seigh/run/stages.h"

namespace seigh::app {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string run, data, matrix, dataset, method = "seigh", out;
  int64_t k = 0, s = 0, seed = 12345, probes = 30;
  bool vectors = false;
};

at::Tensor read_matrix(const Options& o) {
  const fs::path path = o.matrix;
  if (path.extension() == ".npy") {
    require(o.dataset.empty(), o.matrix, ": --dataset is for .h5 files; leave it out");
    return read_npy(path);
  }
  if (path.extension() != ".h5" && path.extension() != ".hdf5") {
    fail(o.matrix, ": a matrix is read from .npy or .h5 files, not from \"", path.extension().string(), "\"");
  }
  const Hdf5Reader file(path);
  const std::vector<std::string> names = file.names();
  require(!o.dataset.empty() || !names.empty(), o.matrix,
          " holds no data set in its root group; name one with --dataset");
  require(!o.dataset.empty() || names.size() == 1, o.matrix, " holds ", names.size(),
          " data sets; name one with --dataset");
  return file.read(o.dataset.empty() ? names[0] : o.dataset);
}

void decompose_matrix(const Options& o) {
  require(o.k != 0, "eigh --matrix: the number of eigenpairs is missing; for example --k 20");
  require(o.k > 0, "--k must be at least 1, not ", o.k);
  require(o.s >= 0, "--s must not be negative: ", o.s);
  require(o.seed >= 0, "--seed must not be negative: ", o.seed);
  const fs::path out =
      o.out.empty() ? fs::path(fs::path(o.matrix).stem().string() + "_" + o.method + ".h5") : fs::path(o.out);
  std::error_code none;
  require(!fs::equivalent(out, o.matrix, none), out.string(),
          " is the matrix itself; choose another file with --out");
  at::Tensor matrix = read_matrix(o);
  if (matrix.scalar_type() != at::kFloat) matrix = matrix.to(at::kDouble);  // integer matrices are welcome
  MatrixOperator op(matrix, o.matrix);
  require(o.k <= op.size(), "--k must not exceed the size of the matrix: k = ", o.k, ", ", o.matrix, " is ",
          op.size(), " x ", op.size());
  const double largest = matrix.abs().max().item<double>();
  require(largest < 1e100, o.matrix, ": its entries reach ", largest,
          ", whose squares overflow; scale the matrix down");
  TerminalProgress progress;
  EigenFileInfo info;
  info.matrix = "matrix";
  info.parameters = op.size();
  info.k = o.k;
  info.dtype = op.dtype() == at::kFloat ? "float32" : "float64";
  EigenResult result;
  if (o.method == "dense") {
    result = dense(op, o.k, progress).result;
    info.s = result.products;
  } else {
    info.s = o.s == 0 ? std::min(2 * o.k, op.size()) : o.s;
    result = seigh(op, {.k = o.k, .s = info.s, .seed = static_cast<uint64_t>(o.seed), .probes = o.probes},
                   progress);
  }
  write_eigen_file(out, info, result, o.vectors);

  // A pair's true eigenvalue lies within +- the residual bound.
  const at::Tensor certified = result.certified();
  const at::Tensor bounds = result.error ? result.error->residual_bounds() : at::Tensor();
  std::printf("%-6s %-16s %s\n", "#", "eigenvalue", bounds.defined() ? "+-" : "");
  for (int64_t i = 0; i < result.rank; ++i) {
    std::printf("%-6lld % -16.10g", static_cast<long long>(i + 1), result.eigenvalues[i].item<double>());
    if (bounds.defined()) std::printf(" %.2g", bounds[i].item<double>());
    std::printf("%s\n", certified.defined() && !certified[i].item<bool>() ? "  uncertified" : "");
  }
  if (result.rank < o.k) {
    std::printf("the matrix has numerical rank %lld, so there are no more eigenpairs\n",
                static_cast<long long>(result.rank));
  }
  if (result.error) {
    std::printf(
        "error |A - U L U'|_F: %.3g estimated, %.3g of |A|_F; more than twice that with probability at most "
        "%.2g\n",
        result.error->error(), result.error->relative_error(),
        probability_underestimate(result.error->probes, 0.75));
  }
  std::printf("%lld products, %.2f s, written to %s\n", static_cast<long long>(result.products),
              result.seconds, out.c_str());
}

}  // namespace

void add_eigh(CLI::App& app, Action& action) {
  const auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("eigh", "Leading eigenpairs, for a run folder or for a matrix in a file");
  CLI::Option* folder = command->add_option("RUN", o->run, "Run folder: decompose what its recipe asks for");
  command->add_option("--data", o->data,
                      "Folder of the data set; default: $SEIGH_DATA, then the usual places");
  CLI::Option* matrix = command
                            ->add_option("--matrix", o->matrix,
                                         "Symmetric matrix instead of a run: .npy, or .h5 with --dataset")
                            ->excludes(folder);
  const auto for_matrix = [&](CLI::Option* option) { option->needs(matrix)->capture_default_str(); };
  for_matrix(
      command->add_option("--dataset", o->dataset, "Data set in the .h5 file; needed when it holds several"));
  for_matrix(command->add_option("--k", o->k, "Eigenpairs wanted, largest magnitude first"));
  for_matrix(command->add_option("--s", o->s, "Matrix-vector products of the sketch; 0: 2 k, at most D"));
  for_matrix(command->add_option("--method", o->method, "seigh (sketched) or dense (exact)")
                 ->check(CLI::IsMember({"seigh", "dense"})));
  for_matrix(command->add_option("--seed", o->seed, "Seed of the test matrices"));
  for_matrix(command->add_option("--probes", o->probes, "Products that estimate the error; 0: none"));
  for_matrix(
      command->add_option("--out", o->out, "File for the result; default: <name of the matrix>_<method>.h5"));
  command->add_flag("--vectors", o->vectors, "Keep the eigenvectors in the result file")->needs(matrix);
  command->footer(
      "Examples:\n  seigh eigh runs/mnist-mini\n  seigh eigh --matrix A.npy --k 20 --s 40\n"
      "  seigh eigh --matrix A.h5 --dataset hessian --k 20 --method dense --vectors");
  command->callback([o, &action] {
    action = [o] {
      require(!o->run.empty() || !o->matrix.empty(),
              "eigh: name a run folder, or a matrix with --matrix A.npy; see seigh eigh --help");
      if (!o->matrix.empty()) return decompose_matrix(*o);
      TerminalProgress progress;
      Run run(RunFolder::open(o->run), o->data, progress);
      run.eigh();
      std::printf("decompositions: %s\n", (run.folder().path() / "eigen").c_str());
    };
  });
}

}  // namespace seigh::app
