// seigh show RUN: what a run folder holds, one line a file.
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "apps/seigh/show.h"
#include "seigh/core/error.h"
#include "seigh/core/memory.h"
#include "seigh/core/printable.h"
#include "seigh/io/safetensors.h"
#include "seigh/report/headline.h"
#include "seigh/results/eigen_file.h"
#include "seigh/results/inventory.h"
#include "seigh/results/overlap_file.h"
#include "seigh/run/plan.h"
#include "seigh/sketch/store.h"

namespace seigh::app {
namespace {

std::string checkpoint_in_words(const fs::path& path) {
  auto metadata = read_safetensors_metadata(path);
  const auto number = [&](const char* key) { return std::strtod(metadata[key].c_str(), nullptr); };
  char text[80];
  std::snprintf(text, sizeof(text), "loss %.4g, accuracy %.4g", number("loss"), number("test_accuracy"));
  return text;
}

std::string decomposition_in_words(const fs::path& path) {
  const EigenFile file = read_eigen_file(path);
  const EigenResult& result = file.result;
  std::string text = std::to_string(result.rank) + (result.rank == 1 ? " pair" : " pairs");
  if (result.residuals.defined())
    text += ", " + std::to_string(result.certificates.certified()) + " certified";
  text += ", " + std::to_string(result.products) + " products";
  return text + (file.has_vectors ? "" : ", without eigenvectors");
}

std::string overlap_in_words(const fs::path& path) {
  const OverlapCurves curves = read_overlap_file(path).masks.front().curves;
  const int64_t k = curves.magnitude.numel();
  require(k > 0 && curves.chance.numel() == k, path.string(), ": its curves are empty");
  const double overlap = curves.magnitude[k - 1].item<double>(), chance = curves.chance[k - 1].item<double>();
  char text[80];
  std::snprintf(text, sizeof(text), "%.4f at k = %lld, %.2f x chance", overlap, static_cast<long long>(k),
                overlap / chance);
  return text;
}

std::string unfinished_in_words(const fs::path& folder) {
  std::error_code none;
  if (!fs::exists(folder / "plan.h5", none)) return "unfinished";
  const SketchStore store(folder);
  return std::to_string(store.finished().size()) + " of " + std::to_string(store.plan().shards()) +
         " shards measured";
}

std::string in_words(const Item& item, const fs::path& path) {
  try {
    return !item.finished               ? unfinished_in_words(path)
           : item.stage == Stage::train ? checkpoint_in_words(path)
           : item.stage == Stage::eigh  ? decomposition_in_words(path)
                                        : overlap_in_words(path);
  } catch (const Error& error) {
    return error.what();
  }
}

int64_t bytes_in(const fs::path& path) {
  std::error_code none;
  if (!fs::is_directory(path, none)) {
    const uint64_t size = fs::file_size(path, none);
    return none ? 0 : static_cast<int64_t>(size);
  }
  int64_t sum = 0;
  fs::directory_iterator entries(path, none);
  for (const auto& entry : entries) sum += bytes_in(entry.path());
  return sum;
}

void print_file(const fs::path& folder, const fs::path& file, const std::string& words) {
  std::printf("%-50s %9s%s%s\n", printable(file.string()).c_str(),
              format_bytes(bytes_in(folder / file)).c_str(), words.empty() ? "" : "  ",
              printable(words).c_str());
}

void print_stage(const char* name, int64_t there, int64_t of, const std::string& more = "") {
  std::printf("%-15s %lld of %lld%s\n", name, static_cast<long long>(there), static_cast<long long>(of),
              more.c_str());
}

}  // namespace

void show_run(const fs::path& path) {
  const RunFolder folder = RunFolder::view(path);
  const Recipe& r = folder.recipe();
  const std::vector<Item> items = folder.items();
  std::error_code none;
  const std::optional<Method> method = method_there(r, [&](const Decomposition& d) {
    return fs::exists(folder.eigen(d.step, d.split, to_string(d.method)), none);
  });

  std::printf("%s\n", printable(r.name).c_str());
  try {
    if (method)
      for (const std::string& line : headline(folder, *method)) std::printf("%s\n", printable(line).c_str());
  } catch (const Error& error) {
    std::printf("%s\n", printable(error.what()).c_str());
  }

  // Of what the recipe asks for.
  const auto there = [&](const fs::path& file) { return fs::exists(file, none) ? 1 : 0; };
  int64_t checkpoints = 0, decomposed = 0, overlaps = 0;
  for (const int64_t step : r.train.checkpoints) checkpoints += there(folder.checkpoint(step));
  const std::vector<Decomposition> planned = decompositions(r, method.value_or(Method::krylov));
  for (const Decomposition& d : planned) {
    decomposed += there(folder.eigen(d.step, d.split, to_string(d.method)));
    overlaps += there(folder.overlap(d.step, d.split, to_string(d.method)));
  }
  const auto unfinished =
      std::count_if(items.begin(), items.end(), [](const Item& i) { return !i.finished; });
  const int64_t of = static_cast<int64_t>(planned.size());
  print_stage("checkpoints", checkpoints, static_cast<int64_t>(r.train.checkpoints.size()));
  print_stage("decompositions", decomposed, of,
              unfinished > 0 ? ", " + std::to_string(unfinished) + " under way" : "");
  print_stage("overlap", overlaps, of);
  std::printf("%-15s %s\n", "report", there(folder.report()) > 0 ? "written" : "not yet");

  std::printf("\n");
  print_file(path, "recipe.toml", "");
  if (there(path / "log.jsonl") > 0) print_file(path, "log.jsonl", "");
  for (const Item& item : items)
    print_file(path, item.file,
               in_words(item, path / item.file) +
                   (item.differs.empty() ? "" : " (of another recipe, " + item.differs[0] + ")"));
  for (const fs::path& file : folder.derived()) print_file(path, file.filename(), "");
  for (int64_t n = 1; there(path / "old" / std::to_string(n)) > 0; ++n)
    print_file(path, fs::path("old") / std::to_string(n), "superseded");
}

}  // namespace seigh::app
