// Every attention by definition, token by token from scratch in float64: mathematics of section 1 and nothing
// else. O(n²), obviously right; what the fast forms are held against beside the golden files.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <string>
#include <string_view>
#include <vector>

#include "attention/attention.h"
#include "attention/kept_tokens.h"
#include "attention/method.h"

namespace linnet {

using Vec = std::vector<double>;
using ParameterNumbers = std::map<std::string, Vec>;

/// One head's tokens.
struct HeadSequence {
  std::vector<Vec> q, k, v, summary_q, summary_k;
};

/// What a query reads of the tokens it sees globally: numerator and denominator of features, and the output.
struct ReferenceRead {
  Vec numerator;
  double denominator = 0;
  Vec output;
};

/// φ(x) of a side ("q." or "k.") and its head, and the key-value head.
using ReferenceMap = Vec (*)(const Vec& x, const ParameterNumbers&, const std::string& side, int head,
                             int kv_head);

/// y = Wx of a head's matrix [rows, d].
inline Vec reference_product(const Vec& matrices, int head, size_t rows, const Vec& x) {
  Vec y(rows);
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < x.size(); ++j) y[i] += matrices[(head * rows + i) * x.size() + j] * x[j];
  }
  return y;
}

inline double reference_relu(double x) { return std::max(x, 0.0); }
inline double reference_elu(double x) { return x > 0 ? x : std::expm1(x); }
inline double reference_elu1(double x) { return x > 0 ? 1 + x : std::exp(x); }
inline double reference_same(double x) { return x; }

template <double (*kFunction)(double)>
Vec reference_pointwise(const Vec& x, const ParameterNumbers&, const std::string&, int, int) {
  Vec out;
  for (double number : x) out.push_back(kFunction(number));
  return out;
}

inline Vec reference_hedgehog(const Vec& x, const ParameterNumbers& parameters, const std::string& side,
                              int head, int) {
  const size_t d = x.size();
  const Vec y = reference_product(parameters.at(side + "weight"), head, d, x);
  Vec out(2 * d);
  double sums[2] = {0, 0};
  for (size_t i = 0; i < d; ++i) {
    sums[0] += out[i] = std::exp(y[i]);
    sums[1] += out[d + i] = std::exp(-y[i]);
  }
  for (size_t i = 0; i < 2 * d; ++i) out[i] /= sums[i / d];
  return out;
}

inline Vec reference_t2r(const Vec& x, const ParameterNumbers& parameters, const std::string& side, int head,
                         int) {
  Vec y = reference_product(parameters.at(side + "weight"), head, x.size(), x);
  for (size_t i = 0; i < y.size(); ++i) {
    y[i] = std::max(y[i] + parameters.at(side + "bias")[head * y.size() + i], 0.0);
  }
  return y;
}

/// Ωy with y = x/d^¼.
inline Vec reference_projection(const Vec& x, const ParameterNumbers& parameters, int kv_head) {
  const Vec& projection = parameters.at("projection");
  const size_t kv_heads = parameters.at("key-value heads")[0];
  Vec y = reference_product(projection, kv_head, projection.size() / kv_heads / x.size(), x);
  for (double& number : y) number *= std::pow(double(x.size()), -0.25);
  return y;
}

inline Vec reference_performer_relu(const Vec& x, const ParameterNumbers& parameters, const std::string&, int,
                                    int kv_head) {
  Vec y = reference_projection(x, parameters, kv_head);
  const double root = std::sqrt(double(y.size()));
  for (double& number : y) number = std::max(number, 0.0) / root + 1e-3;
  return y;
}

inline Vec reference_performer(const Vec& x, const ParameterNumbers& parameters, const std::string&, int,
                               int kv_head) {
  double half = 0;
  for (double number : x) half += 0.5 * number * number / std::sqrt(double(x.size()));
  Vec y = reference_projection(x, parameters, kv_head);
  const double root = std::sqrt(double(y.size()));
  for (double& number : y) number = std::exp(number - half) / root;
  return y;
}

