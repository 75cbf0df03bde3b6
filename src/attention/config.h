// The `linear_attention` object of config.json: one AttentionConfig a layer, checked and with every default
// of the method's row filled in (docs/methods, conventions of config.json in docs/formats.md).
//
// A budget per head: `local_groups` and `kept` are one number of all key-value heads or one of each
// (PerHead). `config.local_groups.of(g)` is head g's; `most()` and `least()` are over the heads;
// `config.of_head(g)` is the config of head g alone, whose budgets are plain numbers, `number()`;
// `budget_classes(config, kv_heads)` lists the heads that have equal budgets, each class with its config.
// Whatever computes attention works on a class's config and its heads. The arrays' length is checked by
// check_heads(), once the model is known.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace linnet {

/// ε: the least that anything is divided by, and what RMSNorm adds (docs/mathematics.md section 1).
constexpr double kEpsilon = 1e-6;

struct Method;
const Method& softmax_method();

enum class LocalWeight { kNone, kSoftmax, kRelu2, kRelu2Unit, kLaplace, kRelu, kYoso };
enum class FeaturePosition { kRotary, kNone };
/// Which older tokens are kept: those that the summary recalls worst, or a control, any.
enum class KeepRule { kSurprise, kRandom };
enum class Denominator { kSeparate, kShared };

/// A whole number of all key-value heads, or one of each.
class PerHead {
 public:
  PerHead(int all) : numbers_{all} {}  // NOLINT: a number is one
  explicit PerHead(std::vector<int> each) : numbers_(std::move(each)), array_(true) {}  // none of it empty

  bool is_array() const { return array_; }
  /// Numbers of an array; 1.
  size_t size() const { return numbers_.size(); }
  const std::vector<int>& each() const { return numbers_; }
  int of(int kv_head) const { return numbers_[array_ ? static_cast<size_t>(kv_head) : 0]; }
  int most() const { return *std::max_element(numbers_.begin(), numbers_.end()); }
  int least() const { return *std::min_element(numbers_.begin(), numbers_.end()); }
  /// Every head's, in a config of one class of heads.
  int number() const { return numbers_.front(); }

  bool operator==(const PerHead&) const = default;

 private:
  std::vector<int> numbers_;
  bool array_ = false;
};

/// What every row takes: groups, the local branch, how it is mixed with the summary, the convolution.
struct Augmentation {
  int group = 64;                       // C: tokens of a group, 1 … 4096
  PerHead local_groups = 1;             // W: groups that the local branch sees, 1 … 65536 / group
  PerHead kept = 0;                     // M: older tokens that stay local, 0 … 65536
  KeepRule keep = KeepRule::kSurprise;  // which ones, where any are
  int sinks = 0;                        // m: first tokens that stay local, 0 … group
  LocalWeight local = LocalWeight::kNone;
  bool alpha_learned = false;  // tensor `alpha` [H]
  double alpha = 1.0;          // where it is not learned
  bool gate = false;           // tensor `gate` [H, d]
  bool decay_learned = false;  // tensor `decay` [G] of logits
  double decay = 1.0;          // where it is not learned
  Denominator denominator = Denominator::kSeparate;
  FeaturePosition feature_position = FeaturePosition::kRotary;
  int taps = 0;  // K: tensor `taps` [H, K, e]
  /// F: tensor `future_taps` [H, F, e], of the training form alone: a leak, for the experiments of
  /// docs/methods/ causality.md. No key of config.json sets it and none is written, so that no folder holds
  /// such a model.
  int future_taps = 0;
  /// c: scores x of the base's softmax are c·tanh(x / c), in softmax and in the local branch; 0: as they are.
  /// The model's (model/teacher.h), no key of the object.
  double score_cap = 0;

  bool operator==(const Augmentation&) const = default;
};

/// One layer's attention, resolved: no key is "the row's own value" any more.
struct AttentionConfig : Augmentation {
  const Method* method = &softmax_method();  // the row
  std::map<std::string_view, int> options;   // of the row's own and of its local branch, each with a value
  int window = 0;                            // of `softmax` alone: the last `window` tokens; 0 is all

