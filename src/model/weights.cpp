#include "model/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "base/error.h"
#include "kernels/cpu/elementwise.h"
#include "model/matrices.h"
#include "model/quantize.h"

namespace linnet {
namespace {

using kernels::WeightType;

/// In integers as QuantizeOptions' defaults write them, which are kept; the numbers that they are made of are
/// not.
Matrix quantized(const Matrix& matrix, WeightType type, ThreadPool& pool, const std::string& where) {
  if (kernels::row_of(matrix.type).integer) throw Error(where, "is in integers already", "--weights stored");
  kernels::Weights form;
  form.type = type, form.out = matrix.out, form.in = matrix.in;
  check_scale_group(form, where, "--weights stored");
  const auto kept = std::make_shared<Integers>(form, QuantizeOptions{.type = type}.offsets());
  kept->take(matrix, {}, pool);
  return {kept->view(), kept};
}

/// Fetches and prepares tensors of one model.
class Preparer {
 public:
  Preparer(const Model& model, const WeightOptions& how, ThreadPool& pool)
      : model_(model), compute_(how.compute), stored_(how.stored), pool_(pool) {}

  /// An embedding or the vocabulary matrix: in int8 where others are in int4, which costs it more than them.
  Matrix embedding(std::string_view module) const {
    const Matrix matrix = matrix_of(model_, kNoLayer, module);
    const std::string where(module);
    if (stored_) return quantized(matrix, WeightType::kInt8, pool_, where);
    return in_compute_type(matrix, where);
  }

  template <class T>
  NormWeights<T> norm(const TensorView* gain, const TensorView* bias, std::string_view module) const {
    NormWeights<T> norm;
    norm.gain = to_numbers<T>(needed(gain, module), std::string(module));
    const ModelConfig& config = model_.config();
    if (config.norm == NormKind::kRmsPlusOne) {
      for (T& number : norm.gain) number += T(1);
    }
    if (config.norm == NormKind::kScale && norm.gain.size() == 1)
      norm.gain.resize(static_cast<size_t>(config.hidden), norm.gain.front());
    norm.bias = bias ? to_numbers<T>(*bias, std::string(module)) : std::vector<T>(norm.gain.size());
    return norm;
  }

  /// What scores take in by distance, where the family has a relative bias.
  std::unique_ptr<const DistanceBias> bias() const {
    const Family& family = model_.family();
    if (family.relative_bias.empty()) return nullptr;
    const auto numbers =
        to_numbers<double>(needed(model_.tensor(family.relative_bias, "weight"), family.relative_bias),
                           std::string(family.relative_bias));
    return std::make_unique<DistanceBias>(distance_buckets(family, model_.config()), numbers,
                                          model_.config().heads);
  }

  /// A layer's queries, keys and values, in this order however the family stores them.
  Linear qkv(int layer) const {
    const Family& family = model_.family();
    if (family.qkv == QkvParts::kByHead) return linear(layer, {family.q}, rows_by_part(model_.config()));
    return linear(layer, {family.q, family.k, family.v});
  }

  /// One layer's modules side by side, of those that the family has; a single one's rows in the order `rows`.
  Linear linear(int layer, std::initializer_list<std::string_view> modules,
                const std::vector<int64_t>& rows = {}) const {
    std::vector<Matrix> matrices;
    std::vector<float> bias;
    bool biased = false;
    for (std::string_view module : modules) {
      if (module.empty()) continue;
      Matrix matrix = merged(layer, module);
      if (!rows.empty()) matrix = with_rows(matrix, rows);
      matrices.push_back(in_compute_type(std::move(matrix), model_.full_module_name(layer, module)));
      const TensorView* view =
          layer == kNoLayer ? model_.tensor(module, "bias") : model_.layer_tensor(layer, module, "bias");
      const auto numbers = view ? to_float(*view, model_.full_module_name(layer, module) + ".bias")
                                : std::vector<float>(static_cast<size_t>(matrices.back().out));
      for (size_t i = 0; i < numbers.size(); ++i)
        bias.push_back(numbers[rows.empty() ? i : static_cast<size_t>(rows[i])]);
      biased |= view != nullptr;
    }
    if (!biased) bias.clear();
    return joined(std::move(matrices), std::move(bias));
  }

  /// Matrices of one product have one type: float32 where they differ.
  Linear joined(std::vector<Matrix> matrices, std::vector<float> bias) const {
    const bool alike = std::all_of(matrices.begin(), matrices.end(),
                                   [&](const Matrix& m) { return m.type == matrices.front().type; });
    if (!alike) std::transform(matrices.begin(), matrices.end(), matrices.begin(), as_float32);
    const bool rounded = compute_ == ComputeType::kAuto || compute_ == ComputeType::kBFloat16;
    return Linear(std::move(matrices), std::move(bias), rounded, &pool_);
  }

 private:
  static const TensorView& needed(const TensorView* tensor, std::string_view module) {
    if (tensor == nullptr) throw Error(std::string(module), "tensor is missing", "one in the model's files");
    return *tensor;
  }

  /// With its LoRA, if it has one: in the type of the matrix that it is added to, as `linnet merge` writes
  /// it, where the weights' own types are computed with.
  Matrix merged(int layer, std::string_view module) const {
    Matrix matrix = merged_matrix_of(model_, layer, module);
    const bool own_type = compute_ == ComputeType::kAuto && !stored_;
    if (!own_type || layer == kNoLayer || !model_.lora_of(layer, module)) return matrix;
    return matrix_of(model_, layer, module).type == WeightType::kBFloat16 ? as_bfloat16(matrix) : matrix;
  }

