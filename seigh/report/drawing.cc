#include "seigh/report/drawing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/io/file.h"
#include "seigh/report/format.h"
#ifdef SEIGH_CAIRO
#include <cairo-pdf.h>
#include <cairo-svg.h>
#include <cairo.h>
#endif

namespace seigh::drawing {
namespace {

bool is_number(double value) {
  return std::isfinite(value);
}

std::string superscript(int n) {
  static const char* const digits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text = n < 0 ? "⁻" : "";
  for (const char c : std::to_string(std::abs(n))) text += digits[c - '0'];
  return text;
}

}  // namespace

Colour series_colour(size_t i) {
  static constexpr std::array all{paper::blue,   paper::red,    paper::green,
                                  paper::purple, paper::orange, paper::sky};
  return all[i % all.size()];
}

Colour scale_colour(double value) {
  static constexpr std::array<std::array<int, 3>, 9> viridis{{{68, 1, 84},
                                                              {71, 44, 122},
                                                              {59, 81, 139},
                                                              {44, 113, 142},
                                                              {33, 144, 141},
                                                              {39, 173, 129},
                                                              {92, 200, 99},
                                                              {170, 220, 50},
                                                              {253, 231, 37}}};
  const double at = std::clamp(value, 0.0, 1.0) * (viridis.size() - 1);
  const size_t i = std::min(static_cast<size_t>(at), viridis.size() - 2);
  const double t = at - static_cast<double>(i);
  const auto mix = [&](size_t j) { return (viridis[i][j] + t * (viridis[i + 1][j] - viridis[i][j])) / 255; };
  return {mix(0), mix(1), mix(2)};
}

Colour ordered_colour(size_t i, size_t count) {
  return scale_colour(count < 2 ? 0.3 : 0.85 * static_cast<double>(i) / static_cast<double>(count - 1));
}

Mark series_mark(size_t i) {
  static constexpr std::array all{Mark::circle, Mark::square, Mark::triangle, Mark::diamond};
  return all[i % all.size()];
}

std::string number_text(double value) {
  if (!is_number(value)) return "–";
  if (value == 0) return "0";
  const double size = std::abs(value);
  const std::string sign = value < 0 ? "−" : "";
  if (size == std::floor(size) && size < 1e6) return sign + format("%.0f", size);
  if (size >= 1e-3 && size < 1e5) return sign + format("%.3g", size);
  const std::string digits = format("%.2e", size);
  const size_t e = digits.find('e');
  const std::string power = "10" + superscript(std::atoi(digits.c_str() + e + 1));
  const std::string mantissa = format("%g", std::atof(digits.substr(0, e).c_str()));
  return sign + (mantissa == "1" ? power : mantissa + "×" + power);
}

std::vector<Tick> linear_ticks(double low, double high, double count) {
  const double rough = (high - low) / std::max(1.0, count),
               power = std::pow(10, std::floor(std::log10(rough)));
  double stride = 10 * power;
  for (const double lead : {5.0, 2.0, 1.0})
    if (lead * power >= rough * 0.999) stride = lead * power;
  std::vector<Tick> ticks;
  for (double i = std::ceil(low / stride - 1e-9); i * stride <= high + 1e-9 * stride; ++i) {
    const double at = std::atof(format("%.12g", i * stride).c_str());
    ticks.push_back({at, number_text(at)});
  }
  return ticks;
}

std::vector<Tick> log_ticks(double low, double high, double count) {
  const double span = std::log10(high / low);
  const std::vector<double> leads = span < 0.5 ? std::vector<double>{1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9}
                                    : span < 0.9 ? std::vector<double>{1, 1.5, 2, 3, 5, 7}
                                    : span < 1.8 ? std::vector<double>{1, 2, 5}
                                                 : std::vector<double>{1};
  for (int stride = std::max(1, static_cast<int>(std::ceil(span / std::max(2.0, count)))); stride > 0;
       --stride) {
    std::vector<Tick> ticks;
    const int first = static_cast<int>(std::floor(std::log10(low) / stride)) * stride;
    for (int e = first; e <= std::ceil(std::log10(high)); e += stride) {
      for (const double lead : leads) {
        const double at = std::atof(format("%ge%d", lead, e).c_str());
        if (at >= low * (1 - 1e-9) && at <= high * (1 + 1e-9)) ticks.push_back({at, number_text(at)});
      }
    }
    if (ticks.size() > 1) return ticks;
  }
  return linear_ticks(low, high, count);
}

bool can_draw() {
#ifdef SEIGH_CAIRO
  return true;
#else
  return false;
#endif
}

void require_drawing() {
  require(can_draw(),
          "this seigh draws no figures: it was built without cairo; install that (Debian: libcairo2-dev) and "
          "build it again, with -DSEIGH_CAIRO=ON");
}

std::vector<fs::path> write_figure(const fs::path& folder, const Figure& figure) {
  const std::string svg = figure_svg(figure), pdf = figure_pdf(figure);
  const std::vector<fs::path> paths = {folder / (figure.name + ".svg"), folder / (figure.name + ".pdf")};
  write_file(paths[0], svg);
  write_file(paths[1], pdf);
  return paths;
}

#ifndef SEIGH_CAIRO

std::string figure_svg(const Figure&) {
  require_drawing();
  return {};
}
std::string figure_pdf(const Figure&) {
  require_drawing();
  return {};
}

#else

namespace {

// Points.
constexpr double kTickSize = 6.5, kTextSize = 7, kPanelTitle = 7, kFigureTitle = 8;
constexpr double kLine = 9;    // from one line of small text to the next
constexpr double kInset = 4;   // from the frame to the first and the last point
constexpr double kMargin = 4;  // around the figure

bool shows(const Axis& axis, double value) {
  return is_number(value) && (!axis.log || value > 0);
}

// ---- axes

// Of what is drawn between `from` and `to`, in points.
struct Scale {
  double low = 0, high = 1;
  bool log = false;
  double from = 0, to = 1;
  double operator()(double value) const {
    const double a = log ? std::log(low) : low, b = log ? std::log(high) : high;
    return from + (to - from) * ((log ? std::log(value) : value) - a) / (b - a);
  }
};

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void take(const Axis& axis, double value) {
    if (!shows(axis, value)) return;
    if (is_number(axis.floor)) value = std::max(value, axis.floor);
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

// From what is known of the values to where the axis ends. `tight`: at the values.
Range ends(const Axis& axis, Range known, bool tight) {
  Range range = known;
  if (!(range.low <= range.high)) range = {axis.log ? 0.1 : 0.0, 1.0};
  if (axis.log && !tight) {
    range = {range.low / 1.12, range.high * 1.12};
  } else if (!tight) {
    const double room =
        0.05 * (range.high > range.low ? range.high - range.low : std::max(std::abs(range.high), 1.0));
    range = {range.low - room, range.high + room};
  }
  if (is_number(axis.low)) range.low = axis.low;
  if (is_number(axis.high)) range.high = axis.high;
  if (!(range.high > range.low))
    range = axis.log ? Range{range.low / 2, range.low * 2} : Range{range.low - 1, range.low + 1};
  return range;
}

Range range_of_x(const Panel& panel) {
  Range range;
  for (const Curve& c : panel.curves) {
    if (c.loose) continue;
    for (const double v : c.x) range.take(panel.x, v);
    if (!c.across || c.wide) continue;
    for (const auto* edge : {&c.low, &c.high})
      for (const double v : *edge) range.take(panel.x, v);
  }
  for (const Area& a : panel.areas)
    for (const double v : a.x) range.take(panel.x, v);
  if (panel.upright) range.take(panel.x, *panel.upright);
  return range;
}
Range range_of_y(const Panel& panel) {
  Range range;
  for (const Curve& c : panel.curves) {
    if (c.loose) continue;
    for (const double v : c.y) range.take(panel.y, v);
    if (c.across || c.wide) continue;
    for (const auto* edge : {&c.low, &c.high})
      for (const double v : *edge) range.take(panel.y, v);
  }
  for (const Area& a : panel.areas)
    for (const auto* edge : {&a.low, &a.high})
      for (const double v : *edge) range.take(panel.y, v);
  if (panel.rule) range.take(panel.y, *panel.rule);
  return range;
}
void join(Range& range, const Range& other) {
  range.low = std::min(range.low, other.low);
  range.high = std::max(range.high, other.high);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

using Surface = std::unique_ptr<cairo_surface_t, decltype(&cairo_surface_destroy)>;
Surface owned(cairo_surface_t* surface) {
  return {surface, &cairo_surface_destroy};
}

// A cairo context with what figures are made of.
class Pen {
 public:
  explicit Pen(cairo_surface_t* surface) : cr_(cairo_create(surface), &cairo_destroy) {
    // Without hints letters have the same size on every surface, so that the layout holds for both kinds.
    cairo_font_options_t* options = cairo_font_options_create();
    cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_NONE);
    cairo_font_options_set_hint_metrics(options, CAIRO_HINT_METRICS_OFF);
    cairo_font_options_set_antialias(options, CAIRO_ANTIALIAS_GRAY);
    cairo_set_font_options(cr_.get(), options);
    cairo_font_options_destroy(options);
    cairo_set_line_join(cr_.get(), CAIRO_LINE_JOIN_ROUND);
  }
  cairo_t* get() const { return cr_.get(); }

  void colour(const Colour& c, double alpha = 1) const {
    cairo_set_source_rgba(cr_.get(), c.red, c.green, c.blue, alpha);
  }
  void dash(const std::vector<double>& pattern) const {
    cairo_set_dash(cr_.get(), pattern.data(), static_cast<int>(pattern.size()), 0);
  }
  void line(double x0, double y0, double x1, double y1, const Colour& c, double width,
            const std::vector<double>& pattern = {}) const {
    colour(c);
    dash(pattern);
    cairo_set_line_width(cr_.get(), width);
    cairo_move_to(cr_.get(), x0, y0);
    cairo_line_to(cr_.get(), x1, y1);
    cairo_stroke(cr_.get());
  }

  void font(double size, bool bold) const {
    cairo_select_font_face(cr_.get(), "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL,
                           bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cr_.get(), size);
  }
  double width(const std::string& text, double size, bool bold = false) const {
    font(size, bold);
    cairo_text_extents_t extents;
    cairo_text_extents(cr_.get(), text.c_str(), &extents);
    return extents.x_advance;
  }
  // anchor: 0 begins at x, 0.5 its middle is there, 1 it ends there. y: of the baseline.
  void text(double x, double y, const std::string& words, double size, double anchor, const Colour& c,
            bool bold = false, bool upwards = false) const {
    const double w = width(words, size, bold);
    colour(c);
    cairo_save(cr_.get());
    cairo_move_to(cr_.get(), x, y);
    if (upwards) cairo_rotate(cr_.get(), -std::acos(0.0));
    cairo_rel_move_to(cr_.get(), -anchor * w, 0);
    cairo_show_text(cr_.get(), words.c_str());
    cairo_restore(cr_.get());
  }
  // Lines of words no wider than `room`.
  std::vector<std::string> wrapped(const std::string& words, double room, double size, bool bold) const {
    std::vector<std::string> lines;
    for (const std::string& given : lines_of(words)) {
      std::string line;
      for (size_t begin = 0; begin < given.size();) {
        const size_t end = std::min(given.find(' ', begin), given.size());
        const std::string word = given.substr(begin, end - begin),
                          longer = line.empty() ? word : line + " " + word;
        if (!line.empty() && width(longer, size, bold) > room) {
          lines.push_back(line);
          line = word;
        } else {
          line = longer;
        }
        begin = end + 1;
      }
      lines.push_back(line);
    }
    return lines;
  }

  void mark(double x, double y, Mark kind, const Colour& c, bool hollow, double r) const {
    cairo_t* cr = cr_.get();
    cairo_new_path(cr);
    switch (kind) {
      case Mark::none:
        return;
      case Mark::circle:
        cairo_arc(cr, x, y, r, 0, 4 * std::acos(0.0));
        break;
      case Mark::square:
        cairo_rectangle(cr, x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r);
        break;
      case Mark::triangle:
        cairo_move_to(cr, x, y - 1.3 * r);
        cairo_line_to(cr, x + 1.2 * r, y + r);
        cairo_line_to(cr, x - 1.2 * r, y + r);
        break;
      case Mark::diamond:
        cairo_move_to(cr, x, y - 1.4 * r);
        cairo_line_to(cr, x + 1.4 * r, y);
        cairo_line_to(cr, x, y + 1.4 * r);
        cairo_line_to(cr, x - 1.4 * r, y);
        break;
    }
    cairo_close_path(cr);
    colour(hollow ? paper::white : c);
    cairo_fill_preserve(cr);
    dash({});
    colour(c);
    cairo_set_line_width(cr, 0.7);
    cairo_stroke(cr);
  }

  // Cells of one size, each many pixels: viewers that smooth images blur no more than an edge.
  void image(double x, double y, double w, double h, int rows, int columns,
             const std::function<Colour(int row, int column)>& cell) const {
    const auto pixels = [](int n) { return std::max(1, (400 + n - 1) / n); };
    const int py = pixels(rows), px = pixels(columns);
    const Surface picture = owned(cairo_image_surface_create(CAIRO_FORMAT_RGB24, columns * px, rows * py));
    require(cairo_surface_status(picture.get()) == CAIRO_STATUS_SUCCESS, "a map of ", rows, " x ", columns,
            " steps is too large to be drawn");
    unsigned char* const bytes = cairo_image_surface_get_data(picture.get());
    const auto stride = static_cast<size_t>(cairo_image_surface_get_stride(picture.get()));
    for (int i = 0; i < rows; ++i) {
      unsigned char* const first = bytes + stride * static_cast<size_t>(i * py);
      for (int j = 0; j < columns; ++j) {
        const Colour c = cell(i, j);
        const auto byte = [](double v) { return static_cast<uint32_t>(std::lround(255 * v)); };
        const uint32_t value = byte(c.red) << 16 | byte(c.green) << 8 | byte(c.blue);
        for (int p = 0; p < px; ++p) std::memcpy(first + 4 * static_cast<size_t>(j * px + p), &value, 4);
      }
      for (int p = 1; p < py; ++p) std::memcpy(first + stride * static_cast<size_t>(p), first, stride);
    }
    cairo_surface_mark_dirty(picture.get());
    cairo_save(cr_.get());
    cairo_translate(cr_.get(), x, y);
    cairo_scale(cr_.get(), w / (columns * px), h / (rows * py));
    cairo_set_source_surface(cr_.get(), picture.get(), 0, 0);
    cairo_pattern_set_filter(cairo_get_source(cr_.get()), CAIRO_FILTER_NEAREST);
    cairo_paint(cr_.get());
    cairo_restore(cr_.get());
  }

 private:
  std::unique_ptr<cairo_t, decltype(&cairo_destroy)> cr_;
};

// ---- where everything is

struct LegendEntry {
  std::string name;
  const Curve* curve = nullptr;
  const Area* area = nullptr;
};
// In the order in which panels name them: curves, then areas.
std::vector<LegendEntry> legend_of(const Figure& figure) {
  std::vector<LegendEntry> entries;
  std::set<std::string> known;
  for (const Panel& panel : figure.panels)
    for (const Curve& c : panel.curves)
      if (!c.name.empty() && known.insert(c.name).second) entries.push_back({c.name, &c, nullptr});
  for (const Panel& panel : figure.panels)
    for (const Area& a : panel.areas)
      if (!a.name.empty() && known.insert(a.name).second) entries.push_back({a.name, nullptr, &a});
  return entries;
}

struct Placed {
  double x = 0, y = 0, w = 0, h = 0;  // the inner part
  Scale across, up;
  std::vector<Tick> x_ticks, y_ticks;
  bool x_numbers = true, y_numbers = true;
  double y_title = 0;  // x of its baseline
};

struct Layout {
  double width = 0, height = 0;
  std::vector<std::string> title, of;
  std::vector<Placed> panels;
  std::vector<std::vector<std::string> > titles;  // of panels, in lines
  double legend_top = 0;
  double bar_x = 0, bar_y = 0, bar_h = 0;
};

bool in_use(const Panel& panel) {
  return !panel.empty;
}

std::vector<Tick> ticks_of(const Axis& axis, const Range& range, double count) {
  if (axis.ticks.empty())
    return axis.log ? log_ticks(range.low, range.high, count) : linear_ticks(range.low, range.high, count);
  std::vector<Tick> ticks;
  for (const Tick& t : axis.ticks)
    if (shows(axis, t.at) && t.at >= range.low - 1e-9 * std::abs(range.low) &&
        t.at <= range.high + 1e-9 * std::abs(range.high))
      ticks.push_back(t);
  return ticks;
}

Layout layout_of(const Pen& pen, const Figure& figure) {
  const auto columns = static_cast<size_t>(std::max(1, figure.columns));
  const size_t count = figure.panels.size(), rows = (count + columns - 1) / columns;
  require(count > 0, "the figure ", figure.name, " has no panels");
  Layout layout;
  layout.width = figure.width;
  layout.panels.resize(count);
  layout.titles.resize(count);
  const auto at = [&](size_t row, size_t column) -> const Panel* {
    const size_t i = row * columns + column;
    return i < count && in_use(figure.panels[i]) ? &figure.panels[i] : nullptr;
  };

  // Ranges; shared ones are of all that share them.
  std::vector<Range> xs(count), ys(count);
  for (size_t i = 0; i < count; ++i) {
    xs[i] = range_of_x(figure.panels[i]);
    ys[i] = range_of_y(figure.panels[i]);
  }
  const std::vector<Range> own_x = xs, own_y = ys;
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < count; ++j) {
      if (!in_use(figure.panels[j])) continue;
      if (figure.share_rows && i / columns == j / columns) join(ys[i], own_y[j]);
      if (figure.share_columns && i % columns == j % columns) join(xs[i], own_x[j]);
    }
    const Panel& panel = figure.panels[i];
    xs[i] = ends(panel.x, xs[i], true);
    ys[i] = ends(panel.y, ys[i], false);
    Placed& placed = layout.panels[i];
    placed.y_numbers = true;
    if (figure.share_rows && !panel.map)
      for (size_t c = 0; c < i % columns; ++c) placed.y_numbers = placed.y_numbers && !at(i / columns, c);
    if (figure.share_columns && !panel.map)
      for (size_t r = i / columns + 1; r < rows; ++r)
        placed.x_numbers = placed.x_numbers && !at(r, i % columns);
    placed.y_ticks = panel.map ? std::vector<Tick>{} : ticks_of(panel.y, ys[i], figure.height / 20);
    if (panel.map) {
      for (const int64_t step : panel.map->rows)
        placed.y_ticks.push_back({static_cast<double>(step), std::to_string(step)});
    }
  }

