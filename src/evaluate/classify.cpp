#include "evaluate/classify.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace linnet {
namespace {

constexpr size_t kTokensAtOnce = 4096;

}  // namespace

TextEncoder text_encoder(const Model& model, const Tokenizer& tokenizer, int64_t length) {
  if (model.family().is_encoder() && tokenizer.framing() < 2)
    throw Error(model.tokenizer_folder().string(), "sets no special tokens around a text",
                "a first and a separator token, as [CLS] and [SEP]");
  std::vector<int64_t> ends;
  if (model.encoder()) {
    // transformers finds the row that the head reads by this token.
    const std::vector<int32_t> alone = tokenizer.framed({}).tokens;
    ends = model.config().eos;
    if (alone.empty() || std::ranges::count(ends, alone.back()) == 0)
      throw Error(model.tokenizer_folder().string(), "sets no end token of the model behind a text",
                  "one, as </s>, whose id is eos_token_id in config.json");
  }
  const bool learned = model.family().positions == PositionKind::kLearned;
  return TextEncoder(tokenizer, length, learned ? model.config().longest() : 0, std::move(ends));
}

TextClassifier::TextClassifier(std::shared_ptr<const Model> model, const Options& options)
    : model_(std::move(model)),
      head_(*model_),
      tokenizer_(Tokenizer::load(model_->tokenizer_folder())),
      tokens_(text_encoder(*model_, tokenizer_, options.length)),
      pool_(options.threads),
      encoder_(Encoder::make(model_, {.compute = options.compute}, pool_)) {}

void TextClassifier::check(std::span<const LabeledText> texts) const {
  const int64_t wanted = model_->config().texts;
  for (const LabeledText& text : texts) {
    if (wanted == 0 || std::ssize(text.texts) == wanted) continue;
    if (wanted == 1)
      throw Error(text.where, "a pair, and the classifier was trained on single texts", "one text");
    throw Error(text.where, "a single text, and the classifier was trained on pairs",
                "two, with a tab between them");
  }
}

std::vector<Classified> TextClassifier::classify(std::span<const LabeledText> texts,
                                                 const std::function<bool(int64_t)>& go_on) {
  const bool typed = model_->config().token_types > 1;
  const auto size = static_cast<size_t>(encoder_->hidden_size());
  std::vector<Classified> all;
  std::vector<float> rows;
  while (all.size() < texts.size()) {
    std::vector<Tokenizer::Framed> read;
    size_t tokens = 0;
    for (size_t next = all.size(); next < texts.size() && (tokens == 0 || tokens < kTokensAtOnce); ++next) {
      read.push_back(tokens_.encode(texts[next]));
      tokens += read.back().tokens.size();
      long_.see(texts[next].where, std::ssize(read.back().tokens));
    }
    std::vector<Encoder::Sequence> sequences;
    for (const Tokenizer::Framed& text : read)
      sequences.push_back(
          {text.tokens, typed ? std::span<const int32_t>(text.types) : std::span<const int32_t>()});
    rows.resize(tokens * size);
    encoder_->encode(sequences, rows);
    size_t first = 0;
    for (const Tokenizer::Framed& text : read) {
      const size_t row = head_.row() == ReadRow::kFirst ? first : first + text.tokens.size() - 1;
      Classified one{0, head_.log_probabilities(std::span(rows).subspan(row * size, size)),
                     std::ssize(text.tokens)};
      one.label = static_cast<size_t>(std::ranges::max_element(one.log_probabilities) -
                                      one.log_probabilities.begin());
      all.push_back(std::move(one));
      first += text.tokens.size();
    }
    if (!go_on(std::ssize(all))) break;
  }
  return all;
}

}  // namespace linnet
