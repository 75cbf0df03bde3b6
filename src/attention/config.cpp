#include "attention/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "attention/method.h"
#include "base/error.h"
#include "base/nearest.h"

namespace linnet {
namespace {

using nlohmann::json;

constexpr std::array<std::pair<std::string_view, LocalWeight>, 6> kLocalWeights{
    {{"softmax", LocalWeight::kSoftmax},
     {"relu2", LocalWeight::kRelu2},
     {"relu2_unit", LocalWeight::kRelu2Unit},
     {"laplace", LocalWeight::kLaplace},
     {"relu", LocalWeight::kRelu},
     {"yoso", LocalWeight::kYoso}}};
constexpr std::array<std::pair<std::string_view, FeaturePosition>, 2> kFeaturePositions{
    {{"rotary", FeaturePosition::kRotary}, {"none", FeaturePosition::kNone}}};
constexpr std::array<std::pair<std::string_view, KeepRule>, 2> kKeepRules{
    {{"surprise", KeepRule::kSurprise}, {"random", KeepRule::kRandom}}};
constexpr std::array<std::pair<std::string_view, Denominator>, 2> kDenominators{
    {{"separate", Denominator::kSeparate}, {"shared", Denominator::kShared}}};

constexpr Option kHashBits{"bits", 1, 16, 8, "bits of the local branch's hash: its kernel's power"};

/// Whole numbers that every row but softmax takes: their key, their range, their place.
struct IntegerKey {
  std::string_view name;
  int Augmentation::*field;
  int least, most;
};
constexpr std::array kIntegers{
    IntegerKey{"group", &Augmentation::group, 1, 4096},
    IntegerKey{"sinks", &Augmentation::sinks, 0, 4096},
    IntegerKey{"taps", &Augmentation::taps, 0, 64},
};
/// Those that are a number, or an array of one per key-value head.
struct BudgetKey {
  std::string_view name;
  PerHead Augmentation::*field;
  int least;
};
constexpr BudgetKey kLocalGroups{"local_groups", &Augmentation::local_groups, 1};
constexpr BudgetKey kKept{"kept", &Augmentation::kept, 0};
constexpr std::array kBudgets{kLocalGroups, kKept};
constexpr int kMostBudget = 65536;  // tokens

constexpr int kLongestWindow = 1 << 30;
constexpr std::array<std::string_view, 8> kOtherKeys{"method", "local", "keep",        "alpha",
                                                     "gate",   "decay", "denominator", "feature_position"};

template <class Value, size_t n>
std::string_view name_of(const std::array<std::pair<std::string_view, Value>, n>& names, Value value) {
  for (const auto& [name, known] : names) {
    if (known == value) return name;
  }
  return "";
}

/// The rows that have an option, as text.
std::string rows_with(std::string_view key) {
  std::string names;
  for (const Method* method : methods()) {
    for (const Option& option : method->options) {
      if (option.key == key) names += fmt::format("{}{}", names.empty() ? "" : ", ", method->name);
    }
  }
  return names;
}

/// The keys that every row but softmax takes.
std::vector<std::string_view> keys_of_linear_rows() {
  std::vector<std::string_view> keys(kOtherKeys.begin(), kOtherKeys.end());
  for (const IntegerKey& key : kIntegers) keys.push_back(key.name);
  for (const BudgetKey& key : kBudgets) keys.push_back(key.name);
  return keys;
}

/// Reads the keys of one layer's object. A key that is absent or null is none.
class Keys {
 public:
  Keys(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) throw Error(where_, fmt::format("{}", object.type_name()), "an object");
  }