  // Left and right of the inner parts: numbers and titles, labels of curves.
  std::vector<double> left(columns, 4), right(columns, 6);
  for (size_t i = 0; i < count; ++i) {
    const Panel& panel = figure.panels[i];
    if (!in_use(panel)) continue;
    double room = panel.y.title.empty() ? 0 : kLine + 1;
    double numbers = 0;
    if (layout.panels[i].y_numbers)
      for (const Tick& t : layout.panels[i].y_ticks)
        numbers = std::max(numbers, pen.width(t.text, kTickSize));
    left[i % columns] = std::max(left[i % columns], room + numbers + 5);
    for (const Curve& c : panel.curves)
      if (!c.label.empty())
        right[i % columns] = std::max(right[i % columns], pen.width(c.label, kTickSize) + 9);
  }
  const double bar = figure.bar.empty() ? 0 : 38;
  double inner = figure.width - 2 * kMargin - bar - 4.0 * static_cast<double>(columns - 1);
  inner -= std::accumulate(left.begin(), left.end(), 0.0) + std::accumulate(right.begin(), right.end(), 0.0);
  const double w = inner / static_cast<double>(columns);
  require(w > 20, "the figure ", figure.name, " has too many panels in a row");

  double y = kMargin;
  layout.title = pen.wrapped(figure.title, figure.width - 2 * kMargin, kFigureTitle, true);
  layout.of = pen.wrapped(figure.of, figure.width - 2 * kMargin, kTextSize, false);
  y += 11.0 * static_cast<double>(layout.title.size()) + kLine * static_cast<double>(layout.of.size()) + 4;
  for (size_t row = 0; row < rows; ++row) {
    size_t lines = 0;
    double h = 0;
    bool x_title = false, x_numbers = false;
    for (size_t column = 0; column < columns; ++column) {
      const Panel* panel = at(row, column);
      if (panel == nullptr) continue;
      const size_t i = row * columns + column;
      layout.titles[i] = pen.wrapped(panel->title, w + right[column], kPanelTitle, true);
      lines = std::max(lines, layout.titles[i].size());
      h = std::max(h, panel->map ? std::min(1.2, static_cast<double>(panel->map->rows.size()) /
                                                     static_cast<double>(panel->map->columns.size())) *
                                       w
                                 : figure.height);
      x_title = x_title || !panel->x.title.empty();
      x_numbers = x_numbers || layout.panels[i].x_numbers;
    }
    y += kLine * static_cast<double>(lines) + (lines > 0 ? 3 : 0);
    double x = kMargin;
    for (size_t column = 0; column < columns; ++column) {
      x += left[column];
      const size_t i = row * columns + column;
      if (const Panel* panel = at(row, column)) {
        Placed& placed = layout.panels[i];
        placed.x = x;
        placed.y = y;
        placed.w = w;
        placed.h = panel->map
                       ? std::min(h, std::min(1.2, static_cast<double>(panel->map->rows.size()) /
                                                       static_cast<double>(panel->map->columns.size())) *
                                         w)
                       : h;
        placed.y_title = x - left[column] + kTextSize;
        placed.across = {xs[i].low, xs[i].high, panel->x.log, x + kInset, x + w - kInset};
        placed.up = {ys[i].low, ys[i].high, panel->y.log, y + placed.h, y};
        if (panel->x.reversed) std::swap(placed.across.from, placed.across.to);
        if (panel->y.reversed) std::swap(placed.up.from, placed.up.to);
        placed.x_ticks = panel->map ? std::vector<Tick>{} : ticks_of(panel->x, xs[i], w / 34);
        if (panel->map)
          for (const int64_t step : panel->map->columns)
            placed.x_ticks.push_back({static_cast<double>(step), std::to_string(step)});
      }
      x += w + right[column] + 4;
    }
    if (row == 0) {
      layout.bar_x = figure.width - kMargin - bar + 6;
      layout.bar_y = y;
      layout.bar_h = h;
    }
    y += h + (x_numbers ? 11 : 3) + (x_title ? kLine + 1 : 0) + 5;
  }
  layout.legend_top = y;
  double at_x = kMargin + left[0];
  const std::vector<LegendEntry> entries = legend_of(figure);
  if (!entries.empty()) y += kLine + 2;
  for (const LegendEntry& e : entries) {
    const double room = 20 + pen.width(e.name, kTextSize) + 12;
    if (at_x > kMargin + left[0] && at_x + room - 12 > figure.width - kMargin) {
      at_x = kMargin + left[0];
      y += kLine + 2;
    }
    at_x += room;
  }
  layout.height = y + kMargin;
  return layout;
}

// ---- drawing

// Those places of a map's axis that are named: round ones, as many as have room.
std::vector<size_t> named(const std::vector<Tick>& ticks, double cell, double room) {
  std::vector<size_t> all;
  if (ticks.empty()) return all;
  const auto fits = [&](const std::vector<size_t>& some) {
    for (size_t i = 1; i < some.size(); ++i)
      if (static_cast<double>(some[i] - some[i - 1]) * cell < room) return false;
    return !some.empty();
  };
  for (const double scale :
       {1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5}) {
    all.clear();
    for (size_t i = 0; i < ticks.size(); ++i)
      if (std::fmod(ticks[i].at, scale) == 0) all.push_back(i);
    if (fits(all) && (all.size() > 1 || ticks.size() == 1)) return all;
  }
  all.clear();
  const auto stride = static_cast<size_t>(std::max(1.0, std::ceil(room / cell)));
  for (size_t i = 0; i < ticks.size(); i += stride) all.push_back(i);
  return all;
}

void draw_map(const Pen& pen, const HeatMap& map, const Placed& p) {
  const auto rows = static_cast<int>(map.rows.size()), columns = static_cast<int>(map.columns.size());
  pen.image(p.x, p.y, p.w, p.h, rows, columns, [&](int i, int j) {
    const double value = map.values[static_cast<size_t>((rows - 1 - i) * columns + j)];
    return is_number(value) ? scale_colour(value) : paper::white;
  });
  cairo_t* cr = pen.get();
  pen.dash({});
  pen.colour(paper::soft);
  cairo_set_line_width(cr, 0.6);
  cairo_rectangle(cr, p.x, p.y, p.w, p.h);
  cairo_stroke(cr);
  double widest = 0;
  for (const Tick& t : p.x_ticks) widest = std::max(widest, pen.width(t.text, kTickSize));
  const double cw = p.w / columns, ch = p.h / rows;
  for (const size_t i : named(p.x_ticks, cw, widest + 5)) {
    const double x = p.x + (static_cast<double>(i) + 0.5) * cw;
    pen.line(x, p.y + p.h, x, p.y + p.h + 2.5, paper::soft, 0.6);
    pen.text(x, p.y + p.h + 9.5, p.x_ticks[i].text, kTickSize, 0.5, paper::soft);
  }
  for (const size_t i : named(p.y_ticks, ch, kTickSize + 3)) {
    const double y = p.y + p.h - (static_cast<double>(i) + 0.5) * ch;
    pen.line(p.x - 2.5, y, p.x, y, paper::soft, 0.6);
    pen.text(p.x - 4, y + 2.3, p.y_ticks[i].text, kTickSize, 1, paper::soft);
  }
}

void draw_axes(const Pen& pen, const Panel& panel, const Placed& p) {
  for (const Tick& t : p.y_ticks) {
    const double y = p.up(t.at);
    pen.line(p.x, y, p.x + p.w, y, paper::grid, 0.6);
    if (p.y_numbers) pen.text(p.x - 3, y + 2.3, t.text, kTickSize, 1, paper::soft);
  }
  const double bottom = p.y + p.h;
  double last = -1e9;
  for (const Tick& t : p.x_ticks) {
    const double x = p.across(t.at), half = pen.width(t.text, kTickSize) / 2;
    pen.line(x, bottom, x, bottom + 2.5, paper::soft, 0.6);
    // Falling where the axis is reversed.
    if (!p.x_numbers || std::abs(x - last) < 2 * half + 3) continue;
    pen.text(x, bottom + 9.5, t.text, kTickSize, 0.5, paper::soft);
    last = x;
  }
  pen.line(p.x, bottom, p.x + p.w, bottom, paper::soft, 0.6);
  if (panel.rule) pen.line(p.x, p.up(*panel.rule), p.x + p.w, p.up(*panel.rule), paper::ink, 0.8, {1.2, 1.8});
  if (panel.upright)
    pen.line(p.across(*panel.upright), p.y, p.across(*panel.upright), bottom, paper::ink, 0.8, {1.2, 1.8});
}

void draw_area(const Pen& pen, const Panel& panel, const Area& area, const Placed& p) {
  cairo_t* cr = pen.get();
  const double bottom = panel.y.log ? p.up.low / 2 : -std::numeric_limits<double>::infinity();
  const auto good = [&](size_t i) {
    return shows(panel.x, area.x[i]) && is_number(area.low[i]) && shows(panel.y, area.high[i]);
  };
  const auto low = [&](size_t i) { return p.up(std::max(area.low[i], bottom)); };
  for (size_t begin = 0; begin < area.x.size();) {
    if (!good(begin)) {
      ++begin;
      continue;
    }
    size_t end = begin;
    while (end < area.x.size() && good(end)) ++end;
    for (size_t i = begin; i < end; ++i) cairo_line_to(cr, p.across(area.x[i]), p.up(area.high[i]));
    for (size_t i = end; i-- > begin;) cairo_line_to(cr, p.across(area.x[i]), low(i));
    cairo_close_path(cr);
    pen.colour(area.colour, 0.16);
    cairo_fill(cr);
    if (area.edges) {
      pen.colour(area.colour);
      pen.dash({1, 1.6});
      cairo_set_line_width(cr, 0.6);
      for (size_t i = begin; i < end; ++i) cairo_line_to(cr, p.across(area.x[i]), p.up(area.high[i]));
      cairo_stroke(cr);
      for (size_t i = begin; i < end; ++i) cairo_line_to(cr, p.across(area.x[i]), low(i));
      cairo_stroke(cr);
    }
    begin = end;
  }
}

void draw_curve(const Pen& pen, const Panel& panel, const Curve& c, const Placed& p) {
  cairo_t* cr = pen.get();
  const auto good = [&](size_t i) { return shows(panel.x, c.x[i]) && shows(panel.y, c.y[i]); };
  pen.colour(c.colour);
  for (size_t i = 0; i < c.low.size(); ++i) {
    if (!good(i) || !is_number(c.low[i]) || !is_number(c.high[i])) continue;
    pen.dash({});
    cairo_set_line_width(cr, 0.7);
    const Scale& scale = c.across ? p.across : p.up;
    const double least = scale.log ? scale.low / 2 : c.low[i];
    const double a = scale(std::max(c.low[i], least)), b = scale(std::max(c.high[i], least));
    const double at = c.across ? p.up(c.y[i]) : p.across(c.x[i]);
    const auto stroke = [&](double from, double to, double u, double v) {
      cairo_move_to(cr, c.across ? from : u, c.across ? u : from);
      cairo_line_to(cr, c.across ? to : v, c.across ? v : to);
    };
    stroke(a, b, at, at);
    stroke(a, a, at - 1.6, at + 1.6);
    stroke(b, b, at - 1.6, at + 1.6);
    cairo_stroke(cr);
  }
  if (c.width > 0) {
    pen.dash(c.dash);
    cairo_set_line_width(cr, c.width);
    bool down = false;
    for (size_t i = 0; i < c.x.size(); ++i) {
      if (!good(i)) {
        down = false;
        continue;
      }
      if (down) {
        cairo_line_to(cr, p.across(c.x[i]), p.up(c.y[i]));
      } else {
        cairo_move_to(cr, p.across(c.x[i]), p.up(c.y[i]));
      }
      down = true;
    }
    cairo_stroke(cr);
  }
  if (c.mark == Mark::none) return;
  for (size_t i = 0; i < c.x.size(); ++i)
    if (good(i)) pen.mark(p.across(c.x[i]), p.up(c.y[i]), c.mark, c.colour, c.hollow, c.size);
}

// Beside the curves' last points, moved apart where they would overlap.
void draw_labels(const Pen& pen, const Panel& panel, const Placed& p) {
  struct Label {
    const Curve* curve;
    double x, y, at;
  };
  std::vector<Label> labels;
  for (const Curve& c : panel.curves) {
    if (c.label.empty()) continue;
    for (size_t i = c.x.size(); i-- > 0;) {
      if (!shows(panel.x, c.x[i]) || !shows(panel.y, c.y[i])) continue;
      const double y = std::clamp(p.up(c.y[i]), p.y, p.y + p.h);
      labels.push_back({&c, p.across(c.x[i]), y, y});
      break;
    }
  }
  std::stable_sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) { return a.y < b.y; });
  const double apart = kTickSize + 0.7;
  // Down as far as need be; then up from below, if that went beyond the panel.
  for (size_t i = 1; i < labels.size(); ++i) labels[i].at = std::max(labels[i].at, labels[i - 1].at + apart);
  double most = p.y + p.h + 1;
  for (size_t i = labels.size(); i-- > 0;) {
    labels[i].at = std::min(labels[i].at, most);
    most = labels[i].at - apart;
  }
  for (const Label& l : labels) {
    const double x = p.x + p.w + 4;
    if (std::abs(l.at - l.y) > 1.5 || l.x < p.x + p.w - kInset - 1)
      pen.line(l.x + 1, l.y, x - 0.5, l.at, l.curve->colour, 0.35);
    pen.text(x, l.at + 2.3, l.curve->label, kTickSize, 0, l.curve->colour);
  }
}

