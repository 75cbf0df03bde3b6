#include "base/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace linnet {
namespace {

constexpr double kWidth = 860, kLeft = 74, kRight = 24, kTop = 46, kPanel = 210, kGap = 46, kBottom = 44;
constexpr double kInner = kWidth - kLeft - kRight;
constexpr const char* kColours[] = {"#1f6feb", "#d1570a", "#2a9d5c", "#8250df"};

struct Axis {
  double low = 0, high = 1;
  bool logarithmic = false;
  double from = 0, to = 1;  // pixels

  double at(double value) const {
    const auto f = [this](double v) { return logarithmic ? std::log10(v) : v; };
    return from + (f(value) - f(low)) / (f(high) - f(low)) * (to - from);
  }
};

/// 1, 2 or 5 times a power of ten, so that about `count` steps cover the range.
double nice_step(double range, int count) {
  const double raw = range / count, power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (raw <= factor * power) return factor * power;
  return 10.0 * power;
}

std::vector<double> ticks(const Axis& axis) {
  std::vector<double> result;
  if (axis.logarithmic && axis.high / axis.low >= 8) {
    for (double power = std::pow(10.0, std::floor(std::log10(axis.low))); power <= axis.high; power *= 10)
      for (const double factor : {1.0, 2.0, 5.0})
        if (factor * power >= axis.low && factor * power <= axis.high) result.push_back(factor * power);
    if (result.size() <= 7) return result;
    std::erase_if(result,
                  [](double v) { return std::fabs(std::log10(v) - std::round(std::log10(v))) > 1e-6; });
    return result;
  }
  const double step = nice_step(axis.high - axis.low, 5);
  for (double value = std::ceil(axis.low / step) * step; value <= axis.high + step * 1e-9; value += step)
    result.push_back(std::fabs(value) < step * 1e-9 ? 0 : value);
  return result;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else
      out += c;
  }
  return out;
}

/// "12M", "340K", "0.0015".
std::string label(double value, int digits) {
  const double size = std::fabs(value);
  if (size >= 1e9) return fmt::format("{:.{}g}B", value / 1e9, digits);
  if (size >= 1e6) return fmt::format("{:.{}g}M", value / 1e6, digits);
  if (size >= 1e4) return fmt::format("{:.{}g}K", value / 1e3, digits);
  return fmt::format("{:.{}g}", value, digits);
}

/// Each tick's number, with as many digits as tell it from the next.
std::vector<std::string> labels(const std::vector<double>& values) {
  std::vector<std::string> result;
  for (int digits = 4; digits < 10; ++digits) {
    result.clear();
    for (const double value : values) result.push_back(label(value, digits));
    if (std::adjacent_find(result.begin(), result.end()) == result.end()) break;
  }
  return result;
}

bool drawable(const Curve::Point& point, bool logarithmic) {
  return std::isfinite(point.x) && std::isfinite(point.y) && (!logarithmic || point.y > 0);
}

/// What falls into one pixel column of a long curve.
struct Column {
  double x = 0, sum = 0, least = std::numeric_limits<double>::infinity(), greatest = -least;
  int count = 0;
};

std::vector<Column> columns(const Curve& curve, const Axis& x, bool logarithmic) {
  std::vector<Column> result;
  int last = std::numeric_limits<int>::min();
  for (const Curve::Point& point : curve.points) {
    if (!drawable(point, logarithmic)) continue;
    const int pixel = static_cast<int>(x.at(point.x));
    if (pixel != last) result.emplace_back();
    last = pixel;
    Column& column = result.back();
    column.x += point.x;
    column.sum += point.y;
    column.least = std::min(column.least, point.y);
    column.greatest = std::max(column.greatest, point.y);
    ++column.count;
  }
  return result;
}

std::string draw_curve(const Curve& curve, const Axis& x, const Axis& y, const char* colour, bool dots) {
  const std::vector<Column> all = columns(curve, x, y.logarithmic);
  std::string line, upper, lower, marks;
  for (const Column& column : all) {
    const double cx = x.at(column.x / column.count), cy = y.at(column.sum / column.count);
    line += fmt::format("{:.1f},{:.1f} ", cx, cy);
    upper += fmt::format("{:.1f},{:.1f} ", cx, y.at(column.greatest));
    lower = fmt::format("{:.1f},{:.1f} ", cx, y.at(column.least)) + lower;
    if (dots)
      marks += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>", cx, cy, colour);
  }
  std::string out;
  if (!dots)
    out += fmt::format("<polygon points=\"{}{}\" fill=\"{}\" fill-opacity=\"0.2\"/>\n", upper, lower, colour);
  out += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\"/>\n", line,
                     colour);
  return out + marks;
}

