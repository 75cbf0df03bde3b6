#include "train/module_impl.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/quantized.h"
#include "model/teacher.h"
#include "model/write_model.h"
#include "train/attention/bias.h"
#include "train/attention/parallel.h"
#include "train/lora.h"

namespace linnet::train {
namespace {

constexpr int kNoLayer = -1;  // of the embeddings, the final norm and the head

at::Tensor leaf(const at::Tensor& tensor) { return tensor.detach().clone().set_requires_grad(true); }

void set_trained(Weight& weight, bool on, at::ScalarType type, const at::Tensor& source) {
  if (on && !weight.master.defined()) weight.master = leaf(source.to(type));
  if (weight.master.defined()) weight.master.set_requires_grad(on);
  weight.trained = on;
}

}  // namespace

Module::Impl::Impl(std::shared_ptr<const Model> given, const Options& with, const Impl* of)
    : model(std::move(given)),
      config(model->config()),
      family(&model->family()),
      options(with),
      attention(model->attention()),
      cross(model->cross_attention()),
      owner(of) {
  build();
  for (int layer = 0; layer < config.layers; ++layer) read_added(layer);
  if (model->encoder()) encoder = std::make_unique<Impl>(model->encoder(), options, this);
  if (!model->lora()) return;
  for (int layer = 0; layer < config.layers; ++layer) {
    for (int slot = 0; slot < kMatrices; ++slot) {
      const std::string_view module = module_of(*family, slot);
      const auto pair = module.empty() ? std::nullopt : model->lora_of(layer, module);
      if (!pair) continue;
      const std::string a = lora_name(*family, layer, module, 'A'),
                        b = lora_name(*family, layer, module, 'B');
      layers[static_cast<size_t>(layer)].units[static_cast<size_t>(slot)].lora =
          LoraWeights{{a, load_tensor(*pair->a, options.device, sums(), a), {}, false},
                      {b, load_tensor(*pair->b, options.device, sums(), b), {}, false},
                      pair->scale};
    }
  }
}

void Module::Impl::read_added(int layer) {
  Layer& to = layers[static_cast<size_t>(layer)];
  const auto read = [&](const ParameterTensors& tensors, const std::string& before, auto& into) {
    for (const auto& [name, view] : tensors) {
      const std::string full = before + name;
      into[name] = {full, load_tensor(view, options.device, sums(), full), {}, false};
    }
  };
  read(model->linear_parameters(layer), model->linear_prefix(layer), to.added);
  if (!cross.empty()) read(model->cross_parameters(layer), model->cross_prefix(layer), to.cross_added);
}

Module::Impl::Impl(const ModelConfig& given, uint64_t with_seed, const Options& with, const Impl* of)
    : seed(with_seed), config(given), family(given.family), options(with), owner(of) {
  build();
  attention = teacher, cross = cross_teacher;
  if (family->encoder != nullptr) encoder = std::make_unique<Impl>(config.of_encoder(), seed, options, this);
}

void Module::Impl::build() {
  teacher = teacher_attention(config);
  if (family->encoder != nullptr) {
    const auto own = teacher.begin() + config.layers;
    cross_teacher.assign(own, own + config.layers);
    teacher.erase(own, teacher.end());
  }
  if (owner == nullptr) embedding = unit(kNoLayer, family->embedding, false);
  if (!family->relative_bias.empty()) relative_bias = unit(kNoLayer, family->relative_bias, false);
  if (family->positions == PositionKind::kLearned)
    positions = unit(kNoLayer, family->position_embedding, false);
  if (!family->token_type_embedding.empty())
    token_types = unit(kNoLayer, family->token_type_embedding, false);
  if (!family->embedding_norm.empty()) embedding_norm = unit(kNoLayer, family->embedding_norm, true);
  layers.resize(static_cast<size_t>(config.layers));
  for (int layer = 0; layer < config.layers; ++layer) {
    for (int slot = 0; slot < kModules; ++slot) {
      const std::string_view module = module_of(*family, slot);
      if (!module.empty())
        layers[static_cast<size_t>(layer)].units[static_cast<size_t>(slot)] =
            unit(layer, module, is_norm(slot));
    }
  }
  if (!family->final_norm.empty()) final_norm = unit(kNoLayer, family->final_norm, true);
  if (!family->head.empty() && (!model || model->has_head())) build_head();
  if (!family->pooler.empty() && options.pooler) pooler = unit(kNoLayer, family->pooler, false);
  if (family->positions == PositionKind::kRotary) {
    RopeFrequencies rope = rope_frequencies(config);
    sinks = Rotation{std::move(rope.inverse), config.positions, rope.factor};
  }
}

void Module::Impl::build_head() {
  if (!family->head_dense.empty()) head_dense = unit(kNoLayer, family->head_dense, false);
  if (!family->head_norm.empty()) head_norm = unit(kNoLayer, family->head_norm, true);
  if (config.tied_embeddings && family->head_bias.empty()) return;
  head = unit(kNoLayer, family->head, false);
  if (config.tied_embeddings) head.weight = {};
  const bool is_own = model ? model->base_tensors().find(head.bias.name) != nullptr : !config.tied_embeddings;
  if (!family->head_bias.empty() && !is_own) head.bias.name = std::string(family->head_bias) + ".bias";
}

std::string Module::Impl::prefix(int layer) const {
  if (model) return model->module_name(layer, "");
  return std::string(family->prefix) + layer_prefix(*family, layer);
}

at::Tensor Module::Impl::source(int layer, std::string_view module, std::string_view part,
                                at::ScalarType type, bool frozen) const {
  const std::string name = fmt::format("{}.{}", module, part);
  const bool fresh = !model || (module == family->pooler && !model->has_pooler());
  if (!fresh) {
    const auto integers = part == "weight" ? model->quantized(layer, module) : std::nullopt;
    if (integers) return widened(*integers, family->transposed && layer != kNoLayer).to(options.device, type);
    const TensorView* view =
        layer == kNoLayer ? model->tensor(module, part) : model->layer_tensor(layer, module, part);
    if (view == nullptr) return {};
    if (frozen && options.device.is_cpu()) return map_tensor(*view, model, name);
    return load_tensor(*view, options.device, type, name);
  }
  const ModuleShape shape = module_shape(*family, config, module);
  at::Tensor drawn;
  if (part == "bias") {
    if (!shape.biased) return {};
    drawn = at::zeros({shape.out}, at::kDouble);
  } else if (shape.in == 0) {
    drawn = at::full({shape.out}, config.norm == NormKind::kRmsPlusOne ? 0.0 : 1.0, at::kDouble);
  } else {
    // Of two stacks each has names of its own.
    const std::string place = family->encoder != nullptr || owner != nullptr
                                  ? layer == kNoLayer ? "" : prefix(layer)
                                  : fmt::format("{}.", layer);
    drawn = draw_tensor(shape.weight(), deviation_of(module), seed, place + name);
  }
  return drawn.to(options.device, type);
}

double Module::Impl::deviation_of(std::string_view module) const {
  if (module == family->o || module == family->cross_o || module == family->down)
    return 0.02 / std::sqrt(2.0 * static_cast<double>(config.layers));
  // Scores that nothing divides begin as others' do.
  const bool queries = module == family->q || module == family->cross_q;
  return queries && family->positions == PositionKind::kRelative ? 0.02 / config.query_scale : 0.02;
}

Module::Impl::Unit Module::Impl::unit(int layer, std::string_view module, bool norm) {
  const auto type = norm ? sums() : options.compute;
  const auto fresh_name = [&] {
    if (layer != kNoLayer) return prefix(layer).append(module);
    return std::string(is_of_head(*family, module) ? "" : family->prefix).append(module);
  };
  const std::string name = model ? model->full_module_name(layer, module) : fresh_name();
  Unit made;
  made.weight = {name + ".weight", source(layer, module, "weight", type, !norm), {}, false};
  made.bias = {name + ".bias", source(layer, module, "bias", type, !norm), {}, false};
  return made;
}

AttentionShape Module::Impl::shape() const { return shape_of(*family, config); }

std::map<std::string, Weight, std::less<>> Module::Impl::fresh_added(const AttentionConfig& own,
                                                                     std::string_view module, int layer,
                                                                     uint64_t from) const {
  std::map<std::string, Weight, std::less<>> added;
  for (const ParameterSpec& spec : parameter_specs(own, shape())) {
    const std::vector<float> numbers = initial_parameter(spec, own, from, layer);
    const at::Tensor tensor =
        at::tensor(at::ArrayRef<float>(numbers), at::kFloat).view(spec.shape).to(options.device, sums());
    added[spec.name] = {
        prefix(layer) + std::string(module) + "linear_attention." + spec.name, tensor, {}, false};
  }
  return added;
}

void Module::Impl::set_attention(std::vector<AttentionConfig> configs, uint64_t from) {
  const size_t own = layers.size(), all = encoder ? 2 * own + encoder->layers.size() : own;
  if (configs.size() != all) {
    throw Error("attention", fmt::format("{} configs", configs.size()),
                fmt::format("one for each of {} layers", all));
  }
  if (encoder) {
    const auto begin = configs.begin() + static_cast<std::ptrdiff_t>(own),
               end = begin + static_cast<std::ptrdiff_t>(own);
    cross.assign(begin, end);
    encoder->set_attention({end, configs.end()}, from);
    configs.erase(begin, configs.end());
  }
  for (int layer = 0; layer < config.layers; ++layer) {
    const size_t i = static_cast<size_t>(layer);
    layers[i].added = fresh_added(configs[i], family->attention, layer, from);
    if (encoder) layers[i].cross_added = fresh_added(cross[i], family->cross_attention, layer, from);
  }
  attention = std::move(configs);
}

template <class Visit>
void Module::Impl::each_unit(Visit visit) {
  if (owner == nullptr) visit(embedding, kNoLayer, family->embedding, kModules);
  const auto one = [&](Unit& unit, std::string_view module, int slot) {
    if (unit.weight.defined() || unit.bias.defined()) visit(unit, kNoLayer, module, slot);
  };
  one(relative_bias, family->relative_bias, kModules);
  one(positions, family->position_embedding, kModules);
  one(token_types, family->token_type_embedding, kModules);
  one(embedding_norm, family->embedding_norm, kAttentionNorm);
  for (int layer = 0; layer < config.layers; ++layer) {
    for (int slot = 0; slot < kModules; ++slot) {
      Unit& unit = layers[static_cast<size_t>(layer)].units[static_cast<size_t>(slot)];
      if (unit.weight.defined()) visit(unit, layer, module_of(*family, slot), slot);
    }
  }
  one(final_norm, family->final_norm, kAttentionNorm);
  one(head_dense, family->head_dense, kModules);
  one(head_norm, family->head_norm, kAttentionNorm);
  one(head, family->head, kModules);
  one(pooler, family->pooler, kModules);
}

void Module::Impl::train(Unit& unit, int layer, std::string_view module, bool on) {
  for (auto [weight, part] : {std::pair(&unit.weight, "weight"), std::pair(&unit.bias, "bias")}) {
    if (!weight->defined()) continue;
    const bool first = on && !weight->master.defined();
    // From the source: the frozen copy may have been rounded to the compute type.
    set_trained(*weight, on, sums(), first ? source(layer, module, part, sums(), false) : at::Tensor());
    if (on && !trainable.keep_teacher) weight->frozen = at::Tensor();
  }
}

void Module::Impl::set_trainable(const Trainable& wanted) {
  const bool originals =
      wanted.what == Train::kAll || wanted.what == Train::kAttention || wanted.embeddings_and_norms;
  if (model && model->is_quantized() && originals)
    throw Error(model->base_folder().string(), "its matrices are in integers, which training cannot change",
                "--train new or lora, or the model that was quantized");
  trainable = wanted;
  if (wanted.what == Train::kLora) add_lora();
  each_unit([&](Unit& unit, int layer, std::string_view module, int slot) {
    const bool inside = layer != kNoLayer;
    bool on = wanted.what == Train::kAll;
    on |= wanted.what == Train::kAttention && inside && is_attention(slot);
    on |= wanted.embeddings_and_norms && (slot >= kAttentionNorm);
    train(unit, layer, module, on);
    if (!unit.lora) return;
    for (Weight* weight : {&unit.lora->a, &unit.lora->b}) {
      set_trained(*weight, wanted.what == Train::kLora, sums(), weight->frozen);
    }
  });
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    for (const ParameterSpec& spec : parameter_specs(attention[layer], shape())) {
      const auto found = layers[layer].added.find(spec.name);
      if (found == layers[layer].added.end()) continue;
      set_trained(found->second, spec.trained, sums(), found->second.frozen);
    }
    if (!encoder) continue;
    for (const ParameterSpec& spec : parameter_specs(cross[layer], shape())) {
      const auto found = layers[layer].cross_added.find(spec.name);
      if (found != layers[layer].cross_added.end())
        set_trained(found->second, spec.trained, sums(), found->second.frozen);
    }
  }
  if (encoder) encoder->set_trainable(wanted);
  if (owner == nullptr && list(true).empty())
    throw Error("--train", "nothing to train: no layer learns tensors of its own",
                "lora, attention or all, or a method that learns tensors (`linnet methods`)");
}