/// φ of every row with a summary of features that the reference knows; another row's forms are held to each
/// other alone.
inline const std::map<std::string_view, ReferenceMap>& reference_maps() {
  static const std::map<std::string_view, ReferenceMap> maps{
      {"relu", reference_pointwise<reference_relu>},
      {"elu1", reference_pointwise<reference_elu1>},
      {"hedgehog", reference_hedgehog},
      {"grouped", reference_hedgehog},
      {"flash", reference_pointwise<reference_same>},
      {"flash_global", reference_pointwise<reference_same>},
      {"flash_global_inclusive", reference_pointwise<reference_same>},
      {"performer", reference_performer},
      {"performer_relu", reference_performer_relu},
      {"t2r", reference_t2r},
      {"transnormer_t1", reference_pointwise<reference_elu>},
      {"transnormer_t2", reference_pointwise<reference_elu1>},
      {"paper", reference_pointwise<reference_same>},
  };
  return maps;
}

/// Which tokens a query sees: those up to itself; all of its sequence; all of another one.
enum class ReferenceForm { kCausal, kBidirectional, kCross };
/// What a query reads of a summary of another kind, by definition of the tokens that it sees and their
/// positions.
struct ReferenceTokens {
  std::vector<int64_t> positions;
  std::vector<Vec> keys, values;
};
using ReferenceSummary = Vec (*)(const Vec& q, const ReferenceTokens&, const ParameterNumbers&,
                                 const AttentionConfig&, int kv_head);

inline Vec reference_linformer(const Vec& q, const ReferenceTokens& seen, const ParameterNumbers& parameters,
                               const AttentionConfig& config, int kv_head) {
  const int64_t slots = config.option("slots"), period = config.group;
  const double periods = std::max(std::ceil(double(seen.keys.size()) / double(period)), 1.0);
  const double scale = config.method->unit_rows ? 1 : 1 / std::sqrt(double(q.size()));
  Vec scores(slots), out(seen.values[0].size());
  std::vector<Vec> values(slots, Vec(out.size()));
  for (int64_t j = 0; j < slots; ++j) {
    Vec key(q.size());
    for (size_t s = 0; s < seen.keys.size(); ++s) {
      const int64_t at = (kv_head * slots + j) * period + seen.positions[s] % period;
      for (size_t i = 0; i < q.size(); ++i) key[i] += parameters.at("E")[at] * seen.keys[s][i];
      for (size_t i = 0; i < out.size(); ++i) values[j][i] += parameters.at("F")[at] * seen.values[s][i];
    }
    for (size_t i = 0; i < q.size(); ++i) scores[j] += q[i] * key[i] * scale / periods;
  }
  const double most = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - most);
  for (int64_t j = 0; j < slots; ++j) {
    for (size_t i = 0; i < out.size(); ++i) out[i] += scores[j] / sum * values[j][i] / periods;
  }
  return out;
}

inline Vec reference_yoso(const Vec& q, const ReferenceTokens& seen, const ParameterNumbers& parameters,
                          const AttentionConfig& config, int kv_head) {
  const int tables = config.option("tables"), bits = config.option("bits");
  const auto hashes = [&](const Vec& x) {  // of each table
    const Vec sides = reference_product(parameters.at("planes"), kv_head, tables * bits, x);
    std::vector<int> codes(tables);
    for (int i = 0; i < tables * bits; ++i) codes[i / bits] += (sides[i] > 0) << i % bits;
    return codes;
  };
  Vec out(seen.values[0].size());
  const std::vector<int> own = hashes(q);
  for (size_t s = 0; s < seen.keys.size(); ++s) {
    const std::vector<int> others = hashes(seen.keys[s]);
    for (int h = 0; h < tables; ++h) {
      for (size_t i = 0; others[h] == own[h] && i < out.size(); ++i) out[i] += seen.values[s][i] / tables;
    }
  }
  double squares = 0;
  for (double number : out) squares += number * number;
  for (double& number : out) number /= std::max(std::sqrt(squares), 1e-6);
  return out;
}

/// Every row with a summary of another kind that the reference knows.
inline const std::map<std::string_view, ReferenceSummary>& reference_summaries() {
  static const std::map<std::string_view, ReferenceSummary> summaries{
      {"linformer", reference_linformer},
      {"yoso", reference_yoso},
  };
  return summaries;
}

