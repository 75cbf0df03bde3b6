#include "cli/bench_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace linnet::cli {
namespace {

using Json = nlohmann::ordered_json;

Json row_of(std::string_view name, double seconds, size_t bytes) {
  return {{"operation", name}, {"seconds", seconds}, {"bytes", bytes}};
}

double seconds_of(const Profile::Operations& operations) {
  double sum = 0;
  for (const Profile::Entry& entry : operations) sum += entry.seconds;
  return sum;
}

}  // namespace

Json profile_json(const Profile& profile, const ThreadPool::Watched& pool, int64_t steps, double seconds,
                  size_t state_bytes) {
  const auto a_step = [&](double all) { return all / static_cast<double>(steps); };
  Json operations = Json::array(), layers = Json::array();
  double named = 0;
  for (size_t i = 0; i < kOperationNames.size(); ++i) {
    Profile::Entry sum = profile.outside()[i];
    for (const Profile::Operations& layer : profile.layers()) {
      sum.seconds += layer[i].seconds;
      sum.weight_bytes += layer[i].weight_bytes;
    }
    size_t bytes = sum.weight_bytes / static_cast<size_t>(steps);
    if (i == static_cast<size_t>(Operation::kAttention)) bytes += state_bytes;
    operations.push_back(row_of(kOperationNames[i], a_step(sum.seconds), bytes));
    named += sum.seconds;
  }
  operations.push_back(row_of("commit, choice, rest", a_step(seconds - named), 0));
  for (const Profile::Operations& layer : profile.layers()) {
    layers.push_back(
        {{"seconds", a_step(seconds_of(layer))},
         {"attention_seconds", a_step(layer[static_cast<size_t>(Operation::kAttention)].seconds)}});
  }
  return {{"steps", steps},
          {"seconds_per_step", a_step(seconds)},
          {"operations", operations},
          {"layers", layers},
          {"regions", static_cast<double>(pool.regions) / static_cast<double>(steps)},
          {"region_seconds", a_step(pool.seconds)},
          {"waited_seconds", a_step(pool.waited)}};
}

std::string profile_text(const Json& profile) {
  const double step = profile["seconds_per_step"].get<double>();
  std::string text = fmt::format("profile     {:.3f} ms a step, over {} steps after BOS alone\n", step * 1e3,
                                 profile["steps"].get<int64_t>());
  text +=
      fmt::format("            {:<22}{:>9}{:>7}{:>10}{:>8}\n", "operation", "ms", "share", "MB read", "GB/s");
  for (const Json& row : profile["operations"]) {
    const double seconds = row["seconds"].get<double>(), bytes = row["bytes"].get<double>();
    text += fmt::format("            {:<22}{:>9.4f}{:>6.1f}%", row["operation"].get<std::string>(),
                        seconds * 1e3, seconds / step * 100);
    text += bytes > 0 ? fmt::format("{:>10.3f}{:>8.1f}\n", bytes * 1e-6, bytes / seconds * 1e-9) : "\n";
  }
  size_t layer = 0;
  for (const Json& row : profile["layers"]) {
    text += fmt::format("            layer {:<3} {:.4f} ms, of which attention {:.4f}\n", layer++,
                        row["seconds"].get<double>() * 1e3, row["attention_seconds"].get<double>() * 1e3);
  }
  return text +
         fmt::format(
             "            pool: {:.0f} regions, {:.4f} ms in them, of which the first thread waited {:.4f}; "
             "{:.4f} ms on it alone\n",
             profile["regions"].get<double>(), profile["region_seconds"].get<double>() * 1e3,
             profile["waited_seconds"].get<double>() * 1e3,
             (step - profile["region_seconds"].get<double>()) * 1e3);
}

}  // namespace linnet::cli
