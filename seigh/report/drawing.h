// Figures for print, as SVG and as PDF: panels in a grid, each with curves, areas and marks, or a heat map.
//
// What a figure shows is a plain object; drawing is a function of it alone, so the same object gives the same
// bytes: nothing of date, process or place is in a file. Drawn by cairo, which writes both kinds; this is the
// only room that knows it, and without it there is everything but the drawing. Lengths are in points (1/72
// in), and figures are meant to be printed as they are: texts are 6.5 to 8 points high. Colours are the
// report page's on paper (web/report.css); line styles and marks repeat what they say.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "seigh/core/filesystem.h"

namespace seigh::drawing {

struct Colour {
  double red, green, blue;
};
namespace paper {
inline constexpr Colour ink{0.110, 0.141, 0.188}, soft{0.353, 0.396, 0.451}, grid{0.894, 0.910, 0.929},
    white{1, 1, 1}, blue{0, 0.447, 0.698}, red{0.835, 0.369, 0}, green{0, 0.514, 0.373},
    purple{0.690, 0.337, 0.545}, orange{0.780, 0.522, 0}, sky{0.184, 0.588, 0.816};
}  // namespace paper
/// Of the i-th of several equal things: blue, red, green, purple, orange, sky, and again.
Colour series_colour(size_t i);
/// Viridis, 0 to 1.
Colour scale_colour(double value);
/// Of the i-th of `count` things in an order: viridis without its light end, which is lost on white.
Colour ordered_colour(size_t i, size_t count);

inline constexpr double kNotGiven = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kFullWidth = 504, kColumnWidth = 245;  ///< 7 in, 3.4 in

enum class Mark { none, circle, square, triangle, diamond };
/// The i-th, and again.
Mark series_mark(size_t i);

/// A line through points, marks at them, whiskers; NaN, and what a logarithmic axis cannot show, is a gap.
struct Curve {
  std::string name = {};   ///< in the legend; those of one name have one entry; empty: none
  std::string label = {};  ///< beside its last point
  Colour colour = paper::blue;
  std::vector<double> x = {}, y = {};
  std::vector<double> low = {}, high = {};  ///< whiskers: of each point, or none
  bool across = false;                      ///< whiskers are of x
  double width = 1.1;                       ///< 0: marks alone
  std::vector<double> dash = {};
  Mark mark = Mark::none;
  bool hollow = false;
  double size = 1.9;   ///< of marks, half their width
  bool loose = false;  ///< does not stretch the axes
  bool wide = false;   ///< its whiskers do not
  bool neutral =
      false;  ///< its name is of curves of several colours and marks: the legend shows none of them
};
/// What lies between two curves.
struct Area {
  std::string name = {};
  Colour colour = paper::blue;
  std::vector<double> x = {}, low = {}, high = {};
  bool edges = false;  ///< drawn as thin lines, too
};
struct Tick {
  double at;
  std::string text;
};
struct Axis {
  std::string title = {};
  bool log = false;
  bool reversed = false;
  double low = kNotGiven, high = kNotGiven;
  double floor = kNotGiven;      ///< what lies below does not stretch the axis
  std::vector<Tick> ticks = {};  ///< none: round numbers
};
/// Values from 0 to 1 of all pairs of rows and columns, as cells of one size; the first row is at the bottom.
struct HeatMap {
  std::vector<int64_t> rows = {}, columns = {};
  std::vector<double> values = {};  ///< row by row; NaN: left white
};
struct Panel {
  std::string title = {};  ///< lines
  Axis x = {}, y = {};
  std::vector<Area> areas = {};
  std::vector<Curve> curves = {};      ///< the first are drawn last
  std::optional<double> rule = {};     ///< a dotted horizontal line
  std::optional<double> upright = {};  ///< a dotted vertical line
  std::optional<HeatMap> map = {};
  bool empty = false;  ///< leaves its place free
};
struct Figure {
  std::string name = {};   ///< of its files, without what they end in
  std::string title = {};  ///< on top
  std::string of = {};     ///< below that, smaller: what it was drawn from
  double width = kFullWidth;
  int columns = 1;
  double height = 110;             ///< of a panel's inner part; maps have that of their cells
  std::string bar = {};            ///< what the colours of maps say; empty: no bar
  bool share_rows = true;          ///< panels of a row have one y axis, its numbers on the left alone
  bool share_columns = false;      ///< one x axis, its numbers below the last alone
  std::vector<Panel> panels = {};  ///< row by row
};

/// Can this build draw?
bool can_draw();
/// Throws Error that says what this build was made without, and what to do, unless can_draw().
void require_drawing();
/// The bytes of a file. Throws Error unless can_draw(), and where a figure has no panels.
std::string figure_svg(const Figure& figure);
std::string figure_pdf(const Figure& figure);
/// FOLDER/<name>.svg and .pdf, each completely or not at all.
std::vector<fs::path> write_figure(const fs::path& folder, const Figure& figure);

/// Round numbers within [low, high], about `count` of them, with their texts.
std::vector<Tick> linear_ticks(double low, double high, double count);
/// Powers of ten and, where there is room, numbers between them.
std::vector<Tick> log_ticks(double low, double high, double count);
/// Three significant digits; powers of ten for the very large and the very small.
std::string number_text(double value);

}  // namespace seigh::drawing
