// seigh trace, diagonal, density: what there is to know of a matrix beside its leading eigenpairs, of a run
// folder's or of one in a file.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "apps/seigh/commands.h"
#include "apps/seigh/matrix_file.h"
#include "apps/seigh/stage_command.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/filesystem.h"
#include "seigh/recipe/options.h"
#include "seigh/results/spectrum_file.h"
#include "seigh/run/stages.h"

namespace seigh::app {
namespace {

struct Options {
  std::string run, data, split, matrix, dataset, out;
  std::optional<int64_t> step;
  int64_t products = TraceOptions().products, vectors = DensityOptions().vectors,
          steps = DensityOptions().steps;
  int64_t points = 512, seed = 12345;
  double width = 0;
  bool json = false;
};

CLI::App* add(CLI::App& app, const std::shared_ptr<Options>& o, const char* name, const char* description) {
  CLI::App* command = app.add_subcommand(name, description);
  CLI::Option* folder =
      command->add_option("RUN", o->run, "Run folder with its checkpoints: the matrix of its recipe");
  add_data(command, o->data);
  CLI::Option* matrix =
      command
          ->add_option("--matrix", o->matrix,
                       "Symmetric or Hermitian matrix instead of a run: .npy, or .h5 with --dataset")
          ->excludes(folder);
  command->add_option("--step", o->step, "Training step of the checkpoint; default: the recipe's last")
      ->excludes(matrix);
  command->add_option("--split", o->split, "train, validation or test; default: the recipe's first")
      ->check(CLI::IsMember({"train", "validation", "test"}))
      ->excludes(matrix);
  command->add_option("--dataset", o->dataset, "Data set in the .h5 file; needed when it holds several")
      ->needs(matrix);
  command->add_option("--seed", o->seed, "Seed of the random vectors")->capture_default_str();
  command->add_flag("--json", o->json, "Print the result as JSON instead");
  return command;
}

void add_products(CLI::App* command, const std::shared_ptr<Options>& o) {
  command
      ->add_option("--products", o->products,
                   "Matrix-vector products to spend; as many as the matrix has rows: the exact answer")
      ->capture_default_str();
}

uint64_t seed_of(const Options& o) {
  require(o.seed >= 0, "--seed must not be negative: ", o.seed);
  return static_cast<uint64_t>(o.seed);
}

// Calls body with the matrix that is named; columns: vectors of its size that body will hold.
void with_operator(const Options& o, const char* command, int64_t columns, const Tools& tools,
                   const std::function<void(LinearOperator&, const EigenFileInfo&)>& body) {
  require(!o.run.empty() || !o.matrix.empty(), command,
          ": name a run folder, or a matrix with --matrix A.npy; see seigh ", command, " --help");
  if (!o.matrix.empty()) {
    require_no_device(tools, "and a matrix in a file is none");
    const auto op = read_matrix(o.matrix, o.dataset);
    if (!o.out.empty()) require_another_file(o.out, o.matrix);
    EigenFileInfo info;
    info.matrix = "matrix";
    info.parameters = op->size();
    info.dtype = dtype_name(op->dtype());
    return body(*op, info);
  }
  Run run = open_run(tools, o.run, o.data, Network::computed);
  const double wanted = static_cast<double>(run.plan().parameters) * static_cast<double>(columns) *
                        static_cast<double>(c10::elementSize(eigh_dtype(run.folder().recipe())));
  const int64_t half = tools.context.memory().available() / 2;
  run.with_matrix(o.step, o.split, wanted < static_cast<double>(half) ? static_cast<int64_t>(wanted) : half,
                  body);
}

// <matrix>_<what>.h5 or <run>_step_000100_train_<what>.h5, here.
fs::path out_path(const Options& o, const EigenFileInfo& info, const char* what) {
  if (!o.out.empty()) return o.out;
  if (!o.matrix.empty()) return fs::path(o.matrix).stem().string() + "_" + what + ".h5";
  char step[32];
  std::snprintf(step, sizeof(step), "_step_%06lld_", static_cast<long long>(info.step));
  fs::path folder = fs::absolute(o.run).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  return folder.filename().string() + step + info.split + "_" + what + ".h5";
}

void require_kind(const fs::path& out, bool npy) {
  const std::string kind = out.extension().string();
  require(kind == ".h5" || kind == ".hdf5" || (npy && kind == ".npy"), out.string(), ": --out must end in ",
          npy ? ".h5 or .npy" : ".h5");
}

std::string cost(int64_t products, double seconds) {
  char text[64];
  std::snprintf(text, sizeof(text), "%lld products, %.2f s", static_cast<long long>(products), seconds);
  return text;
}

const char* footnote(bool exact) {
  return exact ? "exact to rounding" : "one standard deviation, estimated";
}

void do_trace(const Options& o, const Tools& tools) {
  const Context& context = tools.context;
  const TraceOptions options{.products = o.products, .seed = seed_of(o)};
  with_operator(o, "trace", o.products / 2 + 200, tools, [&](LinearOperator& op, const EigenFileInfo& info) {
    const TraceResult result = trace(op, options, context);
    if (o.json) {
      std::printf("%s\n", trace_json(info, result, options.seed).c_str());
    } else {
      std::printf("trace %.10g +- %.2g (%s), %s\n", result.trace, result.error, footnote(result.exact),
                  cost(result.products, result.seconds).c_str());
    }
  });
}

void do_diagonal(const Options& o, const Tools& tools) {
  const Context& context = tools.context;
  const TraceOptions options{.products = o.products, .seed = seed_of(o)};
  if (!o.out.empty()) require_kind(o.out, /*npy=*/true);
  with_operator(o, "diagonal", o.products + 600, tools, [&](LinearOperator& op, const EigenFileInfo& info) {
    const fs::path out = out_path(o, info, "diagonal");
    const DiagonalResult result = diagonal(op, options, context);
    write_diagonal_file(out, info, result, options.seed, context);
    if (o.json) {
      std::printf("%s\n", diagonal_json(info, result, options.seed).c_str());
    } else {
      std::printf("diagonal of %lld entries, root mean square error %.2g of theirs (%s), %s, written to %s\n",
                  static_cast<long long>(op.size()), result.relative_error, footnote(result.exact),
                  cost(result.products, result.seconds).c_str(), out.c_str());
    }
  });
}

void do_density(const Options& o, const Tools& tools) {
  const Context& context = tools.context;
  const DensityOptions options{.vectors = o.vectors, .steps = o.steps, .seed = seed_of(o)};
  options.validate();
  constexpr int64_t kMostPoints = 1'000'000;
  require(2 <= o.points && o.points <= kMostPoints, "--points must lie between 2 and ", kMostPoints, ", not ",
          o.points);
  require(o.width >= 0, "--width must not be negative: ", o.width);
  if (!o.out.empty()) require_kind(o.out, /*npy=*/false);
  with_operator(o, "density", o.vectors * o.steps, tools, [&](LinearOperator& op, const EigenFileInfo& info) {
    const fs::path out = out_path(o, info, "density");
    const Density result = density(op, options, context);
    DensityCurves curves;
    curves.width = o.width > 0 ? o.width : result.resolved_width();
    curves.grid = result.grid(o.points, curves.width);
    curves.density = result.smoothed(curves.grid, curves.width);
    curves.cumulative = result.cumulative(curves.grid);
    write_density_file(out, info, result, curves, options.seed, context);
    if (o.json) {
      std::printf("%s\n", density_json(info, result, curves, options.seed).c_str());
      return;
    }
    const Curve mean = result.moment(1);
    std::printf(
        "%lld eigenvalues, nodes from %.6g to %.6g, mean %.6g +- %.2g, distribution within %.2g (%s), "
        "%s, written to "
        "%s\n",
        static_cast<long long>(op.size()), result.lowest(), result.highest(), mean.value.item<double>(),
        mean.error.item<double>(), curves.cumulative.error.max().item<double>(), footnote(result.exact),
        cost(result.products, result.seconds).c_str(), out.c_str());
  });
}

}  // namespace

void add_trace(CLI::App& app, Action& action) {
  const auto o = std::make_shared<Options>();
  CLI::App* command = add(app, o, "trace", "Trace of a matrix, of a run folder or in a file, with its error");
  add_products(command, o);
  command->footer(
      "Examples:\n  seigh trace runs/mnist-mini --step 100 --split train\n"
      "  seigh trace --matrix A.npy --products 40");
  command->callback([o, &action] { action = [o](const Tools& tools) { do_trace(*o, tools); }; });
}

void add_diagonal(CLI::App& app, Action& action) {
  const auto o = std::make_shared<Options>();
  CLI::App* command = add(app, o, "diagonal", "Diagonal of a matrix, with the error of each entry");
  add_products(command, o);
  command->add_option(
      "-o,--out", o->out,
      "File for the diagonal and its errors, .h5, or for the diagonal alone, .npy; default: <name of "
      "the matrix or run>_diagonal.h5");
  command->footer(
      "Examples:\n  seigh diagonal runs/mnist-mini --step 100 --products 200\n"
      "  seigh diagonal --matrix A.npy --products 40 -o d.npy");
  command->callback([o, &action] { action = [o](const Tools& tools) { do_diagonal(*o, tools); }; });
}

void add_density(CLI::App& app, Action& action) {
  const auto o = std::make_shared<Options>();
  CLI::App* command =
      add(app, o, "density", "Density of all eigenvalues of a matrix, and their distribution");
  command->add_option("--vectors", o->vectors, "Random start vectors")->capture_default_str();
  command
      ->add_option(
          "--steps", o->steps,
          "Lanczos steps, a product for each vector; with as many products as the matrix has rows: the exact "
          "answer")
      ->capture_default_str();
  command
      ->add_option("--width", o->width,
                   "Standard deviation of the Gaussian that the density is smoothed by; 0: chosen")
      ->capture_default_str();
  command->add_option("--points", o->points, "Points of the curves")->capture_default_str();
  command->add_option(
      "-o,--out", o->out,
      "HDF5 file for the curves, their errors, nodes and weights; default: <name of the matrix or "
      "run>_density.h5");
  command->footer(
      "Examples:\n  seigh density runs/mnist-mini --step 100 --vectors 4\n"
      "  seigh density --matrix A.npy --vectors 2 --steps 30");
  command->callback([o, &action] { action = [o](const Tools& tools) { do_density(*o, tools); }; });
}

}  // namespace seigh::app