/// Query head h and its key-value head of one attention.
class ReferenceHead {
 public:
  ReferenceHead(const AttentionConfig& config, const AttentionShape& shape,
                const ParameterNumbers& parameters, const Rotation* sinks, int head,
                ReferenceForm form = ReferenceForm::kCausal)
      : config_(config), shape_(shape), parameters_(parameters), sinks_(sinks), head_(head), form_(form) {
    kv_head_ = head * shape.kv_heads / shape.heads;
  }

  /// Whether this row is known here.
  static bool knows(const Method& method) {
    return method.summary == SummaryKind::kNone || reference_maps().contains(method.name) ||
           reference_summaries().contains(method.name);
  }

  /// The output of the last token. Of the cross form it is the query, and those before it are the encoder's.
  Vec last(const HeadSequence& x) const { return output(x, static_cast<int64_t>(x.v.size()) - 1); }

  /// The output of token t.
  Vec output(const HeadSequence& x, int64_t t) const {
    Vec out(shape_.value_size, 0.0);
    std::vector<int64_t> local, global;
    const int64_t n = static_cast<int64_t>(x.v.size());
    const int64_t end = form_ == ReferenceForm::kBidirectional ? n
                        : form_ == ReferenceForm::kCross       ? t
                                                               : t + 1;
    const std::vector<int64_t> kept = kept_at(x, t);
    for (int64_t s = 0; s < end; ++s) {
      if (is_local(s, t) || std::binary_search(kept.begin(), kept.end(), s)) local.push_back(s);
      if (is_global(s, t)) global.push_back(s);
    }
    const bool has_local = !local.empty();
    const Vec q = summary_row(x.q[t], x.summary_q[t]);
    Vec numerator(shape_.value_size);
    ReferenceRead far;
    double denominator = 1;
    if (has_local) denominator = local_branch(x, local, t, numerator);
    if (!global.empty()) far = read(x, global, t, q);
    for (int64_t i = 0; i < shape_.value_size; ++i) {
      const double near = has_local ? numerator[i] / denominator : 0.0;
      if (global.empty()) {
        out[i] = near;
      } else if (!has_local) {
        out[i] = far.output[i];
      } else if (const double a = alpha(q); config_.method->mix == Mix::kAdditive) {
        out[i] = near + a * far.output[i];
      } else if (config_.denominator == Denominator::kShared) {
        out[i] =
            (a * numerator[i] + (1 - a) * far.numerator[i]) / (a * denominator + (1 - a) * far.denominator);
      } else {
        out[i] = a * near + (1 - a) * far.output[i];
      }
    }
    const int64_t shift = form_ == ReferenceForm::kBidirectional ? config_.taps / 2 : 0;
    for (int64_t j = 0; form_ != ReferenceForm::kCross && j < config_.taps; ++j) {
      const int64_t from = t + shift - j;
      for (int64_t i = 0; from >= 0 && from < n && i < shape_.value_size; ++i) {
        out[i] += at("taps", (head_ * config_.taps + j) * shape_.value_size + i) * x.v[from][i];
      }
    }
    return out;
  }

  /// The older tokens that t sees locally, in position order: of each block, when it is folded, those are
  /// kept that the summary of the blocks before recalls worst at their own keys.
  std::vector<int64_t> kept_at(const HeadSequence& x, int64_t t) const {
    const int64_t most = config_.kept.of(kv_head_);
    std::vector<std::pair<double, int64_t>> kept;  // minus the surprise, and the position
    if (most == 0 || form_ != ReferenceForm::kCausal) return {};
    const int64_t w = config_.local_groups.of(kv_head_), c = config_.group;
    for (int64_t b = 0; group(t) - b >= w; ++b) {
      std::vector<int64_t> before;
      for (int64_t s = config_.sinks; s < b * c; ++s) before.push_back(s);
      for (int64_t s = std::max<int64_t>(b * c, config_.sinks); s < (b + 1) * c; ++s) {
        const bool drawn = config_.keep == KeepRule::kRandom;
        kept.emplace_back(-(drawn ? random_surprise(s) : surprise(x, s, before, (b + w) * c)), s);
      }
      std::sort(kept.begin(), kept.end());
      if (static_cast<int64_t>(kept.size()) > most) kept.resize(most);
    }
    std::vector<int64_t> positions;
    for (const auto& [surprise, s] : kept) positions.push_back(s);
    std::sort(positions.begin(), positions.end());
    return positions;
  }

