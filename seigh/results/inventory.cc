#include "seigh/results/inventory.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/io/file.h"
#include "seigh/io/hdf5.h"
#include "seigh/io/safetensors.h"

namespace seigh {
namespace {

// The recipe that decided a result; none where it does not say.
std::optional<Recipe> made_by(const fs::path& path, bool unfinished) {
  try {
    if (unfinished) return read_record(read_file(path / "recipe.toml"));
    if (path.extension() == ".safetensors") {
      const auto metadata = read_safetensors_metadata(path, Maker::seigh);
      const auto found = metadata.find("recipe");
      if (found != metadata.end()) return read_record(found->second);
    } else {
      const auto attributes = Hdf5Reader(path, Maker::seigh).attributes();
      const auto found = attributes.find("recipe");
      if (found != attributes.end()) return read_record(std::get<std::string>(found->second));
    }
  } catch (const std::exception&) {  // damaged: for the stage that reads it to say
  }
  return std::nullopt;
}

// Step, split, matrix and method from step_000100_train_empirical_fisher_seigh.
bool parse_name(const std::string& name, Item& item) {
  size_t at = name.starts_with("step_") ? 5 : std::string::npos;
  const size_t digits = at;
  while (at < name.size() && std::isdigit(static_cast<unsigned char>(name[at])) != 0) ++at;
  if (at == std::string::npos || at == digits || at - digits > 18) return false;
  item.step = std::stoll(name.substr(digits, at - digits));
  if (item.stage == Stage::train) return at == name.size();
  const size_t split = at + 1, matrix = name.find('_', split);
  if (item.of_model) {
    if (at >= name.size() || name[at] != '_' || matrix == std::string::npos) return false;
    item.split = name.substr(split, matrix - split);
    item.matrix = name.substr(matrix + 1);
    return !item.matrix.empty();
  }
  const size_t method = name.rfind('_');
  if (at >= name.size() || name[at] != '_' || matrix == std::string::npos || method <= matrix) return false;
  item.split = name.substr(split, matrix - split);
  item.matrix = name.substr(matrix + 1, method - matrix - 1);
  item.method = name.substr(method + 1);
  return std::any_of(methods().begin(), methods().end(),
                     [&](Method m) { return m != Method::automatic && to_string(m) == item.method; });
}

std::vector<std::string> compare(const Item& item, Recipe made, Recipe now) {
  Stage stage = item.stage;
  if (stage != Stage::train) {
    made.curvature.matrix = now.curvature.matrix = item.matrix;
    if (item.of_model) {
      made.eigh = now.eigh;
    } else if (item.method != "dense") {
      made.eigh.method = now.eigh.method = parse_method(item.method);
    } else if (now.eigh.method == Method::automatic) {
      now.eigh.method = made.eigh.method;  // auto takes what is there
    } else if (made.eigh.method == Method::automatic || now.eigh.method == Method::dense) {
      made.eigh.method = now.eigh.method;  // an exact result serves, whatever it was beside
    }
    if (item.split != "test") {
      made.data.test_x = now.data.test_x;
      made.data.test_y = now.data.test_y;
    }
    // Overlap was taken when there were no eigenvectors to take it from later.
    if (!made.eigh.vectors && !now.eigh.vectors && item.finished && !item.of_model) stage = Stage::overlap;
    if (made.eigh.vectors) now.eigh.vectors = true;  // more than asked for
  }
  if (!item.finished) {
    // With these a decomposition goes on from where it is (SolverOptions::state).
    made.eigh.probes = now.eigh.probes;
    made.eigh.vectors = now.eigh.vectors;
    if (now.eigh.method == Method::krylov) {
      made.eigh.products = now.eigh.products;
      made.eigh.tolerance = now.eigh.tolerance;
      made.eigh.error = now.eigh.error;
      made.eigh.warm_start = now.eigh.warm_start;
    }
  }
  return differences(made, now, stage);
}

std::string plural(int64_t count, const char* what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

}  // namespace

std::vector<Item> inventory(const fs::path& folder, const Recipe& written, const Recipe& recipe) {
  const std::pair<const char*, Item> places[] = {{"checkpoints", {.stage = Stage::train}},
                                                 {"model", {.stage = Stage::eigh, .of_model = true}},
                                                 {"eigen", {.stage = Stage::eigh}},
                                                 {"partial", {.stage = Stage::eigh, .finished = false}},
                                                 {"overlap", {.stage = Stage::overlap}}};
  std::vector<Item> items;
  for (const auto& [place, kind] : places) {
    std::error_code error;
    if (!fs::exists(folder / place, error)) continue;
    std::vector<fs::path> paths;
    for (const auto& entry : fs::directory_iterator(folder / place)) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    for (const fs::path& path : paths) {
      Item item = kind;
      item.file = fs::path(place) / path.filename();
      const std::string extension = !item.finished ? "" : item.stage == Stage::train ? ".safetensors" : ".h5";
      if (path.extension().string() != extension || !parse_name(path.stem(), item)) continue;
      item.differs = compare(item, made_by(path, !item.finished).value_or(written), recipe);
      items.push_back(std::move(item));
    }
  }
  return items;
}

std::string count_in_words(const std::vector<Item>& items) {
  const auto count = [&](Stage stage, bool finished) {
    return std::count_if(items.begin(), items.end(), [&](const Item& i) {
      return i.stage == stage && i.finished == finished && !i.of_model;
    });
  };
  std::string text;
  const auto add = [&](int64_t n, const char* what) {
    if (n > 0) text.append(text.empty() ? "" : ", ").append(plural(n, what));
  };
  add(count(Stage::train, true), "checkpoint");
  add(count(Stage::eigh, true), "decomposition");
  add(count(Stage::eigh, false), "unfinished decomposition");
  add(count(Stage::overlap, true), "overlap");
  return text;
}

std::vector<std::string> in_words(const std::vector<Item>& items) {
  std::vector<Item> kept;
  std::vector<std::pair<std::string, std::vector<Item>>> superseded;  // by keys, in the order of the items
  for (const Item& item : items) {
    if (item.differs.empty()) {
      kept.push_back(item);
      continue;
    }
    std::string keys;
    constexpr size_t kMost = 3;
    for (size_t i = 0; i < std::min(item.differs.size(), kMost); ++i)
      keys.append(i > 0 ? ", " : "").append(item.differs[i]);
    if (item.differs.size() > kMost) keys += ", ...";
    auto group =
        std::find_if(superseded.begin(), superseded.end(), [&](const auto& g) { return g.first == keys; });
    if (group == superseded.end()) group = superseded.insert(superseded.end(), {keys, {}});
    group->second.push_back(item);
  }
  std::vector<std::string> lines;
  if (!kept.empty()) lines.push_back("kept: " + count_in_words(kept));
  for (const auto& [keys, group] : superseded)
    lines.push_back("superseded (" + keys + "): " + count_in_words(group));
  return lines;
}

std::vector<fs::path> superseded(const std::vector<Item>& items) {
  std::vector<fs::path> files;
  for (auto item = items.rbegin(); item != items.rend(); ++item)
    if (!item->differs.empty()) files.push_back(item->file);
  return files;
}

fs::path place_for_old(const fs::path& folder, const std::vector<fs::path>& files) {
  std::error_code none;
  const auto place = [&](int64_t n) { return fs::path("old") / std::to_string(n); };
  int64_t n = 1;
  while (fs::exists(folder / place(n), none)) ++n;
  if (n == 1) return place(1);
  const fs::path last = place(n - 1);
  // A move that was completed has left another recipe.toml behind.
  const bool begun = fs::exists(folder / last / "recipe.toml", none) &&
                     read_file(folder / last / "recipe.toml") == read_file(folder / "recipe.toml");
  const bool free = std::none_of(files.begin(), files.end(), [&](const fs::path& file) {
    return fs::exists(folder / last / file, none);
  });
  return begun && free ? last : place(n);
}

}  // namespace seigh
