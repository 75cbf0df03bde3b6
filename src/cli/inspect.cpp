// What a model folder is: family, sizes, attention by layer, what is new and whether it was trained, what is
// wrong.
#include <fmt/format.h>

#include <set>

#include "attention/attention.h"
#include "attention/softmax.h"
#include "base/count.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "model/checks.h"
#include "model/model.h"
#include "model/quantized.h"
#include "model/state_size.h"
#include "text/tokenizer.h"

namespace linnet::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Total {
  int64_t parameters = 0, bytes = 0;

  void add(const TensorView& tensor) {
    parameters += tensor.numbers();
    bytes += static_cast<int64_t>(tensor.bytes.size());
  }
};

Json to_json(const Total& total) { return {{"parameters", total.parameters}, {"bytes", total.bytes}}; }

// Tensors that modules use, by type; those that none uses are counted apart.
Json weights_of(const Model& model) {
  const std::vector<std::string> unused = model.unused_tensors();
  Total all;
  std::map<std::string, int64_t> types;
  std::set<std::string, std::less<>> integers;  // tensors of matrices in integers, which count as such
  for (const auto& [name, matrix] : quantized_matrices(model)) {
    all.parameters += matrix.out * matrix.in;
    all.bytes += static_cast<int64_t>(matrix.bytes());
    types[type_name(matrix)] += matrix.out * matrix.in;
    integers.insert(name + std::string(kPlainWeight));
    for (const std::string_view part : kIntegerParts) integers.insert(name + std::string(part));
  }
  for (const auto& [name, tensor] : model.base_tensors().tensors()) {
    if (std::binary_search(unused.begin(), unused.end(), name) || integers.contains(name)) continue;
    if (model.config().tied_embeddings && name == std::string(model.family().head) + ".weight") continue;
    all.add(tensor);
    types[std::string(name_of(tensor.type))] += tensor.numbers();
  }
  Json out = to_json(all);
  out["types"] = types;
  return out;
}

Json total_of(const std::vector<NamedTensor>& tensors) {
  Total total;
  for (const NamedTensor& one : tensors) total.add(one.tensor);
  return to_json(total);
}

/// New tensors: those that training changes, and apart from them those that are drawn once and stay.
Json new_of(const Model& model) {
  std::set<std::string, std::less<>> names;  // of those that are drawn
  const auto note_drawn = [&](const AttentionConfig& config, const std::string& prefix) {
    for (const ParameterSpec& spec : parameter_specs(config, model.attention_shape())) {
      if (!spec.trained) names.insert(prefix + spec.name);
    }
  };
  for (int layer = 0; layer < model.config().layers; ++layer) {
    const auto i = static_cast<size_t>(layer);
    note_drawn(model.attention()[i], model.linear_prefix(layer));
    if (model.encoder()) note_drawn(model.cross_attention()[i], model.cross_prefix(layer));
  }
  for (int layer = 0; model.encoder() && layer < model.encoder()->config().layers; ++layer)
    note_drawn(model.encoder()->attention()[static_cast<size_t>(layer)],
               model.encoder()->linear_prefix(layer));
  Total learned, drawn;
  for (const NamedTensor& one : model.added_tensors()) {
    (names.contains(one.name) ? drawn : learned).add(one.tensor);
  }
  Json out = to_json(learned);
  out["trained"] = model.added_are_trained();
  out["drawn"] = to_json(drawn);
  return out;
}

Json attention_of(const std::vector<AttentionConfig>& configs) {
  Json layers = Json::array();
  for (const AttentionConfig& config : configs) {
    const Json object = linnet::to_json(std::vector{config});
    layers.push_back(object.is_null() ? Json{{"method", "softmax"}} : object);  // null says all softmax
  }
  return layers;
}

// Bytes of one sequence's state: what it reaches, and what each token adds in layers whose
// state grows.
Json state_of(const Model& model) {
  const AttentionShape shape = model.attention_shape();
  int64_t fixed = constant_state_bytes(model.attention(), shape);
  for (const AttentionConfig& config : model.attention()) {
    if (config.window > 0)
      fixed += static_cast<int64_t>(
          windowed_state_bytes(shape, config.window, static_cast<size_t>(held_bytes(shape))));
  }
  return {{"type", name_of(shape.state)}, {"bytes", fixed}, {"bytes_a_token", state_bytes_a_token(model)}};
}

// What a decoder keeps of its encoder's tokens, likewise.
Json memory_of(const Model& model) {
  const AttentionShape shape = model.attention_shape();
  int64_t fixed = 0, each = 0;
  for (const AttentionConfig& config : model.cross_attention()) {
    if (config.grows()) {
      each += shape.kv_heads * (shape.head_size + shape.value_size) * static_cast<int64_t>(sizeof(float));
    } else {
      fixed += state_layout(config, shape).summary * static_cast<int64_t>(sizeof(float));
    }
  }
  return {{"bytes", fixed}, {"bytes_a_token", each}};
}

