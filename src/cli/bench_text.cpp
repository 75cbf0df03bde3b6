#include "cli/bench_text.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/count.h"
#include "base/plot.h"
#include "cli/bench_profile.h"

namespace linnet::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string roofline_text(const Json& row) {
  return fmt::format("{} of the {:.1f} GB/s at which as much is read",
                     percent_of_limit(row["fraction_of_roofline"].get<double>()),
                     row["roofline_bytes_per_second"].get<double>() * 1e-9);
}

}  // namespace

std::string percent_of_limit(double fraction) {
  return fmt::format("{:.0f}%{}", fraction * 100, fraction > 1 ? " (over 100%: an error of the ruler)" : "");
}

namespace {

/// What was seen of one model.
std::string model_text(const Json& result) {
  const auto number = [&](const char* key) { return result[key].get<double>(); };
  std::string text =
      fmt::format("start       load to first token {:.1f} ms\n", number("load_to_first_token_seconds") * 1e3);
  if (result.contains("encoder")) {
    const Json& encoder = result["encoder"];
    text += fmt::format("encoder     {:.0f} tokens/s over {}; memory {:.2f} MB\n",
                        encoder["tokens_per_second"].get<double>(), counted(encoder["tokens"], "token"),
                        encoder["memory_bytes"].get<double>() * 1e-6);
  }
  text += fmt::format("prefill     {:.0f} tokens/s over {}, {} of the matrix rate\n",
                      number("prefill_tokens_per_second"), counted(result["prefill_tokens"], "token"),
                      percent_of_limit(number("prefill_fraction_of_matrix_rate")));
  for (size_t i = 1; i < result["prefill"].size(); ++i) {
    const Json& row = result["prefill"][i];
    text += fmt::format("prefill     {:.0f} tokens/s over {}\n", row["tokens_per_second"].get<double>(),
                        counted(row["tokens"], "token"));
  }
  for (const Json& row : result["decode"]) {
    text += fmt::format(
        "decode      {:.0f} tokens/s (best window {:.0f}) after {}; {:.1f} MB read a token, {}; state {:.2f} "
        "MB\n",
        row["decode_tokens_per_second"].get<double>(), row["best_window_tokens_per_second"].get<double>(),
        row["context"] == 0 ? "BOS alone" : counted(row["context"], "token"),
        row["bytes_per_token"].get<double>() * 1e-6, roofline_text(row),
        row["state_bytes"].get<double>() * 1e-6);
  }
  for (const Json& row : result.value("sequences", Json::array())) {
    const auto sequences = row["sequences"].get<int64_t>();
    text += fmt::format("sequences   a step of {}: {:.3f} ms, {:.2f} times the tokens/s of one\n", sequences,
                        row["seconds_per_step"].get<double>() * 1e3,
                        static_cast<double>(sequences) / row["of_one_row"].get<double>());
  }
  for (const Json& row : result.value("rows", Json::array())) {
    text += fmt::format("rows        a step of {}: {:.3f} ms, {:.2f} times one row's\n",
                        row["rows"].get<int64_t>(), row["seconds_per_step"].get<double>() * 1e3,
                        row["of_one_row"].get<double>());
  }
  if (result.contains("profile")) text += profile_text(result["profile"]);
  return text;
}

/// How many times as fast as the model beside it.
std::string ratios_text(const Json& one, const Json& other) {
  std::string text = fmt::format(
      "prefill     {:.2f} times as fast as beside\n",
      one["prefill_tokens_per_second"].get<double>() / other["prefill_tokens_per_second"].get<double>());
  for (const Json& a : one["decode"]) {
    for (const Json& b : other["decode"]) {
      if (a["context"] != b["context"]) continue;
      text += fmt::format(
          "decode      {:.2f} times as fast after {}\n",
          a["decode_tokens_per_second"].get<double>() / b["decode_tokens_per_second"].get<double>(),
          a["context"] == 0 ? "BOS alone" : counted(a["context"], "token"));
    }
  }
  return text;
}

}  // namespace

std::string bench_text(const Json& result) {
  const auto number = [&](const char* key) { return result[key].get<double>(); };
  std::string text = fmt::format(
      "machine     read {:.1f} GB/s, matrix products int8 {:.0f}, bf16 {:.0f}, float32 {:.0f} GFLOP/s, {}\n",
      number("read_bytes_per_second") * 1e-9, number("int8_operations_per_second") * 1e-9,
      number("bfloat16_operations_per_second") * 1e-9, number("float32_operations_per_second") * 1e-9,
      counted(result["threads"], "thread"));
  text += model_text(result);
  if (result.contains("beside")) {
    const Json& other = result["beside"];
    text += fmt::format("beside      {}\n", other["model"].get<std::string>()) + model_text(other) +
            fmt::format("ratios      of {}\n", result["model"].get<std::string>()) +
            ratios_text(result, other);
  }
  return text + fmt::format("memory      weights {:.1f} MB, peak {:.0f} MB (mapped files included)\n",
                            number("step_weight_bytes") * 1e-6, number("peak_memory_bytes") * 1e-6);
}

std::string bench_training_text(const Json& result) {
  const auto number = [&](const char* key) { return result[key].get<double>(); };
  return fmt::format(
      "machine     {} matrix products {:.3g} TFLOP/s\n"
      "training    {:.0f} tokens/s, {} of {} of {} tokens, {} at once; 6 operations a parameter and token: "
      "{} "
      "of the matrix rate\n",
      result["dtype"].get<std::string>(), number("matrix_operations_per_second") * 1e-12,
      number("training_tokens_per_second"), counted(result["steps"], "step"), counted(result["batch"], "row"),
      result["context"].get<int64_t>(), result["micro_batch"].get<int64_t>(),
      percent_of_limit(number("training_fraction_of_matrix_rate")));
}

std::string bench_picture(const Json& result) {
  Curve decode{.name = "decode", .points = {}}, reading{.name = "reading alone", .points = {}};
  Curve all{.name = "weights and state", .points = {}}, state{.name = "state", .points = {}};
  for (const Json& row : result["decode"]) {
    const double context = row["context"], of_token = row["bytes_per_token"];
    decode.points.push_back({context, row["decode_tokens_per_second"]});
    reading.points.push_back({context, row["roofline_bytes_per_second"].get<double>() / of_token});
    all.points.push_back({context, of_token * 1e-6});
    state.points.push_back({context, row["state_bytes"].get<double>() * 1e-6});
  }
  std::vector<Curve> rates = {decode, reading}, bytes = {all, state};
  if (result.contains("beside")) {
    Curve rate{.name = "decode beside", .points = {}}, read{.name = "weights and state beside", .points = {}};
    for (const Json& row : result["beside"]["decode"]) {
      const double context = row["context"], of_token = row["bytes_per_token"];
      rate.points.push_back({context, row["decode_tokens_per_second"]});
      read.points.push_back({context, of_token * 1e-6});
    }
    rates.push_back(rate), bytes.push_back(read);
  }
  return plot_svg(
      fmt::format("{}, {}", result["model"].get<std::string>(), counted(result["threads"], "thread")),
      {.title = "tokens before"},
      {{.title = "tokens/s", .curves = rates, .dots = true},
       {.title = "MB that a token reads", .curves = bytes, .dots = true}});
}

}  // namespace linnet::cli
