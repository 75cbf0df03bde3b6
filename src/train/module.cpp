#include "train/module.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "base/error.h"
#include "train/attention/encode.h"
#include "train/attention/parallel.h"
#include "train/layer.h"
#include "train/loss.h"
#include "train/module_impl.h"

namespace linnet::train {

Module::Module(std::shared_ptr<const Model> model, const Options& options)
    : impl_(std::make_unique<Impl>(std::move(model), options)) {}
Module::Module(const ModelConfig& config, uint64_t seed, const Options& options)
    : impl_(std::make_unique<Impl>(config, seed, options)) {}
Module::~Module() = default;
Module::Module(Module&&) noexcept = default;
Module& Module::operator=(Module&&) noexcept = default;

const ModelConfig& Module::config() const { return impl_->config; }
const Family& Module::family() const { return *impl_->family; }
const std::vector<AttentionConfig>& Module::attention() const { return impl_->attention; }
std::vector<AttentionConfig> Module::all_attention() const {
  std::vector<AttentionConfig> all = impl_->attention;
  all.insert(all.end(), impl_->cross.begin(), impl_->cross.end());
  if (impl_->encoder)
    all.insert(all.end(), impl_->encoder->attention.begin(), impl_->encoder->attention.end());
  return all;
}
AttentionShape Module::attention_shape() const { return impl_->shape(); }
const Module::Options& Module::options() const { return impl_->options; }
void Module::set_attention(std::vector<AttentionConfig> layers, uint64_t seed) {
  impl_->set_attention(std::move(layers), seed);
}
void Module::set_trainable(const Trainable& trainable) { impl_->set_trainable(trainable); }
const Trainable& Module::trainable() const { return impl_->trainable; }
std::vector<Parameter> Module::parameters() const { return impl_->list(true); }
std::vector<Module::Lora> Module::loras() const {
  std::vector<Lora> all;
  const auto held = [](const Weight& weight) {
    return weight.master.defined() ? weight.master : weight.frozen;
  };
  for (const Impl* stack = impl_.get(); stack != nullptr; stack = stack->encoder.get()) {
    for (const Impl::Layer& layer : stack->layers) {
      for (int slot = 0; slot < kMatrices; ++slot) {
        const Impl::Unit& unit = layer.units[static_cast<size_t>(slot)];
        if (!unit.lora) continue;
        const ModuleShape shape =
            module_shape(*stack->family, stack->config, module_of(*stack->family, slot));
        all.push_back({unit.weight.name, held(unit.lora->a), held(unit.lora->b), unit.lora->scale, shape});
      }
    }
  }
  return all;
}
std::vector<Parameter> Module::tensors() const { return impl_->list(false); }

namespace {

/// Runs a layer, keeping only its input where asked to.
at::Tensor run(const at::Tensor& x, const LayerTensors& tensors, const AttentionConfig& attention,
               const AttentionConfig* cross, const Pass& pass, bool checkpointing) {
  if (!checkpointing) return run_layer(x, tensors, attention, cross, pass);
  Tensors inputs = {x};
  LayerTensors form = tensors;
  form.each([&](at::Tensor& t) { inputs.push_back(t); });
  if (cross != nullptr) inputs.push_back(pass.encoded);
  const std::optional<AttentionConfig> read = cross != nullptr ? std::optional(*cross) : std::nullopt;
  return checkpoint(
      [form, attention, read, pass](const Tensors& in) {
        LayerTensors w = form;
        size_t next = 1;
        w.each([&](at::Tensor& t) { t = in[next++]; });
        Pass own = pass;
        if (read) own.encoded = in[next];
        return run_layer(in[0], w, attention, read ? &*read : nullptr, own);
      },
      inputs);
}

at::Tensor mean_weights(const at::Tensor& weights, const at::Tensor& hidden) {
  const auto type = sum_type(hidden.scalar_type());
  const int64_t rows = hidden.numel() / hidden.size(-1);
  if (weights.defined()) return weights.reshape({-1}).to(hidden.device(), type);
  return at::full({rows}, 1.0 / static_cast<double>(rows), hidden.options().dtype(type));
}

/// Rows [B, n, hidden] with 0 where padding stands.
at::Tensor without_padding(const at::Tensor& rows, const at::Tensor& lengths) {
  if (!lengths.defined()) return rows;
  const at::Tensor place =
      at::arange(rows.size(1), at::TensorOptions().dtype(at::kLong).device(rows.device()));
  return rows.masked_fill((place >= lengths.to(rows.device(), true).unsqueeze(1)).unsqueeze(-1), 0.0);
}

/// The encoder's part of a batch.
Batch source_of(const Batch& batch) { return {.tokens = batch.source, .lengths = batch.source_lengths}; }

at::Tensor flat(const at::Tensor& hidden) { return hidden.reshape({-1, hidden.size(-1)}); }

}  // namespace

Pass Module::Impl::with_source(Pass pass, const Batch& batch, bool with_teacher) const {
  if (!encoder) return pass;
  const Batch source = source_of(batch);
  pass.encoded = encoder->hidden(source, encoder->pass(source), with_teacher);
  pass.encoded_lengths = batch.source_lengths;
  return pass;
}

at::Tensor Module::Impl::normed_end(const at::Tensor& x, const Pass& pass, bool with_teacher) const {
  if (!final_norm.weight.defined()) return x.to(pass.compute);
  const at::Tensor end =
      apply_norm(x, final_norm.weight.value(with_teacher),
                 final_norm.bias.defined() ? final_norm.bias.value(with_teacher) : at::Tensor(), pass);
  return config.head_scale != 1 ? end * config.head_scale : end;
}

at::Tensor Module::Impl::hidden(const Batch& batch, const Pass& given, bool with_teacher) const {
  at::AutoGradMode gradients(!with_teacher && at::GradMode::is_enabled());
  const Pass pass = with_source(given, batch, with_teacher);
  at::Tensor x = embed(batch, *pass.documents, with_teacher);
  const std::vector<AttentionConfig>& configs = with_teacher ? teacher : attention;
  for (int layer = 0; layer < config.layers; ++layer) {
    const auto i = static_cast<size_t>(layer);
    const AttentionConfig* read = encoder ? &(with_teacher ? cross_teacher : cross)[i] : nullptr;
    x = run(x, layer_tensors(layer, with_teacher), configs[i], read, pass, options.checkpointing);
  }
  return normed_end(x, pass, with_teacher);
}

at::Tensor Module::hidden(const Batch& batch, Mode mode) const {
  return impl_->hidden(batch, impl_->pass(batch), mode == Mode::kTeacher);
}

bool Module::has_head() const { return !impl_->model || impl_->model->has_head(); }
bool Module::has_pooler() const { return impl_->pooler.weight.defined(); }

at::Tensor Module::pooled(const at::Tensor& first, Mode mode) const {
  if (!has_pooler()) throw Error("pooler", "not in the model", "a model with one");
  const bool teacher = mode == Mode::kTeacher;
  const auto type = first.scalar_type();
  return at::linear(first, impl_->pooler.weight.value(teacher).to(type),
                    impl_->pooler.bias.value(teacher).to(type))
      .tanh();
}

at::Tensor Module::logits(const at::Tensor& hidden, Mode mode) const {
  return capped(
      at::linear(impl_->head_rows(hidden, mode == Mode::kTeacher), impl_->head_matrix(mode == Mode::kTeacher))
          .to(sum_type(hidden.scalar_type())),
      impl_->config.logit_cap);
}

at::Tensor Module::next_token_loss(const at::Tensor& hidden, const at::Tensor& targets,
                                   const at::Tensor& weights) const {
  return cross_entropy(flat(impl_->head_rows(hidden, false)), impl_->head_matrix(false),
                       targets.reshape({-1}).to(hidden.device(), true), mean_weights(weights, hidden), 0,
                       impl_->config.logit_cap);
}

at::Tensor Module::token_losses(const at::Tensor& hidden, const at::Tensor& targets, Mode mode) const {
  const bool teacher = mode == Mode::kTeacher;
  return row_losses(flat(impl_->head_rows(hidden, teacher)), impl_->head_matrix(teacher),
                    targets.reshape({-1}).to(hidden.device(), true), 0, impl_->config.logit_cap)
      .view(targets.sizes());
}

namespace {

/// Adds to `loss` how far a layer's own outputs are from the teacher's, where it learns anything.
void add_error(const at::Tensor& wanted, const ParameterMap& added, at::ScalarType type,
               const std::function<at::Tensor()>& compute, at::Tensor& loss) {
  Tensors learned;
  for (const auto& [name, tensor] : added)
    if (tensor.requires_grad()) learned.push_back(tensor);
  if (learned.empty()) return;
  // A layer's error depends on no other layer's: what it was computed from can go before the next one.
  const at::Tensor own = compute().to(type), goal = wanted.to(type);
  const at::Tensor error = with_gradients((own - goal).square().mean() / goal.square().mean(), learned);
  loss = loss.defined() ? loss + error : error;
}

}  // namespace

at::Tensor Module::Impl::transfer(const Batch& batch, const Pass& given, at::Tensor& loss) const {
  Pass pass = given;
  if (encoder) {
    const Batch source = source_of(batch);
    pass.encoded = encoder->transfer(source, encoder->pass(source), loss);
    pass.encoded_lengths = batch.source_lengths;
  }
  const auto type = sum_type(pass.compute);
  const auto frozen = [](const auto& compute) {
    at::NoGradGuard off;
    return compute();
  };
  at::Tensor x = frozen([&] { return embed(batch, *pass.documents, true); });
  for (int layer = 0; layer < config.layers; ++layer) {
    const size_t i = static_cast<size_t>(layer);
    const LayerTensors base = layer_tensors(layer, true), own = layer_tensors(layer, false);
    const bool linear = !own.added.empty() && attention[i] != teacher[i];
    const bool unrotated = attention[i].feature_position == FeaturePosition::kNone;
    const Rows rows = frozen([&] {
      return attention_rows(x, base, pass, linear && unrotated, linear && heads_first(attention[i]));
    });
    const at::Tensor wanted = frozen([&] { return attend(rows, base.added, teacher[i], base, pass); });
    at::Tensor y = frozen([&] { return after_attention(x, wanted, base, pass); });
    add_error(
        wanted, own.added, type, [&] { return attend(rows, own.added, attention[i], base, pass); }, loss);
    if (encoder) {
      const Rows read = frozen([&] { return cross_rows(y, base, pass); });
      const at::Tensor found =
          frozen([&] { return train::cross(read, pass.encoded_lengths, {}, cross_teacher[i]); });
      add_error(
          found, own.cross_added, type,
          [&] { return train::cross(read, pass.encoded_lengths, own.cross_added, cross[i]); }, loss);
      y = frozen([&] { return after_cross(y, found, base, pass); });
    }
    x = frozen([&] { return after_feed_forward(x, y, base, pass); });
  }
  return frozen([&] { return normed_end(x, pass, true); });
}

at::Tensor Module::transfer_loss(const Batch& batch) const {
  at::Tensor loss;
  impl_->transfer(batch, impl_->pass(batch), loss);
  if (!loss.defined())
    throw Error("transfer", "no layer has tensors to learn", "a method that learns some (`linnet methods`)");
  return loss;
}

at::Tensor Module::distill_loss(const Batch& batch) const {
  const Pass pass = impl_->pass(batch);
  const at::Tensor teacher = impl_->hidden(batch, pass, true), student = impl_->hidden(batch, pass, false);
  if (impl_->family->is_encoder()) {
    const auto type = sum_type(student.scalar_type());
    const at::Tensor wanted = without_padding(teacher.to(type), batch.lengths),
                     own = without_padding(student.to(type), batch.lengths);
    return (own - wanted).square().sum() / wanted.square().sum();
  }
  const at::Tensor head = impl_->head_matrix(false);
  const at::Tensor teacher_head = impl_->head_is_shared() ? head : impl_->head_matrix(true);
  return kl_divergence(flat(student), head, flat(teacher), teacher_head, mean_weights({}, student), 0,
                       impl_->config.logit_cap);
}

}  // namespace linnet::train
