#include "model/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"
#include "format/quantization_config.h"
#include "model/matrices.h"
#include "model/write_model.h"

namespace linnet {
namespace {

using kernels::WeightType;

std::string last_part(std::string_view module) { return std::string(module.substr(module.rfind('.') + 1)); }

template <class Number>
std::vector<std::byte> bytes_of(const std::vector<Number>& numbers) {
  const auto bytes = std::as_bytes(std::span(numbers));
  return {bytes.begin(), bytes.end()};
}

/// Makes the tensors of one model's matrices, each when it is its turn to be written.
class Writer {
 public:
  Writer(const Model& model, const QuantizeOptions& options, ThreadPool& pool)
      : model_(model), options_(options), pool_(pool) {
    for (const std::string_view module : outside()) add(model, kNoLayer, module);
    for (const Model* stack : model.stacks()) {
      for (int layer = 0; layer < stack->config().layers; ++layer) {
        for (const std::string_view module : layer_modules(stack->family())) {
          if (module_shape(stack->family(), stack->config(), module).in > 0) add(*stack, layer, module);
        }
      }
    }
  }

  /// Their `make` is to be called while this lives.
  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  const std::vector<QuantizedTensor>& results() const { return results_; }
  nlohmann::json config() const;

 private:
  struct Source {
    const Model* stack;
    int layer;
    std::string_view module;
    std::string name;
    kernels::Weights form;
    bool offsets;
    std::vector<uint16_t> of_groups[2];  // scales, offsets: made with the numbers and not written yet
    bool written[2];
  };

  /// Modules of no layer whose matrices are turned.
  std::vector<std::string_view> outside() const {
    if (options_.keep_embedding) return {};
    if (model_.config().tied_embeddings || model_.config().is_classifier())
      return {model_.family().embedding};
    return {model_.family().embedding, model_.family().head};
  }
  bool is_int8(int layer, std::string_view module) const {
    return layer == kNoLayer || options_.type == WeightType::kInt8 ||
           std::ranges::count(options_.int8, last_part(module)) > 0;
  }
  void add(const Model& stack, int layer, std::string_view module);
  void add_tensor(const std::string& name, DType type, std::vector<int64_t> shape,
                  std::function<std::vector<std::byte>()> make);
  Integers made(size_t index);
  std::vector<std::byte> numbers(size_t index);
  std::vector<std::byte> of_groups(size_t index, int part);