void Module::Impl::add_lora() {
  const std::vector<std::string> targets =
      trainable.lora_targets.empty() ? attention_targets(*family) : trainable.lora_targets;
  check_targets(*family, targets);
  for (int layer = 0; layer < config.layers; ++layer) {
    for (int slot = 0; slot < kMatrices; ++slot) {
      const std::string_view module = module_of(*family, slot);
      Unit& unit = layers[static_cast<size_t>(layer)].units[static_cast<size_t>(slot)];
      if (module.empty() || unit.lora || !is_target(module, targets)) continue;
      unit.lora =
          fresh_lora(*family, config, layer, module, trainable.lora_rank,
                     trainable.lora_alpha / trainable.lora_rank, trainable.seed, options.device, sums());
    }
  }
}

std::vector<Parameter> Module::Impl::list(bool trained_only) const {
  std::vector<Parameter> base, lora;
  const auto take = [&](const Weight& weight, ParameterKind kind, std::vector<Parameter>& out) {
    if (!weight.defined() || (trained_only && !weight.trained)) return;
    out.push_back({weight.name, weight.master.defined() ? weight.master : weight.frozen, kind});
  };
  auto& self = const_cast<Impl&>(*this);  // each_unit visits without changing anything here
  self.each_unit([&](Unit& unit, int, std::string_view, int) {
    take(unit.weight, ParameterKind::kBase, base);
    take(unit.bias, ParameterKind::kBase, base);
    if (!unit.lora) return;
    take(unit.lora->a, ParameterKind::kLora, lora);
    take(unit.lora->b, ParameterKind::kLora, lora);
  });
  for (Layer& layer : self.layers) {
    for (auto& [name, weight] : layer.added)
      take(weight, name == kFutureTaps ? ParameterKind::kExperiment : ParameterKind::kAdded, base);
    for (auto& [name, weight] : layer.cross_added) take(weight, ParameterKind::kAdded, base);
  }
  if (encoder) {
    for (Parameter& parameter : encoder->list(trained_only)) base.push_back(std::move(parameter));
  }
  base.insert(base.end(), lora.begin(), lora.end());
  return base;
}