/// Layers whose queries and keys are not turned, of a model that turns others.
Json without_positions(const ModelConfig& config) {
  Json layers = Json::array();
  for (size_t layer = 0; layer < config.rotated.size(); ++layer)
    if (!config.rotated[layer]) layers.push_back(layer);
  return layers.size() < config.rotated.size() ? layers : Json::array();
}

std::string tokenizer_problem(const Model& model) {
  try {
    const Tokenizer tokenizer = Tokenizer::load(model.tokenizer_folder());
    const int64_t ids = tokenizer.vocabulary(), rows = model.config().vocabulary;
    return ids <= rows ? ""
                       : fmt::format("tokenizer: {} ids, expected at most the vocabulary's {}", ids, rows);
  } catch (const Error& error) {
    if (error.status() == ExitStatus::kInterrupted) throw;
    return error.what();
  }
}

std::vector<std::string> problems_of(const Model& model) {
  std::vector<std::string> problems;
  for (const std::string& tensor : model.broken_tensors())
    problems.push_back(fmt::format("{}: {}, expected {}", tensor, kUnsound, kSound));
  if (!model.base_hash().empty() && model.weights_hash() != model.base_hash()) {
    problems.push_back(model.base_folder().string() + ": another base than the sidecar was made from");
  }
  if (const std::string problem = tokenizer_problem(model); !problem.empty()) problems.push_back(problem);
  return problems;
}

std::string kind_of(const Model& model) {
  if (!model.base_hash().empty()) return model.lora() ? "sidecar with LoRA" : "sidecar";
  if (model.lora()) return "LoRA";
  return model.added_tensors().empty() ? "plain" : "linearized";
}

Json inspect(const Model& model) {
  const ModelConfig& config = model.config();
  Json out = {{"kind", kind_of(model)},
              {"base", model.is_sidecar() ? Json(model.base_folder().string()) : Json()},
              {"family", config.model_type},
              {"architecture", config.is_classifier() ? model.family().classifier_architecture()
                                                      : std::string(model.family().architecture)},
              {"layers", config.layers},
              {"hidden_size", config.hidden},
              {"heads", config.heads},
              {"kv_heads", config.kv_heads},
              {"head_size", config.head_size},
              {"value_size", config.value_size},
              {"intermediate_size", config.intermediate},
              {"vocabulary", config.vocabulary},
              {"positions", config.longest()},
              {"tied_embeddings", config.tied_embeddings},
              {"weights", weights_of(model)},
              {"attention", attention_of(model.attention())},
              {"state", model.family().is_encoder() ? Json() : state_of(model)},
              {"new", new_of(model)},
              {"unused_tensors", model.unused_tensors()},
              {"problems", problems_of(model)}};
  if (config.rope.scaling == RopeScaling::kLongRope)
    out["rope_factors"] = config.rope.long_factors ? "long" : "short";
  if (config.score_cap > 0) out["score_cap"] = config.score_cap;
  if (config.logit_cap > 0) out["logit_cap"] = config.logit_cap;
  if (const Json layers = without_positions(config); !layers.empty())
    out["layers_without_positions"] = layers;
  if (model.family().is_encoder()) {
    out["token_types"] = config.token_types;
    out["head"] = model.has_head();
    out["pooler"] = model.has_pooler();
  }
  if (config.is_classifier()) out["labels"] = config.labels;
  if (model.encoder()) {
    out["encoder"] = {{"layers", model.encoder()->config().layers},
                      {"attention", attention_of(model.encoder()->attention())}};
    out["cross_attention"] = attention_of(model.cross_attention());
    out["memory"] = memory_of(model);
  }
  if (model.lora()) {
    out["lora"] = total_of(model.lora_tensors());
    out["lora"].update(
        {{"rank", model.lora()->rank}, {"alpha", model.lora()->alpha}, {"targets", model.lora()->targets}});
  }
  return out;
}

