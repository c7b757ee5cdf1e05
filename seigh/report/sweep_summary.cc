#include "seigh/report/sweep_summary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>

#include "seigh/io/safetensors.h"
#include "seigh/overlap/statistics.h"
#include "seigh/report/format.h"
#include "seigh/results/eigen_file.h"
#include "seigh/results/finished.h"

namespace seigh {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Geometric between two numbers.
double between(double a, double b, double t) {
  return a > 0 && b > 0 ? std::exp((1 - t) * std::log(a) + t * std::log(b)) : kNaN;
}

// Where the loss of `rows`, one split's by step, first falls to `loss`.
std::optional<SummaryRow> where_loss_is(const std::vector<SummaryRow>& rows, double loss) {
  for (size_t i = 0; i + 1 < rows.size(); ++i) {
    const SummaryRow &a = rows[i], &b = rows[i + 1];
    if (!(a.loss >= loss && loss >= b.loss)) continue;
    const double t = a.loss > b.loss ? (a.loss - loss) / (a.loss - b.loss) : 0;
    SummaryRow row = a;
    row.at_loss = true;
    row.loss = loss;
    row.step = (1 - t) * a.step + t * b.step;
    row.test_accuracy = (1 - t) * a.test_accuracy + t * b.test_accuracy;
    row.k = std::min(a.k, b.k);
    for (double SummaryRow::*factor : {&SummaryRow::overlap, &SummaryRow::chance, &SummaryRow::layer,
                                       &SummaryRow::units, &SummaryRow::parameter})
      row.*factor = between(a.*factor, b.*factor, t);
    row.z = row.p = row.overlap_low = row.overlap_high = kNaN;
    row.certified = -1;
    return row;
  }
  return std::nullopt;
}

std::string csv_text(const std::string& text) {
  if (text.find_first_of(",\"") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted.append(c == '"' ? "\"\"" : std::string(1, c));
  return quoted + "\"";
}

std::string csv_number(double x) {
  return std::isfinite(x) ? format("%.10g", x) : "";
}

// The columns of the table.
constexpr int kColumns = 4;
const std::array<const char*, kColumns> kNames = {"over chance", "layer", "units", "parameter"};

double column(const SummaryRow& row, int i) {
  return i == 0 ? row.overlap / row.chance : i == 1 ? row.layer : i == 2 ? row.units : row.parameter;
}

// Of one variant: by seed the values on its subsets.
using BySeed = std::map<int64_t, std::vector<double>>;

BySeed by_seed(const std::vector<const SummaryRow*>& rows, int i) {
  BySeed values;
  for (const SummaryRow* row : rows) values[row->seed].push_back(column(*row, i));
  return values;
}

// One value a seed: the mean over its subsets.
std::vector<double> means(const BySeed& values) {
  std::vector<double> result;
  for (const auto& [seed, of_subsets] : values) result.push_back(mean_interval(of_subsets).mean);
  return result;
}

// What one further set of subsets would make of the mean over seeds, by how subsets differ within a seed:
// exp(m +- t s sqrt(sum 1/n_i)/n) for n seeds of n_i subsets, s pooled, t at sum (n_i - 1) degrees.
MeanInterval interval_of_subsets(const BySeed& values) {
  MeanInterval result = mean_interval(means(values));
  result.low = result.high = kNaN;
  double squares = 0, degrees = 0, parts = 0;
  for (const auto& [seed, of_subsets] : values) {
    double sum = 0;
    for (const double x : of_subsets) sum += std::log(x);
    const auto n = static_cast<double>(of_subsets.size());
    for (const double x : of_subsets) squares += std::pow(std::log(x) - sum / n, 2);
    degrees += n - 1;
    parts += 1 / n;
  }
  if (degrees < 1 || !result.geometric || !std::isfinite(squares)) return result;
  const double half = student_quantile(0.975, degrees) * std::sqrt(squares / degrees * parts) /
                      static_cast<double>(values.size());
  result.low = result.mean * std::exp(-half);
  result.high = result.mean * std::exp(half);
  return result;
}

double deviation_of_logs(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double x : values) sum += std::log(x);
  for (const double x : values)
    squares += std::pow(std::log(x) - sum / static_cast<double>(values.size()), 2);
  return values.size() < 2 ? kNaN : std::sqrt(squares / static_cast<double>(values.size() - 1));
}

// Pooled over seeds: what subsets of samples alone make of one trained network.
double deviation_of_subsets(const BySeed& values) {
  double squares = 0, degrees = 0;
  for (const auto& [seed, of_subsets] : values) {
    const auto n = static_cast<double>(of_subsets.size());
    if (n < 2) continue;
    squares += std::pow(deviation_of_logs(of_subsets), 2) * (n - 1);
    degrees += n - 1;
  }
  return std::sqrt(squares / degrees);
}

std::string number(double x) {
  return format("%.3g", x);
}

std::string in_words(const MeanInterval& i, bool mean = true) {
  std::string text = mean ? number(i.mean) : "";
  if (!std::isnan(i.low)) text += (mean ? " [" : "[") + number(i.low) + ", " + number(i.high) + "]";
  return text.empty() ? "-" : text + (i.geometric ? "" : "*");
}

// Characters, not bytes, so that names that are not ASCII stay in their columns.
std::string padded(std::string text, size_t width) {
  const auto characters = static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
  return characters < width ? text.append(width - characters, ' ') : text;
}

class Table {
 public:
  Table(const Sweep& sweep, const std::string& split, const std::vector<SummaryRow>& rows)
      : sweep_(sweep), split_(split) {
    for (const SummaryRow& row : rows)
      if (row.split == split) rows_[row.variant].push_back(&row);
    for (const std::string& variant : sweep.variants) width_ = std::max(width_, variant.size() + 2);
    width_ = std::min<size_t>(width_, 40);
  }

