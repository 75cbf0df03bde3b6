// Every attention by definition, token by token from scratch in float64: mathematics of section 1 and nothing
// else. O(n²), obviously right; what the fast forms are held against beside the golden files.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "attention/method.h"

namespace linnet {

using Vec = std::vector<double>;
using ParameterNumbers = std::map<std::string, Vec>;

/// One head's tokens.
struct HeadSequence {
  std::vector<Vec> q, k, v, q_plain, k_plain;
};

/// Query head h and its key-value head of one attention.
class ReferenceHead {
 public:
  ReferenceHead(const AttentionConfig& config, const AttentionShape& shape,
                const ParameterNumbers& parameters, const SinkRotation* sinks, int head)
      : config_(config), shape_(shape), parameters_(parameters), sinks_(sinks), head_(head) {
    kv_head_ = head * shape.kv_heads / shape.heads;
    summary_ = find_method(config.method, "test").summary != SummaryKind::kNone;
  }

  /// The output of the last token.
  Vec last(const HeadSequence& x) const {
    const int64_t t = static_cast<int64_t>(x.v.size()) - 1;
    Vec out(shape_.value_size, 0.0);
    std::vector<int64_t> local, global;
    for (int64_t s = 0; s <= t; ++s) {
      if (is_local(s, t)) local.push_back(s);
      if (is_global(s, t) && !config_.local_alone()) global.push_back(s);
    }
    const bool has_local = config_.local != LocalWeight::kNone || config_.method == "softmax";
    const bool plain = config_.feature_position == FeaturePosition::kNone;
    const Vec& q = plain ? x.q_plain[t] : x.q[t];
    Vec numerator(shape_.value_size), s_sum(shape_.value_size);
    double denominator = 1, z_sum = 0;
    if (has_local) denominator = local_branch(x, local, t, numerator);
    if (!global.empty()) z_sum = features(x, global, t, q, s_sum);
    for (int64_t i = 0; i < shape_.value_size; ++i) {
      const double near = has_local ? numerator[i] / denominator : 0.0;
      const double far = global.empty() ? 0.0 : s_sum[i] / std::max(z_sum, 1e-6);
      if (global.empty()) {
        out[i] = near;
      } else if (!has_local) {
        out[i] = far;
      } else if (const double a = alpha(q); config_.denominator == Denominator::kShared) {
        out[i] = (a * numerator[i] + (1 - a) * s_sum[i]) / (a * denominator + (1 - a) * z_sum);
      } else {
        out[i] = a * near + (1 - a) * far;
      }
    }
    for (int64_t j = 0; j < config_.taps && j <= t; ++j) {
      for (int64_t i = 0; i < shape_.value_size; ++i) {
        out[i] += at("taps", (head_ * config_.taps + j) * shape_.value_size + i) * x.v[t - j][i];
      }
    }
    return out;
  }

 private:
  double at(const std::string& name, int64_t i) const { return parameters_.at(name)[i]; }
  int64_t group(int64_t s) const { return s / config_.group; }
  static double dot(const Vec& a, const Vec& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }

  bool is_local(int64_t s, int64_t t) const {
    if (config_.method == "softmax") return config_.window == 0 || t - s < config_.window;
    return config_.local != LocalWeight::kNone &&
           (s < config_.sinks || group(t) - group(s) < config_.local_groups);
  }
  bool is_global(int64_t s, int64_t t) const {
    if (!summary_) return false;
    if (config_.local == LocalWeight::kNone) return true;
    return s >= config_.sinks && group(t) - group(s) >= config_.local_groups;
  }

  double alpha(const Vec& q) const {
    if (!config_.alpha_learned) return config_.alpha;
    double logit = at("alpha", head_);
    for (size_t i = 0; config_.gate && i < q.size(); ++i) logit += at("gate", head_ * q.size() + i) * q[i];
    return 1 / (1 + std::exp(-logit));
  }

  Vec local_key(const HeadSequence& x, int64_t s, int64_t t) const {
    Vec key = x.k[s];
    const int64_t end = (group(t) + 1) * config_.group;
    if (!sinks_ || s >= config_.sinks || end <= sinks_->trained_positions) return key;
    const size_t half = sinks_->inverse_frequencies.size();
    for (size_t i = 0; i < half; ++i) {
      const double angle = double(end - sinks_->trained_positions) * sinks_->inverse_frequencies[i];
      const double a = key[i], b = key[i + half];
      key[i] = a * std::cos(angle) - b * std::sin(angle);
      key[i + half] = b * std::cos(angle) + a * std::sin(angle);
    }
    return key;
  }

