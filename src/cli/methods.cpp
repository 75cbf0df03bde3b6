// The attention methods of the registry: what each is, starts from, learns and keeps.
#include <fmt/format.h>

#include "attention/attention.h"
#include "attention/method.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"

namespace linnet::cli {
namespace {

using Json = nlohmann::ordered_json;

struct MethodsOptions : SharedOptions {
  int head_size = 64;
};

// What one query head on one key-value head keeps of a sequence, in numbers.
Json state_of(const AttentionConfig& config, const AttentionShape& shape,
              const std::vector<ParameterSpec>& specs) {
  std::vector<std::vector<float>> values;
  ParameterTensors parameters;
  for (const ParameterSpec& spec : specs) {
    values.push_back(initial_parameter(spec, config, 0, 0));
    parameters[spec.name] = {DType::kF32, spec.shape, std::as_bytes(std::span(values.back()))};
  }
  const StateLayout layout = make_attention<float>(config, shape, parameters, nullptr, "methods")->layout();
  const int64_t token = shape.head_size + shape.value_size, tokens = layout.waiting + layout.sinks;
  // A summary of keys before rotary keeps those of waiting tokens beside the local branch's.
  const bool both_keys = layout.summary > 0 && config.local != LocalWeight::kNone &&
                         config.feature_position == FeaturePosition::kNone;
  const int64_t numbers = layout.summary + tokens * token +
                          (both_keys ? layout.waiting * shape.head_size : 0) +
                          layout.recent * shape.value_size;
  const bool grows = config.grows();
  return {{"summary", layout.summary},
          {"tokens", tokens},
          {"numbers", numbers},
          {"numbers_a_token", grows ? token : 0}};
}

Json describe(const Method& method, int head_size) {
  const AttentionShape shape = {1, 1, head_size, head_size};
  const AttentionConfig config = parse_layer_attention({{"method", method.name}}, "methods");
  const Json defaults = linnet::to_json(std::vector{config});  // null says all softmax
  const auto specs = parameter_specs(config, shape);
  Json learned = Json::object();
  for (const ParameterSpec& spec : specs) learned[spec.name] = spec.shape;
  return {{"method", method.name},
          {"summary", method.line},
          {"defaults", defaults.is_null() ? Json{{"method", method.name}} : defaults},
          {"learned", learned},
          {"state", state_of(config, shape, specs)}};
}

std::string state_text(const Json& state) {
  if (state["numbers_a_token"] > 0) return fmt::format("{} numbers a token", state["numbers_a_token"].dump());
  return fmt::format("{} numbers: {} of the summary, {} tokens", state["numbers"].dump(),
                     state["summary"].dump(), state["tokens"].dump());
}

std::string row_text(const Json& row) {
  std::string learned;
  for (const auto& [name, tensor_shape] : row["learned"].items()) {
    learned += fmt::format("{}{} {}", learned.empty() ? "" : ", ", name, tensor_shape.dump());
  }
  return fmt::format("{}: {}\n  defaults  {}\n  learned   {}\n  state     {}\n",
                     row["method"].get<std::string>(), row["summary"].get<std::string>(),
                     row["defaults"].dump(), learned.empty() ? "nothing" : learned, state_text(row["state"]));
}

ExitStatus list(const MethodsOptions& options) {
  const JsonResult result(options);
  Json rows = Json::array();
  for (const Method* method : methods()) {
    rows.push_back(describe(*method, options.head_size));
    print(row_text(rows.back()));
  }
  result.write({{"head_size", options.head_size}, {"methods", rows}});
  return ExitStatus::kDone;
}

}  // namespace

void describe_methods(CLI::App& app, Work& work) {
  auto options = std::make_shared<MethodsOptions>();
  app.add_option("--head-size", options->head_size,
                 "Numbers of a query, key and value, for the shapes and the state of one head")
      ->check(from_to(1, 1024));
  add_json(app, *options);
  app.callback([options, &work] { work = [options] { return list(*options); }; });
}

}  // namespace linnet::cli
