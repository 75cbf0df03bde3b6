// The head of linear attention against its definition, a token and a key at a time, and its gradients against
// central differences of that.
#include "kernels/cpu/head_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/kernels/numbers.h"
#include "tests/kernels/targets.h"

namespace linnet {
namespace {

using kernels::HeadInputs;
using kernels::HeadShape;
using kernels::HeadsOfRows;

struct Case {
  int64_t length, group, window, sinks, queries;
  std::vector<int64_t> number;
  int64_t size = 16, value_size = 32, features = 48;
};

/// Windows that see part of a row, documents that end inside groups' rows, one longer than a block of
/// queries.
const Case kCases[] = {
    {1, 4, 1, 0, 1, {0}},
    {23, 4, 2, 3, 2, {0, 1, 2, 3, 4, 5}},
    {40, 4, 3, 4, 1, {0, 1, 2, 3, 4, 5, 0, 1, 0, 0}},
    {36, 4, 1, 4, 3, {0, 1, 2, 3, 0, 1, 2, 3, 4}},
    {150, 50, 1, 19, 2, {0, 1, 2}, 16, 16, 16},
    {21, 3, 9, 1, 1, {0, 1, 2, 3, 4, 5, 6}},
    {67, 1, 5, 1, 2, {}, 32, 16, 32},
};

/// Numbers by name, each head and token behind the other.
template <class T>
using Numbers = std::map<std::string, std::vector<T>>;

Numbers<double> draw(const Case& c, uint64_t seed) {
  Numbers<double> x;
  x["q"] = normals<double>(c.queries * c.length * c.size, seed);
  x["k"] = normals<double>(c.length * c.size, seed + 1);
  x["v"] = normals<double>(c.length * c.value_size, seed + 2);
  x["phi_q"] = normals<double>(c.queries * c.length * c.features, seed + 3);
  x["phi_k"] = normals<double>(c.length * c.features, seed + 4);
  x["alpha"] = normals<double>(c.queries * c.length, seed + 5);
  x["log_decay"] = {-0.2};
  for (const char* name : {"phi_q", "phi_k"})
    for (double& number : x[name]) number = std::max(number, 0.0);
  for (double& number : x["alpha"]) number = 1 / (1 + std::exp(-number));
  return x;
}

Case with_groups(Case c) {
  const int64_t groups = (c.length + c.group - 1) / c.group;
  for (int64_t g = static_cast<int64_t>(c.number.size()); g < groups; ++g) c.number.push_back(g);
  return c;
}

HeadShape shape_of(const Case& c) {
  return {c.length,  c.group, c.window,     c.sinks,    c.number.data(),
          c.queries, c.size,  c.value_size, c.features, 1 / std::sqrt(double(c.size)),
          1e-6};
}

/// The definition: [queries, length, value_size].
std::vector<double> defined(const Case& c, const Numbers<double>& x) {
  std::vector<double> out(c.queries * c.length * c.value_size);
  const auto product = [&](const char* a, int64_t i, const char* b, int64_t j, int64_t size) {
    double sum = 0;
    for (int64_t n = 0; n < size; ++n) sum += x.at(a)[i * size + n] * x.at(b)[j * size + n];
    return sum;
  };
  const auto document = [&](int64_t t) { return (t / c.group - c.number[t / c.group]) * c.group; };
  for (int64_t r = 0; r < c.queries; ++r) {
    for (int64_t t = 0; t < c.length; ++t) {
      const int64_t query = r * c.length + t, group = t / c.group, first = document(t);
      std::vector<double> local(c.value_size), global(c.value_size);
      double weights = 0, divided = 0;
      bool sees = false;
      for (int64_t s = first; s <= t; ++s) {
        const bool sink = s - first < c.sinks;
        const int64_t away = group - s / c.group;
        const auto value = [&](std::vector<double>& to, double weight) {
          for (int64_t n = 0; n < c.value_size; ++n) to[n] += weight * x.at("v")[s * c.value_size + n];
        };
        if (sink || away < c.window) {
          const double weight = std::exp(product("q", query, "k", s, c.size) / std::sqrt(double(c.size)));
          weights += weight;
          value(local, weight);
        } else {
          const double weight = std::exp(x.at("log_decay")[0] * double(away - c.window)) *
                                product("phi_q", query, "phi_k", s, c.features);
          sees = true;
          divided += weight;
          value(global, weight);
        }
      }
      const double alpha = sees ? x.at("alpha")[query] : 1;
      for (int64_t n = 0; n < c.value_size; ++n)
        out[query * c.value_size + n] =
            alpha * local[n] / weights + (1 - alpha) * global[n] / std::max(divided, 1e-6);
    }
  }
  return out;
}

template <class T>
HeadInputs<T> inputs_of(const Case& c, const Numbers<T>& x) {
  const auto heads = [&](const char* name, int64_t size) {
    return HeadsOfRows<const T>{x.at(name).data(), c.length * size, size};
  };
  return {heads("q", c.size),
          heads("k", c.size),
          heads("v", c.value_size),
          heads("phi_q", c.features),
          heads("phi_k", c.features),
          heads("alpha", 1),
          std::exp(x.at("log_decay")[0])};
}

template <class T>
Numbers<T> as(const Numbers<double>& x) {
  Numbers<T> y;
  for (const auto& [name, numbers] : x) y[name].assign(numbers.begin(), numbers.end());
  return y;
}

template <class T>
std::vector<T> forward(const Case& c, const Numbers<T>& x) {
  std::vector<T> out(c.queries * c.length * c.value_size, std::numeric_limits<T>::quiet_NaN());
  kernels::head_attention<T>(shape_of(c), inputs_of(c, x),
                             {out.data(), c.length * c.value_size, c.value_size});
  return out;
}

template <class T>
Numbers<T> backward(const Case& c, const Numbers<T>& x, const std::vector<T>& gradient) {
  Numbers<T> out = x;
  for (auto& [name, numbers] : out) std::fill(numbers.begin(), numbers.end(), T(NAN));
  const auto heads = [&](const char* name, int64_t size) {
    return HeadsOfRows<T>{out.at(name).data(), c.length * size, size};
  };
  kernels::head_attention_backward<T>(
      shape_of(c), inputs_of(c, x), {gradient.data(), c.length * c.value_size, c.value_size},
      {heads("q", c.size), heads("k", c.size), heads("v", c.value_size), heads("phi_q", c.features),
       heads("phi_k", c.features), heads("alpha", 1), out.at("log_decay").data()});
  return out;
}

TEST(HeadAttention, IsItsDefinition) {
  on_every_target([] {
    for (const Case& given : kCases) {
      const Case c = with_groups(given);
      const Numbers<double> x = draw(c, 3);
      const std::vector<double> expected = defined(c, x);
      EXPECT_LT(relative_rms(forward(c, x), expected), 1e-13) << c.length;
      EXPECT_LT(relative_rms(forward(c, as<float>(x)), expected), 1e-6) << c.length;
    }
  });
}

TEST(HeadAttention, HasTheGradientsOfItsDefinition) {
  for (const Case& given : kCases) {
    const Case c = with_groups(given);
    const Numbers<double> x = draw(c, 5);
    const std::vector<double> weight = normals<double>(c.queries * c.length * c.value_size, 17);
    const auto weighed = [&](const Numbers<double>& at) {
      const std::vector<double> out = defined(c, at);
      return std::inner_product(out.begin(), out.end(), weight.begin(), 0.0);
    };
    const Numbers<double> gradients = backward(c, x, weight);
    for (const auto& [name, own] : gradients) {
      const std::vector<double> toward = normals<double>(own.size(), 23);
      const auto moved = [&](double step) {
        Numbers<double> at = x;
        for (size_t i = 0; i < toward.size(); ++i) at[name][i] += step * toward[i];
        return weighed(at);
      };
      const double expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
      const double actual = std::inner_product(own.begin(), own.end(), toward.begin(), 0.0);
      EXPECT_NEAR(actual, expected, 1e-6 * (1 + std::abs(expected))) << name << " of " << c.length;
    }
    on_every_target([&] {
      const Numbers<double> again = backward(c, x, weight);
      const Numbers<float> single =
          backward(c, as<float>(x), std::vector<float>(weight.begin(), weight.end()));
      for (const auto& [name, own] : gradients) {
        EXPECT_LT(relative_rms(again.at(name), own), 1e-12) << name << " of " << c.length;
        const bool none = std::all_of(own.begin(), own.end(), [](double number) { return number == 0; });
        EXPECT_LT(relative_rms(single.at(name), own), none ? 0.0 + 1e-30 : 1e-5)
            << name << " of " << c.length;
      }
    });
  }
}

}  // namespace
}  // namespace linnet