void draw_bar(const Pen& pen, const Figure& figure, const Layout& layout) {
  const double x = layout.bar_x, y = layout.bar_y, h = layout.bar_h;
  pen.image(x, y, 6, h, 200, 1, [](int i, int) { return scale_colour(1 - i / 199.0); });
  for (const Tick& t : linear_ticks(0, 1, std::clamp(h / 20, 1.0, 5.0))) {
    const double at = y + h * (1 - t.at);
    pen.line(x + 6, at, x + 8, at, paper::soft, 0.6);
    pen.text(x + 9.5, at + 2.3, t.text, kTickSize, 0, paper::soft);
  }
  pen.text(x + 30, y + h / 2, figure.bar, kTextSize, 0.5, paper::ink, false, true);
}

void draw_legend(const Pen& pen, const Figure& figure, const Layout& layout) {
  const std::vector<LegendEntry> entries = legend_of(figure);
  if (entries.empty()) return;
  double left = figure.width;
  for (size_t i = 0; i < layout.panels.size(); ++i)
    if (in_use(figure.panels[i])) left = std::min(left, layout.panels[i].x);
  double x = left, y = layout.legend_top + kLine - 1;
  for (const LegendEntry& e : entries) {
    const double room = 20 + pen.width(e.name, kTextSize) + 12;
    if (x > left && x + room - 12 > figure.width - kMargin) {
      x = left;
      y += kLine + 2;
    }
    const double middle = y - 2.5;
    if (e.area != nullptr) {
      cairo_rectangle(pen.get(), x, middle - 3, 16, 6);
      pen.colour(e.area->colour, 0.16);
      cairo_fill(pen.get());
      if (e.area->edges)
        for (const double edge : {-3.0, 3.0})
          pen.line(x, middle + edge, x + 16, middle + edge, e.area->colour, 0.6, {1, 1.6});
    } else {
      const Curve& c = *e.curve;
      const Colour colour = c.neutral ? paper::soft : c.colour;
      if (c.width > 0) pen.line(x, middle, x + 16, middle, colour, c.width, c.dash);
      if (!c.neutral || c.width == 0) pen.mark(x + 8, middle, c.mark, colour, c.hollow, c.size);
    }
    pen.text(x + 20, y, e.name, kTextSize, 0, paper::ink);
    x += room;
  }
}