  std::vector<std::string> lines() {
    const std::string of = sweep_.seeds == 1 ? "one seed, so no intervals over seeds"
                                             : "geometric mean over " + std::to_string(sweep_.seeds) +
                                                   " seeds [95 % interval of it]";
    begin(split_ + ", last step: " + of + (sweep_.subsets > 1 ? ", subsets averaged within a seed" : ""));
    for (const std::string& variant : sweep_.variants) {
      const auto last = picked(variant, [&](const auto& steps) { return *steps.rbegin(); });
      variant_lines(variant, last);
      const auto first = picked(variant, [&](const auto& steps) { return *steps.begin(); });
      if (!first.empty() && first[0]->step == 0 && !last.empty() && last[0]->step > 0)
        add("  at step 0", [&](int i) { return in_words(mean_interval(means(by_seed(first, i)))); });
      comparison(variant, last, [&](const std::string& base) {
        return picked(base, [&](const auto& steps) { return *steps.rbegin(); });
      });
    }
    if (sweep_.at_loss) at_loss();
    if (starred_)
      lines_.emplace_back("* a value was not positive: arithmetic mean and interval; no ratio to another");
    return std::move(lines_);
  }

 private:
  using Rows = std::vector<const SummaryRow*>;

  // The recorded rows of a variant at one of its steps.
  template <typename Pick>
  Rows picked(const std::string& variant, const Pick& pick) const {
    std::set<double> steps;
    Rows found;
    const auto all = rows_.find(variant);
    if (all == rows_.end()) return found;
    for (const SummaryRow* row : all->second)
      if (!row->at_loss) steps.insert(row->step);
    if (steps.empty()) return found;
    for (const SummaryRow* row : all->second)
      if (!row->at_loss && row->step == pick(steps)) found.push_back(row);
    return found;
  }

  void begin(const std::string& heading) {
    lines_.push_back(heading);
    std::string line = padded("", width_);
    for (const char* name : kNames) line += padded(name, kWidth);
    lines_.push_back(line.substr(0, line.find_last_not_of(' ') + 1));
  }

  template <typename Cell>
  void add(const std::string& name, const Cell& cell, const std::string& more = "") {
    std::string line = padded(name, width_);
    for (int i = 0; i < kColumns; ++i) {
      const std::string text = cell(i);
      starred_ = starred_ || text.ends_with("*");
      line += padded(text, kWidth - 1) + " ";
    }
    line = line.substr(0, line.find_last_not_of(' ') + 1);
    lines_.push_back(line + more);
  }

