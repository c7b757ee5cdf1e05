#include "seigh/report/figures.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/core/printable.h"
#include "seigh/eigen/concentration.h"
#include "seigh/overlap/statistics.h"
#include "seigh/recipe/options.h"
#include "seigh/report/drawing.h"
#include "seigh/report/format.h"
#include "seigh/results/dynamics_file.h"
#include "seigh/results/finished.h"
#include "seigh/results/pruning_file.h"

namespace seigh {
namespace {

using namespace drawing;

constexpr double kTwoSided = 1.96;  // standard deviations of 95 %

// What becomes of the figures of one call.
class Writer {
 public:
  explicit Writer(fs::path to) : to_(std::move(to)) {
    require_drawing();
    std::error_code none;
    const fs::file_status status = fs::status(to_, none);
    require_file(to_, !fs::exists(status) || fs::is_directory(status), to_.string(),
                 " is no folder; choose another one with --figures");
  }
  void write(const Figure& figure, const std::string& shows) {
    try {
      for (fs::path& path : write_figure(to_, figure)) written_.files.push_back(std::move(path));
    } catch (const FileError& error) {
      // The advice is of the option that names the usual output.
      std::string text = error.what();
      const size_t at = text.rfind("--out");
      if (at != std::string::npos) text.replace(at, 5, "--figures");
      throw FileError(error.path(), text);
    }
    written_.lines.push_back((to_ / figure.name).string() + ".svg, .pdf: " + shows);
  }
  void left_out(const std::string& kind, const std::string& why) {
    missing_.push_back("left out: " + kind + ": " + why);
  }
  FiguresWritten finish(const std::string& of) {
    if (written_.files.empty()) {
      std::string reasons;
      for (const std::string& line : missing_)
        reasons += "; " + line.substr(std::string("left out: ").size());
      fail(of, ": there is nothing to draw yet", reasons);
    }
    written_.lines.insert(written_.lines.end(), missing_.begin(), missing_.end());
    return std::move(written_);
  }

