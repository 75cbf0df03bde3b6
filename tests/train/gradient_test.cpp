// Central differences in float64 along random directions, for every input and every learned tensor.
#include <gtest/gtest.h>

#include <set>

#include "tests/train/gradients.h"
#include "tests/train/random_rows.h"
#include "train/attention/branches.h"
#include "train/loss.h"
#include "train/ops.h"

namespace linnet::train {
namespace {

void check_attention(const std::string& json, int64_t n, const at::Tensor& documents, int64_t batch,
                     int future = 0, double score_cap = 0) {
  const Rotation sinks{{1.0, 0.4}, 9};
  AttentionConfig own = looking_ahead(config_of(json), future);
  own.score_cap = score_cap;
  const Sample sample(own, {4, 2, 4, 3}, batch, n, 41);
  Tensors inputs = {sample.rows.q, sample.rows.k, sample.rows.v};
  std::vector<std::string> names = {"q", "k", "v"};
  if (sample.rows.summary_q.defined()) {
    inputs.insert(inputs.end(), {sample.rows.summary_q, sample.rows.summary_k});
    names.insert(names.end(), {"q.plain", "k.plain"});
  }
  for (const auto& [name, x] : sample.parameters) {
    inputs.push_back(x);
    names.push_back(name);
  }
  const auto f = [&](const Tensors& in) {
    Sample moved = sample;
    moved.rows = {in[0], in[1], in[2], {}, {}};
    size_t next = 3;
    if (sample.rows.summary_q.defined()) {
      moved.rows.summary_q = in[next++];
      moved.rows.summary_k = in[next++];
    }
    for (auto& [name, x] : moved.parameters) x = in[next++];
    return moved.run(documents, &sinks);
  };
  std::set<std::string> skipped;
  const AttentionConfig& config = sample.config;
  if (config.has_summary() && form_of(*config.method).estimated_gradients) {
    skipped = {"q", "k", "q.plain", "k.plain"};  // steps, and so in what is drawn
    for (const ParameterSpec& spec : parameter_specs(config, sample.shape)) {
      if (!spec.trained) skipped.insert(spec.name);
    }
  }
  check_gradients(f, inputs, names, json, skipped);
}

TEST(Gradients, OfEveryTrainingFormAreDifferences) {
  for (const std::string& json : test_configs()) check_attention(json, 22, {}, 2);
}

TEST(Gradients, OfPackedDocumentsAreDifferences) {
  const at::Tensor documents =
      at::tensor(at::ArrayRef<int>({0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3,
                                    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}),
                 at::kInt)
          .view({2, 22});
  for (const std::string& json : test_configs()) check_attention(json, 22, documents, 2);
}

TEST(Gradients, OfCappedScoresAreDifferences) {
  for (const char* json : {R"({"method": "softmax"})", R"({"method": "softmax", "window": 5})",
                           R"({"method": "elu1", "local": "softmax", "group": 4, "local_groups": 2})",
                           R"({"method": "elu1", "local": "relu2", "group": 4})"})
    check_attention(json, 22, {}, 2, 0, 0.7);
}

TEST(Gradients, OfTapsThatLookAheadAreDifferences) {
  const at::Tensor documents =
      at::tensor(at::ArrayRef<int>({0, 0, 0, 0, 0, 1, 2, 2, 2}), at::kInt).view({1, 9});
  for (const char* json : {R"({"method": "elu1", "local": "softmax", "group": 4, "taps": 2})",
                           R"({"method": "flash_local", "group": 4})", R"({"method": "relu"})"}) {
    for (const int future : {1, 3, 12}) {  // 12: past the end of everything
      check_attention(json, 9, {}, 2, future);
      check_attention(json, 9, documents, 1, future);
    }
  }
}

TEST(Gradients, OfAllTapsAtOnceAreThoseOfOneByOne) {
  auto generator = at::detail::createCPUGenerator(7);
  for (const int64_t taps : {1, 6}) {
    const at::Tensor out = random_tensor({2, 3, 2, 2, 4, 5}, generator),
                     padded = random_tensor({2, 3, 2 * 4 + taps - 1, 5}, generator),
                     w = random_tensor({2, 1, 1, 2, 1, taps, 5}, generator);
    for (const bool at_once : {false, true})
      check_gradients(
          [&](const Tensors& in) {
            return at_once ? convolve_at_once(in[0], in[1], in[2])
                           : convolve_by_taps(in[0], in[1], in[2], {});
          },
          {out, padded, w}, {"out", "padded", "w"}, at_once ? "at once" : "by taps");
    EXPECT_LT(relative_error(convolve_at_once(out, padded, w), convolve_by_taps(out, padded, w, {})), 1e-12);
  }
}

TEST(Gradients, OfTheModulesOperationsAreDifferences) {
  auto generator = at::detail::createCPUGenerator(3);
  const auto draw = [&](std::vector<int64_t> shape) { return random_tensor(shape, generator); };
  check_gradients([](const Tensors& in) { return rms_norm(in[0], in[1], 1e-5, at::kDouble); },
                  {draw({3, 5, 8}), draw({8})}, {"x", "gain"}, "rms_norm");
  check_gradients([](const Tensors& in) { return silu_gate(in[0]); }, {draw({3, 5, 8})}, {"gate_up"},
                  "silu_gate");
  const at::Tensor angle = draw({1, 5, 3});
  const RotaryTable table{angle.cos() * 1.3, angle.sin() * 1.3};
  for (const bool first : {false, true}) {
    for (const RotaryTable* rotary : {static_cast<const RotaryTable*>(nullptr), &table}) {
      check_gradients(
          [&](const Tensors& in) {
            const Rows r = split_heads(in[0], 4, 2, rotary, true, first);
            return at::cat({r.q, r.k, r.v, r.summary_q, r.summary_k}, 1);
          },
          {draw({2, 5, 8 * 8})}, {"qkv"}, "split_heads");
    }
  }
}

TEST(Gradients, OfTheLossesAreDifferencesOverManyChunks) {
  auto generator = at::detail::createCPUGenerator(9);
  const int64_t rows = 10, vocabulary = 12, chunk = 4;
  const at::Tensor hidden = random_tensor({rows, 3}, generator),
                   head = random_tensor({vocabulary, 3}, generator);
  const at::Tensor weights = at::rand({rows}, generator, at::kDouble);
  const at::Tensor targets = at::randint(vocabulary, {rows}, generator, at::kLong);
  check_gradients([&](const Tensors& in) { return cross_entropy(in[0], in[1], targets, weights, chunk); },
                  {hidden, head}, {"hidden", "head"}, "cross_entropy");
  const at::Tensor teacher = random_tensor({rows, 3}, generator),
                   other = random_tensor({vocabulary, 3}, generator);
  check_gradients(
      [&](const Tensors& in) { return kl_divergence(in[0], in[1], teacher, other, weights, chunk); },
      {hidden, head}, {"hidden", "head"}, "kl_divergence");
  check_gradients(
      [&](const Tensors& in) { return cross_entropy(in[0], in[1], targets, weights, chunk, 1.5); },
      {hidden, head}, {"hidden", "head"}, "cross_entropy of capped logits");
  check_gradients(
      [&](const Tensors& in) { return kl_divergence(in[0], in[1], teacher, other, weights, chunk, 1.5); },
      {hidden, head}, {"hidden", "head"}, "kl_divergence of capped logits");
  // And their values, against the plain formulas.
  const at::Tensor log_p = at::log_softmax(hidden.matmul(head.t()), -1);
  const at::Tensor nll = -log_p.gather(1, targets.unsqueeze(1)).squeeze(1);
  EXPECT_LT(relative_error(cross_entropy(hidden, head, targets, weights, chunk), (nll * weights).sum()),
            1e-12);
  EXPECT_LT(relative_error(row_losses(hidden, head, targets, chunk), nll), 1e-12);
  const at::Tensor log_t = at::log_softmax(teacher.matmul(other.t()), -1);
  const at::Tensor kl = (log_t.exp() * (log_t - log_p)).sum(-1);
  EXPECT_LT(relative_error(kl_divergence(hidden, head, teacher, other, weights, chunk), (kl * weights).sum()),
            1e-12);
}

}  // namespace
}  // namespace linnet::train