void draw(const Pen& pen, const Figure& figure, const Layout& layout) {
  pen.colour(paper::white);
  cairo_paint(pen.get());
  double y = kMargin + kFigureTitle;
  for (const std::string& line : layout.title) {
    pen.text(kMargin, y, line, kFigureTitle, 0, paper::ink, true);
    y += 11;
  }
  for (const std::string& line : layout.of) {
    pen.text(kMargin, y - 1, line, kTextSize, 0, paper::soft);
    y += kLine;
  }
  for (size_t i = 0; i < figure.panels.size(); ++i) {
    const Panel& panel = figure.panels[i];
    const Placed& p = layout.panels[i];
    if (!in_use(panel)) continue;
    double line = p.y - 4 - kLine * static_cast<double>(layout.titles[i].size() - 1);
    for (const std::string& words : layout.titles[i]) {
      pen.text(p.x, line, words, kPanelTitle, 0, paper::ink, true);
      line += kLine;
    }
    if (panel.map) {
      draw_map(pen, *panel.map, p);
    } else {
      draw_axes(pen, panel, p);
      cairo_save(pen.get());
      cairo_rectangle(pen.get(), p.x, p.y - 2.5, p.w, p.h + 5);
      cairo_clip(pen.get());
      for (const Area& area : panel.areas) draw_area(pen, panel, area, p);
      for (size_t c = panel.curves.size(); c-- > 0;) draw_curve(pen, panel, panel.curves[c], p);
      cairo_restore(pen.get());
      draw_labels(pen, panel, p);
    }
    pen.text(p.x + p.w / 2, p.y + p.h + (p.x_numbers ? 19 : 10), panel.x.title, kTextSize, 0.5, paper::ink);
    pen.text(p.y_title, p.y + p.h / 2, panel.y.title, kTextSize, 0.5, paper::ink, false, true);
  }
  if (!figure.bar.empty()) draw_bar(pen, figure, layout);
  draw_legend(pen, figure, layout);
}

