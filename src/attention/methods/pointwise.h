// Rows of methods whose feature map acts on each number by itself and learns nothing: a function and a line.
#pragma once

#include <algorithm>
#include <memory>

#include "attention/features.h"
#include "attention/method.h"

namespace linnet {

template <class T, typename PointwiseMap<T>::Function kMap>
std::unique_ptr<Summary<T>> make_pointwise(const AttentionConfig& config, const AttentionShape& shape,
                                           const Parameters<T>& parameters) {
  return make_features<T>(std::make_unique<PointwiseMap<T>>(kMap, shape.head_size), config, shape,
                          parameters);
}

/// The row of features φ(x) = map(x), divided by their sum unless it says otherwise.
template <PointwiseMap<float>::Function kFloat, PointwiseMap<double>::Function kDouble>
Method pointwise_row(std::string_view name, std::string_view description) {
  Method row;
  row.name = name;
  row.description = description;
  row.cost = "2de";
  row.summary = SummaryKind::kFeatures;
  row.make_float = make_pointwise<float, kFloat>;
  row.make_double = make_pointwise<double, kDouble>;
  return row;
}

template <class T>
void identity_map(int64_t n, const T* x, T* y) {
  std::copy_n(x, n, y);
}

/// The row of features φ(x) = x.
inline Method identity_row(std::string_view name, std::string_view description) {
  return pointwise_row<identity_map<float>, identity_map<double>>(name, description);
}

}  // namespace linnet