  void variant_lines(const std::string& variant, const Rows& rows) {
    if (rows.empty()) {
      lines_.push_back(padded(variant, width_) + "no result");
      return;
    }
    const int64_t seeds = static_cast<int64_t>(by_seed(rows, 0).size());
    add(
        variant, [&](int i) { return in_words(mean_interval(means(by_seed(rows, i)))); },
        seeds < sweep_.seeds
            ? "  (" + std::to_string(seeds) + " of " + std::to_string(sweep_.seeds) + " seeds)"
            : "");
    if (seeds > 2)
      add("  one more run", [&](int i) {  // with probability 99 %
        return in_words(prediction_interval(means(by_seed(rows, i))), /*mean=*/false) + " 99 %";
      });
    if (sweep_.subsets > 1) {
      add("  over subsets",
          [&](int i) { return in_words(interval_of_subsets(by_seed(rows, i)), /*mean=*/false); });
      add("  spread", [&](int i) {
        const BySeed values = by_seed(rows, i);
        return format("seeds %.2g %%, subsets %.2g %%", 100 * deviation_of_logs(means(values)),
                      100 * deviation_of_subsets(values));
      });
    }
  }

  template <typename Find>
  void comparison(const std::string& variant, const Rows& rows, const Find& find) {
    if (sweep_.base.empty() || variant == sweep_.base || rows.empty()) return;
    const Rows base = find(sweep_.base);
    if (base.empty()) return;
    // Of the seeds and, within them, the subsets that both have.
    const auto ratios = [&](int i) {
      BySeed pairs;
      for (const SummaryRow* a : rows)
        for (const SummaryRow* b : base)
          if (a->seed == b->seed && a->subset == b->subset) {
            const double x = column(*a, i), y = column(*b, i);
            pairs[a->seed].push_back(x > 0 && y > 0 ? x / y : kNaN);
          }
      return pairs;
    };
    add("  over " + sweep_.base, [&](int i) { return in_words(mean_interval(means(ratios(i)))); });
    if (sweep_.subsets > 1)
      add("    over subsets",
          [&](int i) { return in_words(interval_of_subsets(ratios(i)), /*mean=*/false); });
  }

  void at_loss() {
    const auto reached = [&](const std::string& variant) {
      Rows found;
      if (const auto all = rows_.find(variant); all != rows_.end())
        for (const SummaryRow* row : all->second)
          if (row->at_loss) found.push_back(row);
      return found;
    };
    begin(split_ + ", where the training loss falls to " + number(*sweep_.at_loss) +
          ", between recorded steps:");
    std::set<std::string> there;
    for (const std::string& variant : sweep_.variants) {
      const Rows rows = reached(variant);
      for (const SummaryRow* row : rows) there.insert(row->folder);
      variant_lines(variant, rows);
      comparison(variant, rows, reached);
    }
    std::string missing;
    int64_t count = 0;
    for (const SweepRun& run : sweep_.runs) {
      if (there.contains(run.folder)) continue;
      constexpr int64_t kMost = 5;
      if (++count <= kMost) missing += (missing.empty() ? "" : "; ") + run.label(sweep_.subsets);
      if (count == kMost + 1) missing += "; ...";
    }
    if (count > 0)
      lines_.push_back(std::to_string(count) + (count == 1 ? " run has" : " runs have") +
                       " no two recorded steps about that loss: " + missing);
  }

  static constexpr size_t kWidth = 26;
  const Sweep& sweep_;
  std::string split_;
  std::map<std::string, Rows> rows_;
  size_t width_ = 16;
  bool starred_ = false;
  std::vector<std::string> lines_;
};

}  // namespace