 private:
  /// How badly the tokens `before`, as readers at t see them, recall token s at its own key.
  double surprise(const HeadSequence& x, int64_t s, const std::vector<int64_t>& before, int64_t t) const {
    const ReferenceMap map = reference_maps().at(config_.method->name);
    const auto phi = [&](int64_t i) {
      return map(summary_row(x.k[i], x.summary_k[i]), parameters_, "k.", kv_head_, kv_head_);
    };
    const double decay = config_.decay_learned ? 1 / (1 + std::exp(-at("decay", kv_head_))) : config_.decay;
    const Vec own = phi(s);
    Vec recalled(shape_.value_size);
    double denominator = 0, squares = 0;
    for (int64_t i : before) {
      const double weight = std::pow(decay, faded(i, t)) * dot(own, phi(i));
      denominator += weight;
      for (size_t j = 0; j < recalled.size(); ++j) recalled[j] += weight * x.v[i][j];
    }
    for (size_t j = 0; j < recalled.size(); ++j) {
      squares += std::pow(x.v[s][j] - recalled[j] / std::max(denominator, 1e-6), 2);
    }
    return std::sqrt(squares);
  }

  double at(const std::string& name, int64_t i) const { return parameters_.at(name)[i]; }
  int64_t group(int64_t s) const { return s / config_.group; }
  static double dot(const Vec& a, const Vec& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }

  bool is_local(int64_t s, int64_t t) const {
    if (form_ == ReferenceForm::kCross) return config_.grows();
    if (form_ == ReferenceForm::kBidirectional) {
      if (config_.grows()) return config_.window == 0 || std::abs(t - s) < config_.window;
      return config_.has_local() && group(s) == group(t);
    }
    if (config_.grows()) return config_.window == 0 || t - s < config_.window;
    return config_.local != LocalWeight::kNone &&
           (s < config_.sinks || group(t) - group(s) < config_.local_groups.of(kv_head_));
  }
  bool is_global(int64_t s, int64_t t) const {
    if (!config_.has_summary()) return false;
    if (form_ == ReferenceForm::kCross) return true;
    if (form_ == ReferenceForm::kBidirectional) {
      return (!config_.has_local() && config_.method->inclusive) || group(s) != group(t);
    }
    if (!config_.has_local()) return config_.method->inclusive || group(t) > group(s);
    return s >= config_.sinks && group(t) - group(s) >= config_.local_groups.of(kv_head_);
  }

  /// How many times token s has faded where t reads it.
  double faded(int64_t s, int64_t t) const {
    if (form_ == ReferenceForm::kCross) return 0;
    if (form_ == ReferenceForm::kBidirectional) return double(std::abs(group(t) - group(s)) - 1);
    return double(group(t) - config_.local_groups.of(kv_head_) - group(s));
  }

  double alpha(const Vec& q) const {
    if (!config_.alpha_learned) return config_.alpha;
    if (config_.method->mix == Mix::kAdditive) return at("alpha", head_);
    double logit = at("alpha", head_);
    for (size_t i = 0; config_.gate && i < q.size(); ++i) logit += at("gate", head_ * q.size() + i) * q[i];
    return 1 / (1 + std::exp(-logit));
  }

  Vec local_key(const HeadSequence& x, int64_t s, int64_t t) const {
    Vec key = entered(x.k[s]);
    if (!sinks_ || form_ != ReferenceForm::kCausal) return key;
    const int64_t past = (group(t) + 1) * config_.group - sinks_->trained_positions;
    int64_t position = s;
    if (past > 0 && s < config_.sinks) position = s + past;
    if (past > 0 && s >= config_.sinks && group(t) - group(s) >= config_.local_groups.of(kv_head_))
      position = std::max(s, past + config_.sinks);  // a kept token
    const size_t half = sinks_->inverse_frequencies.size();
    for (size_t i = 0; i < half; ++i) {
      const double angle = double(position - s) * sinks_->inverse_frequencies[i];
      const double a = key[i], b = key[i + half];
      key[i] = a * std::cos(angle) - b * std::sin(angle);
      key[i + half] = b * std::cos(angle) + a * std::sin(angle);
    }
    return key;
  }