Axis range_of(const Panel& panel, double top) {
  Axis y{.low = std::numeric_limits<double>::infinity(),
         .high = -std::numeric_limits<double>::infinity(),
         .logarithmic = panel.logarithmic,
         .from = top + kPanel,
         .to = top};
  for (const Curve& curve : panel.curves)
    for (const Curve::Point& point : curve.points)
      if (drawable(point, panel.logarithmic)) {
        y.low = std::min(y.low, point.y);
        y.high = std::max(y.high, point.y);
      }
  const double margin = y.high > y.low ? 0.05 * (y.high - y.low) : std::max(0.05 * std::fabs(y.high), 1e-9);
  if (panel.logarithmic) {
    y.low /= 1.1;
    y.high *= 1.1;
  } else {
    y.low = y.low >= 0 && y.low - margin < 0 ? 0 : y.low - margin;
    y.high += margin;
  }
  return y;
}

/// Opens the picture, with its title.
std::string head_of(const std::string& title, double height) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#222\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n<text x=\"{2}\" y=\"18\" "
      "font-size=\"14\">{3}</text>\n",
      kWidth, height, kLeft, escaped(title));
}

/// The y axis: a line across at each tick, its number at the left.
std::string draw_heights(const Axis& y) {
  std::string out;
  const std::vector<double> values = ticks(y);
  const std::vector<std::string> texts = labels(values);
  for (size_t i = 0; i < values.size(); ++i)
    out += fmt::format(
        "<line x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"#ddd\"/>"
        "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>\n",
        kLeft, kWidth - kRight, y.at(values[i]), kLeft - 6, y.at(values[i]) + 4, texts[i]);
  return out;
}

/// The x axis: a line down at each tick, its number beneath.
std::string draw_widths(const Axis& x, const Axis& y) {
  std::string out;
  const std::vector<double> values = ticks(x);
  const std::vector<std::string> texts = labels(values);
  for (size_t i = 0; i < values.size(); ++i)
    out += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" stroke=\"#eee\"/>"
        "<text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4}</text>\n",
        x.at(values[i]), y.to, y.from, y.from + 16, texts[i]);
  return out;
}

std::string draw_panel(const Panel& panel, const Axis& x, const Axis& y) {
  std::string out = draw_heights(y);
  out += draw_widths(x, y);
  out += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#999\"/>"
      "<text x=\"{}\" y=\"{}\" font-weight=\"600\">{}</text>\n",
      kLeft, y.to, kInner, kPanel, kLeft, y.to - 8, escaped(panel.title));
  double legend = kWidth - kRight;
  for (size_t i = 0; i < panel.curves.size(); ++i) {
    const char* colour = kColours[i % std::size(kColours)];
    out += draw_curve(panel.curves[i], x, y, colour, panel.dots);
    if (panel.curves.size() < 2) continue;
    out += fmt::format("<text x=\"{:.0f}\" y=\"{}\" text-anchor=\"end\" fill=\"{}\">{}</text>\n", legend,
                       y.to - 8, colour, escaped(panel.curves[i].name));
    legend -= 16 + 7.0 * static_cast<double>(panel.curves[i].name.size());
  }
  return out;
}

}  // namespace

std::string plot_svg(const std::string& title, const SharedAxis& across, const std::vector<Panel>& panels) {
  constexpr double kMargin = 1.1;  // of a logarithmic axis, at both ends
  Axis x{.low = 0, .high = 0, .logarithmic = across.logarithmic, .from = kLeft, .to = kWidth - kRight};
  double least = std::numeric_limits<double>::infinity();
  std::vector<const Panel*> shown;
  for (const Panel& panel : panels) {
    bool any = false;
    for (const Curve& curve : panel.curves)
      for (const Curve::Point& point : curve.points)
        if (drawable(point, panel.logarithmic)) {
          any = true;
          x.high = std::max(x.high, point.x);
          least = std::min(least, point.x);
        }
    if (any) shown.push_back(&panel);
  }
  if (x.high <= 0) x.high = 1;
  if (x.logarithmic) x.low = std::min(least, x.high) / kMargin, x.high *= kMargin;
  const double height = kTop + static_cast<double>(shown.size()) * (kPanel + kGap) - kGap + kBottom;
  std::string out = head_of(title, height);
  double top = kTop;
  for (const Panel* panel : shown) {
    out += draw_panel(*panel, x, range_of(*panel, top));
    top += kPanel + kGap;
  }
  out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n</svg>\n", kLeft + kInner / 2,
                     height - 8, escaped(across.title));
  return out;
}

