// Texts through a classifier: tokens, the model, its head.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "evaluate/text_tasks.h"
#include "model/classifier.h"
#include "model/decoder.h"
#include "text/tokenizer.h"

namespace linnet {

/// What a text is taken for.
struct Classified {
  size_t label = 0;                   // the likeliest
  std::vector<double> probabilities;  // of each label
};

class TextClassifier {
 public:
  struct Options {
    int64_t length = 0;  // longer texts are cut; 0: none
    ComputeType compute = ComputeType::kAuto;
    std::string device = "cpu";
    int threads = 0;
  };

  /// Throws Error on a model that is no classifier.
  TextClassifier(std::shared_ptr<const Model> model, const Options& options);

  const std::vector<std::string>& labels() const { return head_.labels(); }
  /// `go_on` hears after each text how many are done; after a no the result is what there is.
  std::vector<Classified> classify(std::span<const LabeledText> texts,
                                   const std::function<bool(int64_t)>& go_on);
  Classified classify(const LabeledText& text);

 private:
  std::shared_ptr<const Model> model_;
  Classifier head_;
  Tokenizer tokenizer_;
  TextEncoder encoder_;
  ThreadPool pool_;
  std::unique_ptr<Decoder> decoder_;
  std::vector<float> logits_;
};

}  // namespace linnet