  double local_branch(const HeadSequence& x, const std::vector<int64_t>& tokens, int64_t t, Vec& out) const {
    const double scale = config_.method->unit_rows ? 1 : 1 / std::sqrt(double(shape_.head_size));
    const Vec q = entered(x.q[t]);
    Vec weights;
    double most = -INFINITY, denominator = 0;
    for (int64_t s : tokens) {
      const Vec key = local_key(x, s, t);
      const double score = dot(q, key) * scale;
      const double cosine = dot(q, key) / std::max(std::sqrt(dot(key, key) * dot(q, q)), 1e-6);
      most = std::max(most, score);
      switch (config_.local) {
        case LocalWeight::kRelu2:
          weights.push_back(std::pow(std::max(score, 0.0), 2) / config_.group);
          break;
        case LocalWeight::kRelu2Unit:
          weights.push_back(std::pow(std::max(cosine, 0.0), 2));
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
          weights.push_back(std::pow(1 - std::acos(std::clamp(cosine, -1.0, 1.0)) / std::numbers::pi,
                                     config_.option("bits")));
          break;
        case LocalWeight::kNone:  // softmax without a branch
        case LocalWeight::kSoftmax:
          weights.push_back(score);
      }
    }
    const bool softmax = config_.local == LocalWeight::kSoftmax || config_.grows();
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

  Vec entered(Vec x) const {
    const double norm = config_.method->unit_rows ? std::max(std::sqrt(dot(x, x)), 1e-6) : 1;
    for (double& number : x) number /= norm;
    return x;
  }
  Vec summary_row(const Vec& rotated, const Vec& own) const {
    return entered(config_.feature_position == FeaturePosition::kNone ? own : rotated);
  }

  /// What the row's summary of features reads, by its division and norm.
  ReferenceRead read_features(const HeadSequence& x, const std::vector<int64_t>& tokens, int64_t t,
                              const Vec& q, ReferenceMap map) const {
    const double decay = config_.decay_learned ? 1 / (1 + std::exp(-at("decay", kv_head_))) : config_.decay;
    const Vec phi_q = map(q, parameters_, "q.", head_, kv_head_);
    ReferenceRead out{Vec(shape_.value_size), 0, {}};
    for (int64_t s : tokens) {
      const Vec phi_k = map(summary_row(x.k[s], x.summary_k[s]), parameters_, "k.", kv_head_, kv_head_);
      const double weight = std::pow(decay, faded(s, t)) * dot(phi_q, phi_k);
      out.denominator += weight;
      for (size_t i = 0; i < out.numerator.size(); ++i) out.numerator[i] += weight * x.v[s][i];
    }
    double divisor = 1;
    switch (config_.method->division) {
      case Division::kSum:
        divisor = std::max(out.denominator, 1e-6);
        break;
      case Division::kPositiveSum:
        divisor = out.denominator;
        break;
      case Division::kCount:
        divisor = double(tokens.size());
        break;
      case Division::kNone:
        break;
    }
    out.output = out.numerator;
    double squares = 0;
    for (double& number : out.output) {
      number /= divisor;
      squares += number * number;
    }
    if (!config_.method->gain) return out;
    for (size_t i = 0; i < out.output.size(); ++i) {
      out.output[i] *=
          at("gain", head_ * out.output.size() + i) / std::sqrt(squares / double(out.output.size()) + 1e-6);
    }
    return out;
  }

  ReferenceRead read(const HeadSequence& x, const std::vector<int64_t>& tokens, int64_t t,
                     const Vec& q) const {
    const auto other = reference_summaries().find(config_.method->name);
    if (other == reference_summaries().end()) {
      return read_features(x, tokens, t, q, reference_maps().at(config_.method->name));
    }
    ReferenceTokens seen{tokens, {}, {}};
    for (int64_t s : tokens) {
      seen.keys.push_back(summary_row(x.k[s], x.summary_k[s]));
      seen.values.push_back(x.v[s]);
    }
    return {{}, 0, other->second(q, seen, parameters_, config_, kv_head_)};
  }

  const AttentionConfig& config_;
  const AttentionShape& shape_;
  const ParameterNumbers& parameters_;
  const Rotation* sinks_;
  int head_, kv_head_;
  ReferenceForm form_;
};

}  // namespace linnet
