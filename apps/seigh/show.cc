// seigh show: a run folder, or any file seigh wrote, in words.
#include "apps/seigh/show.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/view_as_real.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>

#include "apps/seigh/commands.h"
#include "apps/seigh/sweep.h"
#include "apps/seigh/synthetic.h"
#include "seigh/core/dtype.h"
#include "seigh/core/error.h"
#include "seigh/core/filesystem.h"
#include "seigh/core/printable.h"
#include "seigh/io/file.h"
#include "seigh/io/hdf5.h"
#include "seigh/io/limits.h"
#include "seigh/io/npy.h"
#include "seigh/io/safetensors.h"
#include "seigh/report/page.h"
#include "seigh/results/eigen_file.h"
#include "seigh/results/eigen_json.h"
#include "seigh/run/sweep.h"
#include "seigh/run/synthetic.h"

namespace seigh::app {
namespace {

// What was written down of a recipe is a line a key, of a fingerprint a line a number; a table has room for
// how many.
std::string one_line(const std::string& name, const std::string& text) {
  const auto lines = std::count(text.begin(), text.end(), '\n');
  return lines == 0 ? shortened(text)
                    : std::to_string(lines) + (name == "fingerprint" ? " numbers" : " keys");
}

// Shape, dtype and the first numbers of a tensor, one line.
void print_tensor(const std::string& name, const at::Tensor& tensor, int64_t numbers) {
  std::string shape;
  for (const int64_t n : tensor.sizes()) shape.append(shape.empty() ? "" : " x ").append(std::to_string(n));
  const std::string type = is_vector_dtype(tensor.scalar_type()) ? dtype_name(tensor.scalar_type())
                           : tensor.scalar_type() == at::kLong   ? "int64"
                                                                 : c10::toString(tensor.scalar_type());
  std::printf("%-28s %-8s %-14s", shortened(name).c_str(), type.c_str(), shape.c_str());
  at::Tensor flat = tensor.reshape({-1}).slice(0, 0, numbers);
  const bool parts = flat.is_complex();  // real and imaginary ones in turn
  flat = (parts ? at::view_as_real(flat) : flat).reshape({-1}).to(at::kDouble).contiguous();
  for (int64_t i = 0; i < flat.numel(); ++i) {
    const double x = flat.data_ptr<double>()[i];
    if (parts && i % 2 == 1) {
      std::printf("%+.6gi", x);
    } else {
      std::printf(" %.6g", x);
    }
  }
  std::printf("%s\n", tensor.numel() > numbers ? " ..." : "");
}

void show_hdf5(const fs::path& path, int64_t numbers) {
  const Hdf5Reader file(path);
  for (const auto& [name, value] : file.attributes()) {
    std::printf("%-28s ", shortened(name).c_str());
    if (const auto* integer = std::get_if<int64_t>(&value)) {
      std::printf("%lld\n", static_cast<long long>(*integer));
    } else if (const auto* real = std::get_if<double>(&value)) {
      std::printf("%.6g\n", *real);
    } else {
      std::printf("%s\n", one_line(name, std::get<std::string>(value)).c_str());
    }
  }
  for (const std::string& name : file.names()) print_tensor("/" + name, file.read(name), numbers);
}

void show_safetensors(const fs::path& path, int64_t numbers) {
  const NamedTensors content = read_safetensors(path);
  for (const auto& [key, value] : content.metadata)
    std::printf("%-28s %s\n", shortened(key).c_str(), one_line(key, value).c_str());
  int64_t count = 0;
  for (const auto& [name, tensor] : content.tensors) {
    print_tensor(name, tensor, numbers);
    if (!name.starts_with("optimizer.")) count += tensor.numel();
  }
  std::printf("%-28s %lld\n", "parameters in all", static_cast<long long>(count));
}

void print_report(const nlohmann::json& data) {
  const auto words = [](const nlohmann::json& text) { return printable(text.get<std::string>()); };
  std::printf("%s\n", words(data.at("title")).c_str());
  for (const auto& row : data.at("settings"))
    std::printf("%-30s %s\n", words(row.at(0)).c_str(), words(row.at(1)).c_str());
  for (const auto& line : data.at("headline")) std::printf("%s\n", words(line).c_str());
}

void show_report(const fs::path& path) {
  const std::string text = read_report_data(path);
  require_plain_json(text, path.string());
  try {
    print_report(nlohmann::json::parse(text));
  } catch (const nlohmann::json::exception&) {
    fail(path.string(), ": the data of this report page are damaged; write it again with seigh report");
  }
}

void show_json(const fs::path& path) {
  require(path.extension() == ".h5", path.string(),
          ": --json is for the result files of decompositions (.h5)");
  const EigenFile file = read_eigen_file(path);
  std::printf("%s\n", eigen_json(file.info, file.result).c_str());
}

void show(const fs::path& path, int64_t numbers) {
  require(numbers >= 0, "show: --numbers must not be negative");
  std::error_code none;
  require(fs::exists(path, none), "cannot read ", path.string(), ": no such file");
  if (fs::is_directory(path, none)) {
    if (holds_synthetic(path)) return show_synthetic(path);
    return holds_sweep(path) ? show_sweep(path) : show_run(path);
  }
  const std::string kind = path.extension();
  if (kind == ".h5" || kind == ".hdf5") return show_hdf5(path, numbers);
  if (kind == ".safetensors") return show_safetensors(path, numbers);
  if (kind == ".npy") return print_tensor(path.filename(), read_npy(path), numbers);
  if (kind == ".html") return show_report(path);
  if (kind == ".toml" || kind == ".jsonl") {
    const std::string text = printable(read_file(path), /*keep_lines=*/true);
    std::fwrite(text.data(), 1, text.size(), stdout);
    return;
  }
  fail(path.string(), ": show knows .h5, .safetensors, .npy, .html, .toml and .jsonl files");
}

}  // namespace

void add_show(CLI::App& app, Action& action) {
  struct Options {
    std::string file;
    int64_t numbers = 5;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("show", "Print what a run folder holds, or any file seigh wrote");
  command->add_option("PATH", options->file, "The run folder, or the file")->required();
  command->add_option("--numbers", options->numbers, "Numbers printed of each tensor")->capture_default_str();
  command->add_flag("--json", options->json, "Of a decomposition: every pair with its certificate, as JSON");
  command->footer(
      "Examples:\n  seigh show runs/mnist-mini\n  seigh show "
      "runs/mnist-mini/eigen/step_000100_train_hessian_seigh.h5");
  command->callback([options, &action] {
    action = [options](const Tools&) {
      options->json ? show_json(options->file) : show(options->file, options->numbers);
    };
  });
}

}  // namespace seigh::app