std::string bars_svg(const Bars& bars) {
  constexpr double kTall = 320, kLegend = 40, kTop2 = kTop + kLegend;
  Axis y{.low = 0, .high = 0, .from = kTop2 + kTall, .to = kTop2};
  for (const auto& group : bars.groups)
    for (const double value : group.values) y.high = std::max(y.high, value);
  for (const auto& level : bars.levels) y.high = std::max(y.high, level.value);
  y.high = y.high > 0 ? 1.08 * y.high : 1;
  std::string out = head_of(bars.title, kTop2 + kTall + kBottom) + draw_heights(y);
  const double wide = kInner / static_cast<double>(std::max<size_t>(bars.groups.size(), 1));
  const double bar = 0.8 * wide / static_cast<double>(std::max<size_t>(bars.series.size(), 1));
  for (size_t g = 0; g < bars.groups.size(); ++g) {
    const double left = kLeft + (static_cast<double>(g) + 0.1) * wide;
    for (size_t i = 0; i < bars.groups[g].values.size(); ++i) {
      const double value = bars.groups[g].values[i], x = left + static_cast<double>(i) * bar;
      out += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>"
          "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" font-size=\"11\">{:.2f}</text>\n",
          x, y.at(value), 0.9 * bar, y.from - y.at(value), kColours[i % std::size(kColours)], x + 0.45 * bar,
          y.at(value) - 4, value);
    }
    out += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", left + 0.4 * wide,
                       y.from + 18, escaped(bars.groups[g].name));
  }
  for (const auto& level : bars.levels)
    out += fmt::format(
        "<line x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"#666\" "
        "stroke-dasharray=\"6 4\"/><text x=\"{1}\" y=\"{3:.1f}\" text-anchor=\"end\" fill=\"#222\" "
        "stroke=\"#fff\" stroke-width=\"4\" paint-order=\"stroke\">{4}: {5:.2f}</text>\n",
        kLeft, kWidth - kRight, y.at(level.value), y.at(level.value) - 5, escaped(level.name), level.value);
  double legend = kLeft;
  for (size_t i = 0; i < bars.series.size(); ++i) {
    out += fmt::format(
        "<rect x=\"{0:.0f}\" y=\"{1}\" width=\"11\" height=\"11\" fill=\"{2}\"/><text x=\"{3:.0f}\" "
        "y=\"{4}\">{5}</text>\n",
        legend, kTop - 8, kColours[i % std::size(kColours)], legend + 16, kTop + 2, escaped(bars.series[i]));
    legend += 40 + 7.0 * static_cast<double>(bars.series[i].size());
  }
  return out + "</svg>\n";
}

namespace {

/// Colours that are told apart, as far as there are any.
constexpr const char* kManyColours[] = {"#1f6feb", "#d1570a", "#2a9d5c", "#8250df", "#c4314b", "#7a5c1e",
                                        "#0b8a9e", "#b0458f", "#5a6672", "#9aa800", "#223a8f", "#e08a00"};

/// From the least to the greatest of the numbers, with a margin.
Axis axis_of(const std::vector<double>& values, bool logarithmic, double from, double to) {
  Axis axis{.low = 0, .high = 1, .logarithmic = logarithmic, .from = from, .to = to};
  if (values.empty()) return axis;
  const auto [least, greatest] = std::minmax_element(values.begin(), values.end());
  axis.low = *least, axis.high = *greatest;
  if (logarithmic) {
    axis.low /= 1.15, axis.high *= 1.15;
  } else {
    const double margin =
        axis.high > axis.low ? 0.05 * (axis.high - axis.low) : std::max(0.05 * std::fabs(axis.high), 1e-9);
    axis.low -= margin, axis.high += margin;
  }
  return axis;
}

bool drawable(const Curve::Point& point, const Axis& x) {
  return drawable(point, false) && (!x.logarithmic || point.x > 0);
}

std::string draw_series(const Scatter::Series& series, const Axis& x, const Axis& y, const char* colour) {
  std::string line, marks;
  for (size_t i = 0; i < series.points.size(); ++i) {
    const auto& point = series.points[i];
    if (!drawable(point, x)) continue;
    line += fmt::format("{:.1f},{:.1f} ", x.at(point.x), y.at(point.y));
    marks += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" fill=\"{}\" fill-opacity=\"0.75\" "
        "stroke=\"{}\" stroke-width=\"1.5\"><title>{}</title></circle>\n",
        x.at(point.x), y.at(point.y), series.joined ? 2.5 : 4.5, series.light ? "#fff" : colour, colour,
        escaped(i < series.texts.size() ? series.texts[i] : series.name));
  }
  if (!series.joined) return marks;
  return fmt::format(
             "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.4\" "
             "stroke-opacity=\"0.7\"{}/>\n",
             line, colour, series.light ? " stroke-dasharray=\"5 3\"" : "") +
         marks;
}

