#include "seigh/report/drawing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "seigh/core/error.h"

namespace seigh::drawing {
namespace {

std::vector<double> places(const std::vector<Tick>& ticks) {
  std::vector<double> all;
  for (const Tick& t : ticks) all.push_back(t.at);
  return all;
}

Figure simple() {
  Figure figure{.name = "simple", .title = "A title", .columns = 2};
  for (const double factor : {1.0, 2.0}) {
    Panel panel{.title = "panel"};
    panel.x.title = "x";
    panel.curves.push_back(
        {.name = "curve", .label = "end", .x = {0, 1, 2}, .y = {factor, 2 * factor, 3 * factor}});
    panel.areas.push_back({.name = "area", .x = {0, 1, 2}, .low = {0, 0, 0}, .high = {1, kNotGiven, 1}});
    figure.panels.push_back(panel);
  }
  return figure;
}

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(Ticks, AreRoundNumbersWithinTheAxis) {
  EXPECT_EQ(places(linear_ticks(0, 1000, 5)), (std::vector<double>{0, 200, 400, 600, 800, 1000}));
  EXPECT_EQ(places(linear_ticks(-0.04, 0.31, 4)), (std::vector<double>{0, 0.1, 0.2, 0.3}));
  EXPECT_EQ(places(log_ticks(0.5, 2000, 5)), (std::vector<double>{1, 10, 100, 1000}));
  EXPECT_EQ(places(log_ticks(0.9, 12, 5)), (std::vector<double>{1, 2, 5, 10}));
  EXPECT_EQ(places(log_ticks(1e-9, 1, 3)), (std::vector<double>{1e-9, 1e-6, 1e-3, 1}));
  // So narrow that no round number of the logarithmic kind lies within.
  EXPECT_GT(log_ticks(1.31, 1.38, 4).size(), 1U);
}

TEST(Numbers, InWords) {
  EXPECT_EQ(number_text(0), "0");
  EXPECT_EQ(number_text(7030), "7030");
  EXPECT_EQ(number_text(-0.05), "−0.05");
  EXPECT_EQ(number_text(0.012345), "0.0123");
  EXPECT_EQ(number_text(1e-4), "10⁻⁴");
  EXPECT_EQ(number_text(2.5e6), "2.5×10⁶");
  EXPECT_EQ(number_text(std::nan("")), "–");
}

TEST(Colours, OfAnOrderStayDark) {
  for (size_t i = 0; i < 5; ++i) {
    const Colour c = ordered_colour(i, 5);
    EXPECT_LT(0.2126 * c.red + 0.7152 * c.green + 0.0722 * c.blue, 0.8);
  }
}

TEST(Drawing, IsAFunctionOfTheFigure) {
  if (!can_draw()) {
    EXPECT_THROW(figure_svg(simple()), Error);
    GTEST_SKIP() << "built without cairo";
  }
  const std::string svg = figure_svg(simple()), pdf = figure_pdf(simple());
  Figure other = simple();
  other.panels[0].map = HeatMap{{0, 1}, {0, 1}, {1, 0, 0, 1}};
  other.bar = "similarity";
  figure_svg(other);  // what is drawn between does not matter
  EXPECT_EQ(figure_svg(simple()), svg);
  EXPECT_EQ(figure_pdf(simple()), pdf);
  EXPECT_EQ(pdf.substr(0, 4), "%PDF");
  EXPECT_NE(svg.find("width=\"504pt\""), std::string::npos);
  // Three maps of one size and the bar are pictures of their own.
  for (size_t i = 1; i < 3; ++i) other.panels.push_back(other.panels[0]);
  EXPECT_EQ(count(figure_svg(other), "<image "), 4U);
}

TEST(Drawing, TakesWhatThereIs) {
  if (!can_draw()) GTEST_SKIP() << "built without cairo";
  Figure figure = simple();
  Panel& panel = figure.panels[0];
  panel.y.log = true;
  panel.curves[0].y = {0, -1, kNotGiven};  // nothing that such an axis can show
  panel.curves[0].low = panel.curves[0].high = {kNotGiven, kNotGiven, kNotGiven};
  figure.panels[1] = {.empty = true};
  EXPECT_GT(figure_pdf(figure).size(), 1000U);
  panel.curves[0].x = {5, 5, 5};  // one place
  panel.curves[0].y = {2, 2, 2};
  EXPECT_GT(figure_pdf(figure).size(), 1000U);
  panel.curves[0].name = "\xff";  // no UTF-8
  EXPECT_THROW(figure_svg(figure), Error);
  EXPECT_THROW(figure_svg(Figure{.name = "none"}), Error);
}

}  // namespace
}  // namespace seigh::drawing
