#include "model/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "base/error.h"
#include "kernels/cpu/elementwise.h"

namespace linnet {
namespace {

using kernels::WeightType;

/// Numbers of our own as a matrix.
template <class Number>
Matrix owned(std::vector<Number> numbers, int64_t out, int64_t in) {
  auto kept = std::make_shared<std::vector<Number>>(std::move(numbers));
  const auto* data = reinterpret_cast<const std::byte*>(kept->data());
  const WeightType type = sizeof(Number) == 2 ? WeightType::kBFloat16 : WeightType::kFloat32;
  return {{type, out, in, data, nullptr}, std::move(kept)};
}

Matrix as_float32(const Matrix& matrix) {
  if (matrix.type == WeightType::kFloat32) return matrix;
  std::vector<float> wide(static_cast<size_t>(matrix.out * matrix.in));
  for (int64_t o = 0; o < matrix.out; ++o) kernels::read_row(matrix, o, wide.data() + o * matrix.in);
  return owned(std::move(wide), matrix.out, matrix.in);
}

Matrix as_bfloat16(const Matrix& matrix) {
  if (matrix.type == WeightType::kBFloat16) return matrix;
  std::vector<uint16_t> narrow(static_cast<size_t>(matrix.out * matrix.in));
  kernels::to_bfloat16(reinterpret_cast<const float*>(matrix.data), matrix.out * matrix.in, narrow.data());
  return owned(std::move(narrow), matrix.out, matrix.in);
}

/// In integers with scales (kernels/cpu/weights.h), which are kept; the numbers that they are made of are
/// not.
Matrix quantized(const Matrix& matrix, WeightType type, ThreadPool& pool, const std::string& where) {
  if (matrix.in % kernels::kScaleGroup != 0)
    throw Error(where,
                fmt::format("rows of {} numbers, which {} makes groups of {} of", matrix.in,
                            kernels::row_of(type).name, kernels::kScaleGroup),
                "a multiple of that, or --weights stored");
  struct Kept {
    std::vector<std::byte> numbers;
    std::vector<uint16_t> scales;
  };
  const auto kept = std::make_shared<Kept>();
  Matrix made{{type, matrix.out, matrix.in, nullptr, nullptr}, kept};
  const int64_t groups = matrix.in / kernels::kScaleGroup;
  kept->numbers.resize(static_cast<size_t>(made.out * made.row_bytes()));
  kept->scales.resize(static_cast<size_t>(made.out * groups));
  made.data = kept->numbers.data(), made.scales = kept->scales.data();
  for_rows(matrix.out, pool, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(matrix.in));
    for (int64_t o = begin; o < end; ++o) {
      kernels::read_row(matrix, o, row.data());
      kernels::quantize_row(type, row.data(), matrix.in, kept->numbers.data() + o * made.row_bytes(),
                            kept->scales.data() + o * groups);
    }
  });
  return made;
}

/// [rows, columns] as [columns, rows].
template <class Number>
std::vector<Number> transpose(const Number* from, int64_t rows, int64_t columns) {
  std::vector<Number> to(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[c * rows + r] = from[r * columns + c];
  }
  return to;
}

/// A tensor [out, in] (`transposed`: [in, out]) as a matrix, in place where its type and place allow.
Matrix matrix_of(const TensorView& tensor, bool transposed, const std::string& where) {
  if (tensor.shape.size() != 2) throw Error(where, "has shape " + to_string(tensor.shape), "a matrix");
  const int64_t rows = tensor.shape[0], columns = tensor.shape[1];
  const bool narrow = tensor.type == DType::kBF16, wide = tensor.type == DType::kF32;
  const bool aligned = reinterpret_cast<uintptr_t>(tensor.bytes.data()) % (narrow ? 2 : 4) == 0;
  if ((narrow || wide) && aligned && !transposed)
    return {
        {narrow ? WeightType::kBFloat16 : WeightType::kFloat32, rows, columns, tensor.bytes.data(), nullptr},
        nullptr};
  if (narrow) {
    std::vector<uint16_t> numbers(static_cast<size_t>(rows * columns));
    std::memcpy(numbers.data(), tensor.bytes.data(), tensor.bytes.size());
    if (!transposed) return owned(std::move(numbers), rows, columns);
    return owned(transpose(numbers.data(), rows, columns), columns, rows);
  }
  auto numbers = to_float(tensor, where);
  if (!transposed) return owned(std::move(numbers), rows, columns);
  return owned(transpose(numbers.data(), rows, columns), columns, rows);
}

/// W + scale · B A, in float32 (Hu et al. 2021, section 4.1).
Matrix merged_with(const Matrix& matrix, const LoraPair& pair, const std::string& where) {
  const auto a = to_float(*pair.a, where), b = to_float(*pair.b, where);
  const auto rank = static_cast<size_t>(pair.a->shape.front());
  std::vector<float> merged(static_cast<size_t>(matrix.out * matrix.in));
  std::vector<double> row(static_cast<size_t>(matrix.in));
  for (int64_t o = 0; o < matrix.out; ++o) {
    kernels::read_row(matrix, o, row.data());
    add_lora_row(std::span(b).subspan(static_cast<size_t>(o) * rank, rank), a, pair.scale, row);
    std::copy(row.begin(), row.end(), merged.begin() + o * matrix.in);
  }
  return owned(std::move(merged), matrix.out, matrix.in);
}

