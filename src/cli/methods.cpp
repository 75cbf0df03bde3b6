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
  bool markdown = false;
};

// What one query head on one key-value head keeps of a sequence, in numbers.
Json state_of(const AttentionConfig& config, const AttentionShape& shape) {
  const StateLayout layout = state_layout(config, shape);
  return {{"summary", layout.summary},
          {"tokens", layout.waiting + layout.sinks},
          {"numbers", layout.numbers},
          {"numbers_per_token", config.grows() ? shape.head_size + shape.value_size : 0}};
}

Json options_of(const Method& method) {
  Json options = Json::array();
  for (const Option& option : method.options) {
    options.push_back({{"key", option.key},
                       {"least", option.least},
                       {"most", option.most},
                       {"standard", option.standard},
                       {"meaning", option.meaning}});
  }
  return options;
}

Json describe(const Method& method, int head_size) {
  const AttentionShape shape = {1, 1, head_size, head_size};
  const AttentionConfig config = parse_layer_attention({{"method", method.name}}, "methods");
  const Json defaults = linnet::to_json(std::vector{config});  // null says all softmax
  const auto specs = parameter_specs(config, shape);
  Json learned = Json::object(), drawn = Json::object();
  for (const ParameterSpec& spec : specs) (spec.trained ? learned : drawn)[spec.name] = spec.shape;
  Json row = {{"method", method.name},
              {"description", method.description},
              {"defaults", defaults.is_null() ? Json{{"method", method.name}} : defaults},
              {"options", options_of(method)},
              {"learned", learned},
              {"drawn", drawn},
              {"state", state_of(config, shape)},
              {"multiply_adds", method.cost}};
  if (!method.first_half.empty()) row["first_half"] = method.first_half;
  return row;
}

std::string option_text(const Json& option) {
  return fmt::format("{} {} … {} [{}]: {}", option["key"].get<std::string>(), option["least"].dump(),
                     option["most"].dump(), option["standard"].dump(), option["meaning"].get<std::string>());
}

std::string state_text(const Json& state) {
  if (state["numbers_per_token"] > 0) {
    return fmt::format("grows by {} numbers per token", state["numbers_per_token"].dump());
  }
  return fmt::format("{} numbers: {} of the summary, {} tokens", state["numbers"].dump(),
                     state["summary"].dump(), state["tokens"].dump());
}

/// Items of an array or object as text, joined; `none` where there are none.
template <class Text>
std::string joined(const Json& items, std::string_view none, const Text& text) {
  std::string all;
  for (const auto& [key, value] : items.items()) all += (all.empty() ? "" : ", ") + text(key, value);
  return all.empty() ? std::string(none) : all;
}

std::string row_text(const Json& row) {
  const auto shaped = [](const std::string& name, const Json& shape) { return name + " " + shape.dump(); };
  std::string text = fmt::format("{}: {}\n  defaults  {}\n", row["method"].get<std::string>(),
                                 row["description"].get<std::string>(), row["defaults"].dump());
  for (const Json& option : row["options"]) text += fmt::format("  option    {}\n", option_text(option));
  if (row.contains("first_half")) {
    text += fmt::format("  layers    the first half: {} (with linearize --method)\n",
                        row["first_half"].get<std::string>());
  }
  text += fmt::format("  learned   {}\n", joined(row["learned"], "nothing", shaped));
  if (!row["drawn"].empty()) text += fmt::format("  drawn     {}\n", joined(row["drawn"], "", shaped));
  return text + fmt::format("  state     {}\n  cost      {} multiply-adds per token\n",
                            state_text(row["state"]), row["multiply_adds"].get<std::string>());
}

/// One line of the table that docs/attention.md holds.
std::string row_markdown(const Json& row) {
  const auto named = [](const std::string& name, const Json&) { return "`" + name + "`"; };
  std::string what = row["description"].get<std::string>();
  for (const Json& option : row["options"]) {
    what +=
        fmt::format("; `{}` {} … {} ({}): {}", option["key"].get<std::string>(), option["least"].dump(),
                    option["most"].dump(), option["standard"].dump(), option["meaning"].get<std::string>());
  }
  std::string tensors = joined(row["learned"], row["drawn"].empty() ? "none" : "", named);
  tensors +=
      joined(row["drawn"], "", [&](const auto& name, const Json& x) { return named(name, x) + " (drawn)"; });
  const Json& state = row["state"];
  const std::string kept = state["numbers_per_token"] > 0
                               ? fmt::format("grows by {} per token", state["numbers_per_token"].dump())
                               : fmt::format("{}, constant", state["numbers"].dump());
  return fmt::format("| `{}` | {} | {} | {} | {} |\n", row["method"].get<std::string>(), what, tensors, kept,
                     row["multiply_adds"].get<std::string>());
}

ExitStatus list(const MethodsOptions& options) {
  const JsonResult result(options);
  if (options.markdown) {
    print(
        fmt::format("| method | what it is | tensors | state at d = e = {} | multiply-adds per token |\n"
                    "| --- | --- | --- | --- | --- |\n",
                    options.head_size));
  }
  Json rows = Json::array();
  for (const Method* method : methods()) {
    rows.push_back(describe(*method, options.head_size));
    print(options.markdown ? row_markdown(rows.back()) : row_text(rows.back()));
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
  app.add_flag("--markdown", options->markdown, "Prints a table: one row per method");
  add_json(app, *options);
  app.callback([options, &work] { work = [options] { return list(*options); }; });
}

}  // namespace linnet::cli
