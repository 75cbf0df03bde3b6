#include "cli/attention_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "attention/method.h"
#include "attention/presets.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/options.h"
#include "model/teacher.h"

namespace linnet::cli {

nlohmann::json given_object(const std::string& option, const std::string& given) {
  const size_t first = given.find_first_not_of(" \t\r\n");
  if (first == given.npos) throw Error(option, "nothing in it", "JSON text, or a file with it");
  const bool text = given[first] == '{' || given[first] == '[';
  std::error_code error;
  if (!text && !std::filesystem::exists(given, error)) {
    const auto known = methods();
    const bool is_method =
        option == "--attention" &&
        std::any_of(known.begin(), known.end(), [&](const Method* m) { return m->name == given; });
    throw Error(option, fmt::format("\"{}\" is no file and no JSON object", printable(given, 60)),
                is_method ? fmt::format("JSON text, or a file with it; did you mean --method {}?", given)
                          : "JSON text, or a file with it");
  }
  nlohmann::json object = text ? parse_json(given, option) : read_json(given);
  if (!object.is_object()) throw Error(option, printable(given), "a JSON object");
  return object;
}

namespace {

/// The `linear_attention` object of --attention, which may stand in a config.json.
nlohmann::json given_attention(const std::string& given) {
  nlohmann::json object = given_object("--attention", given);
  if (object.contains("linear_attention")) object = object["linear_attention"];
  if (!object.is_object()) throw Error("--attention", printable(given), "a JSON object");
  return object;
}

}  // namespace

nlohmann::json keys_of(const std::vector<std::string>& set) {
  nlohmann::json object = nlohmann::json::object();
  for (const std::string& item : set) {
    const size_t equals = item.find('=');
    if (equals == std::string::npos || equals == 0)
      throw Error("--set", printable(item), "KEY=VALUE, such as group=32");
    const std::string key = item.substr(0, equals), value = item.substr(equals + 1);
    if (object.contains(key))
      throw Error("--set", fmt::format("{} twice", printable(key, 60)), "each key once");
    const bool is_text =
        value.empty() || std::string_view("{[\"").find(value.front()) == std::string_view::npos;
    const nlohmann::json parsed = is_text ? nlohmann::json::parse(value, nullptr, /*allow_exceptions=*/false)
                                          : parse_json(value, "--set: " + printable(key, 60));
    object[key] = parsed.is_discarded() ? nlohmann::json(value) : parsed;
  }
  return object;
}

Stages stages_of(const CLI::App& app, const AttentionChoice& chosen, int layers,
                 const nlohmann::json& otherwise) {
  Stages stages;
  if (app.count("--attention") == 0) {
    const bool is_named = app.count("--method") > 0;
    stages.push_back({"--method", is_named ? method_attention(chosen.method, layers) : otherwise});
  } else {
    refuse_given(app, {"--method"}, "given with --attention", "one of the two");
    stages.push_back({"--attention", given_attention(chosen.attention)});
  }
  if (chosen.set.empty()) return stages;
  nlohmann::json object = stages.back().second;
  const nlohmann::json changes = keys_of(chosen.set);
  if (chosen.attention.empty()) {
    object = with_changes(object, changes);
  } else {
    object.update(changes);
  }
  stages.push_back({"--set", object});
  return stages;
}

namespace {

/// The cross-attention that goes with an attention of the stacks: the method itself where it is a summary and
/// nothing else, else Hedgehog's.
nlohmann::json cross_of(const nlohmann::json& object) {
  if (!object.is_object() || !object.contains("method")) return {{"method", "hedgehog"}};
  const nlohmann::json plain = {{"method", object["method"]}};
  try {
    const AttentionConfig config = parse_layer_attention(plain, "cross");
    if (!config.grows() && config.has_summary() && !config.has_local() && config.taps == 0) return plain;
  } catch (const Error&) {  // a method of several rows
  }
  return {{"method", "hedgehog"}};
}

/// Of a model with an encoder each of its attentions has an object: where one is given, it is both stacks'.
Stages of_stacks(Stages stages) {
  for (auto& [option, object] : stages) {
    const bool is_given =
        object.contains("decoder") || object.contains("cross") || object.contains("encoder");
    if (!is_given) object = {{"decoder", object}, {"cross", cross_of(object)}, {"encoder", object}};
  }
  return stages;
}

}  // namespace

std::vector<AttentionConfig> attention_of(const Stages& given, const ModelConfig& config) {
  const Stages stages = config.encoder_layers > 0 ? of_stacks(given) : given;
  try {
    return attention_over(config, stages.back().second, stages.back().first);
  } catch (const Error&) {
    for (const auto& [option, object] : stages) attention_over(config, object, option);
    throw;
  }
}

void add_attention_choice(CLI::App& app, AttentionChoice& chosen, const std::string& otherwise) {
  app.add_option(
      "--method", chosen.method,
      fmt::format("Attention of every layer as it stands (`linnet methods` lists them) (default: {})",
                  otherwise));
  app.add_option(
         "--attention", chosen.attention,
         "The whole linear_attention object instead: JSON text, or a file with it such as a config.json")
      ->type_name("JSON");
  app.add_option("--set", chosen.set, "Sets keys of that object: group=32 local_groups=2 …")
      ->type_name("KEY=VALUE");
}

}  // namespace linnet::cli
