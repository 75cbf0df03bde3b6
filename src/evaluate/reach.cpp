#include "evaluate/reach.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "model/teacher.h"

namespace linnet {
namespace {

/// Nats a token that a layer's limit costs; noise below zero counts as none.
double loss_of(const Reach& reach, const PerplexityTotals& limited) {
  return std::max(0.0, (limited.nats - reach.whole.nats) / static_cast<double>(reach.whole.tokens));
}

}  // namespace

Reach measure_reach(const std::shared_ptr<const Model>& model, const Tokenizer& tokenizer,
                    const std::vector<std::string>& documents, const ReachOptions& options, ThreadPool& pool,
                    const std::function<bool(int64_t)>& progress) {
  if (model->attention() != teacher_attention(model->config())) {
    throw Error(model->folder().string(), "a model whose layers are not all its own softmax",
                "the softmax model");
  }
  PerplexityOptions how;
  how.window = options.context;
  how.far_pairs = options.near;
  const auto score = [&](const std::shared_ptr<const Model>& variant) -> std::optional<PerplexityTotals> {
    const auto decoder = Decoder::make(variant, {.compute = options.compute}, pool);
    PerplexityMeter meter(*decoder, tokenizer, how, pool);
    for (const std::string& document : documents) {
      if (!meter.add(document, model->folder().string(), progress)) return std::nullopt;
    }
    return meter.totals();
  };
  Reach reach;
  const auto whole = score(model);
  if (!whole) return reach;
  reach.whole = *whole;
  for (int layer = 0; layer < static_cast<int>(model->attention().size()); ++layer) {
    const int own = model->config().windows[static_cast<size_t>(layer)];
    const auto near = static_cast<int>(options.near);
    const auto limited = score(model->with_window(layer, own > 0 ? std::min(own, near) : near));
    if (!limited) break;
    reach.layers.push_back(*limited);
  }
  return reach;
}

std::vector<int> far_layers(const Reach& reach, double share) {
  std::vector<int> order(reach.layers.size());
  std::iota(order.begin(), order.end(), 0);
  const auto loss = [&](int layer) { return loss_of(reach, reach.layers[static_cast<size_t>(layer)]); };
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return loss(a) > loss(b); });
  const double all = std::accumulate(order.begin(), order.end(), 0.0,
                                     [&](double sum, int layer) { return sum + loss(layer); });
  double held = 0;
  size_t count = 0;
  while (count < order.size() && held < share * all) held += loss(order[count++]);
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace linnet
