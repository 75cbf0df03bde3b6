// What the products of a model's layers read: the mean square of each input, which says how much an error in
// the weights that meet it costs. Filled by Forward where a Decoder's options give one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/profile.h"

namespace linnet {

class InputMoments {
 public:
  /// Rows of x [rows, in], row r at x + r * stride, that the layer's product `operation` reads.
  template <class T>
  void add(Operation operation, size_t layer, const T* x, int64_t stride, int64_t rows, int64_t in) {
    if (layers_.size() <= layer) layers_.resize(layer + 1);
    Moments& moments = layers_[layer][static_cast<size_t>(operation)];
    moments.squares.resize(static_cast<size_t>(in));
    moments.rows += rows;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < in; ++i) {
        const double number = x[r * stride + i];
        moments.squares[static_cast<size_t>(i)] += number * number;
      }
    }
  }

  /// Of each input the mean square; empty where nothing was read.
  std::vector<float> mean_squares(Operation operation, size_t layer) const {
    if (layer >= layers_.size()) return {};
    const Moments& moments = layers_[layer][static_cast<size_t>(operation)];
    std::vector<float> means;
    for (const double sum : moments.squares)
      means.push_back(static_cast<float>(sum / static_cast<double>(moments.rows)));
    return means;
  }

 private:
  struct Moments {
    std::vector<double> squares;
    int64_t rows = 0;
  };
  std::vector<std::array<Moments, kOperationNames.size()>> layers_;
};

}  // namespace linnet