  std::string_view name() const;
  /// Keeps every token: softmax.
  bool grows() const;
  bool has_local() const { return local != LocalWeight::kNone; }
  /// The mix leaves nothing of the summary (α fixed at 1; added: at 0), which is then neither kept, computed
  /// nor learned.
  bool local_alone() const;
  bool has_summary() const;
  /// A step function of queries, keys and values: their rounding may move an output by a jump.
  bool jumps() const;
  /// The config of a key-value head alone: its budgets are numbers.
  AttentionConfig of_head(int kv_head) const;
  /// Whether old tokens keep positions that no trained one is so far from: those of softmax over all tokens,
  /// and of a summary of rotated keys. A window has near ones alone, its sinks turned along.
  bool depends_on_far_positions() const;
  /// The value of an option that this config has.
  int option(std::string_view key) const { return options.at(key); }

  bool operator==(const AttentionConfig&) const = default;
};

/// The type in which a state holds keys and values: windows, sinks, waiting and kept tokens, softmax's cache.
enum class StateType {
  kComputed,  // as they are computed: float32, or float64 under --dtype float64
  kBFloat16,  // rounded to bf16 where they enter a layer, so that 16 bits hold them exactly
};

class DistanceBias;

struct AttentionShape {
  int heads = 0;       // H query heads
  int kv_heads = 0;    // G key-value heads; H is a multiple
  int head_size = 0;   // d
  int value_size = 0;  // e
  StateType state = StateType::kComputed;
  const DistanceBias* bias = nullptr;  // that scores take in; outlives the attention. Null: none
  /// The summary's queries and keys are its own (a gated attention unit's), not the local branch's before
  /// rotary; whether they are rotated themselves is whoever makes them's to know.
  bool own_summary_rows = false;

  /// Whether the summary reads other queries and keys than the local branch.
  bool reads_apart(const Augmentation& config) const {
    return own_summary_rows || config.feature_position == FeaturePosition::kNone;
  }
};

/// Bytes of a number of a key or a value in a state, where arithmetic is in float32.
constexpr int64_t held_bytes(const AttentionShape& shape) {
  return shape.state == StateType::kBFloat16 ? 2 : 4;
}
/// "float32" or "bf16", as --state-type has it.
constexpr std::string_view name_of(StateType type) {
  return type == StateType::kBFloat16 ? "bf16" : "float32";
}

/// Key-value heads of equal budgets, and the config that is each one's.
struct BudgetClass {
  AttentionConfig config;
  std::vector<int> kv_heads;  // in order
};
/// In the order of their first heads; one class where budgets are numbers.
std::vector<BudgetClass> budget_classes(const AttentionConfig& config, int kv_heads);

/// Throws Error (where: `where` and the key) on an array of another length than the number of key-value
/// heads.
void check_heads(const AttentionConfig& config, int64_t kv_heads, const std::string& where);

/// One config a layer from the `linear_attention` object; all softmax where `object` is null.
/// Throws Error naming the key; an unknown key names the known ones and the nearest.
std::vector<AttentionConfig> parse_attention(const nlohmann::json& object, int layers,
                                             const std::string& where);

/// One layer's config from an object without `layers` (the metadata of `linnet attention`'s files).
AttentionConfig parse_layer_attention(const nlohmann::json& object, const std::string& where);

/// The object for config.json that parses to these configs; null where all are plain softmax.
nlohmann::json to_json(const std::vector<AttentionConfig>& layers);

/// The name of the tensor that is never written.
constexpr std::string_view kFutureTaps = "future_taps";

/// A tensor that a config asks for, under the layer's `linear_attention.` prefix.
struct ParameterSpec {
  std::string name;            // "alpha", "q.weight", …
  std::vector<int64_t> shape;  // e.g. [H, d, d]
  std::optional<double>
      absent;           // the value of every number where the tensor is absent (gain: 1); none: an error
  bool trained = true;  // false: drawn once and stored (projection, planes)
};
std::vector<ParameterSpec> parameter_specs(const AttentionConfig& config, const AttentionShape& shape);

/// The numbers that a fresh linearization starts from (recipes: W the identity, α logits 2, gate 0, decay
/// logits evenly from 1 to 5 over the key-value heads, taps 0, Ω orthogonal Gaussian rows from `seed` and
/// `layer`).
std::vector<float> initial_parameter(const ParameterSpec& spec, const AttentionConfig& config, uint64_t seed,
                                     int layer);

}  // namespace linnet
