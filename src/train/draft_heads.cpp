#include "train/draft_heads.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "train/loss.h"
#include "train/ops.h"
#include "train/tensor_io.h"
#include "train/weights.h"

namespace linnet::train {
namespace {

constexpr double kDepthWeight = 0.8;  // of a depth's loss, over the one before

at::Tensor divided_by_rms(const at::Tensor& x) {
  const at::Tensor wide = x.to(sum_type(x.scalar_type()));
  const at::Tensor scale = (wide.square().mean(-1, true) + kRecursiveHeadEpsilon).rsqrt();
  return (wide * scale).to(x.scalar_type());
}

}  // namespace

std::vector<int32_t> frequent_tokens(const TokenizedText& text, int64_t count) {
  std::vector<int64_t> times(static_cast<size_t>(*std::max_element(text.tokens.begin(), text.tokens.end())) +
                             1);
  for (const int32_t token : text.tokens) ++times[static_cast<size_t>(token)];
  std::vector<int32_t> order(times.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return times[static_cast<size_t>(a)] > times[static_cast<size_t>(b)];
  });
  order.resize(std::min(order.size(), static_cast<size_t>(count)));
  while (!order.empty() && times[static_cast<size_t>(order.back())] == 0) order.pop_back();
  std::sort(order.begin(), order.end());
  return order;
}

TrainedHeads::TrainedHeads(const Model& model, const HeadsForm& form, std::vector<int32_t> tokens,
                           const Module::Options& options, uint64_t seed)
    : drafted_(form.drafted), options_(options) {
  form_.kind = form.kind;
  form_.count = form.count;
  form_.blocks = form.blocks;
  form_.own_vocabulary = form.own_vocabulary;
  form_.tokens = std::move(tokens);
  const ModelConfig& config = model.config();
  const Family& family = model.family();
  const at::ScalarType sums = sum_type(options.compute);
  const auto load = [&](std::string_view module, at::ScalarType type) {
    if (const auto integers = model.quantized(-1, module))
      return widened(*integers, false).to(options.device, type);
    return load_tensor(*model.tensor(module, "weight"), options.device, type, std::string(module));
  };
  const auto guessed = form_.tokens.empty() ? config.vocabulary : std::ssize(form_.tokens);
  at::Tensor head = load(config.tied_embeddings ? family.embedding : family.head, sums);
  at::Tensor place = at::arange(config.vocabulary, at::kLong);
  if (!form_.tokens.empty()) {
    // What the list does not hold is one more guess, where the matrix is the heads' own.
    const int64_t rest = form.own_vocabulary && form.kind == HeadKind::kRecursive ? guessed : -1;
    place.fill_(rest);
    at::Tensor listed = at::empty({guessed}, at::kLong);
    for (int64_t i = 0; i < guessed; ++i) {
      listed.data_ptr<int64_t>()[i] = form_.tokens[static_cast<size_t>(i)];
      place.data_ptr<int64_t>()[form_.tokens[static_cast<size_t>(i)]] = i;
    }
    head = head.index_select(0, listed.to(options.device));
    if (rest >= 0) head = at::cat({head, at::zeros({1, config.hidden}, head.options())});
  }
  place_ = place.to(options.device);
  if (!form.own_vocabulary) shared_ = head.to(options.compute);
  const auto on_device = at::TensorOptions().device(options.device).dtype(sums);
  if (form.kind == HeadKind::kRecursive) {
    const int64_t inner = form.inner > 0 ? form.inner : 2 * config.hidden;
    embedding_ = divided_by_rms(load(family.embedding, sums)).to(options.compute);
    add(head_names::kInput,
        draw_tensor({inner, 2 * config.hidden}, 1.0 / std::sqrt(2.0 * static_cast<double>(config.hidden)),
                    seed, head_names::kInput));
    add(head_names::kInputBias, at::zeros({inner}));
    add(head_names::kOutput, at::zeros({config.hidden, inner}));
    if (form.own_vocabulary) add(head_names::kVocabulary, head);
    return;
  }
  for (int i = 0; i < form.count; ++i) {
    for (int j = 0; j < form.blocks; ++j) {
      add(head_names::medusa_weight(i, j), at::zeros({config.hidden, config.hidden}, on_device));
      add(head_names::medusa_bias(i, j), at::zeros({config.hidden}, on_device));
    }
    if (form.own_vocabulary) add(head_names::medusa_vocabulary(i, form.blocks), head);
  }
}

void TrainedHeads::add(const std::string& name, at::Tensor start) {
  const at::Tensor leaf =
      start.to(options_.device, sum_type(options_.compute), /*non_blocking=*/false, /*copy=*/true);
  parameters_.push_back({name, leaf.detach().requires_grad_(true), ParameterKind::kAdded});
}

std::vector<Parameter> TrainedHeads::parameters() const { return parameters_; }

at::Tensor TrainedHeads::value(const std::string& name) const {
  const auto found = std::find_if(parameters_.begin(), parameters_.end(),
                                  [&](const Parameter& parameter) { return parameter.name == name; });
  return found->tensor.to(options_.compute);
}

at::Tensor TrainedHeads::vocabulary(int depth) const {
  if (shared_.defined()) return shared_;
  return value(form_.kind == HeadKind::kRecursive ? head_names::kVocabulary
                                                  : head_names::medusa_vocabulary(depth, form_.blocks));
}

