// What generate offers of speculation: which drafter, what it was worth, whether the text is plain
// decoding's.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.h"
#include "generate/engine.h"

namespace linnet::cli {

struct SpeculationOptions {
  std::string drafter;  // empty: not said
  std::vector<std::string> lookup_files;
  std::string heads;  // folder; empty: the model's own
  std::string draft_model;
  std::string tree;  // name or file; empty: none
  std::string accept = "exact";
  bool every_guess = false, report = false, verify = false;
  const CLI::App* app = nullptr;

  /// What was not said: whoever pays, where the model has draft heads.
  void settle(const std::string& model);
  bool speculates() const { return drafter != "none"; }
  bool asks(const std::string& name) const { return drafter == name || drafter == "auto"; }
  /// Nodes of all trees of a step with so many sequences.
  int nodes(int slots) const;
};

void add_drafter(CLI::App& app, SpeculationOptions& options);      // --speculative and what it looks into
void add_speculation(CLI::App& app, SpeculationOptions& options);  // --speculative and what goes with it
void check_speculation(const SpeculationOptions& options);

using Drafters = std::vector<std::unique_ptr<Drafter>>;  // cheap ones first
/// Throws Error where what a drafter needs is not there, or is another model's.
Drafters drafters_of(const SpeculationOptions& options, const SharedOptions& shared, const Runtime& runtime,
                     const Tokenizer& tokenizer, int slots);
std::vector<Drafter*> pointers(const Drafters& drafters);
int deepest(const Drafters& drafters);  // guess of any

/// What --tree asks for; nothing without it. Throws Error on a tree deeper than any drafter's guesses, or
/// than the model's groups.
std::optional<TreeShape> shape_of(const SpeculationOptions& options, const Drafters& drafters, int group);

/// What became of a run, and of the same requests decoded plainly afterwards where that was asked for.
struct SpeculationResult {
  std::string drafter, accept;
  DecodeReport report;
  std::optional<DecodeReport> plain;
  bool same = true;  // the texts of both
};
/// Decodes `requests` plainly on the same decoder and compares. Nothing where `interrupted`.
void decode_plainly(Decoder& decoder, const Tokenizer& tokenizer, std::span<const Request> requests,
                    const Engine::Options& options, const std::vector<Generation>& results,
                    SpeculationResult& speculation);

void print_report(const SpeculationResult& result);
nlohmann::ordered_json speculation_json(const SpeculationResult& result);

}  // namespace linnet::cli
