#include "train/classifier.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/random.h"
#include "train/ops.h"
#include "train/weights.h"

namespace linnet::train {
namespace {

// Copies to the device don't wait for what it still computes: a step is queued whole behind the last one.
constexpr bool kAhead = true;

at::Tensor head_leaf(const at::Tensor& tensor) { return tensor.detach().clone().set_requires_grad(true); }

/// Cross-entropy of logits [places, labels], summed.
at::Tensor loss_of(const at::Tensor& logits, const LabeledTokens& texts, std::span<const int64_t> places) {
  std::vector<int64_t> labels;
  for (const int64_t place : places) labels.push_back(texts.labels[place]);
  return at::cross_entropy_loss(logits, at::tensor(labels, at::kLong).to(logits.device(), kAhead), {},
                                at::Reduction::Sum);
}

}  // namespace

TrainedClassifier::TrainedClassifier(const Module& module, const Model& model, uint64_t seed, bool fresh)
    : module_(module), filler_(static_cast<int32_t>(model.config().pad.value_or(0))) {
  const ClassifierHead& head = model.family().classifier;
  const auto type = sum_type(module.options().compute);
  const int64_t hidden = model.config().hidden;
  const auto add = [&](std::string_view module_name, const char* part, std::vector<int64_t> shape) {
    const std::string name = fmt::format("{}.{}", module_name, part);
    const TensorView* stored =
        fresh && module_name == head.out ? nullptr : model.head_tensor(module_name, part);
    const bool fits = stored != nullptr && stored->shape == shape;
    const at::Tensor start = fits                ? load_tensor(*stored, module.options().device, type, name)
                             : shape.size() == 1 ? at::zeros(shape, at::kDouble)
                                                 : draw_tensor(shape, 0.02, seed, name);
    head_.push_back({name, head_leaf(start.to(module.options().device, type)), ParameterKind::kBase});
  };
  const auto add_module = [&](std::string_view name, int64_t out) {
    if (name.empty()) return;
    add(name, "weight", {out, hidden});
    if (head.biased) add(name, "bias", {out});
  };
  add_module(head.dense, hidden);
  add_module(head.out, static_cast<int64_t>(model.config().labels.size()));
}

std::vector<Parameter> TrainedClassifier::parameters() const {
  std::vector<Parameter> all = module_.parameters();
  // An encoder's pooler is the head's first matrix, and trained as that.
  std::erase_if(all, [&](const Parameter& one) { return value(one.name).defined(); });
  all.insert(all.end(), head_.begin(), head_.end());
  return all;
}

at::Tensor TrainedClassifier::value(std::string_view name) const {
  const auto found = std::ranges::find(head_, name, &Parameter::name);
  return found == head_.end() ? at::Tensor() : found->tensor;
}

at::Tensor TrainedClassifier::logits(const LabeledTokens& texts, std::span<const int64_t> places) const {
  const auto count = static_cast<int64_t>(places.size());
  size_t longest = 0;
  for (const int64_t place : places) longest = std::max(longest, texts.tokens[place].size());
  const auto width = static_cast<int64_t>(longest);
  at::Tensor ids = at::full({count, width}, filler_, at::kLong), last = at::empty({count}, at::kLong);
  at::Tensor types = texts.types.empty() ? at::Tensor() : at::zeros({count, width}, at::kLong);
  for (int64_t row = 0; row < count; ++row) {
    const std::vector<int32_t>& tokens = texts.tokens[places[row]];
    std::copy(tokens.begin(), tokens.end(), ids.data_ptr<int64_t>() + row * width);
    last.data_ptr<int64_t>()[row] = static_cast<int64_t>(tokens.size()) - 1;
    if (types.defined()) std::ranges::copy(texts.types[places[row]], types.data_ptr<int64_t>() + row * width);
  }
  const at::Device device = module_.options().device;
  const ClassifierHead& head = module_.family().classifier;
  // Where nothing of the module is trained, nothing of it is kept for the backward pass.
  const at::Tensor hidden = [&] {
    at::AutoGradMode gradients(at::GradMode::is_enabled() && !module_.parameters().empty());
    Batch batch{.tokens = ids.to(device, kAhead)};
    if (module_.family().is_encoder()) batch.lengths = last + 1;
    if (module_.family().encoder != nullptr) {  // its decoder reads the text shifted by the start token
      const at::Tensor start = at::full({count, 1}, module_.config().start, batch.tokens.options());
      batch.source = batch.tokens;
      batch.source_lengths = last + 1;
      batch.tokens = at::cat({start, batch.source.narrow(1, 0, width - 1)}, 1);
    }
    if (types.defined()) batch.types = types.to(device, kAhead);
    return module_.hidden(batch);
  }();
  const at::Tensor rows = at::arange(count, last.options().device(device));
  const at::Tensor at_row = head.row == ReadRow::kLast ? last.to(device, kAhead) : at::zeros_like(rows);
  at::Tensor x = hidden.index({rows, at_row}).to(sum_type(hidden.scalar_type()));
  const auto product = [&](std::string_view name) {
    const std::string full(name);
    x = at::linear(x, value(full + ".weight"), value(full + ".bias"));
  };
  if (!head.dense.empty()) {
    product(head.dense);
    x = x.tanh();
  }
  product(head.out);
  return x;
}

at::Tensor TrainedClassifier::loss(const LabeledTokens& texts, std::span<const int64_t> places) const {
  return loss_of(logits(texts, places), texts, places);
}

std::optional<TrainedClassifier::Judged> TrainedClassifier::judge(const LabeledTokens& texts,
                                                                  int64_t batch) const {
  at::NoGradGuard no_gradients;
  Judged judged;
  std::vector<int64_t> places(static_cast<size_t>(texts.size()));
  for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<int64_t>(i);
  // Texts of one length side by side, so that little of a batch is filled up.
  std::ranges::stable_sort(places, {}, [&](int64_t place) { return texts.tokens[place].size(); });
  judged.answers.resize(places.size());
  at::Tensor sum = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(module_.options().device));
  std::vector<at::Tensor> taken;
  for (size_t begin = 0; begin < places.size(); begin += static_cast<size_t>(batch)) {
    if (interrupted()) return {};
    const auto part =
        std::span(places).subspan(begin, std::min(places.size() - begin, static_cast<size_t>(batch)));
    const at::Tensor x = logits(texts, part);
    sum += loss_of(x, texts, part).to(at::kDouble);
    taken.push_back(x.argmax(1));
  }
  const at::Tensor chosen = at::cat(taken).cpu();
  for (size_t i = 0; i < places.size(); ++i) {
    const auto one = static_cast<size_t>(chosen.data_ptr<int64_t>()[i]);
    judged.answers[places[i]] = {static_cast<size_t>(texts.labels[places[i]]), one, one};
  }
  judged.loss = sum.item<double>() / static_cast<double>(std::max<int64_t>(1, texts.size()));
  return judged;
}

std::vector<int64_t> order_of(int64_t texts, uint64_t seed, int64_t epoch) {
  constexpr uint64_t kStream = 0x636c6173736966;  // of this use alone
  std::vector<int64_t> order(static_cast<size_t>(texts));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  for (size_t left = order.size(); left > 1; --left) {
    const uint64_t other =
        uniform_integer(seed, kStream + static_cast<uint64_t>(epoch), static_cast<uint64_t>(left), left);
    std::swap(order[left - 1], order[other]);
  }
  return order;
}

}  // namespace linnet::train