/// Fetches and prepares tensors of one model.
class Preparer {
 public:
  Preparer(const Model& model, const WeightOptions& how, ThreadPool& pool)
      : model_(model), compute_(how.compute), stored_(how.stored), pool_(pool) {}

  /// An embedding or the vocabulary matrix: in int8 where others are in int4, which costs it more than them.
  Matrix embedding(std::string_view module) const {
    const Matrix matrix = matrix_of(needed(model_.tensor(module, "weight"), module), false, named(module));
    if (stored_) return quantized(matrix, WeightType::kInt8, pool_, named(module));
    return in_compute_type(matrix, named(module));
  }

  template <class T>
  NormWeights<T> norm(const TensorView* gain, const TensorView* bias, std::string_view module) const {
    NormWeights<T> norm;
    norm.gain = to_numbers<T>(needed(gain, module), named(module));
    norm.bias = bias ? to_numbers<T>(*bias, named(module)) : std::vector<T>(norm.gain.size());
    return norm;
  }

  /// One layer's modules side by side.
  Linear linear(int layer, std::initializer_list<std::string_view> modules) const {
    std::vector<Matrix> matrices;
    std::vector<float> bias;
    bool biased = false;
    for (std::string_view module : modules) {
      matrices.push_back(matrix(layer, module));
      const TensorView* view = model_.layer_tensor(layer, module, "bias");
      const auto numbers = view ? to_float(*view, model_.module_name(layer, module) + ".bias")
                                : std::vector<float>(static_cast<size_t>(matrices.back().out));
      bias.insert(bias.end(), numbers.begin(), numbers.end());
      biased |= view != nullptr;
    }
    if (!biased) bias.clear();
    return joined(std::move(matrices), std::move(bias));
  }

  /// Matrices of one product have one type: the widest of them.
  Linear joined(std::vector<Matrix> matrices, std::vector<float> bias) const {
    const bool wide = std::any_of(matrices.begin(), matrices.end(),
                                  [](const Matrix& m) { return m.type == WeightType::kFloat32; });
    if (wide) std::transform(matrices.begin(), matrices.end(), matrices.begin(), as_float32);
    const bool rounded = compute_ == ComputeType::kAuto || compute_ == ComputeType::kBFloat16;
    return Linear(std::move(matrices), std::move(bias), rounded);
  }

 private:
  std::string named(std::string_view module) const { return fmt::format("{}.weight", module); }

  static const TensorView& needed(const TensorView* tensor, std::string_view module) {
    if (tensor == nullptr) throw Error(std::string(module), "tensor is missing", "one in the model's files");
    return *tensor;
  }

  Matrix in_compute_type(Matrix matrix, const std::string& where) const {
    if (stored_) return quantized(matrix, *stored_, pool_, where);
    return compute_ == ComputeType::kBFloat16 ? as_bfloat16(matrix) : matrix;
  }

  Matrix matrix(int layer, std::string_view module) const {
    const std::string where = model_.module_name(layer, module) + ".weight";
    const TensorView& view = needed(model_.layer_tensor(layer, module, "weight"), where);
    Matrix matrix = matrix_of(view, model_.family().transposed, where);
    if (const auto pair = model_.lora_of(layer, module)) matrix = merged_with(matrix, *pair, where);
    return in_compute_type(std::move(matrix), where);
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
  const Rotation rotation = rotation_of(family, config);
  for (int i = 0; i < config.layers; ++i) {
    LayerWeights<T>& layer = layers.emplace_back();
    const auto norm = [&](std::string_view module) {
      return prepare.template norm<T>(model.layer_tensor(i, module, "weight"),
                                      model.layer_tensor(i, module, "bias"), module);
    };
    layer.attention_norm = norm(family.attention_norm);
    layer.feed_forward_norm = norm(family.feed_forward_norm);
    layer.qkv =
        family.fused_qkv ? prepare.linear(i, {family.q}) : prepare.linear(i, {family.q, family.k, family.v});
    layer.o = prepare.linear(i, {family.o});
    layer.up = family.gated ? prepare.linear(i, {family.gate, family.up}) : prepare.linear(i, {family.up});
    layer.down = prepare.linear(i, {family.down});
    const AttentionConfig& attention = model.attention()[static_cast<size_t>(i)];
    layer.attention = make(attention, model.attention_shape(), model.linear_parameters(i), &rotation,
                           model.module_name(i, family.attention));
  }
  final_norm = prepare.template norm<T>(model.tensor(family.final_norm, "weight"),
                                        model.tensor(family.final_norm, "bias"), family.final_norm);
  head = prepare.joined({config.tied_embeddings ? embedding : prepare.embedding(family.head)}, {});
}

template <class T>
size_t ModelWeights<T>::bytes_a_step() const {
  const auto row = [](const Matrix& matrix) { return matrix.out ? matrix.bytes() / matrix.out : 0; };
  size_t sum = head.bytes() + row(embedding) + row(position_embedding);
  for (const auto& layer : layers)
    sum += layer.qkv.bytes() + layer.o.bytes() + layer.up.bytes() + layer.down.bytes();
  return sum;
}

template <class T>
int64_t ModelWeights<T>::widest_input() const {
  int64_t widest = head.in();
  for (const auto& layer : layers)
    widest = std::max({widest, layer.qkv.in(), layer.o.in(), layer.up.in(), layer.down.in()});
  return widest;
}

template struct ModelWeights<float>;
template struct ModelWeights<double>;

}  // namespace linnet
