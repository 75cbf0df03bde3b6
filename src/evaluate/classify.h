// Texts through a classifier: tokens, the model, its head.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "evaluate/embed.h"
#include "evaluate/text_tasks.h"
#include "model/classifier.h"
#include "model/encoder.h"
#include "text/tokenizer.h"

namespace linnet {

/// What makes tokens of a classifier's texts; `length` as in TextEncoder. Throws Error on an encoder whose
/// tokenizer sets no special tokens around a text, and on a model of two stacks whose tokenizer sets no end
/// token behind it.
TextEncoder text_encoder(const Model& model, const Tokenizer& tokenizer, int64_t length);

/// What a text is taken for.
struct Classified {
  size_t label = 0;                       // the likeliest
  std::vector<double> log_probabilities;  // natural, of each label
  int64_t tokens = 0;                     // that were read
};

class TextClassifier {
 public:
  struct Options {
    int64_t length = 0;  // longer texts are cut; 0: none
    ComputeType compute = ComputeType::kAuto;
    int threads = 0;
  };

  /// Throws Error on a model that is no classifier.
  TextClassifier(std::shared_ptr<const Model> model, const Options& options);

  /// Throws Error on a text of one where the classifier was trained on pairs, and the other way round.
  void check(std::span<const LabeledText> texts) const;
  const std::vector<std::string>& labels() const { return head_.labels(); }
  /// Some thousand tokens at a time; `go_on` hears how many texts are done, after a no the result is what
  /// there is.
  std::vector<Classified> classify(std::span<const LabeledText> texts,
                                   const std::function<bool(int64_t)>& go_on);

 private:
  std::shared_ptr<const Model> model_;
  Classifier head_;
  Tokenizer tokenizer_;
  TextEncoder tokens_;
  ThreadPool pool_;
  std::unique_ptr<Encoder> encoder_;
  LongTexts long_{"--length"};
};

}  // namespace linnet
