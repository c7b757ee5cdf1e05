// Line charts as SVG: panels side by side, logarithmic in y.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace seigh::bench {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;
};
struct Panel {
  std::string title;
  std::vector<Series> series;  // of the same names in every panel
};

class Chart {
 public:
  Chart(std::string title, std::string x, std::string y)
      : title_(std::move(title)), x_(std::move(x)), y_(std::move(y)) {}
  void add(Panel panel) { panels_.push_back(std::move(panel)); }

  std::string svg() const {
    const int columns = std::min<int>(4, static_cast<int>(panels_.size()));
    const int rows = columns > 0 ? (static_cast<int>(panels_.size()) + columns - 1) / columns : 0;
    std::string out = format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
        "font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%%\" height=\"100%%\" "
        "fill=\"white\"/>\n",
        columns * kWidth + 20, rows * kHeight + 70);
    out += format("<text x=\"20\" y=\"24\" font-size=\"15\">%s</text>\n", title_.c_str());
    if (!panels_.empty()) {
      for (size_t i = 0; i < panels_[0].series.size(); ++i) {
        const int x = 20 + static_cast<int>(i) * 100;
        out += format(
            "<line x1=\"%d\" y1=\"42\" x2=\"%d\" y2=\"42\" stroke=\"%s\" stroke-width=\"2\"/>"
            "<text x=\"%d\" y=\"46\">%s</text>\n",
            x, x + 22, colour(i), x + 28, panels_[0].series[i].name.c_str());
      }
    }
    for (size_t i = 0; i < panels_.size(); ++i) {
      out += draw(panels_[i], 20 + kWidth * (static_cast<int>(i) % columns),
                  60 + kHeight * (static_cast<int>(i) / columns));
    }
    return out + "</svg>\n";
  }

 private:
  static constexpr int kWidth = 300, kHeight = 240, kLeft = 48, kTop = 24, kPlotWidth = 236,
                       kPlotHeight = 170;

  template <typename... Args>
  static std::string format(const char* text, Args... args) {
    char buffer[1000];
    std::snprintf(buffer, sizeof(buffer), text, args...);
    return buffer;
  }
  // Okabe and Ito's palette, told apart by colour-blind readers too.
  static const char* colour(size_t i) {
    static const char* const all[] = {"#d55e00", "#e69f00", "#009e73", "#0072b2", "#cc79a7", "#000000"};
    return all[i % 6];
  }

  std::string draw(const Panel& panel, int left, int top) const {
    double x0 = 1e300, x1 = -1e300, y0 = 1e300, y1 = -1e300;
    for (const Series& s : panel.series) {
      for (const auto& [x, y] : s.points) {
        x0 = std::min(x0, x);
        x1 = std::max(x1, x);
        y0 = std::min(y0, y);
        y1 = std::max(y1, y);
      }
    }
    y0 = std::pow(10, std::floor(std::log10(y0) * 4) / 4);
    y1 = std::pow(10, std::ceil(std::log10(y1) * 4) / 4);
    if (y1 <= y0) y1 = 2 * y0;
    const auto px = [&](double x) { return left + kLeft + kPlotWidth * (x - x0) / std::max(x1 - x0, 1.0); };
    const auto py = [&](double y) {
      return top + kTop + kPlotHeight * (1 - std::log(y / y0) / std::log(y1 / y0));
    };
    std::string out = format("<text x=\"%d\" y=\"%d\" font-size=\"12\">%s</text>\n", left + kLeft, top + 14,
                             panel.title.c_str());
    out += format("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n",
                  left + kLeft, top + kTop, kPlotWidth, kPlotHeight);
    for (const double step : {1.0, 2.0, 5.0}) {
      for (int e = -6; e < 7; ++e) {
        const double y = step * std::pow(10, e);
        if (y < y0 * 0.999 || y > y1 * 1.001 || (step != 1.0 && y1 / y0 > 300)) continue;
        out += format(
            "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%.1f\" "
            "text-anchor=\"end\">%g</text>\n",
            left + kLeft, py(y), left + kLeft + kPlotWidth, py(y), left + kLeft - 4, py(y) + 4, y);
      }
    }
    for (int i = 0; i <= 4; ++i) {
      const double x = x0 + (x1 - x0) * i / 4;
      out += format("<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n", px(x),
                    top + kTop + kPlotHeight + 14, x);
    }
    out += format("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" fill=\"#444\">%s</text>\n",
                  left + kLeft + kPlotWidth / 2, top + kTop + kPlotHeight + 28, x_.c_str());
    out += format(
        "<text transform=\"translate(%d,%d) rotate(-90)\" text-anchor=\"middle\" fill=\"#444\">%s</text>\n",
        left + 12, top + kTop + kPlotHeight / 2, y_.c_str());
    for (size_t i = 0; i < panel.series.size(); ++i) {
      std::string line;
      for (const auto& [x, y] : panel.series[i].points) {
        line += format("%.1f,%.1f ", px(x), py(y));
        out += format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" fill=\"%s\"/>\n", px(x), py(y), colour(i));
      }
      out += format("<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\"/>\n",
                    line.c_str(), colour(i));
    }
    return out;
  }

  std::string title_, x_, y_;
  std::vector<Panel> panels_;
};

}  // namespace seigh::bench
