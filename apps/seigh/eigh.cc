// seigh eigh: decompositions of a run folder, or of a symmetric matrix in a file.
#include "seigh/eigen/eigh.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>

#include "apps/seigh/commands.h"
#include "apps/seigh/matrix_file.h"
#include "apps/seigh/stage_command.h"
#include "seigh/core/context.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/filesystem.h"
#include "seigh/linop/matrix_operator.h"
#include "seigh/results/eigen_file.h"
#include "seigh/results/eigen_json.h"
#include "seigh/run/stages.h"

namespace seigh::app {
namespace {

struct Options {
  std::string run, data, matrix, dataset, method = "auto", select = "magnitude", start, out;
  int64_t seed = 12345;
  SolverOptions solver = {};
  bool vectors = false, json = false, strict = false;
};

SolverOptions solver_options(const Options& o, const Context& context) {
  SolverOptions options = o.solver;
  require(options.k != 0, "eigh --matrix: the number of eigenpairs is missing; for example --k 20");
  require(options.k > 0, "--k must be at least 1, not ", options.k);
  require(options.products >= 0, "--products must not be negative: ", options.products);
  require(o.seed >= 0, "--seed must not be negative: ", o.seed);
  options.method = parse_method(o.method);
  options.selection = parse_selection(o.select);
  options.seed = static_cast<uint64_t>(o.seed);
  if (!o.start.empty()) {
    const EigenFile file = read_eigen_file(o.start, Vectors::by_panels, context);
    require(file.has_vectors, o.start, " holds no eigenvectors to start from; make it with --vectors");
    options.start = file.result.eigenvectors;
  }
  return options;
}

// What is known of each pair.
void print_pairs(const EigenResult& result) {
  const bool known = result.residuals.defined();
  const Certificates& c = result.certificates;
  if (known) {
    std::printf("%-6s %-16s %-8s %-8s %-24s %s\n", "#", "eigenvalue", "+-", "angle", "between", "certified");
  } else {
    std::printf("%-6s %s\n", "#", "eigenvalue");
  }
  for (int64_t i = 0; i < result.rank; ++i) {
    std::printf("%-6lld % -16.10g", static_cast<long long>(i + 1), result.eigenvalues[i].item<double>());
    if (known) {
      const Trust trust = static_cast<Trust>(c.trust[i].item<int64_t>());
      char angle[16] = "-", between[48], places[64] = "";
      if (trust >= Trust::cluster) std::snprintf(angle, sizeof(angle), "%.2g", c.angle[i].item<double>());
      std::snprintf(between, sizeof(between), "%.7g, %.7g", c.low[i].item<double>(),
                    c.high[i].item<double>());
      const long long first = c.first[i].item<int64_t>(), last = c.last[i].item<int64_t>();
      if (first < last) std::snprintf(places, sizeof(places), ", one of places %lld to %lld", first, last);
      std::printf(" %-8.2g %-8s %-24s %s%s", result.residuals[i].item<double>(), angle, between,
                  trust == Trust::pair      ? "pair"
                  : trust == Trust::cluster ? "cluster"
                  : trust == Trust::value   ? "no: an eigenvalue, but the vector may be a mixture"
                                            : "no: may be noise",
                  trust == Trust::cluster ? places : "");
    }
    std::printf("\n");
  }
}

void decompose_matrix(const Options& o, const Context& context) {
  SolverOptions options = solver_options(o, context);
  const auto matrix = read_matrix(o.matrix, o.dataset);
  MatrixOperator& op = *matrix;
  require(options.k <= op.size(), "--k must not exceed the size of the matrix: k = ", options.k, ", ",
          o.matrix, " is ", op.size(), " x ", op.size());
  const EighPlan plan = plan_eigh(op.size(), op.dtype(), options, context.memory().available());
  const fs::path out =
      o.out.empty() ? fs::path(fs::path(o.matrix).stem().string() + "_" + to_string(plan.method) + ".h5")
                    : fs::path(o.out);
  require_another_file(out, o.matrix);
  if (!o.json) std::printf("%s\n", plan.text().c_str());
  std::fflush(stdout);
  options.method = plan.method;
  EigenFileInfo info;
  info.matrix = "matrix";
  info.parameters = op.size();
  info.k = options.k;
  info.dtype = dtype_name(op.dtype());
  const EigenResult result = eigh(op, options, context);
  info.s = result.products - result.checks - (result.error ? result.error->probes : 0);
  write_eigen_file(out, info, result, o.vectors, context);

  if (o.json) {
    std::printf("%s\n", eigen_json(info, result).c_str());
    const int64_t missing = result.wanted(options.k) - result.certificates.certified();
    if (o.strict && missing > 0) throw NotCertified{std::to_string(missing) + " pairs are not certified"};
    return;
  }
  print_pairs(result);
  if (result.rank < options.k && options.error == 0) {
    const bool exact = result.method == "krylov" || result.method == "dense";
    if (result.selection == Selection::magnitude) {
      std::printf("%s\n", ("numerical rank " + std::to_string(result.rank) +
                           ": no other eigenvalue was found that differs from 0 by more than rounding")
                              .c_str());
    } else {
      std::printf("no more than %lld of the eigenvalues found are %s%s\n",
                  static_cast<long long>(result.rank),
                  result.selection == Selection::both ? "of the sign of their end"
                                                      : to_string(result.selection).c_str(),
                  exact ? "" : "; sketches find them by magnitude");
    }
  }
  if (options.tolerance > 0) {
    std::printf("%lld of %lld pairs have reached the tolerance\n", static_cast<long long>(result.converged),
                static_cast<long long>(result.rank));
  }
  if (options.error > 0 && result.error->relative_error() > options.error)
    std::printf("the error asked for, %.3g, is not reached; raise --products or --k\n", options.error);
  if (result.error) {
    std::printf(
        "error |A - U L U'|_F: %.3g estimated, %.3g of |A|_F; more than twice that with probability at most "
        "%.2g\n",
        result.error->error(), result.error->relative_error(),
        probability_underestimate(result.error->probes, 0.75, result.error->beta));
  }
  std::printf("%lld products, %.2f s, written to %s\n", static_cast<long long>(result.products),
              result.seconds, out.c_str());
  if (!result.residuals.defined()) {
    std::printf("nothing is certified without probes\n");
    if (o.strict) throw NotCertified{"nothing is certified without probes; raise --probes"};
    return;
  }
  const int64_t in_clusters =
      result.certificates.trust.eq(static_cast<int64_t>(Trust::cluster)).sum().item<int64_t>();
  print_certified(result.certificates.certified(), result.wanted(options.k), o.strict,
                  in_clusters > 0 ? ", " + std::to_string(in_clusters) + " of them in clusters" : "");
}

}  // namespace

void add_eigh(CLI::App& app, Action& action) {
  const auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("eigh", "Leading eigenpairs, for a run folder or for a matrix in a file");
  CLI::Option* folder = command->add_option("RUN", o->run, "Run folder: decompose what its recipe asks for");
  add_data(command, o->data);
  CLI::Option* matrix =
      command
          ->add_option("--matrix", o->matrix,
                       "Symmetric or Hermitian matrix instead of a run: .npy, or .h5 with --dataset")
          ->excludes(folder);
  const auto for_matrix = [&](CLI::Option* option) { option->needs(matrix)->capture_default_str(); };
  for_matrix(
      command->add_option("--dataset", o->dataset, "Data set in the .h5 file; needed when it holds several"));
  for_matrix(command->add_option("--k", o->solver.k, "Eigenpairs wanted, largest magnitude first"));
  for_matrix(command->add_option(
      "--products", o->solver.products,
      "Matrix-vector products to spend; 0: 2 k, krylov's until all is found or it has spent 2 k or 20 "
      "blocks, with --tol or --error 20 k"));
  std::vector<std::string> names;
  for (const Method m : methods()) names.push_back(to_string(m));
  for_matrix(command
                 ->add_option("--method", o->method,
                              "krylov (most accurate for its products), seigh, nystrom, hmt, dense (exact), "
                              "or auto, which says what it takes and why")
                 ->check(CLI::IsMember(names)));
  names.clear();
  for (const Selection s : selections()) names.push_back(to_string(s));
  for_matrix(command
                 ->add_option("--select", o->select,
                              "Which pairs: of largest magnitude, most positive, most negative, or both ends")
                 ->check(CLI::IsMember(names)));
  for_matrix(command->add_option("--tol", o->solver.tolerance,
                                 "krylov: stop when residuals, and what may have been missed, are below this "
                                 "times the largest eigenvalue; 0: "
                                 "the products decide"));
  for_matrix(command->add_option(
      "--error", o->solver.error,
      "krylov: as few pairs as bring the error below this times |A|_F; --k is the most; 0: k pairs"));
  for_matrix(command->add_option("--checks", o->solver.checks,
                                 "krylov: further products that bound what was not found; 0: none"));
  for_matrix(command->add_option("--block", o->solver.block, "Vectors per product; 0: chosen"));
  command->add_option("--start", o->start, "krylov: begin from the eigenvectors in this result file")
      ->needs(matrix);
  for_matrix(command->add_option("--seed", o->seed, "Seed of the test matrices"));
  for_matrix(
      command->add_option("--probes", o->solver.probes, "Further products that estimate the error; 0: none"));
  for_matrix(
      command->add_option("--out", o->out, "File for the result; default: <name of the matrix>_<method>.h5"));
  command->add_flag("--vectors", o->vectors, "Keep the eigenvectors in the result file")->needs(matrix);
  command->add_flag("--json", o->json, "Print the result as JSON instead: every pair with its certificate")
      ->needs(matrix);
  command->add_flag("--strict", o->strict, "Exit with 3 unless all pairs asked for are certified");
  command->footer(
      "Examples:\n  seigh eigh runs/mnist-mini\n  seigh eigh --matrix A.npy --k 20 --products 40\n"
      "  seigh eigh --matrix A.npy --k 20 --tol 1e-6\n  seigh eigh --matrix A.h5 --dataset hessian --k 20 "
      "--method dense --vectors");
  command->callback([o, &action] {
    action = [o](const Tools& tools) {
      require(!o->run.empty() || !o->matrix.empty(),
              "eigh: name a run folder, or a matrix with --matrix A.npy; see seigh eigh --help");
      if (!o->matrix.empty()) {
        require_no_device(tools, "and a matrix in a file is none");
        return decompose_matrix(*o, tools.context);
      }
      Run run = open_run(tools, o->run, o->data, Network::computed);
      run.eigh();
      std::printf("decompositions: %s\n", (run.folder().path() / "eigen").c_str());
      print_certified(run, o->strict);
    };
  });
}

}  // namespace seigh::app
