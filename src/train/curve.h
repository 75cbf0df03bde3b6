// The training log, and losses side by side, as pictures: each one self-contained SVG.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace linnet::train {

struct Curve {
  struct Point {
    double x, y;
  };
  std::string name;
  std::vector<Point> points;
};

/// One panel a curve group, stacked, sharing the x axis (tokens seen).
struct Panel {
  std::string title;          // with the unit
  std::vector<Curve> curves;  // at most two
  bool logarithmic = false;   // y; numbers ≤ 0 are left out
  bool dots = false;          // points as dots joined by lines; else lines alone
};

/// The picture. Panels without a finite point are left out. Long curves are thinned to the picture's
/// resolution: per column the mean, within a band from least to greatest.
std::string plot_svg(const std::string& title, const std::vector<Panel>& panels);

/// Groups of bars side by side, a bar for each series, with levels as dashed lines across.
struct Bars {
  struct Group {
    std::string name;
    std::vector<double> values;  // one for each series, at least 0
  };
  struct Level {
    std::string name;
    double value;
  };
  std::string title;  // with the unit
  std::vector<std::string> series;
  std::vector<Group> groups;
  std::vector<Level> levels;
};
std::string bars_svg(const Bars& bars);

}  // namespace linnet::train
