// linnet finetune --text-fields SOURCE,TARGET: a model of an encoder and a decoder on pairs of texts.
#include <fmt/format.h>

#include <memory>

#include "base/count.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/finetune.h"

namespace linnet::cli {
namespace {

/// Each source as `generate` gives it to the encoder, each target with the end token behind it; longer ones
/// are cut, the special tokens kept.
train::TokenPairs encode(const std::vector<LabeledText>& texts, const Tokenizer& tokenizer,
                         const Model& model, int64_t length, ThreadPool& pool) {
  const int32_t end = end_token(model.config(), tokenizer, model.tokenizer_folder().string());
  train::TokenPairs pairs{.sources = std::vector<std::vector<int32_t>>(texts.size()),
                          .targets = std::vector<std::vector<int32_t>>(texts.size()),
                          .start = static_cast<int32_t>(model.config().start)};
  const TextEncoder sources(tokenizer, length, 0);
  pool.run(texts.size(), [&](size_t i) {
    pairs.sources[i] =
        sources.encode({.texts = {texts[i].texts[0]}, .label = {}, .where = texts[i].where}).tokens;
    std::vector<int32_t>& target = pairs.targets[i];
    target = tokenizer.encode(texts[i].texts[1]);
    if (target.empty()) throw Error(texts[i].where, "nothing to write", "words in the second field");
    target.resize(std::min(target.size(), static_cast<size_t>(length) - 1));
    target.push_back(end);
  });
  return pairs;
}

}  // namespace

bool has_pairs(const FinetuneOptions& options) {
  return options.task.empty() && !options.fields.texts.empty();
}

FinetunePairs read_pairs(const FinetuneOptions& options, const Model& model) {
  const TrainingOptions& training = options.training;
  if (!model.encoder())
    throw Error("--text-fields",
                fmt::format("given without --task, and {} has no encoder", model.config().model_type),
                "--task FILE too, or a model of an encoder and a decoder (T5)");
  if (options.fields.texts.size() != 2)
    throw Error("--text-fields", fmt::format("{}", counted(std::ssize(options.fields.texts), "field")),
                "two: what is read, and what is to be written");
  refuse_given(
      *training.shared.app,
      {"--tokens", "--context", "--field", "--packing", "--repeats", "--valid-bytes", "--valid-window"},
      "given with --text-fields", "--epochs and --length");
  check_data(training);
  const Tokenizer tokenizer = Tokenizer::load(model.tokenizer_folder());
  ThreadPool pool(training.shared.threads);
  const auto read = [&](const std::vector<std::filesystem::path>& files) {
    std::vector<LabeledText> texts;
    for (const auto& file : files)
      for (LabeledText& text : read_labeled(file, options.fields, /*labeled=*/false))
        texts.push_back(std::move(text));
    return encode(texts, tokenizer, model, options.length, pool);
  };
  FinetunePairs pairs{.train = read(training.data)};
  if (!training.valid.empty()) pairs.held_out = std::make_unique<train::PairValidation>(read(training.valid));
  return pairs;
}

}  // namespace linnet::cli