std::vector<at::Tensor> TrainedHeads::states(const at::Tensor& hidden, const at::Tensor& tokens) const {
  const int64_t length = tokens.size(1);
  const at::ScalarType sums = sum_type(options_.compute);
  std::vector<at::Tensor> all;
  if (form_.kind == HeadKind::kMedusa) {
    for (int k = 0; k < form_.count; ++k) {
      at::Tensor state = hidden.narrow(1, 0, length - 2 - k).to(sums);
      for (int j = 0; j < form_.blocks; ++j) {
        state =
            state + at::silu(at::linear(state.to(options_.compute), value(head_names::medusa_weight(k, j)),
                                        value(head_names::medusa_bias(k, j))))
                        .to(sums);
      }
      all.push_back(state);
    }
    return all;
  }
  const at::Tensor input = value(head_names::kInput), bias = value(head_names::kInputBias),
                   output = value(head_names::kOutput);
  at::Tensor state = hidden.to(sums);
  for (int k = 0; k < form_.count; ++k) {
    const int64_t count = length - 2 - k;
    state = state.narrow(1, 0, count);
    const at::Tensor token = embedding_.index_select(0, tokens.narrow(1, 1 + k, count).reshape({-1}))
                                 .view({tokens.size(0), count, -1});
    const at::Tensor read = at::cat({divided_by_rms(state).to(options_.compute), token}, -1);
    state = state + at::linear(at::silu(at::linear(read, input, bias)), output).to(sums);
    all.push_back(state);
  }
  return all;
}

at::Tensor TrainedHeads::guessable(const at::Tensor& place) const {
  const at::Tensor known = place >= 0;
  return (form_.tokens.empty() ? known : known.logical_and(place < std::ssize(form_.tokens)))
      .to(sum_type(options_.compute));
}

// A guess below a wrong one is never asked for. So with `drafted` a place counts at depth k by how likely its
// own draft reaches it, Π p of the tokens above by the heads themselves as they are now.
at::Tensor TrainedHeads::loss(const at::Tensor& hidden, const at::Tensor& tokens) const {
  const std::vector<at::Tensor> all = states(hidden, tokens);
  at::Tensor sum, reached;  // reached: [rows, count], without gradients
  double weight = 1;
  for (int k = 0; k < form_.count; ++k, weight *= kDepthWeight) {
    const int64_t count = all[static_cast<size_t>(k)].size(1);
    const at::Tensor state = all[static_cast<size_t>(k)].reshape({-1, hidden.size(-1)}).to(options_.compute);
    const at::Tensor place = place_.index_select(0, tokens.narrow(1, 2 + k, count).reshape({-1}));
    at::Tensor weights =
        (place >= 0).to(sum_type(options_.compute)) * (weight / static_cast<double>(place.numel()));
    if (reached.defined()) {
      reached = reached.narrow(1, 0, count);
      const at::Tensor share = (1 - drafted_) + drafted_ * reached.reshape({-1});
      // It may be that no draft reaches any of them.
      weights = weights * (share / share.mean().clamp_min(std::numeric_limits<float>::min()));
    }
    const at::Tensor part = cross_entropy(state, vocabulary(k), place.clamp_min(0), weights);
    sum = sum.defined() ? sum + part : part;
    if (drafted_ > 0 && k + 1 < form_.count) {
      const at::Tensor likely =
          (row_losses(state, vocabulary(k), place.clamp_min(0)).neg().exp() * guessable(place))
              .view({-1, count});
      reached = reached.defined() ? reached * likely : likely;
    }
  }
  return sum;
}

void TrainedHeads::accept(const at::Tensor& hidden, const at::Tensor& tokens,
                          std::vector<Depth>& depths) const {
  at::NoGradGuard no_gradients;
  const std::vector<at::Tensor> all = states(hidden, tokens);
  depths.resize(all.size());
  // Places that have a token at every depth.
  const int64_t count = all.back().size(1);
  at::Tensor right = at::ones({tokens.size(0), count}, tokens.options().dtype(at::kBool));
  for (size_t k = 0; k < all.size(); ++k) {
    const at::Tensor logits =
        at::linear(all[k].narrow(1, 0, count).to(options_.compute), vocabulary(static_cast<int>(k)));
    const at::Tensor place =
        place_.index_select(0, tokens.narrow(1, 2 + static_cast<int64_t>(k), count).reshape({-1}))
            .view({tokens.size(0), count});
    const bool has_rest = !form_.tokens.empty() && logits.size(-1) > std::ssize(form_.tokens);
    const at::Tensor guess =
        has_rest ? logits.narrow(-1, 0, logits.size(-1) - 1).argmax(-1) : logits.argmax(-1);
    depths[k].reached += right.sum().item<int64_t>();
    right = right.logical_and(guess == place);
    depths[k].accepted += right.sum().item<int64_t>();
  }
}

void TrainedHeads::write(const std::filesystem::path& out, const Model& model) const {
  std::vector<at::Tensor> held;
  std::vector<NamedTensor> tensors;
  for (const Parameter& parameter : parameters_) {
    held.push_back(for_file(parameter.tensor, at::kBFloat16));
    tensors.push_back({parameter.name, view_of(held.back())});
  }
  if (!form_.tokens.empty())
    tensors.push_back({head_names::kTokens,
                       {DType::kI32, {std::ssize(form_.tokens)}, std::as_bytes(std::span(form_.tokens))}});
  write_heads(out, form_, tensors, model);
}

}  // namespace linnet::train
