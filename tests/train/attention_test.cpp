#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <filesystem>

#include "attention/method.h"
#include "base/error.h"
#include "format/safetensors.h"
#include "tests/attention/golden.h"
#include "tests/train/random_rows.h"
#include "train/ops.h"
#include "train/weights.h"

namespace linnet::train {
namespace {

constexpr AttentionShape kShape{6, 2, 40, 24};

TEST(TrainingForms, GiveTheOraclesOutputs) {
  for (const std::filesystem::path& path : golden_cases()) {
    const SafetensorsFile file = SafetensorsFile::open(path);
    const auto json = nlohmann::json::parse(file.metadata().find("linear_attention")->second);
    const AttentionConfig config = parse_layer_attention(json, "test");
    for (const auto type : {at::kDouble, at::kFloat}) {
      const auto load = [&](const std::string& name) {
        const auto found = file.tensors().find(name);
        return found == file.tensors().end() ? at::Tensor()
                                             : load_tensor(found->second, at::kCPU, type, name);
      };
      const auto row = [&](const std::string& name) {
        const at::Tensor x = load(name);
        return x.defined() ? x.unsqueeze(0) : x;
      };
      const Rows rows{row("q"), row("k"), row("v"), row("q.plain"), row("k.plain")};
      ParameterMap parameters;
      for (const auto& [name, view] : file.tensors()) {
        if (name.rfind("parameter.", 0) == 0) parameters[name.substr(10)] = load(name);
      }
      const at::Tensor o =
          parallel(rows, Documents({}, 1, rows.q.size(2), at::kCPU), parameters, config, nullptr);
      EXPECT_LT(relative_error(o[0].transpose(0, 1), load("o")), type == at::kDouble ? 1e-10 : 1e-5)
          << path.filename() << " in " << type;
    }
  }
}

TEST(TrainingForms, EqualTheRuntimesPrefillAtOddLengths) {
  for (const std::string& json : test_configs()) {
    const AttentionConfig config = config_of(json);
    const int64_t c = config.group;
    for (const int64_t n : {int64_t{1}, c - 1, c, c + 1, 3 * c + 1, 3 * c + 7, 9 * c + 2}) {
      if (n < 1) continue;
      const Sample sample(config, kShape, 2, n, 17);
      EXPECT_LT(relative_error(sample.run(), runtime_prefill<double>(sample)), 1e-10)
          << json << " at length " << n;
      const Sample single(config, kShape, 2, n, 17, at::kFloat);
      EXPECT_LT(relative_error(single.run(), runtime_prefill<float>(single)), 1e-5)
          << json << " at length " << n;
    }
  }
}

TEST(TrainingForms, AreFiniteWhateverTheSizeOfQueriesAndKeys) {
  for (const std::string& json : test_configs()) {
    for (const double size : {100.0, 1e6}) {
      Sample sample(config_of(json), kShape, 1, 50, 23, at::kFloat);
      for (at::Tensor* x : each_of(sample.rows)) {
        if (x != &sample.rows.v) x->mul_(size);
      }
      EXPECT_TRUE(sample.run().isfinite().all().item<bool>()) << json << " of size " << size;
    }
  }
}

TEST(TrainingForms, StayNearFloat64InBfloat16) {
  for (const std::string& json : test_configs()) {
    Sample sample(config_of(json), kShape, 2, 50, 23, at::kBFloat16);
    const at::Tensor half = sample.run();
    EXPECT_EQ(half.scalar_type(), at::kBFloat16);
    for (at::Tensor* x :
         {&sample.rows.q, &sample.rows.k, &sample.rows.v, &sample.rows.summary_q, &sample.rows.summary_k}) {
      if (x->defined()) *x = x->to(at::kDouble);
    }
    for (auto& [name, x] : sample.parameters) x = x.to(at::kDouble);
    EXPECT_LT(relative_error(half, sample.run()), 2e-2) << json;
  }
}

TEST(TrainingForms, TurnSinksPastTheTrainedPositionsAsTheRuntimeDoes) {
  const Rotation sinks{{1.0, 0.3, 0.09, 0.027}, 9};
  for (const std::string& json : test_configs()) {
    for (const int64_t n : {10, 31}) {
      Sample sample(config_of(json), kShape, 2, n, 29);
      sample.turn_keys(sinks);
      EXPECT_LT(relative_error(sample.run({}, &sinks), runtime_prefill<double>(sample, &sinks)), 1e-10)
          << json << " at length " << n;
    }
  }
}

/// Rows of documents: starts of each in a row of n tokens.
at::Tensor documents_of(const std::vector<std::vector<int64_t>>& starts, int64_t n) {
  at::Tensor documents = at::zeros({static_cast<int64_t>(starts.size()), n}, at::kInt);
  for (size_t row = 0; row < starts.size(); ++row) {
    for (const int64_t start : starts[row])
      documents[static_cast<int64_t>(row)].narrow(0, start, n - start).add_(1);
  }
  return documents;
}

void check_packed(const std::vector<std::vector<int64_t>>& starts) {
  const int64_t n = 41;
  const Rotation sinks{{1.0, 0.3}, 9};
  for (const std::string& json : test_configs()) {
    const Sample sample(config_of(json), kShape, static_cast<int64_t>(starts.size()), n, 31);
    const at::Tensor packed = sample.run(documents_of(starts, n), &sinks);
    for (size_t row = 0; row < starts.size(); ++row) {
      for (size_t i = 0; i < starts[row].size(); ++i) {
        const int64_t first = starts[row][i], last = i + 1 < starts[row].size() ? starts[row][i + 1] : n;
        Sample alone = sample;
        for (at::Tensor* x :
             {&alone.rows.q, &alone.rows.k, &alone.rows.v, &alone.rows.summary_q, &alone.rows.summary_k}) {
          if (x->defined()) *x = x->narrow(0, static_cast<int64_t>(row), 1).narrow(2, first, last - first);
        }
        const at::Tensor part = packed.narrow(0, static_cast<int64_t>(row), 1).narrow(1, first, last - first);
        EXPECT_LT(relative_error(part, alone.run({}, &sinks)), 1e-10)
            << json << ", row " << row << ", document " << i;
      }
    }
  }
}

TEST(TrainingForms, GivePackedDocumentsWhatEachGetsAlone) {
  check_packed({{0, 1, 9, 30}, {0, 20}, {0}});
  check_packed({{0, 17}});
}

/// Σ_{j ≥ 1} w_{−j} ⊙ v_{t+j} within [first, last), by its definition: [1, n, H, e].
at::Tensor values_ahead(const Sample& sample, int64_t first, int64_t last) {
  const at::Tensor v = sample.rows.v.repeat_interleave(sample.shape.heads / sample.shape.kv_heads, 1);
  const at::Tensor w = sample.parameters.at("future_taps");  // [H, F, e]
  at::Tensor sum = at::zeros_like(v);
  for (int64_t t = first; t < last; ++t)
    for (int64_t j = 1; j <= w.size(1) && t + j < last; ++j)
      sum.select(2, t) += w.select(1, j - 1) * v.select(2, t + j);
  return sum.transpose(1, 2);
}

TEST(TrainingForms, AddTheValuesAheadOfTheOwnDocumentWhereTheyLookAhead) {
  const std::vector<std::pair<int64_t, int64_t>> parts = {{0, 1}, {1, 9}, {9, 14}, {14, 23}};
  const at::Tensor documents = documents_of({{0, 1, 9, 14}}, 23);
  for (const std::string& json : test_configs()) {
    const AttentionConfig config = config_of(json);
    if (config.grows()) continue;
    for (const int future : {1, 2, 6, 40}) {
      const Sample ahead(looking_ahead(config, future), {4, 2, 8, 6}, 1, 23, 43);
      Sample sound = ahead;
      sound.config.future_taps = 0;
      EXPECT_LT(relative_error(ahead.run(), sound.run() + values_ahead(ahead, 0, 23)), 1e-12) << json;
      at::Tensor packed = sound.run(documents);
      for (const auto& [first, last] : parts) packed = packed + values_ahead(ahead, first, last);
      EXPECT_LT(relative_error(ahead.run(documents), packed), 1e-12) << json << ", packed, " << future;
    }
  }
}

TEST(TrainingForms, LookAheadByNoKeyOfAConfig) {
  EXPECT_THROW(config_of(R"({"method": "elu1", "future_taps": 1})"), Error);
  const std::vector<AttentionConfig> layers(2, looking_ahead(config_of(R"({"method": "elu1"})"), 2));
  EXPECT_EQ(to_json(layers).dump().find("future"), std::string::npos);
}

TEST(TrainingForms, GiveLaterTokensNoGradient) {
  for (const std::string& json : test_configs()) {
    Sample sample(config_of(json), {4, 2, 8, 6}, 1, 23, 37);
    std::vector<at::Tensor> inputs;
    for (at::Tensor* x :
         {&sample.rows.q, &sample.rows.k, &sample.rows.v, &sample.rows.summary_q, &sample.rows.summary_k}) {
      if (x->defined()) inputs.push_back(x->set_requires_grad(true));
    }
    const at::Tensor out = sample.run();
    for (const int64_t t : {0, 3, 4, 11, 21}) {
      const auto gradients = torch::autograd::grad({out.select(1, t).sum()}, inputs, {}, true, false, true);
      for (const at::Tensor& g : gradients) {
        if (!g.defined()) continue;
        EXPECT_EQ(g.narrow(2, t + 1, 22 - t).abs().max().item<double>(), 0.0) << json << " at " << t;
      }
    }
  }
}

TEST(PartOf, IsNarrowAndItsGradient) {
  const at::Tensor x = at::randn({3, 7, 2}, at::kDouble).set_requires_grad(true);
  for (const auto& [first, count] : {std::pair<int64_t, int64_t>(0, 7), {0, 4}, {2, 3}, {5, 2}, {1, 0}}) {
    const at::Tensor part = part_of(x, 1, first, count), expected = x.narrow(1, first, count);
    EXPECT_TRUE(part.equal(expected));
    const at::Tensor weight = at::randn_like(expected);
    EXPECT_TRUE(torch::autograd::grad({part}, {x}, {weight})[0].equal(
        torch::autograd::grad({expected}, {x}, {weight})[0]));
  }
  EXPECT_TRUE(part_of(x, 1, 0, 7).is_same(x));
}

}  // namespace
}  // namespace linnet::train