  const Model& model_;
  const QuantizeOptions& options_;
  ThreadPool& pool_;
  std::vector<Source> sources_;
  std::vector<NamedTensor> tensors_;
  std::vector<QuantizedTensor> results_;
  double done_ = 0, total_ = 0;  // parameters
};

void Writer::add_tensor(const std::string& name, DType type, std::vector<int64_t> shape,
                        std::function<std::vector<std::byte>()> make) {
  tensors_.push_back({name, {type, std::move(shape), {}}, std::move(make)});
}

void Writer::add(const Model& stack, int layer, std::string_view module) {
  const ModuleShape shape = module_shape(stack.family(), stack.config(), module);
  const bool int8 = is_int8(layer, module);
  Source source{&stack, layer, module, stack.full_module_name(layer, module), {}, options_.offsets() && !int8,
                {},     {}};
  source.form.type = int8 ? WeightType::kInt8 : WeightType::kInt4;
  source.form.out = shape.out, source.form.in = shape.in;
  source.form.group = options_.group == 0 ? shape.in : options_.group;
  const bool can_divide = shape.in % kernels::kScaleGroup == 0;
  check_scale_group(source.form, source.name, can_divide ? "another --group" : "another model");
  total_ += static_cast<double>(shape.out * shape.in);
  const std::string name = source.name;
  const int64_t groups = source.form.groups();
  const size_t index = sources_.size();
  const auto make_numbers = [this, index] { return numbers(index); };
  if (int8) {
    add_tensor(name + std::string(kPlainWeight), DType::kI8, {shape.out, shape.in}, make_numbers);
  } else {
    add_tensor(name + std::string(kPackedWeight), DType::kI32, {shape.out, shape.in / 8}, make_numbers);
    add_tensor(name + std::string(kWeightShape), DType::kI64, {2}, [shape] {
      return bytes_of(std::vector{shape.out, shape.in});
    });
  }
  add_tensor(name + std::string(kWeightScale), DType::kBF16, {shape.out, groups},
             [this, index] { return of_groups(index, 0); });
  if (source.offsets)
    add_tensor(name + std::string(kWeightOffset), DType::kBF16, {shape.out, groups},
               [this, index] { return of_groups(index, 1); });
  sources_.push_back(std::move(source));
}

Integers Writer::made(size_t index) {
  Source& source = sources_[index];
  stop_if_interrupted();
  const auto importance = options_.importance.find(source.name);
  Integers integers(source.form, source.offsets);
  integers.take(merged_matrix_of(*source.stack, source.layer, source.module),
                importance == options_.importance.end() ? std::span<const float>() : importance->second,
                pool_);
  if (!source.written[0]) source.of_groups[0] = std::move(integers.scales);
  if (!source.written[1]) source.of_groups[1] = std::move(integers.offsets);
  return integers;
}

std::vector<std::byte> Writer::numbers(size_t index) {
  Integers integers = made(index);
  const Source& source = sources_[index];
  const int64_t parameters = source.form.out * source.form.in;
  results_.push_back({source.name, type_name(integers.view()), parameters,
                      static_cast<int64_t>(integers.view().bytes()), integers.relative_error()});
  done_ += static_cast<double>(parameters);
  if (options_.report) options_.report(done_, total_);
  return std::move(integers.numbers);
}

std::vector<std::byte> Writer::of_groups(size_t index, int part) {
  Source& source = sources_[index];
  if (source.of_groups[part].empty()) made(index);
  source.written[part] = true;
  return bytes_of(std::exchange(source.of_groups[part], {}));
}

/// A classifier's head stays as it is.
std::vector<std::string> classifier_modules(const Family& family) {
  std::vector<std::string> modules;
  for (const std::string_view module : {family.classifier.dense, family.classifier.out})
    if (!module.empty()) modules.emplace_back(module);
  return modules;
}

/// One group for the layers' matrices, and one for those in int8 beside int4.
nlohmann::json Writer::config() const {
  const std::string head(model_.family().head);
  std::vector<QuantizedModules> groups = {
      {{"Linear"}, kernels::row_of(options_.type).bits, options_.group, options_.offsets()}};
  std::vector<std::string> int8 = options_.int8;
  for (const std::string_view module : outside()) int8.emplace_back(module);
  for (std::string& module : int8) module = fmt::format("re:.*{}$", module);
  if (!int8.empty()) groups.push_back({int8, 8, options_.group, false});
  if (model_.config().is_classifier())
    return quantization_config(groups, classifier_modules(model_.family()));
  const bool turned = std::ranges::count(outside(), head) > 0;
  return quantization_config(groups, turned ? std::vector<std::string>() : std::vector{head});
}

}  // namespace

void check_scale_group(const kernels::Weights& form, const std::string& where, const std::string& instead) {
  if (kernels::is_scale_group(form.group, form.in)) return;
  const int64_t group = form.in % kernels::kScaleGroup != 0 ? kernels::kScaleGroup : form.group;
  throw Error(
      where, fmt::format("rows of {} numbers, no multiple of {}", form.in, group),
      fmt::format("a multiple, of which {} makes groups, or {}", kernels::row_of(form.type).name, instead));
}

Integers::Integers(const kernels::Weights& form, bool with_offsets) : view_(form) {
  const auto groups = static_cast<size_t>(form.out * form.groups());
  numbers.resize(static_cast<size_t>(form.out * form.row_bytes()));
  scales.resize(groups);
  if (with_offsets) offsets.resize(groups);
  view_.data = numbers.data();
  view_.scales = scales.data();
  view_.offsets = with_offsets ? offsets.data() : nullptr;
}

void Integers::take(const kernels::Weights& from, std::span<const float> importance, ThreadPool& pool) {
  const int64_t in = view_.in, groups = view_.groups();
  std::vector<double> squares(static_cast<size_t>(view_.out)), errors(squares.size());
  for_rows(view_.out, pool, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(in)), back(row.size());
    for (int64_t o = begin; o < end; ++o) {
      kernels::read_row(from, o, row.data());
      kernels::quantize_row(view_, row.data(), importance.empty() ? nullptr : importance.data(),
                            {numbers.data() + o * view_.row_bytes(), scales.data() + o * groups,
                             offsets.empty() ? nullptr : offsets.data() + o * groups});
      kernels::read_row(view_, o, back.data());
      for (size_t i = 0; i < row.size(); ++i) {
        const double number = row[i], off = static_cast<double>(back[i]) - number;
        squares[static_cast<size_t>(o)] += number * number;
        errors[static_cast<size_t>(o)] += off * off;
      }
    }
  });
  const double size = std::accumulate(squares.begin(), squares.end(), 0.0);
  relative_error_ = size > 0 ? std::sqrt(std::accumulate(errors.begin(), errors.end(), 0.0) / size) : 0;
}

std::map<std::string, std::vector<float>> importance_of(const Model& model, const InputMoments& inputs) {
  const Family& family = model.family();
  const std::pair<std::string_view, Operation> products[] = {
      {family.q, Operation::kQkv},    {family.k, Operation::kQkv},   {family.v, Operation::kQkv},
      {family.o, Operation::kOutput}, {family.gate, Operation::kUp}, {family.up, Operation::kUp},
      {family.down, Operation::kDown}};
  std::map<std::string, std::vector<float>> importance;
  for (int layer = 0; layer < model.config().layers; ++layer) {
    for (const auto& [module, operation] : products) {
      if (!module.empty())
        importance[model.module_name(layer, module)] =
            inputs.mean_squares(operation, static_cast<size_t>(layer));
    }
  }
  return importance;
}

std::vector<QuantizedTensor> write_quantized(const std::filesystem::path& out, const Model& model,
                                             const QuantizeOptions& options, size_t shard_bytes,
                                             ThreadPool& pool) {
  if (model.is_quantized())
    throw Error(model.folder().string(), "is quantized already", "the model it was made from");
  for (const std::string& module : options.int8) {
    if (std::ranges::none_of(layer_modules(model.family()),
                             [&](auto known) { return last_part(known) == module; }))
      throw Error("--int8",
                  fmt::format("\"{}\" is no matrix of {}", printable(module, 40), model.config().model_type),
                  "such as " + last_part(model.family().o));
  }
  Writer writer(model, options, pool);
  std::vector<NamedTensor> changed = writer.tensors();
  for (NamedTensor& added : model.added_tensors()) changed.push_back(std::move(added));
  write_full(out, model, changed, model.all_attention(), shard_bytes, /*replace=*/false,
             model.added_are_trained(), writer.config());
  return writer.results();
}

}  // namespace linnet
