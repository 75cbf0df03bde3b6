// Who writes texts: a model ready to run, whoever guesses for it, and the engine that has both. generate,
// chat, serve and tune-tree differ in what they ask of it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cli/options.h"
#include "cli/speculation.h"
#include "generate/engine.h"
#include "generate/tree_tuning.h"
#include "text/tokenizer.h"

namespace linnet::cli {

class Writer {
 public:
  struct Options {
    int slots = 1;
    int max_nodes = 0;                 // of a step's trees; 0: as many as who guesses makes use of
    bool continue_slots = false;       // Engine::Options says what these are
    size_t prefix_cache = 0;           // bytes
    RankAcceptance* counts = nullptr;  // told what becomes of each guess
  };
  /// Opens all that the options name. Throws Error where what a drafter needs is not there, or is another
  /// model's; on a tree that is deeper than any drafter guesses, or than the model's groups.
  Writer(const SharedOptions& shared, const SpeculationOptions& speculation, const Options& options);

  const Model& model() const { return *runtime_.model; }
  Decoder& decoder() const { return *runtime_.decoder; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  Engine& engine() { return engine_; }
  int deepest() const;  // guess of any drafter

  /// What guessing came to in these texts; where --report or --verify asks for it the requests are decoded
  /// once more plainly, to be held against it.
  SpeculationResult compared(std::span<const Request> requests, const std::vector<Generation>& results);

 private:
  std::vector<Drafter*> asked();
  std::optional<TreeShape> open_shape() const;

  const SpeculationOptions& speculation_;
  Options options_;
  Runtime runtime_;
  Tokenizer tokenizer_;
  std::vector<std::unique_ptr<Drafter>> drafters_;  // cheap ones first
  std::vector<std::unique_ptr<Drafter>> counted_;   // around them, with `counts`
  std::optional<TreeShape> shape_;
  Engine engine_;
};

}  // namespace linnet::cli