 private:
  fs::path to_;
  FiguresWritten written_;
  std::vector<std::string> missing_;
};

double at(const at::Tensor& values, int64_t i) {
  return values[i].item<double>();
}
std::string method_name(const std::string& method) {
  return method == "dense" ? "exact" : method == "krylov" ? "block Krylov" : "sketched (" + method + ")";
}
std::string matrix_name(const std::string& matrix) {
  return matrix == "hessian"  ? "Hessian"
         : matrix == "ggn"    ? "Gauss–Newton"
         : matrix == "fisher" ? "Fisher"
                              : matrix;
}

// ---- what a run holds

// One decomposition and the overlap of the headline's mask with it.
struct Spot {
  int64_t step;
  std::string split, method;
  EigenFile eigen;
  std::optional<OverlapStudy::Mask> mask = {};
};

struct Results {
  std::string name = {}, matrix = {};
  std::string method = {};  // of the run; the others are exact
  std::vector<std::string> splits = {};
  std::vector<Spot> spots = {};  // by step
  // Those of a split and method, with overlap where `overlaps`.
  std::vector<const Spot*> of(const std::string& split, const std::string& by, bool overlaps = true) const {
    std::vector<const Spot*> found;
    for (const Spot& s : spots)
      if (s.split == split && s.method == by && (s.mask || !overlaps)) found.push_back(&s);
    return found;
  }
  std::string score() const {
    for (const Spot& s : spots)
      if (s.mask) return s.mask->label();
    return "";
  }
  // The words for the mask in a title.
  std::string mask() const {
    return score() == "magnitude" ? "largest parameters" : "mask by " + printable(score());
  }
};

Results results_of(const RunFolder& folder, Method solver) {
  const Recipe& r = folder.recipe();
  Results results{r.name, r.curvature.matrix, to_string(solver), {}, {}};
  std::error_code none;
  for (const int64_t step : r.curvature.steps) {
    for (const std::string& split : r.curvature.splits) {
      for (const std::string& method : result_methods(solver)) {
        const fs::path eigen = folder.eigen(step, split, method),
                       overlap = folder.overlap(step, split, method);
        if (!fs::exists(eigen, none)) continue;
        Spot spot{step, split, method, finished_eigen(eigen)};
        if (fs::exists(overlap, none)) spot.mask = std::move(finished_study(overlap).masks.front());
        results.spots.push_back(std::move(spot));
      }
    }
  }
  for (const std::string& split : r.curvature.splits)
    if (std::any_of(results.spots.begin(), results.spots.end(),
                    [&](const Spot& s) { return s.split == split; }))
      results.splits.push_back(split);
  return results;
}

// The largest k that all overlap curves have; 0: there are none.
int64_t common_size(const Results& results) {
  int64_t k = 0;
  for (const Spot& s : results.spots)
    if (s.mask) k = k == 0 ? s.mask->curves.magnitude.numel() : std::min(k, s.mask->curves.magnitude.numel());
  return k;
}
// Some k up to the largest: powers of ten, and that.
std::vector<int64_t> some_sizes(int64_t most) {
  std::vector<int64_t> sizes;
  for (int64_t k = 10; k <= most * 2 / 3; k *= 10) sizes.push_back(k);
  if (sizes.empty() && most > 3) sizes.push_back(std::llround(std::sqrt(static_cast<double>(most))));
  sizes.push_back(most);
  return sizes;
}
// At most `count` of them, evenly, the first and the last among them.
template <typename T>
std::vector<T> evenly(const std::vector<T>& all, size_t count) {
  if (all.size() <= count) return all;
  std::vector<T> some;
  for (size_t i = 0; i < count; ++i)
    some.push_back(all[(i * (all.size() - 1) + (count - 1) / 2) / (count - 1)]);
  return some;
}

// ---- maps over pairs of steps

Panel map_panel(const DynamicsMaps& maps, size_t i) {
  Panel panel;
  panel.title = "ρ = " + number_text(maps.rho[i]) + ", k = " + std::to_string(maps.k[i]) + "\nchance " +
                number_text(maps.chance[i]);
  HeatMap map{maps.steps, maps.columns(), {}};
  const at::Tensor values = maps.values[static_cast<int64_t>(i)].contiguous();
  map.values.assign(values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel());
  panel.map = std::move(map);
  return panel;
}

void draw_maps(const Dynamics& dynamics, const Results& results, Writer& out) {
  Figure masks, spaces;
  size_t columns = 0;
  for (const DynamicsMaps& maps : dynamics.maps)
    if (maps.name != "mask") columns = std::max(columns, maps.k.size());
  std::vector<std::string> names;
  // In the order of the recipe's splits; pairs of them last.
  std::vector<const DynamicsMaps*> ordered;
  for (const DynamicsMaps& maps : dynamics.maps) ordered.push_back(&maps);
  const auto place = [&](const DynamicsMaps* maps) {
    return std::find(results.splits.begin(), results.splits.end(), maps->name) - results.splits.begin();
  };
  std::stable_sort(ordered.begin(), ordered.end(),
                   [&](const DynamicsMaps* a, const DynamicsMaps* b) { return place(a) < place(b); });
  for (const DynamicsMaps* one : ordered) {
    const DynamicsMaps& maps = *one;
    const bool mask = maps.name == "mask";
    Figure& figure = mask ? masks : spaces;
    const size_t first = figure.panels.size();
    for (size_t i = 0; i < maps.k.size(); ++i) {
      figure.panels.push_back(map_panel(maps, i));
      figure.panels.back().x.title = "training step";
    }
    // "train_test": rows of the first, columns of the second.
    std::string rows = maps.name, others = maps.name;
    if (!maps.symmetric()) {
      for (const std::string& split : results.splits) {
        if (maps.name.rfind(split + "_", 0) != 0) continue;
        rows = split;
        others = maps.name.substr(split.size() + 1);
      }
    }
    if (mask) continue;
    names.push_back(maps.symmetric() ? maps.name : rows + " against " + others);
    if (figure.panels.size() > first) figure.panels[first].y.title = "training step, " + rows;
    for (size_t i = first; i < figure.panels.size(); ++i)
      figure.panels[i].x.title = "training step, " + others;
    while (figure.panels.size() < first + columns) figure.panels.push_back({.empty = true});
  }
  const std::string name = printable(results.name);
  if (masks.panels.empty()) {
    out.left_out("maps of masks", "there are fewer than two checkpoints");
  } else {
    masks.panels.front().y.title = "training step";
    masks.name = "mask-iou-maps";
    masks.title = "Masks of the k = ρD largest parameters at two steps: intersection over union";
    masks.of = name;
    masks.columns = static_cast<int>(masks.panels.size());
    masks.width = masks.columns < 3 ? kColumnWidth : kFullWidth;
    masks.bar = "intersection over union";
    out.write(masks, "intersection over union of masks, for all pairs of steps");
  }
  if (spaces.panels.empty()) {
    out.left_out("maps of eigenspaces",
                 "there are fewer than two decompositions of a split: more of curvature.steps");
    return;
  }
  spaces.name = "eigenspace-maps";
  spaces.title =
      "Top-k eigenspaces of the " + matrix_name(dynamics.matrix) + " at two steps: overlap ‖UₛᵀUₜ‖²/k";
  spaces.of = name;
  spaces.columns = static_cast<int>(columns);
  spaces.width = spaces.columns < 3 ? kColumnWidth : kFullWidth;
  spaces.bar = "overlap";
  std::string which;
  for (const std::string& words : names) which += (which.empty() ? "" : ", ") + words;
  out.write(spaces, "overlap of eigenspaces, for all pairs of steps: " + which);
}

// ---- concentration

void draw_concentration(const Results& results, Writer& out) {
  int64_t most = 0;
  for (const Spot& s : results.spots)
    most = most == 0 ? s.eigen.result.rank : std::min(most, s.eigen.result.rank);
  Figure figure{.name = "concentration",
                .title = "Concentration of the " + matrix_name(results.matrix) +
                         ": share of ‖H‖² (Frobenius) in its k leading eigenpairs",
                .of = printable(results.name)};
  bool any = false, whiskers = false;
  for (const std::string& split : results.splits) {
    Panel panel{.title = split};
    panel.x.title = "training step";
    if (figure.panels.empty()) panel.y.title = "κ = Σλ² / ‖H‖²";
    panel.y.low = 0;
    const std::vector<int64_t> sizes = most > 0 ? some_sizes(most) : std::vector<int64_t>{};
    for (size_t i = 0; i < sizes.size(); ++i) {
      std::vector<std::string> methods = {results.method};
      if (results.method != "dense") methods.emplace_back("dense");
      for (const std::string& method : methods) {
        const bool exact = method != results.method;
        Curve curve{.colour = series_colour(i)};
        for (const Spot* s : results.of(split, method, false)) {
          const Concentration c = concentration(s->eigen.result, s->eigen.info.parameters);
          if (!c.defined() || c.share.numel() < sizes[i]) continue;
          const auto at = [k = sizes[i]](const at::Tensor& values) { return values[k - 1].item<double>(); };
          curve.x.push_back(static_cast<double>(s->step));
          curve.y.push_back(at(c.share));
          // Of all k the same in proportion: that of the norm.
          if (exact || i + 1 < sizes.size()) continue;
          const bool seen = at(c.high) - at(c.low) > 0.01 * at(c.share);
          curve.low.push_back(seen ? at(c.low) : kNotGiven);
          curve.high.push_back(seen ? at(c.high) : kNotGiven);
          whiskers = whiskers || seen;
        }
        if (curve.x.empty()) continue;
        any = true;
        if (exact) {
          curve.name = "exact";
          curve.neutral = true;
          curve.width = 0;
          curve.mark = Mark::diamond;
          curve.hollow = true;
          curve.size = 2.4;
        } else {
          curve.name = method_name(method);
          curve.neutral = true;
          curve.label = "k = " + std::to_string(sizes[i]);
          curve.mark = series_mark(i);
        }
        panel.curves.push_back(std::move(curve));
      }
    }
    // Exact marks on top.
    std::stable_sort(panel.curves.begin(), panel.curves.end(),
                     [](const Curve& a, const Curve& b) { return a.hollow > b.hollow; });
    figure.panels.push_back(std::move(panel));
  }
  if (!any) {
    out.left_out("concentration",
                 results.spots.empty()
                     ? "there is no decomposition: seigh run RECIPE --resume"
                     : "no decomposition knows the norm of its matrix: seigh run RECIPE --resume --set "
                       "eigh.probes=30");
    return;
  }
  if (whiskers) figure.of += "; whiskers: 95 %, of the estimate of ‖H‖²";
  figure.columns = static_cast<int>(figure.panels.size());
  figure.width = figure.columns < 2 ? kColumnWidth : kFullWidth;
  out.write(figure, "concentration by step: share of the squared norm in the top k pairs");
}

// ---- overlap

// Whiskers: bounds on the true overlap, or three deviations of a sketch's; nothing where they are no wider
// than a mark.
std::pair<double, double> edges(const OverlapCurves& c, int64_t k) {
  double low = kNotGiven, high = kNotGiven;
  if (c.magnitude_deviation.defined()) {
    const double value = at(c.magnitude, k - 1), deviation = at(c.magnitude_deviation, k - 1);
    low = std::max(0.0, value - 3 * deviation);
    high = value + 3 * deviation;
  } else if (c.magnitude_low.defined()) {
    low = at(c.magnitude_low, k - 1);
    high = at(c.magnitude_high, k - 1);
  }
  if (!(high - low > 0.01 * high)) return {kNotGiven, kNotGiven};
  return {low, high};
}

void draw_methods(const Results& results, Writer& out) {
  const int64_t k = common_size(results);
  if (k == 0) {
    out.left_out("overlap", "there is none: seigh overlap RUN");
    return;
  }
  const bool both =
      results.method != "dense" && std::any_of(results.spots.begin(), results.spots.end(),
                                               [](const Spot& s) { return s.method == "dense" && s.mask; });
  Figure figure{.name = both ? "overlap-exact" : "overlap-nulls",
                .title = "Overlap of the " + std::to_string(k) + " " + results.mask() + " with the top-" +
                         std::to_string(k) + " eigenspace" +
                         (both ? ", exact and " + method_name(results.method) : "") + ", and its nulls",
                .of = printable(results.name),
                .height = 150};
  bool whiskers = false;
  for (const std::string& split : results.splits) {
    const std::vector<const Spot*> spots = results.of(split, results.method);
    Panel panel{.title = split};
    panel.x.title = "training step";
    panel.y.log = true;
    if (figure.panels.empty()) panel.y.title = "overlap Σcos²θ/k";
    Curve mask{
        .name = method_name(results.method), .colour = paper::blue, .width = 1.5, .mark = Mark::circle};
    mask.wide = true;  // bounds are a worst case
    Curve exact{.name = "exact",
                .colour = paper::green,
                .width = 0,
                .mark = Mark::diamond,
                .hollow = true,
                .size = 2.6};
    Curve chance{.name = "chance k/D", .colour = paper::ink, .width = 0.9, .dash = {1.2, 1.8}};
    Curve layer{.name = "layer null", .colour = paper::purple, .width = 0.9, .dash = {4, 2}};
    Curve two{.name = "two-way null, 95 %", .colour = paper::red, .width = 0, .mark = Mark::square};
    Area band{.name = "layer null, 95 % for all k at once", .colour = paper::purple, .edges = true};
    for (const Spot* s : spots) {
      const OverlapCurves& c = s->mask->curves;
      const auto step = static_cast<double>(s->step);
      mask.x.push_back(step);
      mask.y.push_back(at(c.magnitude, k - 1));
      const auto [low, high] = edges(c, k);
      mask.low.push_back(low);
      mask.high.push_back(high);
      whiskers = whiskers || std::isfinite(high);
      chance.x.push_back(step);
      chance.y.push_back(at(c.chance, k - 1));
      if (!c.nulls.defined()) continue;
      layer.x.push_back(step);
      layer.y.push_back(at(c.nulls.layer.mean, k - 1));
      if (c.bands.layer.low.defined()) {
        band.x.push_back(step);
        band.low.push_back(at(c.bands.layer.low, k - 1));
        band.high.push_back(at(c.bands.layer.high, k - 1));
      }
      const TwoWayNull& t = c.nulls.two_way;
      for (int64_t i = 0; i < t.sizes.numel(); ++i) {
        if (t.sizes[i].item<int64_t>() != k) continue;
        two.x.push_back(step);
        two.y.push_back(at(t.mean, i));
        two.low.push_back(std::max(0.0, at(t.mean, i) - kTwoSided * at(t.deviation, i)));
        two.high.push_back(at(t.mean, i) + kTwoSided * at(t.deviation, i));
      }
    }
    if (both) {
      for (const Spot* s : results.of(split, "dense")) {
        exact.x.push_back(static_cast<double>(s->step));
        exact.y.push_back(at(s->mask->curves.magnitude, k - 1));
      }
    }
    // Worst cases would squeeze all else.
    panel.y.floor = chance.y.empty() ? kNotGiven : chance.y.front() / 30;
    for (Curve* c : {&exact, &mask, &two, &layer, &chance})
      if (!c->x.empty()) panel.curves.push_back(std::move(*c));
    if (std::any_of(band.low.begin(), band.low.end(), [](double v) { return std::isfinite(v); }))
      panel.areas.push_back(std::move(band));
    figure.panels.push_back(std::move(panel));
  }
  if (whiskers)
    figure.of += results.method == "seigh"
                     ? "; whiskers of the overlap: three standard deviations of the sketch"
                     : "; whiskers of the overlap: bounds for the true eigenspace";
  figure.columns = static_cast<int>(figure.panels.size());
  figure.width = figure.columns < 2 ? kColumnWidth : kFullWidth;
  out.write(figure, std::string(both ? "exact and " + method_name(results.method) + " overlap" : "overlap") +
                        " by step at k = " + std::to_string(k) + ", with chance and nulls");
  if (!both && results.method != "dense")
    out.left_out("exact beside " + method_name(results.method) + " overlap",
                 "no exact decomposition: seigh run RECIPE --resume --set dense.steps=[...]");
}

void draw_overlap(const Results& results, Writer& out) {
  const int64_t most = common_size(results);
  if (most == 0) return;  // said above
  Figure figure{.name = "overlap",
                .title = "Overlap of the k " + results.mask() + " with the top-k eigenspace, " +
                         method_name(results.method),
                .of = printable(results.name),
                .columns = static_cast<int>(results.splits.size()),
                .height = 120};
  const std::vector<int64_t> sizes = some_sizes(most);
  for (const std::string& split : results.splits) {
    Panel panel{.title = split + ", by step"};
    panel.x.title = "training step";
    panel.y.log = true;
    if (figure.panels.empty()) panel.y.title = "overlap Σcos²θ/k";
    double least = kNotGiven;
    for (size_t i = sizes.size(); i-- > 0;) {
      Curve curve{.name = "overlap",
                  .label = "k = " + std::to_string(sizes[i]),
                  .colour = series_colour(i),
                  .mark = series_mark(i),
                  .neutral = true};
      Curve chance{
          .name = "chance", .colour = series_colour(i), .width = 0.8, .dash = {1.2, 1.8}, .neutral = true};
      for (const Spot* s : results.of(split, results.method)) {
        curve.x.push_back(static_cast<double>(s->step));
        curve.y.push_back(at(s->mask->curves.magnitude, sizes[i] - 1));
        chance.x.push_back(curve.x.back());
        chance.y.push_back(at(s->mask->curves.chance, sizes[i] - 1));
        least = std::fmin(least, chance.y.back());
      }
      panel.curves.push_back(std::move(curve));
      panel.curves.push_back(std::move(chance));
    }
    panel.y.floor = least / 10;
    figure.panels.push_back(std::move(panel));
  }
  for (const std::string& split : results.splits) {
    Panel panel{.title = split + ", by k"};
    panel.x.title = "k, parameters and eigenvectors";
    panel.x.log = panel.y.log = true;
    panel.y.floor = 0.1;
    panel.rule = 1;
    if (figure.panels.size() == results.splits.size()) panel.y.title = "overlap / chance";
    const std::vector<const Spot*> spots = evenly(results.of(split, results.method), 6);
    for (size_t i = 0; i < spots.size(); ++i) {
      const OverlapCurves& c = spots[i]->mask->curves;
      Curve curve{.label = "step " + std::to_string(spots[i]->step),
                  .colour = ordered_colour(i, spots.size())};
      for (int64_t k = 1; k <= c.magnitude.numel(); ++k) {
        curve.x.push_back(static_cast<double>(k));
        curve.y.push_back(at(c.magnitude, k - 1) / at(c.chance, k - 1));
      }
      panel.curves.push_back(std::move(curve));
    }
    figure.panels.push_back(std::move(panel));
  }
  figure.width = figure.columns < 2 ? kColumnWidth : kFullWidth;
  out.write(figure, "overlap by step and over chance by k, a panel for each split");
}

// ---- pruning

void draw_pruning(const RunFolder& folder, Writer& out) {
  const char* const kind = "pruning";
  std::error_code none;
  if (!fs::exists(folder.pruning(), none)) {
    out.left_out(
        kind,
        folder.recipe().prune.scores.empty()
            ? "the recipe prunes nothing: seigh run RECIPE --resume --set prune.scores='[\"magnitude\"]'"
            : "not yet: seigh prune RUN");
    return;
  }
  const std::vector<PruningRow> rows = read_pruning_file(folder.pruning()).rows;
  std::set<int64_t> steps;
  bool accuracies = false, tuned = false;
  std::vector<std::string> scores;
  std::set<double> sparsities;
  for (const PruningRow& r : rows) {
    accuracies = accuracies || std::isfinite(r.accuracy);
    if (r.score == "none") continue;
    steps.insert(r.step);
    sparsities.insert(r.sparsity);
    tuned = tuned || std::isfinite(r.tuned_loss);
    if (std::find(scores.begin(), scores.end(), r.score) == scores.end()) scores.push_back(r.score);
  }
  if (steps.empty()) {
    out.left_out(kind, "no mask is there yet: seigh prune RUN");
    return;
  }
  const auto value = [&](const PruningRow& r, bool after) {
    return accuracies ? (after ? r.tuned_accuracy : r.accuracy) : (after ? r.tuned_loss : r.loss);
  };
  Figure figure{.name = "pruning",
                .title = std::string(accuracies ? "Test accuracy" : "Test loss") +
                         " of the network without the parameters that scores put last",
                .of = printable(folder.recipe().name) +
                      "; dotted: nothing pruned; whiskers: from the least to the most of several draws",
                .columns = tuned ? 2 : 1,
                .height = 140};
  for (const int64_t step : steps) {
    for (const bool after : {false, true}) {
      if (after && !tuned) continue;
      Panel panel{.title = (steps.size() > 1 ? "step " + std::to_string(step) + ", " : "") +
                           (after ? "fine-tuned" : "at once")};
      panel.x.title = "sparsity: share of parameters pruned";
      if (!after) panel.y.title = accuracies ? "test accuracy" : "test loss";
      panel.x.log = panel.x.reversed = true;
      for (const double s : sparsities) panel.x.ticks.push_back({1 - s, number_text(100 * s) + " %"});
      for (size_t i = 0; i < scores.size(); ++i) {
        for (const bool control : {false, true}) {
          std::map<double, std::vector<double>> found;  // by sparsity
          for (const PruningRow& r : rows)
            if (r.step == step && r.score == scores[i] && r.control == control && r.sparsity < 1)
              found[r.sparsity].push_back(value(r, after));
          if (found.empty()) continue;
          Curve curve{.name = printable(scores[i]) + (control ? ", random by layer" : ""),
                      .colour = series_colour(i)};
          curve.mark = series_mark(i);
          curve.hollow = control;
          if (control) {
            curve.dash = {3, 1.6};
            curve.width = 0.8;
            curve.size = 1.6;
          }
          bool several = false;
          for (const auto& [sparsity, values] : found) {
            double sum = 0;
            for (const double v : values) sum += v;
            const auto [low, high] = std::minmax_element(values.begin(), values.end());
            curve.x.push_back(1 - sparsity);
            curve.y.push_back(sum / static_cast<double>(values.size()));
            curve.low.push_back(*low);
            curve.high.push_back(*high);
            several = several || values.size() > 1;
          }
          if (!several) curve.low = curve.high = {};
          panel.curves.push_back(std::move(curve));
        }
      }
      for (const PruningRow& r : rows)
        if (r.step == step && r.score == "none" && std::isfinite(value(r, after)))
          panel.rule = value(r, after);
      figure.panels.push_back(std::move(panel));
    }
  }
  figure.width = figure.columns < 2 ? kColumnWidth : kFullWidth;
  out.write(figure, std::string(accuracies ? "accuracy" : "loss") + " by sparsity for each score, at once" +
                        (tuned ? " and fine-tuned" : "") + ", with random controls");
}

// ---- the synthetic study

const std::map<std::string, std::string>& metric_names() {
  static const std::map<std::string, std::string> names = {
      {"geodesic", "geodesic"},
      {"chordal_2", "chordal, 2-norm"},
      {"chordal_frobenius", "chordal, Frobenius"},
      {"projection_2", "projection, 2-norm"},
      {"projection_frobenius", "projection, Frobenius"},
      {"fubini_study", "Fubini–Study"},
      {"overlap", "overlap"},
      {"intersection_over_union", "intersection / union"}};
  return names;
}

// All metrics (rows) of all kinds of pairs (columns) over dimension, a curve for each ratio, or over the
// ratio.
Figure synthetic_figure(const SyntheticRecipe& recipe, const SyntheticStudy& study, bool over_dimension) {
  const SyntheticOptions& o = recipe.options;
  const at::Tensor quantiles = synthetic_quantiles(study).contiguous();
  const double* const q = quantiles.const_data_ptr<double>();
  const int64_t cells = quantiles.size(2), levels = quantiles.size(3);
  const auto* const dimension = study.dimension.const_data_ptr<int64_t>();
  const auto* const ratio = study.ratio.const_data_ptr<double>();
  const std::string x = over_dimension ? "dimension" : "ratio";
  Figure figure{.name = "synthetic-by-" + x,
                .title = "Metrics of random pairs of k-dimensional subspaces by " +
                         std::string(over_dimension ? "dimension D" : "ratio k/D"),
                .of = printable(recipe.name) + "; medians of " + std::to_string(study.values.size(-1)) +
                      " pairs, areas: quartiles, whiskers: from the quantile .05 to .95",
                .columns = static_cast<int>(all_pair_kinds.size()),
                .height = 50,
                .share_columns = true};
  std::vector<double> xs, lines;
  for (const int64_t d : over_dimension ? o.dimensions : o.fine_dimensions)
    (over_dimension ? xs : lines).push_back(static_cast<double>(d));
  for (const double r : over_dimension ? o.ratios : o.fine_ratios) (over_dimension ? lines : xs).push_back(r);
  std::sort(xs.begin(), xs.end());
  std::sort(lines.begin(), lines.end());
  const std::vector<std::string>& metrics = synthetic_metrics();
  for (size_t m = 0; m < metrics.size(); ++m) {
    for (size_t kind = 0; kind < all_pair_kinds.size(); ++kind) {
      Panel panel{.title = metric_names().at(metrics[m]) + ", " +
                           std::string(pair_kind_name(all_pair_kinds[kind]))};
      panel.x.log = true;
      panel.y.low = -0.03;
      panel.y.high = 1.03;
      if (m + 1 == metrics.size() || (m + 2 == metrics.size() && kind != 1))
        panel.x.title = over_dimension ? "dimension D" : "ratio k/D";
      panel.y.title = is_similarity(metrics[m]) ? "similarity" : "distance";
      bool any = false;
      for (size_t l = 0; l < lines.size(); ++l) {
        const Colour colour = ordered_colour(l, lines.size());
        Curve curve{.name = (over_dimension ? "k/D = " : "D = ") + number_text(lines[l]),
                    .colour = colour,
                    .width = 1};
        Area quartiles{.colour = colour}, tails{.colour = colour};
        curve.mark = series_mark(l);
        curve.size = 1.3;
        for (const double value : xs) {
          const double d = over_dimension ? value : lines[l], r = over_dimension ? lines[l] : value;
          for (int64_t cell = 0; cell < cells; ++cell) {
            if (static_cast<double>(dimension[cell]) != d || ratio[cell] != r) continue;
            const double* const at_cell =
                q + ((static_cast<int64_t>(kind * metrics.size() + m)) * cells + cell) * levels;
            any = any || std::isfinite(at_cell[2]);
            curve.x.push_back(value);
            curve.y.push_back(at_cell[2]);
            curve.low.push_back(at_cell[0]);
            curve.high.push_back(at_cell[4]);
            quartiles.x.push_back(value);
            quartiles.low.push_back(at_cell[1]);
            quartiles.high.push_back(at_cell[3]);
          }
        }
        panel.curves.push_back(std::move(curve));
        panel.areas.push_back(std::move(quartiles));
      }
      panel.empty = !any;
      // On the left of its row.
      if (any && kind > 0 && !figure.panels.back().empty) panel.y.title.clear();
      figure.panels.push_back(std::move(panel));
    }
  }
  return figure;
}

// ---- sweeps

void draw_sweep(const std::string& name, const std::vector<SummaryRow>& rows, Writer& out) {
  std::vector<std::string> variants, splits;
  std::map<std::string, double> last;  // step of a run and split
  for (const SummaryRow& r : rows) {
    if (r.at_loss) continue;
    if (std::find(variants.begin(), variants.end(), r.variant) == variants.end())
      variants.push_back(r.variant);
    if (std::find(splits.begin(), splits.end(), r.split) == splits.end()) splits.push_back(r.split);
    double& step = last.emplace(r.folder + "/" + r.split, r.step).first->second;
    step = std::max(step, r.step);
  }
  if (variants.empty()) {
    out.left_out("overlap of variants", "no run has overlap curves yet: seigh run RECIPE --resume");
    return;
  }
  const std::vector<std::pair<std::string, double (*)(const SummaryRow&)>> factors = {
      {"overlap / chance", [](const SummaryRow& r) { return r.overlap / r.chance; }},
      {"layer", [](const SummaryRow& r) { return r.layer; }},
      {"units", [](const SummaryRow& r) { return r.units; }},
      {"parameter", [](const SummaryRow& r) { return r.parameter; }}};
  const auto shown = [](const std::string& variant) { return variant.empty() ? "base" : printable(variant); };

  Figure final{.name = "sweep-overlap",
               .title = "Overlap over chance and its factors at the last step and the largest k, by variant",
               .of = printable(name),
               .columns = static_cast<int>(factors.size()),
               .height = std::max(40.0, 13.0 * static_cast<double>(variants.size() + 1)),
               .share_columns = true};
  for (const std::string& split : splits) {
    for (const auto& [title, get] : factors) {
      Panel panel{.title = split};
      panel.x = {.title = title, .log = true};
      panel.upright = 1;
      panel.y = {.reversed = true, .low = 0.4, .high = static_cast<double>(variants.size()) + 0.6};
      bool several = false;
      Curve seeds{.name = "single runs",
                  .colour = paper::soft,
                  .width = 0,
                  .mark = Mark::circle,
                  .hollow = true,
                  .size = 1.3};
      Curve means{.name = "geometric mean, 95 % t-interval over runs",
                  .colour = paper::blue,
                  .across = true,
                  .width = 0,
                  .mark = Mark::square,
                  .size = 2.2};
      for (size_t i = 0; i < variants.size(); ++i) {
        const auto place = static_cast<double>(i + 1);
        panel.y.ticks.push_back({place, shown(variants[i])});
        std::vector<double> values;
        for (const SummaryRow& r : rows)
          if (!r.at_loss && r.variant == variants[i] && r.split == split &&
              r.step == last.at(r.folder + "/" + r.split) && std::isfinite(get(r)))
            values.push_back(get(r));
        for (const double v : values) {
          seeds.x.push_back(v);
          seeds.y.push_back(place + 0.25);
        }
        if (values.empty()) continue;
        several = several || values.size() > 1;
        const MeanInterval mean = mean_interval(values);
        means.x.push_back(mean.mean);
        means.y.push_back(place);
        means.low.push_back(mean.low);
        means.high.push_back(mean.high);
      }
      panel.curves = {means};
      if (several) {
        panel.curves.push_back(std::move(seeds));
      } else {
        panel.curves[0].name = "one run each";
      }
      final.panels.push_back(std::move(panel));
    }
  }
  out.write(final, "overlap over chance and its factors at the last step, by variant");

  Figure by_step{.name = "sweep-by-step",
                 .title = "Overlap over chance and its factors by step, at the largest k",
                 .of = printable(name) + "; geometric means with 95 % t-intervals over runs",
                 .columns = static_cast<int>(factors.size()),
                 .height = 110};
  bool several = false;
  for (const std::string& split : splits) {
    for (const auto& [title, get] : factors) {
      Panel panel{.title = split + ": " + title};
      panel.x.title = "training step";
      panel.y.log = true;
      panel.rule = 1;
      for (size_t i = 0; i < variants.size(); ++i) {
        std::map<double, std::vector<double>> found;  // by step
        for (const SummaryRow& r : rows)
          if (!r.at_loss && r.variant == variants[i] && r.split == split && std::isfinite(get(r)))
            found[r.step].push_back(get(r));
        Curve curve{.name = shown(variants[i]), .colour = series_colour(i)};
        curve.mark = series_mark(i);
        if (i >= 6) curve.dash = {4, 1.6};
        for (const auto& [step, values] : found) {
          const MeanInterval mean = mean_interval(values);
          curve.x.push_back(step);
          curve.y.push_back(mean.mean);
          curve.low.push_back(mean.low);
          curve.high.push_back(mean.high);
        }
        several = several || curve.x.size() > 1;
        panel.curves.push_back(std::move(curve));
      }
      by_step.panels.push_back(std::move(panel));
    }
  }
  if (!several) {
    out.left_out("overlap by step", "all runs have one step: more of curvature.steps");
    return;
  }
  by_step.width = kFullWidth;
  out.write(by_step,
            "overlap over chance and its factors by step; geometric means with 95 % t-intervals over runs");
}

}  // namespace

FiguresWritten write_run_figures(const RunFolder& folder, std::optional<Method> method, const fs::path& to) {
  Writer out(to);
  const Results results = method ? results_of(folder, *method) : Results{.name = folder.recipe().name};
  const std::optional<Dynamics> dynamics = method ? current_dynamics(folder, *method) : std::nullopt;
  if (dynamics) {
    draw_maps(*dynamics, results, out);
  } else {
    out.left_out("maps of masks and eigenspaces",
                 "no dynamics.h5 of what is in the folder: with two steps or more, seigh dynamics RUN");
  }
  draw_concentration(results, out);
  draw_methods(results, out);
  draw_overlap(results, out);
  draw_pruning(folder, out);
  out.left_out("metrics by dimension and ratio",
               "a study of its own: seigh run recipes/synthetic-grassmann.toml");
  return out.finish(folder.path().string());
}

FiguresWritten write_synthetic_figures(const SyntheticRecipe& recipe, const SyntheticFile& file,
                                       const fs::path& to) {
  Writer out(to);
  out.write(synthetic_figure(recipe, file.study, true), "all metrics by dimension, a curve for each ratio");
  out.write(synthetic_figure(recipe, file.study, false), "all metrics by ratio, a curve for each dimension");
  out.left_out("maps, concentration, overlap, pruning", "of networks: name the folder of a run");
  return out.finish(recipe.name);
}

FiguresWritten write_sweep_figures(const std::string& name, const std::vector<SummaryRow>& rows,
                                   const fs::path& to) {
  Writer out(to);
  draw_sweep(name, rows, out);
  out.left_out("maps, concentration, nulls, pruning", "of single runs: name one of the sweep's folders");
  return out.finish(name);
}

}  // namespace seigh