Pass Module::Impl::pass(const Batch& batch) const {
  if (encoder && !batch.source.defined()) throw Error("batch", "no source", "what the model's encoder reads");
  if (batch.tokens.dim() != 2 || batch.tokens.scalar_type() != at::kLong) {
    throw Error("batch", "tokens of another shape or type", "[rows, length] int64");
  }
  const int64_t rows = batch.tokens.size(0), length = batch.tokens.size(1);
  Pass pass{&config,
            family,
            std::make_shared<Documents>(batch.documents, rows, length, options.device),
            {},
            sinks ? &*sinks : nullptr,
            options.compute};
  if (family->positions == PositionKind::kRotary) {
    const RopeFrequencies frequencies = rope_frequencies(config);
    const at::Tensor inverse =
        at::tensor(at::ArrayRef<double>(frequencies.inverse), at::kDouble).to(options.device, true);
    const at::Tensor angle = pass.documents->positions().to(at::kDouble).unsqueeze(-1) * inverse;
    pass.rotary = RotaryTable{(angle.cos() * frequencies.factor).to(sums()),
                              (angle.sin() * frequencies.factor).to(sums())};
  } else if (family->positions == PositionKind::kLearned && pass.documents->longest() > config.longest()) {
    throw Error("batch", fmt::format("a document of {} tokens", pass.documents->longest()),
                fmt::format("at most {}, the learned positions", config.longest()));
  }
  if (family->is_encoder() && batch.documents.defined())
    throw Error("batch", "several documents in a row", "one sequence a row: an encoder sees all of it");
  if (!family->is_encoder() && batch.lengths.defined())
    throw Error("batch", "rows with padding", "an encoder");
  pass.lengths = batch.lengths;
  return pass;
}