std::string bytes_text(int64_t bytes) {
  if (bytes < 10'000) return fmt::format("{} bytes", bytes);
  return bytes < 10'000'000 ? fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3)
                            : fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

std::string row(std::string_view name, std::string_view value) {
  return fmt::format("{:<12} {}\n", name, value);
}

// Layers that follow each other with the same attention share a line.
std::string attention_rows(const Json& layers, const char* name = "attention") {
  std::string text;
  for (size_t first = 0; first < layers.size();) {
    size_t end = first + 1;
    while (end < layers.size() && layers[end] == layers[first]) ++end;
    const std::string range =
        end - first == 1 ? fmt::format("layer {}", first) : fmt::format("layers {}–{}", first, end - 1);
    text += row(first == 0 ? name : "", fmt::format("{}: {}", range, layers[first].dump()));
    first = end;
  }
  return text;
}

/// What stays, and what each token adds.
std::string size_text(const Json& size) {
  std::string text = size["bytes"] > 0 ? bytes_text(size["bytes"]) : "";
  if (size["bytes_a_token"] > 0)
    text += fmt::format("{}{} a token", text.empty() ? "" : " and ", bytes_text(size["bytes_a_token"]));
  return text;
}

/// What an encoder has in place of a state.
std::string encoder_rows(const Json& out) {
  std::string has;
  if (out["head"].get<bool>()) has += ", a head that predicts masked tokens";
  if (out["pooler"].get<bool>()) has += ", a pooler";
  return row("encoder", fmt::format("sees whole sequences, {}{}",
                                    counted(out["token_types"], "kind of token", "kinds of tokens"), has));
}

std::string last_rows(const Json& out) {
  std::string rows;
  if (!out["unused_tensors"].empty()) {
    rows += row("unused", fmt::format("{}, as {}", counted(std::ssize(out["unused_tensors"]), "tensor"),
                                      out["unused_tensors"][0].dump()));
  }
  for (const Json& problem : out["problems"]) rows += row("problem", problem.get<std::string>());
  return rows;
}

std::string description(const Json& out) {
  std::string rows;
  const Json& weights = out["weights"];
  const Json& added = out["new"];
  rows += row("kind", out["base"].is_null() ? out["kind"].get<std::string>()
                                            : fmt::format("{} of {}", out["kind"].get<std::string>(),
                                                          out["base"].get<std::string>()));
  rows += row("family", fmt::format("{} ({})", out["family"].get<std::string>(),
                                    out["architecture"].get<std::string>()));
  if (out.contains("labels")) rows += row("labels", out["labels"].dump());
  rows += row("sizes", fmt::format("{}, hidden {}, {} query and {} key-value heads of {}, {} {}",
                                   counted(out["layers"], "layer"), out["hidden_size"].dump(),
                                   out["heads"].dump(), out["kv_heads"].dump(), out["head_size"].dump(),
                                   out["value_size"] == out["head_size"] ? "feed-forward" : "values of",
                                   out["intermediate_size"].dump()));
  rows += row("vocabulary", fmt::format("{}{}", out["vocabulary"].dump(),
                                        out["tied_embeddings"].get<bool>() && !out.contains("labels")
                                            ? ", head tied to the embedding"
                                            : ""));
  rows += row("positions",
              out["positions"].dump() +
                  (out.contains("layers_without_positions")
                       ? fmt::format(", none in layers {}", out["layers_without_positions"].dump())
                       : "") +
                  (out.contains("rope_factors")
                       ? fmt::format(", longrope's {} factors", out["rope_factors"].get<std::string>())
                       : ""));
  for (const auto& [key, what] : {std::pair("score_cap", "scores"), std::pair("logit_cap", "logits")})
    if (out.contains(key))
      rows += row("cap", fmt::format("{} x are {}·tanh(x / {})", what, out[key].dump(), out[key].dump()));
  std::string types;
  for (const auto& [type, numbers] : weights["types"].items()) types += ", " + type;
  rows += row("weights", fmt::format("{}, {}{}", counted(weights["parameters"], "parameter"),
                                     bytes_text(weights["bytes"]), types));
  if (added["parameters"] > 0) {
    rows += row(added["trained"].get<bool>() ? "trained" : "new",
                fmt::format("{}, {}", counted(added["parameters"], "parameter"), bytes_text(added["bytes"])));
  }
  if (const Json& drawn = added["drawn"]; drawn["parameters"] > 0) {
    rows += row("drawn",
                fmt::format("{}, {}", counted(drawn["parameters"], "number"), bytes_text(drawn["bytes"])));
  }
  if (out.contains("lora")) rows += row("lora", out["lora"].dump());
  if (out.contains("encoder")) {
    rows += row("encoder", counted(out["encoder"]["layers"], "layer"));
    rows += attention_rows(out["encoder"]["attention"], "");
    rows += attention_rows(out["attention"], "decoder");
    rows += attention_rows(out["cross_attention"], "cross");
  } else {
    rows += attention_rows(out["attention"]);
  }
  if (out["state"].is_null()) return rows + encoder_rows(out) + last_rows(out);
  const Json& state = out["state"];
  rows += row("state", fmt::format("{}, a sequence, keys and values in {}", size_text(state),
                                   state["type"].get<std::string>()));
  if (out.contains("memory")) rows += row("memory", size_text(out["memory"]) + " of what the encoder read");
  return rows + last_rows(out);
}

}  // namespace

void describe_inspect(CLI::App& app, Work& work) {
  auto options = std::make_shared<SharedOptions>();
  add_model(app, *options);
  add_state_type(app, *options);
  add_json(app, *options);
  app.callback([options, &work] {
    work = [options] {
      const JsonResult result(*options);
      Model::OpenOptions how = open_options(*options);
      how.check_numbers = how.check_hash = false;  // both are reported, not refused
      const Json out = inspect(*Model::open(options->model, how));
      print(description(out));
      result.write(out);
      return out["problems"].empty() ? ExitStatus::kDone : ExitStatus::kFailed;
    };
  });
}

}  // namespace linnet::cli
