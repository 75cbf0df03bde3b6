// Rotary frequencies and their published scalings, as transformers' modeling_rope_utils computes them, in
// float64: `linear` (Chen et al. 2023), `llama3` (Llama 3.1), `yarn` (Peng et al. 2023), `longrope` (Ding et
// al. 2024).
#include "format/rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "format/model_config.h"

namespace linnet {
namespace {

constexpr double kMaxFactor = 1e6, kMinDivisor = 1e-6;
constexpr int64_t kMaxPositions = INT32_MAX;
constexpr const char* kScalings = "default, linear, llama3, yarn or longrope";
constexpr std::string_view kOriginal = "original_max_position_embeddings";

RopeScaling scaling_of(const Fields& fields, std::string_view key, const std::string& type) {
  if (type == "default") return RopeScaling::kNone;
  if (type == "linear") return RopeScaling::kLinear;
  if (type == "llama3") return RopeScaling::kLlama3;
  if (type == "yarn") return RopeScaling::kYarn;
  if (type == "longrope" || type == "su") return RopeScaling::kLongRope;  // the first Phi-3 folders say "su"
  if (type == "dynamic") {
    throw Error(
        fields.where(),
        fmt::format("rope scaling \"{}\", under which keys of old tokens change with the length", type),
        kScalings);
  }
  fields.refuse(key, kScalings);
}

/// What longrope divides the frequencies by, a number for each.
std::vector<double> divisors_of(const Fields& fields, std::string_view key, int64_t pairs) {
  const std::string expected =
      fmt::format("an array of {} numbers from {:f} to {:.0f}", pairs, kMinDivisor, kMaxFactor);
  const nlohmann::json* found = fields.find(key);
  std::vector<double> divisors;
  if (found != nullptr && found->is_array()) {
    for (const nlohmann::json& one : *found)
      if (one.is_number()) divisors.push_back(one.get<double>());
  }
  const auto fits = [](double x) { return x >= kMinDivisor && x <= kMaxFactor; };
  if (found == nullptr || std::ssize(*found) != pairs || std::ssize(divisors) != pairs ||
      !std::ranges::all_of(divisors, fits))
    fields.refuse(key, expected);
  return divisors;
}

/// transformers takes the long factors for a text as soon as it is longer than the original positions. The
/// keys that a state holds are rotated once, and a linear model's summary forgets them: one set of factors is
/// the model's, by the texts that it is for.
void read_longrope(const Fields& fields, const ModelConfig& config, RopeConfig& rope) {
  const int64_t pairs = rotary_numbers(config, rope) / 2;
  const auto in_short = divisors_of(fields, "short_factor", pairs),
             in_long = divisors_of(fields, "long_factor", pairs);
  rope.long_factors = config.positions > rope.original_positions;
  rope.divisors = rope.long_factors ? in_long : in_short;
  rope.attention_factor = fields.optional_number_above("attention_factor", 0, kMaxFactor);
  // They may stand beside these fields too, and their logarithm is divided by.
  if (rope.original_positions == 1)
    throw Error(fields.where(), fmt::format("longrope over {} of 1", kOriginal), "2 or more");
}

void read_scaling(const Fields& fields, std::optional<int64_t> original, const ModelConfig& config,
                  RopeConfig& rope) {
  const int64_t positions = config.positions;
  const std::string_view key = fields.find("rope_type") != nullptr ? "rope_type" : "type";
  const auto type = fields.optional_string(key);
  if (!type) {
    // transformers 5 writes rope_parameters with rope_theta alone; a scaling without a type says nothing.
    if (fields.find("factor") != nullptr) fields.refuse("rope_type", kScalings);
    return;
  }
  rope.scaling = scaling_of(fields, key, *type);
  if (rope.scaling == RopeScaling::kNone) return;
  if (!original) original = fields.optional_integer(kOriginal, 1, kMaxPositions);
  rope.original_positions = original.value_or(positions);
  auto factor = fields.optional_number_above("factor", 0, kMaxFactor);
  const bool by_positions =
      rope.scaling == RopeScaling::kLongRope || (rope.scaling == RopeScaling::kYarn && original);
  if (!factor && by_positions) {
    factor = static_cast<double>(positions) / static_cast<double>(rope.original_positions);
  }
  if (!factor) fields.refuse("factor", "a number above 0");
  rope.factor = *factor;
  if (rope.scaling == RopeScaling::kLlama3) {
    if (!original) fields.refuse(kOriginal, "the positions that were trained");
    rope.low_freq_factor = fields.number_above("low_freq_factor", 0, kMaxFactor);
    rope.high_freq_factor = fields.number_above("high_freq_factor", 0, kMaxFactor);
    if (rope.high_freq_factor <= rope.low_freq_factor)
      fields.refuse("high_freq_factor", "more than low_freq_factor");
  }
  if (rope.scaling == RopeScaling::kYarn) {
    if (rope.theta <= 1) fields.refuse("rope_theta", "more than 1 under yarn");
    rope.attention_factor = fields.optional_number_above("attention_factor", 0, kMaxFactor);
    rope.mscale = fields.optional_number("mscale", 0, kMaxFactor);
    rope.mscale_all_dim = fields.optional_number("mscale_all_dim", 0, kMaxFactor);
    rope.beta_fast = fields.optional_number_above("beta_fast", 0, kMaxFactor).value_or(32);
    rope.beta_slow = fields.optional_number_above("beta_slow", 0, kMaxFactor).value_or(1);
    if (rope.beta_fast <= rope.beta_slow) fields.refuse("beta_fast", "more than beta_slow");
    rope.truncate = fields.boolean("truncate", true);
  }
  if (rope.scaling == RopeScaling::kLongRope) read_longrope(fields, config, rope);
}

double longrope_attention_factor(const RopeConfig& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.factor <= 1) return 1;
  return std::sqrt(1 + std::log(rope.factor) / std::log(static_cast<double>(rope.original_positions)));
}

double llama3_frequency(const RopeConfig& rope, double frequency) {
  const auto old = static_cast<double>(rope.original_positions);
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < old / rope.high_freq_factor) return frequency;
  if (wavelength > old / rope.low_freq_factor) return frequency / rope.factor;
  const double smooth =
      (old / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double yarn_attention_factor(const RopeConfig& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.mscale.value_or(0) != 0 && rope.mscale_all_dim.value_or(0) != 0) {
    return yarn_mscale(rope.factor, *rope.mscale) / yarn_mscale(rope.factor, *rope.mscale_all_dim);
  }
  return yarn_mscale(rope.factor, 1);
}

void yarn_frequencies(const RopeConfig& rope, int64_t rotary, std::vector<double>& inverse) {
  // The pair that turns `rotations` times within the trained positions.
  const auto pair_of = [&](double rotations) {
    const double turns = static_cast<double>(rope.original_positions) / (rotations * 2 * std::numbers::pi);
    return static_cast<double>(rotary) * std::log(turns) / (2 * std::log(rope.theta));
  };
  double low = pair_of(rope.beta_fast), high = pair_of(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rotary - 1));
  if (low == high) high += 0.001;
  for (size_t i = 0; i < inverse.size(); ++i) {
    const double interpolated = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    inverse[i] = inverse[i] / rope.factor * interpolated + inverse[i] * (1 - interpolated);
  }
}

}  // namespace

