// Which attention a command gives a model: --method or --attention, changed by --set.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "attention/config.h"
#include "format/model_config.h"

namespace linnet::cli {

struct AttentionChoice {
  std::string method, attention;
  std::vector<std::string> set;
};

/// The three options; `otherwise` says in --help what --method is where none is given.
void add_attention_choice(CLI::App& app, AttentionChoice& chosen, const std::string& otherwise);

/// The JSON object that an option gives as text, or as a file with it.
nlohmann::json given_object(const std::string& option, const std::string& given);
/// The keys of --set and their values.
nlohmann::json keys_of(const std::vector<std::string>& set);

/// The `linear_attention` object as each option changes it; each with its option, so that an error blames the
/// first with which it is wrong.
using Stages = std::vector<std::pair<const char*, nlohmann::json>>;
/// Of --method or --attention (`otherwise`: neither), then of --set.
Stages stages_of(const CLI::App& app, const AttentionChoice& chosen, int layers,
                 const nlohmann::json& otherwise);
/// The last one's attention of each layer, of all stacks. Of a model with an encoder an object without the
/// keys of its attentions is both stacks', and cross-attention is the method itself where that is a summary
/// and nothing else, else Hedgehog's. Throws Error (where: the option to blame).
std::vector<AttentionConfig> attention_of(const Stages& stages, const ModelConfig& config);

}  // namespace linnet::cli