  Matrix in_compute_type(Matrix matrix, const std::string& where) const {
    if (stored_) return quantized(matrix, *stored_, pool_, where);
    return compute_ == ComputeType::kBFloat16 ? as_bfloat16(matrix) : matrix;
  }

  const Model& model_;
  ComputeType compute_;
  std::optional<WeightType> stored_;
  ThreadPool& pool_;
};

}  // namespace

template <class T>
ModelWeights<T>::ModelWeights(const Model& model, const WeightOptions& how, ThreadPool& pool,
                              const MakeAttention<T>& make) {
  const Preparer prepare(model, how, pool);
  const Family& family = model.family();
  const ModelConfig& config = model.config();
  embedding = prepare.embedding(family.embedding);
  if (family.positions == PositionKind::kLearned)
    position_embedding = prepare.embedding(family.position_embedding);
  bias = prepare.bias();
  AttentionShape shape = model.attention_shape();
  shape.bias = bias.get();
  if (!family.token_type_embedding.empty())
    token_type_embedding = prepare.embedding(family.token_type_embedding);
  const auto outer_norm = [&](std::string_view module) -> NormWeights<T> {
    if (module.empty()) return {};
    return prepare.template norm<T>(model.tensor(module, "weight"), model.tensor(module, "bias"), module);
  };
  embedding_norm = outer_norm(family.embedding_norm);
  for (int i = 0; i < config.layers; ++i) {
    LayerWeights<T>& layer = layers.emplace_back();
    const Rotation rotation = rotation_of(config, i);
    layer.rotated = config.rotated[static_cast<size_t>(i)];
    const auto norm = [&](std::string_view module) -> NormWeights<T> {
      if (module.empty()) return {};
      return prepare.template norm<T>(model.layer_tensor(i, module, "weight"),
                                      model.layer_tensor(i, module, "bias"), module);
    };
    layer.attention_norm = norm(family.attention_norm);
    layer.attention_post_norm = norm(family.attention_post_norm);
    layer.feed_forward_norm = norm(family.feed_forward_norm);
    layer.feed_forward_post_norm = norm(family.feed_forward_post_norm);
    layer.q_norm = norm(family.q_norm);
    layer.k_norm = norm(family.k_norm);
    layer.affine = norm(family.affine);
    layer.qkv = prepare.qkv(i);
    layer.o = prepare.linear(i, {family.o});
    layer.up = prepare.linear(i, {family.gate, family.up});
    if (!family.gated_unit) layer.down = prepare.linear(i, {family.down});
    const AttentionConfig& attention = model.attention()[static_cast<size_t>(i)];
    layer.summary_rotated = layer.rotated && attention.feature_position == FeaturePosition::kRotary;
    layer.attention =
        make(attention, shape, model.linear_parameters(i), &rotation, model.module_name(i, family.attention));
    if (family.encoder == nullptr) continue;
    auto& cross = layer.cross.emplace();
    cross.norm = norm(family.cross_norm);
    cross.q = prepare.linear(i, {family.cross_q});
    cross.kv = prepare.linear(i, {family.cross_k, family.cross_v});
    cross.o = prepare.linear(i, {family.cross_o});
    cross.attention =
        make(model.cross_attention()[static_cast<size_t>(i)], model.attention_shape(),
             model.cross_parameters(i), &rotation, model.module_name(i, family.cross_attention));
  }
  final_norm = outer_norm(family.final_norm);
  if (config.head_scale != 1) {
    for (T& number : final_norm.gain) number *= T(config.head_scale);
  }
  if (model.has_pooler()) pooler = prepare.linear(kNoLayer, {family.pooler});
  if (!model.has_head()) return;
  if (!family.head_dense.empty()) head_dense = prepare.linear(kNoLayer, {family.head_dense});
  if (!family.head_norm.empty()) head_norm = outer_norm(family.head_norm);
  const TensorView* bias = model.tensor(family.head, "bias");
  head = prepare.joined({config.tied_embeddings ? embedding : prepare.embedding(family.head)},
                        bias != nullptr ? to_float(*bias, "head bias") : std::vector<float>());
}

template <class T>
size_t ModelWeights<T>::bytes_a_step() const {
  const auto row = [](const Matrix& matrix) { return matrix.out ? matrix.bytes() / matrix.out : 0; };
  size_t sum = head.bytes() + row(embedding) + row(position_embedding) + row(token_type_embedding);
  for (const auto& layer : layers)
    sum += layer.qkv.bytes() + layer.o.bytes() + layer.up.bytes() + layer.down.bytes() +
           (layer.cross ? layer.cross->q.bytes() + layer.cross->o.bytes() : 0);
  return sum;
}

template <class T>
int64_t ModelWeights<T>::widest_input() const {
  int64_t widest = std::max({head.in(), head_dense.in(), pooler.in()});
  for (const auto& layer : layers)
    widest = std::max({widest, layer.qkv.in(), layer.o.in(), layer.up.in(), layer.down.in()});
  return widest;
}

template struct ModelWeights<float>;
template struct ModelWeights<double>;

}  // namespace linnet