int64_t rotary_numbers(const ModelConfig& config, const RopeConfig& rope) {
  return static_cast<int64_t>(static_cast<double>(config.head_size) * rope.partial_rotary_factor);
}

RopeConfig parse_rope(const Fields& config, const ModelConfig& sizes, const Family& family) {
  RopeConfig rope;
  const ConfigKeys& keys = family.keys;
  rope.theta = config.optional_number_above(keys.theta, 0, 1e30).value_or(family.defaults.theta);
  rope.partial_rotary_factor =
      config.optional_number_above(keys.rotary_part, 0, 1).value_or(family.defaults.rotary_part);
  // transformers 5 puts everything into rope_parameters; before, theta stood beside rope_scaling.
  const auto* parameters = config.find("rope_parameters");
  const auto* scaling = parameters != nullptr ? parameters : config.find("rope_scaling");
  static const nlohmann::json kNone = nlohmann::json::object();
  const Fields nested(scaling != nullptr ? *scaling : kNone,
                      config.where() + (parameters != nullptr ? ": rope_parameters" : ": rope_scaling"));
  rope.theta = nested.optional_number_above("rope_theta", 0, 1e30).value_or(rope.theta);
  rope.partial_rotary_factor =
      nested.optional_number_above("partial_rotary_factor", 0, 1).value_or(rope.partial_rotary_factor);
  // Where it stands beside them, or its class has a value for it, transformers heeds no other.
  auto original = config.optional_integer(kOriginal, 1, kMaxPositions);
  if (!original && family.defaults.original_positions > 0) original = family.defaults.original_positions;
  if (scaling != nullptr) read_scaling(nested, original, sizes, rope);
  return rope;
}

RopeFrequencies rope_frequencies(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  const int64_t rotary = rotary_numbers(config, rope);
  RopeFrequencies out;
  out.inverse.resize(static_cast<size_t>(rotary / 2));
  for (size_t i = 0; i < out.inverse.size(); ++i) {
    out.inverse[i] = std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary));
  }
  switch (rope.scaling) {
    case RopeScaling::kNone:
      break;
    case RopeScaling::kLinear:
      for (double& frequency : out.inverse) frequency /= rope.factor;
      break;
    case RopeScaling::kLlama3:
      for (double& frequency : out.inverse) frequency = llama3_frequency(rope, frequency);
      break;
    case RopeScaling::kYarn:
      yarn_frequencies(rope, rotary, out.inverse);
      out.factor = yarn_attention_factor(rope);
      break;
    case RopeScaling::kLongRope:
      for (size_t i = 0; i < out.inverse.size(); ++i) out.inverse[i] /= rope.divisors[i];
      out.factor = longrope_attention_factor(rope);
      break;
  }
  return out;
}

}  // namespace linnet