std::vector<SummaryRow> summary_rows(const SweepRun& run, const RunFolder& folder, Method method,
                                     std::optional<double> at_loss) {
  const Recipe& r = folder.recipe();
  std::vector<SummaryRow> all, interpolated;
  std::error_code none;
  for (const std::string& split : r.curvature.splits) {
    std::vector<SummaryRow> rows;
    for (const int64_t step : r.curvature.steps) {
      const fs::path path = folder.overlap(step, split, to_string(method));
      if (!fs::exists(path, none)) continue;
      const OverlapCurves curves = finished_overlap(path);
      SummaryRow row;
      row.variant = run.variant;
      row.folder = run.folder;
      row.seed = run.seed;
      row.subset = run.subset;
      row.step = static_cast<double>(step);
      row.split = split;
      if (fs::exists(folder.checkpoint(step), none)) {
        const auto metadata = read_safetensors_metadata(folder.checkpoint(step), Maker::seigh);
        const auto number = [&](const char* key) {
          const auto found = metadata.find(key);
          return found == metadata.end() ? kNaN : std::strtod(found->second.c_str(), nullptr);
        };
        row.loss = number("train_loss");
        row.test_accuracy = number("test_accuracy");
      }
      row.k = curves.magnitude.numel();
      row.overlap = curves.magnitude[row.k - 1].item<double>();
      row.chance = curves.chance[row.k - 1].item<double>();
      if (curves.magnitude_deviation.defined()) {
        const double three = 3 * curves.magnitude_deviation[row.k - 1].item<double>();
        row.overlap_low = std::max(row.overlap - three, 0.0);
        row.overlap_high = row.overlap + three;
      } else if (curves.magnitude_low.defined()) {
        row.overlap_low = curves.magnitude_low[row.k - 1].item<double>();
        row.overlap_high = curves.magnitude_high[row.k - 1].item<double>();
      }
      if (curves.nulls.defined()) {
        const OverlapFactors f = overlap_factors(curves.nulls, curves.nulls.two_way.sizes.numel() - 1);
        row.layer = f.layer;
        row.units = f.units;
        row.parameter = f.parameter;
        row.z = f.z;
        row.p = f.p;
      }
      const fs::path eigen = folder.eigen(step, split, to_string(method));
      if (fs::exists(eigen, none)) row.certified = finished_eigen(eigen).result.certificates.certified();
      rows.push_back(std::move(row));
    }
    if (at_loss)
      if (auto row = where_loss_is(rows, *at_loss); row) interpolated.push_back(std::move(*row));
    all.insert(all.end(), rows.begin(), rows.end());
  }
  all.insert(all.end(), interpolated.begin(), interpolated.end());
  return all;
}

std::string summary_csv(const std::vector<SummaryRow>& rows) {
  std::string text =
      "variant,seed,subset,step,split,loss,test_accuracy,k,overlap,chance,layer,units,parameter,z,p,"
      "certified,overlap_low,overlap_high,interpolated,folder\n";
  for (const SummaryRow& r : rows) {
    std::vector<std::string> cells = {csv_text(r.variant),
                                      std::to_string(r.seed),
                                      std::to_string(r.subset),
                                      csv_number(r.step),
                                      r.split,
                                      csv_number(r.loss),
                                      csv_number(r.test_accuracy),
                                      std::to_string(r.k)};
    for (const double x : {r.overlap, r.chance, r.layer, r.units, r.parameter, r.z, r.p})
      cells.push_back(csv_number(x));
    cells.push_back(r.certified < 0 ? std::string() : std::to_string(r.certified));
    cells.push_back(csv_number(r.overlap_low));
    cells.push_back(csv_number(r.overlap_high));
    cells.emplace_back(r.at_loss ? "1" : "0");
    cells.push_back(csv_text(r.folder));
    for (size_t i = 0; i < cells.size(); ++i) text.append(i == 0 ? "" : ",").append(cells[i]);
    text.append("\n");
  }
  return text;
}

std::vector<std::string> summary_table(const Sweep& sweep, const std::vector<SummaryRow>& rows) {
  std::vector<std::string> splits, lines;
  for (const SummaryRow& row : rows)
    if (std::find(splits.begin(), splits.end(), row.split) == splits.end()) splits.push_back(row.split);
  for (const std::string& split : splits)
    for (std::string& line : Table(sweep, split, rows).lines()) lines.push_back(std::move(line));
  return lines;
}

}  // namespace seigh