  const json* find(std::string_view key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  [[noreturn]] void reject(std::string_view key, const std::string& expected) const {
    const json* value = find(key);
    throw Error(fmt::format("{}.{}", where_, key), value ? printable(value->dump()) : "absent", expected);
  }
  [[noreturn]] void conflict(std::string_view key, std::string_view what, std::string_view expected) const {
    throw Error(fmt::format("{}.{}", where_, key), what, expected);
  }

  void integer(std::string_view key, int least, int most, int& field) const {
    const json* value = find(key);
    if (!value) return;
    if (!fits(*value, least, most)) reject(key, fmt::format("a whole number from {} to {}", least, most));
    field = value->get<int>();
  }

  void per_head(std::string_view key, int least, int most, PerHead& field) const {
    const json* value = find(key);
    if (!value) return;
    const auto each_fits = [&](const json& x) { return fits(x, least, most); };
    if (each_fits(*value)) {
      field = value->get<int>();
    } else if (value->is_array() && !value->empty() && std::all_of(value->begin(), value->end(), each_fits)) {
      field = PerHead(value->get<std::vector<int>>());
    } else {
      reject(key,
             fmt::format("a whole number from {} to {}, or an array of one per key-value head", least, most));
    }
  }

  template <class Value, size_t n>
  void choice(std::string_view key, const std::array<std::pair<std::string_view, Value>, n>& names,
              Value& field) const {
    const json* value = find(key);
    if (!value) return;
    const std::string given = value->is_string() ? value->get<std::string>() : "";
    std::vector<std::string_view> known;
    for (const auto& [name, meaning] : names) {
      known.push_back(name);
      if (name == given) field = meaning;
    }
    if (std::find(known.begin(), known.end(), given) == known.end()) reject(key, one_of(given, known));
  }

  /// A number in the range, or "learned"; false if the key is absent.
  bool number_or_learned(std::string_view key, double least, bool least_included, bool& learned,
                         double& number) const {
    const json* value = find(key);
    if (!value) return false;
    learned = value->is_string() && value->get<std::string>() == "learned";
    if (learned) return true;
    number = value->is_number() ? value->get<double>() : std::nan("");
    if (!(number <= 1.0 && (number > least || (least_included && number == least)))) {
      reject(key, fmt::format("\"learned\" or a number in {}{}, 1]", least_included ? "[" : "(", least));
    }
    return true;
  }

  /// Throws on a key that `known`, the row's, does not list.
  void only(std::span<const std::string_view> known, const Method& method) const {
    for (const auto& [key, value] : object_.items()) {
      if (std::find(known.begin(), known.end(), key) != known.end()) continue;
      std::string what = fmt::format("unknown key \"{}\"", printable(key));
      const auto linear = keys_of_linear_rows();
      const bool is_linear = std::find(linear.begin(), linear.end(), key) != linear.end();
      if (const std::string owners = is_linear ? "linear attention" : rows_with(key); !owners.empty()) {
        what = fmt::format("key \"{}\" of {} with {}", key, owners, method.name);
      }
      throw Error(where_, what, one_of(key, known));
    }
  }

 private:
  static bool fits(const json& value, int least, int most) {
    return value.is_number_integer() &&
           (!value.is_number_unsigned() || value.get<uint64_t>() <= uint64_t(most)) &&
           value.get<int64_t>() >= least && value.get<int64_t>() <= most;
  }

  const json& object_;
  std::string where_;
};

/// What a local branch brings, where the row has no option of that name itself.
std::vector<Option> branch_options(const Method& method, LocalWeight local) {
  const bool has_own = std::any_of(method.options.begin(), method.options.end(),
                                   [](const Option& option) { return option.key == kHashBits.key; });
  return local == LocalWeight::kYoso && !has_own ? std::vector{kHashBits} : std::vector<Option>{};
}

/// The row's own options and its local branch's.
std::vector<Option> options_of(const Method& method, LocalWeight local) {
  std::vector<Option> options = method.options;
  for (const Option& option : branch_options(method, local)) options.push_back(option);
  return options;
}

std::vector<std::string_view> known_keys(const Method& method, std::span<const Option> options) {
  if (method.grows) return {"method", "window"};
  std::vector<std::string_view> known = keys_of_linear_rows();
  for (const Option& option : options) known.push_back(option.key);
  return known;
}

bool sums_features(const Method& method) {
  return method.summary == SummaryKind::kFeatures &&
         (method.division == Division::kSum || method.division == Division::kPositiveSum);
}

bool has_features(const Method& method) { return method.summary == SummaryKind::kFeatures; }
bool shares_denominator(const Method& method) { return sums_features(method) && method.mix == Mix::kConvex; }

/// Refuses a key that only some rows and local branches have a use for: all that is wrong at once.
void check_summary_key(const AttentionConfig& config, const Keys& keys, std::string_view key,
                       std::string_view what, bool (*takes)(const Method&), bool local_fits,
                       std::string_view local) {
  const bool row_fits = takes(*config.method);
  if (row_fits && local_fits) return;
  std::string found, expected;
  if (!row_fits) {
    found = fmt::format(" with {}", config.name());
    for (const Method* method : methods()) {
      if (takes(*method)) expected += fmt::format("{}{}", expected.empty() ? "" : ", ", method->name);
    }
    expected = "one of " + expected;
  }
  if (!local_fits) {
    found += row_fits ? "" : ",";
    found += config.has_local()
                 ? fmt::format(" with a local branch of {}", name_of(kLocalWeights, config.local))
                 : " without a local branch";
    expected += fmt::format("{}a local branch beside it (key `local`: {})", row_fits ? "" : "; and ", local);
  }
  keys.conflict(key, std::string(what) + found, expected);
}

/// What tokens can be kept beside: the summary that says which, and a local branch that leaves one group to
/// say it of.
void check_kept(const AttentionConfig& config, const Keys& keys) {
  const PerHead &kept = config.kept, &groups = config.local_groups;
  if (kept.is_array() && groups.is_array() && kept.size() != groups.size()) {
    keys.conflict("kept", fmt::format("{} numbers beside {} of local_groups", kept.size(), groups.size()),
                  "one per key-value head in both");
  }
  if (kept.most() == 0) return;
  if (config.local != LocalWeight::kSoftmax)
    keys.conflict("kept", "kept tokens without a softmax local branch", "local \"softmax\"");
  for (int g = 0; g < static_cast<int>(std::max(kept.size(), groups.size())); ++g) {
    if (kept.of(g) > 0 && groups.of(g) < 2)
      keys.conflict("kept", "kept tokens beside a local branch of one group", "local_groups of at least 2");
  }
  if (config.denominator == Denominator::kShared)
    keys.conflict("kept", "kept tokens with a shared denominator", "denominator \"separate\"");
  if (!sums_features(*config.method)) {
    keys.conflict(
        "kept",
        fmt::format("kept tokens with {}, whose summary has no denominator of features", config.method->name),
        "a method with one");
  }
  if (config.local_alone())
    keys.conflict("kept", "kept tokens with an alpha that leaves nothing of the summary", "another alpha");
}

/// What no single key can be wrong about: which parts go together.
void check_together(const AttentionConfig& config, const Keys& keys, bool alpha_number) {
  const Method& method = *config.method;
  const bool decays = config.decay_learned || config.decay < 1.0;
  const bool shared = config.denominator == Denominator::kShared;
  const auto without = [&](bool used, std::string_view key, std::string_view what) {
    if (used && !config.has_local()) keys.conflict(key, what, "a local branch beside it (key `local`)");
  };
  const auto without_summary = [&](bool used, std::string_view key, std::string_view what) {
    if (used && method.summary == SummaryKind::kNone) {
      keys.conflict(key, fmt::format("{} with {}, which has no summary", what, method.name),
                    "a method with a summary");
    }
  };
  if (config.gate && alpha_number) keys.conflict("gate", "true with a number for alpha", "alpha \"learned\"");
  if (config.gate && method.mix == Mix::kAdditive) {
    keys.conflict("gate", fmt::format("true with {}, whose alpha is no share", method.name), "false");
  }
  without(alpha_number, "alpha", "a number without a local branch");
  without(config.gate, "gate", "true without a local branch");
  without_summary(alpha_number, "alpha", "a number");
  without_summary(config.gate, "gate", "true");
  without(config.sinks > 0, "sinks", "sinks without a local branch");
  if (decays) check_summary_key(config, keys, "decay", "a decay", has_features, config.has_local(), "any");
  if (shared) {
    check_summary_key(config, keys, "denominator", "shared", shares_denominator,
                      config.local == LocalWeight::kSoftmax, "softmax");
  }
  if (config.sinks > config.group) {
    keys.conflict("sinks", fmt::format("{} of a group of {}", config.sinks, config.group),
                  "at most the tokens of a group");
  }
}

AttentionConfig parse_one(const json& object, const std::string& where) {
  const Keys keys(object, where);
  const json* name = keys.find("method");
  if (!name || !name->is_string()) keys.reject("method", "a method's name");
  const Method& method = find_method(name->get<std::string>(), where + ".method");

  AttentionConfig config{method.defaults, &method, {}, 0};
  keys.choice("local", kLocalWeights, config.local);
  const std::vector<Option> options = options_of(method, config.local);
  keys.only(known_keys(method, options), method);
  for (const IntegerKey& key : kIntegers) keys.integer(key.name, key.least, key.most, config.*key.field);
  keys.per_head(kLocalGroups.name, kLocalGroups.least, kMostBudget / config.group, config.local_groups);
  keys.per_head(kKept.name, kKept.least, kMostBudget, config.kept);
  keys.choice("keep", kKeepRules, config.keep);
  if (method.grows) keys.integer("window", 0, kLongestWindow, config.window);
  for (const Option& option : options) {
    keys.integer(option.key, option.least, option.most, config.options[option.key] = option.standard);
  }
  keys.choice("denominator", kDenominators, config.denominator);
  keys.choice("feature_position", kFeaturePositions, config.feature_position);
  keys.number_or_learned("decay", 0.0, false, config.decay_learned, config.decay);

  const bool named = keys.number_or_learned("alpha", 0.0, true, config.alpha_learned, config.alpha);
  const bool alpha_number = named && !config.alpha_learned;
  if (const json* gate = keys.find("gate")) {
    if (!gate->is_boolean()) keys.reject("gate", "true or false");
    config.gate = gate->get<bool>();
  } else if (alpha_number) {
    config.gate = false;
  }
  check_together(config, keys, alpha_number);

  // Alpha mixes two branches: with one of them alone there is nothing to learn.
  const bool both = config.has_local() && method.summary != SummaryKind::kNone;
  config.alpha_learned = both && !alpha_number;
  check_kept(config, keys);
  if (config.kept.most() == 0) config.keep = KeepRule::kSurprise;  // none are kept by any rule
  if (config.local_alone()) {  // what says how a summary is made or read says nothing
    config.decay_learned = false;
    config.decay = 1.0;
    config.feature_position = FeaturePosition::kRotary;
    config.denominator = Denominator::kSeparate;
  }
  return config;
}

int layer_index(const std::string& key, int layers, const std::string& where) {
  int index = -1;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
  if (error != std::errc() || end != key.data() + key.size() || index < 0 || index >= layers ||
      std::to_string(index) != key) {
    throw Error(where, fmt::format("layer \"{}\"", printable(key)),
                fmt::format("layers 0 to {}", layers - 1));
  }
  return index;
}

json to_json(const AttentionConfig& config) {
  const Method& method = *config.method;
  json object{{"method", method.name}};
  if (method.grows) {
    if (config.window != 0) object["window"] = config.window;
    return object;
  }
  for (const IntegerKey& key : kIntegers) object[std::string(key.name)] = config.*key.field;
  for (const BudgetKey& key : kBudgets) {
    const PerHead& budget = config.*key.field;
    if (budget == method.defaults.*key.field && key.field == kKept.field)
      continue;  // older readers know none
    object[std::string(key.name)] = budget.is_array() ? json(budget.each()) : json(budget.number());
  }
  if (config.keep != method.defaults.keep) object["keep"] = name_of(kKeepRules, config.keep);
  if (config.local != method.defaults.local) object["local"] = name_of(kLocalWeights, config.local);
  if (config.has_local() && method.summary != SummaryKind::kNone) {
    object["alpha"] = config.alpha_learned ? json("learned") : json(config.alpha);
  }
  object["gate"] = config.gate;
  object["decay"] = config.decay_learned ? json("learned") : json(config.decay);
  object["denominator"] = name_of(kDenominators, config.denominator);
  object["feature_position"] = name_of(kFeaturePositions, config.feature_position);
  for (const auto& [key, value] : config.options) object[std::string(key)] = value;
  return object;
}

}  // namespace

std::string_view AttentionConfig::name() const { return method->name; }
bool AttentionConfig::grows() const { return method->grows; }
bool AttentionConfig::local_alone() const {
  return has_local() && !alpha_learned && alpha == (method->mix == Mix::kConvex ? 1.0 : 0.0);
}
bool AttentionConfig::has_summary() const { return method->summary != SummaryKind::kNone && !local_alone(); }
bool AttentionConfig::jumps() const { return has_summary() && (method->steps || kept.most() > 0); }

AttentionConfig AttentionConfig::of_head(int kv_head) const {
  AttentionConfig own = *this;
  own.local_groups = local_groups.of(kv_head);
  own.kept = kept.of(kv_head);
  return own;
}

std::vector<BudgetClass> budget_classes(const AttentionConfig& config, int kv_heads) {
  std::vector<BudgetClass> classes;
  for (int g = 0; g < kv_heads; ++g) {
    AttentionConfig own = config.of_head(g);
    auto found = std::find_if(classes.begin(), classes.end(),
                              [&](const BudgetClass& known) { return known.config == own; });
    if (found == classes.end()) found = classes.insert(classes.end(), {std::move(own), {}});
    found->kv_heads.push_back(g);
  }
  return classes;
}

void check_heads(const AttentionConfig& config, int64_t kv_heads, const std::string& where) {
  for (const BudgetKey& key : kBudgets) {
    const PerHead& budget = config.*key.field;
    if (budget.is_array() && static_cast<int64_t>(budget.size()) != kv_heads) {
      throw Error(fmt::format("{}: {}", where, key.name), fmt::format("an array of {}", budget.size()),
                  fmt::format("one number, or {}: one per key-value head", kv_heads));
    }
  }
}

bool AttentionConfig::depends_on_far_positions() const {
  if (grows()) return window == 0;
  return has_summary() && feature_position == FeaturePosition::kRotary;
}

std::vector<AttentionConfig> parse_attention(const json& object, int layers, const std::string& where) {
  if (object.is_null()) return std::vector<AttentionConfig>(layers);
  const std::string place = where + ": linear_attention";
  if (!object.is_object()) throw Error(place, object.type_name(), "an object");
  json shared = object;
  shared.erase("layers");
  std::vector<AttentionConfig> configs(layers, parse_one(shared, place));
  const auto overrides = object.find("layers");
  if (overrides == object.end() || overrides->is_null()) return configs;
  if (!overrides->is_object()) throw Error(place + ".layers", overrides->type_name(), "an object");
  for (const auto& [key, changes] : overrides->items()) {
    const std::string entry = fmt::format("{}.layers.{}", place, printable(key));
    const int index = layer_index(key, layers, place + ".layers");
    if (!changes.is_object()) throw Error(entry, changes.type_name(), "an object");
    json own = changes;
    if (!changes.contains("method")) {  // changes only what it names, and what only that has a use for
      own = shared;
      const AttentionConfig& now = configs[index];
      if (changes.contains("local") && changes["local"] != shared.value("local", nlohmann::json())) {
        for (const Option& option : branch_options(*now.method, now.local))
          own.erase(std::string(option.key));
      }
      own.update(changes);
    }
    configs[index] = parse_one(own, entry);
  }
  return configs;
}

AttentionConfig parse_layer_attention(const json& object, const std::string& where) {
  return parse_one(object, where + ": linear_attention");
}

json to_json(const std::vector<AttentionConfig>& layers) {
  if (std::all_of(layers.begin(), layers.end(), [](const auto& x) { return x == AttentionConfig{}; })) {
    return nullptr;
  }
  // The most frequent config stands for all, the others under `layers`.
  const auto frequency = [&](const AttentionConfig& x) {
    return std::count(layers.begin(), layers.end(), x);
  };
  const auto shared = std::max_element(layers.begin(), layers.end(), [&](const auto& a, const auto& b) {
    return frequency(a) < frequency(b);
  });
  json object = to_json(*shared);
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i] != *shared) object["layers"][std::to_string(i)] = to_json(layers[i]);
  }
  return object;
}

}  // namespace linnet
