#include "cli/writer.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "generate/draft_model.h"
#include "generate/heads.h"
#include "generate/lookup.h"

namespace linnet::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostLookup = 1 << 24;  // tokens of --lookup-file, some 130 bytes each

/// The tokens of --lookup-file.
std::vector<int32_t> texts_of(const SpeculationOptions& options, const Tokenizer& tokenizer) {
  std::vector<int32_t> texts;
  for (const std::string& file : options.lookup_files) {
    const std::string text = read_whole(file);
    require_utf8(text, file);
    const auto tokens = tokenizer.encode(text);
    texts.insert(texts.end(), tokens.begin(), tokens.end());
    texts.push_back(-1);  // no token: nothing is looked up across the end of a text
    if (std::ssize(texts) > kMostLookup) {
      throw Error("--lookup-file", fmt::format("{} and those before: more than {} tokens", file, kMostLookup),
                  "less to look into");
    }
  }
  return texts;
}

std::vector<std::unique_ptr<Drafter>> drafters_of(const SpeculationOptions& options,
                                                  const SharedOptions& shared, const Runtime& runtime,
                                                  const Tokenizer& tokenizer, int slots) {
  const bool whoever = options.drafter == "auto";
  std::vector<std::unique_ptr<Drafter>> drafters;
  if (options.asks("lookup")) drafters.push_back(make_lookup_drafter(texts_of(options, tokenizer)));
  const fs::path& model_folder = runtime.model->folder();
  const auto folder = options.heads.empty() ? heads_folder(model_folder) : fs::path(options.heads);
  if (options.asks("heads") && (!whoever || !options.heads.empty() || has_heads(model_folder)))
    drafters.push_back(make_heads_drafter(runtime.model, open_heads(folder, *runtime.model),
                                          compute_type(shared.dtype), *runtime.pool));
  if (options.asks("draft") && (!whoever || !options.draft_model.empty())) {
    SharedOptions smaller = shared;
    smaller.model = options.draft_model, smaller.base.clear();
    const auto model = open_model(smaller);
    check_same_tokenizer(Tokenizer::load(model->tokenizer_folder()), tokenizer, options.draft_model);
    drafters.push_back(make_model_drafter(model, compute_type(shared.dtype), slots, *runtime.pool));
  }
  return drafters;
}

int nodes_of(const SpeculationOptions& speculation, const Writer::Options& options) {
  return options.max_nodes > 0 ? options.max_nodes : speculation.nodes(options.slots);
}

}  // namespace

Writer::Writer(const SharedOptions& shared, const SpeculationOptions& speculation, const Options& options)
    : speculation_(speculation),
      options_(options),
      runtime_(open_runtime(shared, {.slots = options.slots, .max_nodes = nodes_of(speculation, options)},
                            options.most)),
      tokenizer_(Tokenizer::load(runtime_.model->tokenizer_folder())),
      drafters_(drafters_of(speculation, shared, runtime_, tokenizer_, options.slots)),
      shape_(open_shape()),
      engine_(*runtime_.decoder, tokenizer_, asked(),
              {.slots = options.slots,
               .max_nodes = nodes_of(speculation, options),
               .budget = !speculation.every_guess,
               .shape = shape_ ? &*shape_ : nullptr,
               .continue_slots = options.continue_slots,
               .prefix_cache = options.prefix_cache}) {}

std::vector<Drafter*> Writer::asked() {
  std::vector<Drafter*> all;
  for (const auto& drafter : drafters_) {
    if (options_.counts != nullptr)
      counted_.push_back(std::make_unique<CountedDrafter>(*drafter, *options_.counts));
    all.push_back(options_.counts != nullptr ? counted_.back().get() : drafter.get());
  }
  return all;
}

int Writer::deepest() const {
  int depth = 0;
  for (const auto& drafter : drafters_) depth = std::max(depth, drafter->deepest());
  return depth;
}

std::optional<TreeShape> Writer::open_shape() const {
  if (speculation_.tree.empty()) return {};
  TreeShape shape = TreeShape::open(speculation_.tree);
  const int group = runtime_.decoder->info().tree_depth, limit = std::min(deepest(), group);
  if (shape.depth() <= limit) return shape;
  throw Error(speculation_.tree, fmt::format("a tree of depth {}", shape.depth()),
              limit < group ? fmt::format("at most {}, as deep as the heads guess", limit)
                            : fmt::format("at most {}, the tokens of a group", limit));
}

SpeculationResult Writer::compared(std::span<const Request> requests,
                                   const std::vector<Generation>& results) {
  SpeculationResult compared{speculation_.drafter, speculation_.accept, engine_.report(), {}, true};
  if ((!speculation_.report && !speculation_.verify) || interrupted()) return compared;
  const auto nobody = make_no_drafter();
  Engine engine(
      decoder(), tokenizer_, *nobody,
      {.slots = options_.slots, .max_nodes = options_.slots, .prefix_cache = options_.prefix_cache});
  const auto plain = engine.run(requests, {}, interrupted);
  if (interrupted()) return compared;
  compared.plain = engine.report();
  for (size_t i = 0; i < results.size(); ++i)
    compared.same = compared.same && plain[i].tokens == results[i].tokens;
  return compared;
}

}  // namespace linnet::cli
