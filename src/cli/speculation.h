// What commands offer of speculation: which drafter, what it was worth, whether the text is plain decoding's.
// Whoever opens and runs it all is a Writer (cli/writer.h).
#pragma once

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

/// What became of a run, and of the same requests decoded plainly afterwards where that was asked for.
struct SpeculationResult {
  std::string drafter, accept;
  DecodeReport report;
  std::optional<DecodeReport> plain;
  bool same = true;  // the texts of both
};

void print_report(const SpeculationResult& result);
nlohmann::ordered_json speculation_json(const SpeculationResult& result);

}  // namespace linnet::cli