/// A colour and its name for each that is `shown`, in rows from `top` on; `bottom` is where they end.
std::string draw_legend(const std::vector<std::string>& names, const std::vector<bool>& shown, double top,
                        double& bottom) {
  constexpr double kRow = 18;
  std::string legend;
  double left = kLeft;
  bottom = top;
  for (size_t i = 0; i < names.size(); ++i) {
    if (!shown[i]) continue;
    const double wide = 26 + 7.0 * static_cast<double>(names[i].size());
    if (left + wide > kWidth - kRight && left > kLeft) left = kLeft, bottom += kRow;
    legend += fmt::format(
        "<circle cx=\"{:.0f}\" cy=\"{:.0f}\" r=\"5\" fill=\"{}\"/><text x=\"{:.0f}\" "
        "y=\"{:.0f}\">{}</text>\n",
        left + 5, bottom - 4, kManyColours[i % std::size(kManyColours)], left + 14, bottom,
        escaped(names[i]));
    left += wide;
  }
  return legend;
}

}  // namespace

std::string scatter_svg(const Scatter& scatter) {
  constexpr double kTall = 360;
  std::vector<std::string> names = scatter.names;
  const auto place = [&](const std::string& name) {
    return static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
  };
  for (const auto& series : scatter.series)
    if (place(series.name) == names.size()) names.push_back(series.name);
  std::vector<bool> shown(names.size());
  std::vector<double> xs, ys;
  Axis x{.logarithmic = scatter.logarithmic};
  for (const auto& series : scatter.series) {
    for (const auto& point : series.points) {
      if (!drawable(point, x)) continue;
      shown[place(series.name)] = true;
      xs.push_back(point.x);
      ys.push_back(point.y);
    }
  }
  x = axis_of(xs, scatter.logarithmic, kLeft, kWidth - kRight);
  const Axis y = axis_of(ys, false, kTop + kTall, kTop);
  double bottom = 0;
  const std::string legend = draw_legend(names, shown, y.from + 58, bottom);
  std::string out = head_of(scatter.title, bottom + 14) + draw_heights(y) + draw_widths(x, y);
  out += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#999\"/>"
      "<text x=\"{}\" y=\"{}\" font-weight=\"600\">{}</text>"
      "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
      kLeft, y.to, kInner, kTall, kLeft, y.to - 8, escaped(scatter.up), kLeft + kInner / 2, y.from + 34,
      escaped(scatter.across));
  for (const auto& series : scatter.series)
    out += draw_series(series, x, y, kManyColours[place(series.name) % std::size(kManyColours)]);
  return out + legend + "</svg>\n";
}

std::string heatmap_svg(const Heatmap& map) {
  constexpr double kTall = 26, kBelow = 40;
  size_t columns = 1;
  double most = 0;
  for (const auto& row : map.rows) {
    columns = std::max(columns, row.size());
    for (const double value : row) most = std::max(most, value);
  }
  const double wide = kInner / static_cast<double>(columns),
               end = kTop + kTall * static_cast<double>(map.rows.size());
  std::string out = head_of(map.title, end + kBelow);
  for (size_t r = 0; r < map.rows.size(); ++r) {
    const double y = kTop + kTall * static_cast<double>(r);
    out += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{} {}</text>\n", kLeft - 6, y + 17,
                       escaped(map.down), r);
    for (size_t c = 0; c < map.rows[r].size(); ++c) {
      const double value = map.rows[r][c], share = most > 0 ? std::max(0.0, value) / most : 0;
      const double x = kLeft + wide * static_cast<double>(c);
      out += fmt::format(
          "<rect x=\"{0:.1f}\" y=\"{1:.1f}\" width=\"{2:.1f}\" height=\"{3}\" fill=\"{4}\" "
          "fill-opacity=\"{5:.3f}\" stroke=\"#ddd\"><title>{6}: {7:.5f}</title></rect>\n",
          x, y, wide, kTall, kColours[0], std::sqrt(share),
          escaped(fmt::format("{} {}, {} {}", map.down, r, map.across, c)), value);
      if (wide < 40) continue;  // no room for a number
      out += fmt::format(
          "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" font-size=\"11\">{:.4f}</text>\n",
          x + wide / 2, y + 17, value);
    }
  }
  for (size_t c = 0; c < columns; ++c)
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" font-size=\"11\">{}</text>\n",
                       kLeft + wide * (static_cast<double>(c) + 0.5), end + 15, c);
  return out + fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n</svg>\n",
                           kLeft + kInner / 2, end + 32, escaped(map.across));
}

}  // namespace linnet
