#include "evaluate/classify.h"

#include <algorithm>


namespace linnet {

TextClassifier::TextClassifier(std::shared_ptr<const Model> model, const Options& options)
    : model_(std::move(model)),
      head_(*model_),
      tokenizer_(Tokenizer::load(model_->tokenizer_folder())),
      encoder_(tokenizer_, options.length,
               model_->family().positions == PositionKind::kLearned ? model_->config().positions : 0),
      pool_(options.threads),
      decoder_(Decoder::make(model_, {.compute = options.compute, .max_nodes = 1, .device = options.device},
                             pool_)),
      logits_(static_cast<size_t>(decoder_->vocabulary())) {}

Classified TextClassifier::classify(const LabeledText& text) {
  const std::vector<int32_t> tokens = encoder_.encode(text).tokens;
  decoder_->reset(0);
  decoder_->prefill(0, tokens, tokens.size() - 1, logits_);
  Classified one{0, head_.probabilities(decoder_->hidden(0))};
  one.label = static_cast<size_t>(std::ranges::max_element(one.probabilities) - one.probabilities.begin());
  return one;
}

std::vector<Classified> TextClassifier::classify(std::span<const LabeledText> texts,
                                                 const std::function<bool(int64_t)>& go_on) {
  std::vector<Classified> all;
  for (const LabeledText& text : texts) {
    all.push_back(classify(text));
    if (!go_on(std::ssize(all))) break;
  }
  return all;
}

}  // namespace linnet
