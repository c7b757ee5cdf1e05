#include "seigh/results/pruning_file.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>
#include <sstream>

#include "seigh/core/error.h"
#include "seigh/core/printable.h"
#include "seigh/io/file.h"

namespace seigh {
namespace {

const std::string kFirst = "# seigh pruning 1";
const std::string kColumns =
    "step,score,sparsity,control,draw,prunable,kept,accuracy,loss,tuned_accuracy,tuned_loss";
constexpr size_t kFields = 11;
constexpr int64_t kMostBytes = int64_t{64} << 20;

// The shortest text that gives the number again.
std::string shortest(double value) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof(buffer), value).ptr};
}

std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> fields(1);
  for (const char c : line) c == ',' ? void(fields.emplace_back()) : fields.back().push_back(c);
  return fields;
}

template <typename T>
bool read_number(const std::string& text, T& value) {
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, value);
  return code == std::errc() && stop == end;
}

bool read_row(const std::string& line, PruningRow& row) {
  const std::vector<std::string> f = split(line);
  int64_t control = 0;
  if (f.size() != kFields || f[1].empty()) return false;
  row.score = f[1];
  const bool numbers = read_number(f[0], row.step) && read_number(f[2], row.sparsity) &&
                       read_number(f[3], control) && read_number(f[4], row.draw) &&
                       read_number(f[5], row.prunable) && read_number(f[6], row.kept) &&
                       read_number(f[7], row.accuracy) && read_number(f[8], row.loss) &&
                       read_number(f[9], row.tuned_accuracy) && read_number(f[10], row.tuned_loss);
  row.control = control == 1;
  return numbers && (control == 0 || control == 1) && 0 <= row.sparsity && row.sparsity < 1;
}

}  // namespace

bool PruningRow::same_mask(const PruningRow& other) const {
  return step == other.step && score == other.score && sparsity == other.sparsity &&
         control == other.control && draw == other.draw;
}

void write_pruning_file(const fs::path& path, const PruningFile& file) {
  std::string text = kFirst + "\n";
  std::istringstream keys(file.recipe);
  for (std::string line; std::getline(keys, line);) text.append("# ").append(line).append("\n");
  text += kColumns + "\n";
  for (const PruningRow& r : file.rows) {
    text += text_of(r.step, ",", r.score, ",", shortest(r.sparsity), ",", r.control ? 1 : 0, ",", r.draw, ",",
                    r.prunable, ",", r.kept);
    for (const double value : {r.accuracy, r.loss, r.tuned_accuracy, r.tuned_loss})
      text.append(",").append(shortest(value));
    text += "\n";
  }
  write_file(path, text);
}

PruningFile read_pruning_file(const fs::path& path) {
  std::istringstream text(read_file(path, kMostBytes));
  const char* const remedy = "; delete the file and continue with seigh run --resume";
  std::string line;
  require(std::getline(text, line) && line == kFirst, path.string(), " does not begin with \"", kFirst, "\"",
          remedy);
  PruningFile file;
  while (std::getline(text, line) && line.starts_with("# ")) file.recipe += line.substr(2) + "\n";
  require(line == kColumns, path.string(), " lacks the line of columns, ", kColumns, remedy);
  while (std::getline(text, line)) {
    PruningRow row;
    require(read_row(line, row), path.string(), ": \"", shortened(line), "\" is no line of results", remedy);
    file.rows.push_back(std::move(row));
  }
  return file;
}

std::vector<std::string> pruning_table(const std::vector<PruningRow>& rows) {
  std::vector<std::string> lines;
  std::vector<int64_t> steps;
  for (const PruningRow& row : rows)
    if (std::find(steps.begin(), steps.end(), row.step) == steps.end()) steps.push_back(row.step);
  std::sort(steps.begin(), steps.end());
  for (const int64_t step : steps) {
    // Lines of the table in the order of the rows, each a sum and a count by sparsity.
    using Cells = std::map<double, std::pair<double, int64_t>>;
    std::vector<std::pair<std::string, Cells>> table;
    std::set<double> sparsities;
    bool accuracies = true;
    for (const PruningRow& row : rows) accuracies &= !std::isnan(row.accuracy);
    const bool tuned = std::any_of(rows.begin(), rows.end(), [&](const PruningRow& row) {
      return row.step == step && !std::isnan(row.tuned_loss);
    });
    std::string whole;
    const auto add = [&](const std::string& name, double sparsity, double value) {
      auto found = std::find_if(table.begin(), table.end(), [&](const auto& l) { return l.first == name; });
      if (found == table.end()) found = table.insert(table.end(), {name, {}});
      auto& [sum, count] = found->second[sparsity];
      sum += value;
      ++count;
      sparsities.insert(sparsity);
    };
    char number[32];
    for (const PruningRow& row : rows) {
      if (row.step != step) continue;
      const double before = accuracies ? row.accuracy : row.loss,
                   after = accuracies ? row.tuned_accuracy : row.tuned_loss;
      if (row.score == "none") {
        std::snprintf(number, sizeof(number), "%.4g", before);
        whole = number;
        std::snprintf(number, sizeof(number), "%.4g", after);
        if (tuned) whole += std::string(", fine-tuned ") + number;
        continue;
      }
      const std::string name = row.score + (row.control ? ", random by layer" : "");
      add(name, row.sparsity, before);
      if (tuned) add(name + ", fine-tuned", row.sparsity, after);
    }
    size_t width = 0;
    for (const auto& [name, cells] : table) width = std::max(width, name.size());
    lines.push_back(text_of("step ", step, ": test ", accuracies ? "accuracy" : "loss",
                            " by share of parameters pruned", whole.empty() ? "" : "; of none ", whole));
    std::string head(width + 2, ' ');
    for (const double sparsity : sparsities) {
      std::snprintf(number, sizeof(number), "%9.4g", sparsity);
      head += number;
    }
    if (!table.empty()) lines.push_back(head);
    for (const auto& [name, cells] : table) {
      std::string line = "  " + name + std::string(width - name.size(), ' ');
      for (const double sparsity : sparsities) {
        const auto cell = cells.find(sparsity);
        if (cell == cells.end()) {
          line += "        -";
          continue;
        }
        std::snprintf(number, sizeof(number), "%9.4f",
                      cell->second.first / static_cast<double>(cell->second.second));
        line += number;
      }
      lines.push_back(line);
    }
  }
  return lines;
}

}  // namespace seigh
