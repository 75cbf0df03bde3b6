// Curves, bars and a map of cells as pictures: each one self-contained SVG.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace linnet {

struct Curve {
  struct Point {
    double x, y;
  };
  std::string name;
  std::vector<Point> points;
};

/// What all panels of a picture share.
struct SharedAxis {
  std::string title;
  bool logarithmic = false;  // from the least x on; else from 0
};

/// One panel a curve group, stacked, sharing the x axis.
struct Panel {
  std::string title;          // with the unit
  std::vector<Curve> curves;  // at most four, by colour
  bool logarithmic = false;   // y; numbers ≤ 0 are left out
  bool dots = false;          // points as dots joined by lines; else lines alone
};

/// The picture. Panels without a finite point are left out. Long curves are thinned to the picture's
/// resolution: per column the mean, within a band from least to greatest.
std::string plot_svg(const std::string& title, const SharedAxis& across, const std::vector<Panel>& panels);

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

/// Points over two axes of numbers, each with a text that a browser shows over it.
struct Scatter {
  struct Series {
    std::string name;  // in the legend; series of one name have one colour
    std::vector<Curve::Point> points;
    std::vector<std::string> texts;  // one for each point
    bool joined = false;             // by lines
    bool light = false;              // rings, and dashes between them
  };
  std::string title, across, up;  // with the units
  bool logarithmic = false;       // x
  std::vector<Series> series;
  /// Names in the order of their colours, so that pictures beside each other share them; others follow.
  std::vector<std::string> names;
};
std::string scatter_svg(const Scatter& scatter);

/// Cells of a table, the darker the greater; what is not above 0 stays white.
struct Heatmap {
  std::string title;                      // with the unit
  std::string across, down;               // what columns and rows are
  std::vector<std::vector<double>> rows;  // all of a length
};
std::string heatmap_svg(const Heatmap& map);

}  // namespace linnet
