// A model of a config's shape with random weights, in memory alone: what `linnet bench --config` measures.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>

#include "base/array.h"
#include "base/error.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/random.h"
#include "model/model.h"
#include "model/teacher.h"

namespace linnet {
namespace {

constexpr size_t kAlign = 64;           // bytes
constexpr size_t kPattern = 1'000'003;  // numbers drawn; a tensor repeats them from where the last one ended

/// Tensors in one block of memory: shapes first, numbers once all are known.
class Drawer {
 public:
  /// One with these numbers; without any, random ones.
  void add(std::string name, DType type, std::vector<int64_t> shape, std::vector<float> numbers = {}) {
    tensors_.push_back({{std::move(name), {type, std::move(shape), {}}}, size_, std::move(numbers)});
    const TensorView& view = tensors_.back().named.tensor;
    size_ += (static_cast<size_t>(view.numbers()) * size_of(view.type) + kAlign - 1) / kAlign * kAlign;
  }
  size_t size() const { return size_; }

  /// Draws all and hands them over.
  TensorStore store(uint64_t seed) {
    std::vector<float> numbers(kPattern);
    for (size_t i = 0; i < kPattern; ++i) numbers[i] = static_cast<float>(0.02 * normal(seed, 0, i));
    std::map<DType, std::vector<std::byte>> patterns;
    const auto block =
        std::make_shared<AlignedArray<std::byte>>(zeroed<std::byte>(static_cast<int64_t>(size_)));
    prefer_large_pages(block->get(), size_);
    std::vector<NamedTensor> named;
    for (Placed& tensor : tensors_) {
      TensorView& view = tensor.named.tensor;
      const std::span to(block->get() + tensor.begin,
                         static_cast<size_t>(view.numbers()) * size_of(view.type));
      if (tensor.numbers.empty()) {
        const auto [pattern, first] = patterns.try_emplace(view.type);
        if (first) pattern->second = from_float(numbers, view.type);
        repeat(pattern->second, to);
      } else {
        std::ranges::copy(from_float(tensor.numbers, view.type), to.begin());
      }
      view.bytes = to;
      named.push_back(tensor.named);
    }
    return TensorStore::of(std::move(named), block);
  }

 private:
  struct Placed {
    NamedTensor named;
    size_t begin;
    std::vector<float> numbers;
  };

  void repeat(const std::vector<std::byte>& pattern, std::span<std::byte> to) {
    while (!to.empty()) {
      at_ = at_ % pattern.size() / 4 * 4;
      const size_t count = std::min(to.size(), pattern.size() - at_);
      std::memcpy(to.data(), pattern.data() + at_, count);
      to = to.subspan(count);
      at_ += count;
    }
  }

  std::vector<Placed> tensors_;
  size_t size_ = 0, at_ = 0;
};

/// What the config says that weights are stored in.
DType stored_type(const nlohmann::json& config, const std::string& where) {
  const char* const key = config.contains("dtype") ? "dtype" : "torch_dtype";
  const nlohmann::json type = config.value(key, nlohmann::json());
  if (type.is_null() || type == "bfloat16") return DType::kBF16;
  if (type == "float16") return DType::kF16;
  if (type == "float32") return DType::kF32;
  throw Error(fmt::format("{}: {}", where, key), printable(type.dump(), 60), "float32, float16 or bfloat16");
}

}  // namespace

std::shared_ptr<const Model> Model::random(const std::filesystem::path& file, uint64_t seed,
                                           std::optional<StateType> state) {
  std::shared_ptr<Model> model(new Model);
  const nlohmann::json json = read_json(file, {.bytes = 10'000'000, .depth = 32});
  model->config_ = ModelConfig::parse(json, file.string());
  const ModelConfig& config = model->config_;
  model->family_ = config.family;
  if (model->family_->encoder != nullptr)
    throw Error(file.string(), "a model with an encoder",
                "a decoder alone (random weights of others are not drawn)");
  const Family& family = *model->family_;
  model->prefix_ = family.prefix;
  model->folder_ = model->base_folder_ = model->tokenizer_folder_ = file;
  const auto linear = json.find("linear_attention");
  model->attention_ =
      attention_over(config, linear == json.end() ? nlohmann::json() : *linear, file.string());

  const DType type = stored_type(json, file.string());
  Drawer drawer;
  const auto add = [&](const std::string& name, std::string_view module) {
    const ModuleShape shape = module_shape(family, config, module);
    std::vector<float> gain;  // of a norm
    if (shape.in == 0)
      gain.assign(static_cast<size_t>(shape.out), config.norm == NormKind::kRmsPlusOne ? 0 : 1);
    drawer.add(name + ".weight", type, shape.weight(), std::move(gain));
    if (shape.biased) drawer.add(name + ".bias", type, {shape.out});
  };
  for (std::string_view module : outer_modules(family)) add(model->full_name(module), module);
  if (!config.tied_embeddings) add(std::string(family.head), family.head);
  for (int layer = 0; layer < config.layers; ++layer) {
    for (std::string_view module : layer_modules(family)) add(model->module_name(layer, module), module);
    const AttentionConfig& attention = model->attention_[static_cast<size_t>(layer)];
    for (const ParameterSpec& spec : parameter_specs(attention, model->attention_shape()))
      drawer.add(model->linear_prefix(layer) + spec.name, DType::kF32, spec.shape,
                 initial_parameter(spec, attention, seed, layer));
  }
  if (static_cast<double>(drawer.size()) > 0.8 * static_cast<double>(machine_memory()))
    throw Error(file.string(), fmt::format("{:.1f} GB of weights", static_cast<double>(drawer.size()) * 1e-9),
                "a shape that fits into this machine's memory");
  model->base_ = drawer.store(seed);
  model->check_base();
  model->check_head();
  model->check_optional();
  model->check_added();
  model->set_state(state);
  return model;
}

}  // namespace linnet
