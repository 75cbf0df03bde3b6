// A classifier's head on a final normed row: logits = out(tanh(dense(row))) (format/family.h).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"

namespace linnet {

class Classifier {
 public:
  /// Throws Error on a model without such a head.
  explicit Classifier(const Model& model);

  const std::vector<std::string>& labels() const { return labels_; }
  ReadRow row() const { return row_; }
  /// Natural logarithms of the labels' probabilities, of a row [hidden]: a probability may be less than a
  /// number can be, and its logarithm is none the less known.
  std::vector<double> log_probabilities(std::span<const float> row) const;
  std::vector<double> logits(std::span<const float> row) const;

 private:
  struct Product {
    std::vector<float> weight, bias;  // [out, in], [out] or empty
    std::vector<double> of(std::span<const double> x) const;
  };
  static Product product(const Model& model, std::string_view module);

  std::vector<std::string> labels_;
  ReadRow row_;
  Product dense_, out_;  // dense_ without numbers: none
};

}  // namespace linnet