  double local_branch(const HeadSequence& x, const std::vector<int64_t>& tokens, int64_t t, Vec& out) const {
    const double scale = 1 / std::sqrt(double(shape_.head_size));
    Vec weights;
    double most = -INFINITY, denominator = 0;
    for (int64_t s : tokens) {
      const Vec key = local_key(x, s, t);
      const double score = dot(x.q[t], key) * scale;
      const double cosine = dot(x.q[t], key) / std::max(std::sqrt(dot(key, key) * dot(x.q[t], x.q[t])), 1e-6);
      most = std::max(most, score);
      switch (config_.local) {
        case LocalWeight::kRelu2:
          weights.push_back(std::pow(std::max(score, 0.0), 2) / config_.group);
          break;
        case LocalWeight::kRelu:
          weights.push_back(std::max(score, 0.0));
          break;
        case LocalWeight::kLaplace: {
          const double sigma = std::sqrt(0.25 / std::numbers::pi);
          weights.push_back(0.5 * (1 + std::erf((score - std::sqrt(0.5)) / (sigma * std::numbers::sqrt2))) /
                            config_.group);
          break;
        }
        case LocalWeight::kYoso:
          weights.push_back(
              std::pow(1 - std::acos(std::clamp(cosine, -1.0, 1.0)) / std::numbers::pi, config_.bits));
          break;
        case LocalWeight::kNone:  // softmax without a branch
        case LocalWeight::kSoftmax:
          weights.push_back(score);
      }
    }
    const bool softmax = config_.local == LocalWeight::kSoftmax || config_.method == "softmax";
    double squares = 0;
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (softmax) weights[i] = std::exp(weights[i] - most);
      denominator += weights[i];
      for (size_t j = 0; j < out.size(); ++j) out[j] += weights[i] * x.v[tokens[i]][j];
    }
    for (double number : out) squares += number * number;
    if (softmax) return denominator;
    if (config_.local == LocalWeight::kYoso) return std::max(std::sqrt(squares), 1e-6);
    if (config_.local != LocalWeight::kRelu) return 1;
    for (size_t j = 0; j < out.size(); ++j) {
      if (parameters_.contains("local_gain")) out[j] *= at("local_gain", head_ * out.size() + j);
    }
    return std::sqrt(squares / double(out.size()) + 1e-6);
  }

  Vec phi(const Vec& x, const char* side, int head) const {
    Vec out;
    if (config_.method == "relu") {
      for (double number : x) out.push_back(std::max(number, 0.0));
    } else if (config_.method == "elu1") {
      for (double number : x) out.push_back(number > 0 ? 1 + number : std::exp(number));
    } else {  // hedgehog, grouped
      const Vec& weight = parameters_.at(std::string(side) + ".weight");
      const size_t d = x.size();
      out.resize(2 * d);
      double sums[2] = {0, 0};
      for (size_t i = 0; i < d; ++i) {
        double y = 0;
        for (size_t j = 0; j < d; ++j) y += weight[(head * d + i) * d + j] * x[j];
        sums[0] += out[i] = std::exp(y);
        sums[1] += out[d + i] = std::exp(-y);
      }
      for (size_t i = 0; i < 2 * d; ++i) out[i] /= sums[i / d];
    }
    return out;
  }

  double features(const HeadSequence& x, const std::vector<int64_t>& tokens, int64_t t, const Vec& q,
                  Vec& out) const {
    const double decay = config_.decay_learned ? 1 / (1 + std::exp(-at("decay", kv_head_))) : config_.decay;
    const Vec phi_q = phi(q, "q", head_);
    double sum = 0;
    for (int64_t s : tokens) {
      const Vec& key = config_.feature_position == FeaturePosition::kNone ? x.k_plain[s] : x.k[s];
      const double weight = std::pow(decay, double(group(t) - config_.local_groups - group(s))) *
                            dot(phi_q, phi(key, "k", kv_head_));
      sum += weight;
      for (size_t i = 0; i < out.size(); ++i) out[i] += weight * x.v[s][i];
    }
    return sum;
  }

  const AttentionConfig& config_;
  const AttentionShape& shape_;
  const ParameterNumbers& parameters_;
  const SinkRotation* sinks_;
  int head_, kv_head_;
  bool summary_;
};

}  // namespace linnet