cairo_status_t append(void* text, const unsigned char* bytes, unsigned int count) {
  static_cast<std::string*>(text)->append(reinterpret_cast<const char*>(bytes), count);
  return CAIRO_STATUS_SUCCESS;
}

Layout measured(const Figure& figure) {
  const Surface surface = owned(cairo_image_surface_create(CAIRO_FORMAT_A8, 1, 1));
  return layout_of(Pen(surface.get()), figure);
}

void finish(const Surface& surface, const Pen& pen, const std::string& name) {
  cairo_show_page(pen.get());
  cairo_surface_finish(surface.get());
  for (const cairo_status_t status : {cairo_status(pen.get()), cairo_surface_status(surface.get())})
    require(status == CAIRO_STATUS_SUCCESS, "the figure ", name,
            " cannot be drawn: ", cairo_status_to_string(status));
}

// cairo numbers surfaces over the life of the process; here each name is numbered by its first place in the
// text.
std::string numbered_anew(const std::string& text, const std::string& what) {
  std::map<std::string, size_t> numbers;
  std::string out;
  size_t done = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
    if (at == 0 || (text[at - 1] != '"' && text[at - 1] != '#')) continue;
    const size_t begin = at + what.size();
    size_t end = begin;
    while (end < text.size() && text[end] >= '0' && text[end] <= '9') ++end;
    if (end == begin) continue;
    const size_t number = numbers.emplace(text.substr(begin, end - begin), numbers.size() + 1).first->second;
    out.append(text, done, begin - done).append(std::to_string(number));
    done = end;
  }
  return out.append(text, done);
}

}  // namespace

std::string figure_svg(const Figure& figure) {
  const Layout layout = measured(figure);
  std::string text;
  {
    const Surface surface =
        owned(cairo_svg_surface_create_for_stream(append, &text, layout.width, layout.height));
    const Pen pen(surface.get());
    draw(pen, figure, layout);
    finish(surface, pen, figure.name);
  }
  for (const char* const what : {"surface", "image", "source"}) text = numbered_anew(text, what);
  return text;
}

std::string figure_pdf(const Figure& figure) {
  const Layout layout = measured(figure);
  std::string bytes;
  {
    const Surface surface =
        owned(cairo_pdf_surface_create_for_stream(append, &bytes, layout.width, layout.height));
    cairo_pdf_surface_set_metadata(surface.get(), CAIRO_PDF_METADATA_TITLE, figure.title.c_str());
    // Without it: of now.
    cairo_pdf_surface_set_metadata(surface.get(), CAIRO_PDF_METADATA_CREATE_DATE, "2000-01-01T00:00:00Z");
    const Pen pen(surface.get());
    draw(pen, figure, layout);
    finish(surface, pen, figure.name);
  }
  return bytes;
}

#endif

}  // namespace seigh::drawing