at::Tensor Module::Impl::embed(const Batch& batch, const Documents& documents, bool teacher) const {
  const at::Tensor tokens = batch.tokens.to(options.device, true);
  at::Tensor x = at::embedding(shared_embedding().weight.value(teacher), tokens).to(sums());
  if (config.embedding_scale != 1) x = x * config.embedding_scale;
  if (positions.weight.defined()) {
    const at::Tensor places = documents.positions() + config.first_position;
    x = x + at::embedding(positions.weight.value(teacher), places).to(sums());
  }
  if (token_types.weight.defined()) {
    const at::Tensor types =
        batch.types.defined() ? batch.types.to(options.device, true) : at::zeros_like(tokens);
    x = x + at::embedding(token_types.weight.value(teacher), types).to(sums());
  }
  if (!embedding_norm.weight.defined()) return x;
  return at::layer_norm(x, {x.size(-1)}, embedding_norm.weight.value(teacher),
                        embedding_norm.bias.value(teacher), config.norm_epsilon);
}

LayerTensors Module::Impl::layer_tensors(int layer, bool teacher) const {
  const Layer& from = layers[static_cast<size_t>(layer)];
  LayerTensors tensors;
  tensors.rotated = config.rotated[static_cast<size_t>(layer)];
  for (size_t slot = 0; slot < kModules; ++slot) {
    const Unit& unit = from.units[slot];
    if (unit.weight.defined()) tensors.weight[slot] = unit.weight.value(teacher);
    if (unit.bias.defined()) tensors.bias[slot] = unit.bias.value(teacher);
    if (teacher || !unit.lora) continue;
    tensors.lora_scale[slot] = unit.lora->scale;
    tensors.lora_a[slot] = unit.lora->a.value(false);
    tensors.lora_b[slot] = unit.lora->b.value(false);
  }
  if (const at::Tensor bias = distance_bias(teacher); bias.defined())
    tensors.added[std::string(kDistanceBias)] = bias;
  if (teacher) return tensors;
  for (const auto& [name, weight] : from.added) tensors.added[name] = weight.value(false);
  for (const auto& [name, weight] : from.cross_added) tensors.cross_added[name] = weight.value(false);
  return tensors;
}

at::Tensor Module::Impl::distance_bias(bool with_teacher) const {
  if (!relative_bias.weight.defined()) return {};
  const DistanceBuckets buckets = distance_buckets(*family, config);
  std::vector<int64_t> rows;
  for (int64_t distance = -buckets.most; distance <= buckets.most; ++distance)
    rows.push_back(buckets.of(distance));
  const at::Tensor index = at::tensor(at::ArrayRef<int64_t>(rows), at::kLong).to(options.device, true);
  return relative_bias.weight.value(with_teacher).to(options.device, sums()).index_select(0, index).t();
}

at::Tensor Module::Impl::head_rows(const at::Tensor& hidden, bool teacher) const {
  at::Tensor x = hidden;
  if (head_dense.weight.defined()) {
    x = at::linear(x, head_dense.weight.value(teacher).to(options.compute),
                   head_dense.bias.value(teacher).to(options.compute));
    x = activate(x, family->gelu_head ? Activation::kGelu : config.activation).to(sums());
    x = at::layer_norm(x, {x.size(-1)}, head_norm.weight.value(teacher), head_norm.bias.value(teacher),
                       config.norm_epsilon)
            .to(options.compute);
  }
  if (!head.bias.defined()) return x;
  auto one = x.sizes().vec();
  one.back() = 1;
  return at::cat({x, at::ones(one, x.options())}, -1);
}

at::Tensor Module::Impl::head_matrix(bool teacher) const {
  if (model && !model->has_head())
    throw Error(model->base_folder().string(), "has no head that predicts tokens",
                fmt::format("a {} folder", family->architecture));
  const at::Tensor matrix =
      (config.tied_embeddings ? embedding : head).weight.value(teacher).to(options.compute);
  if (!head.bias.defined()) return matrix;
  return at::cat({matrix, head.bias.value(teacher).to(options.compute).unsqueeze(1)}, 1);
}

bool Module::Impl::head_is_shared() const {
  const Weight& weight = (config.tied_embeddings ? embedding : head).weight;
  return !head.bias.defined() && weight.value(true).is_same(weight.value(false));
}

}  // namespace linnet::train
