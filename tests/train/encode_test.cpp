// The bidirectional and the cross form of training, over every row of the registry: the runtime's numbers,
// padding that nobody reads, and gradients.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "base/error.h"
#include "tests/train/gradients.h"
#include "tests/train/random_rows.h"
#include "train/attention/encode.h"

namespace linnet::train {
namespace {

constexpr AttentionShape kShape{4, 2, 10, 6};
constexpr int64_t kQueries = 5;

enum class Form { kBidirectional, kCross };
constexpr Form kForms[] = {Form::kBidirectional, Form::kCross};

bool has(Form form, const AttentionConfig& config) {
  return form == Form::kBidirectional || config.grows() || config.has_summary();
}

at::Tensor lengths_of(std::vector<int64_t> lengths) { return at::tensor(lengths, at::kLong); }

/// A decoder reads with the first queries.
Rows for_form(Form form, Rows rows) {
  if (form == Form::kBidirectional) return rows;
  for (at::Tensor* x : {&rows.q, &rows.summary_q})
    if (x->defined()) *x = x->narrow(2, 0, std::min(kQueries, x->size(2)));
  return rows;
}

at::Tensor run(Form form, const Sample& sample, const at::Tensor& lengths) {
  const Rows rows = for_form(form, sample.rows);
  return form == Form::kBidirectional ? bidirectional(rows, lengths, sample.parameters, sample.config)
                                      : cross(rows, lengths, sample.parameters, sample.config);
}

/// The runtime's outputs of each sequence at its own length, 0 behind it: [B, n or m, H, e].
template <class T>
at::Tensor by_runtime(Form form, const Sample& sample, const std::vector<int64_t>& lengths) {
  const RuntimeAttention<T> runtime(sample);
  ThreadPool pool(1);
  const Rows rows = for_form(form, sample.rows);
  at::Tensor out = at::zeros({rows.q.size(0), sample.shape.heads, rows.q.size(2), sample.shape.value_size},
                             c10::CppTypeToScalarType<T>::value);
  for (int64_t b = 0; b < rows.q.size(0); ++b) {
    std::vector<at::Tensor> held;
    auto in = runtime.rows(rows, b, held);
    const at::Tensor to = out.select(0, b);
    const HeadRows<T> outputs{to.data_ptr<T>(), to.stride(0), to.stride(1)};
    in.count = lengths[static_cast<size_t>(b)];
    if (form == Form::kBidirectional) {
      runtime.attention().encode(in, outputs, pool);
      continue;
    }
    const auto memory = runtime.attention().summarize(in, pool);
    in.count = rows.q.size(2);
    runtime.attention().read_memory(*memory, in, outputs, pool);
  }
  return out.transpose(1, 2);
}

TEST(EncodingForms, EqualTheRuntimesAtOddLengthsInABatchWithPadding) {
  for (const std::string& json : test_configs()) {
    const AttentionConfig config = config_of(json);
    const int64_t c = config.group;
    for (const int64_t n : {int64_t{1}, c - 1, c, c + 1, 3 * c + 7, 40 * c + 1}) {
      if (n < 1) continue;
      const std::vector<int64_t> lengths{n, std::min<int64_t>(n, c + 1), n / 2, 0};
      const Sample sample(config, kShape, 4, n, 17), single(config, kShape, 4, n, 17, at::kFloat);
      for (const Form form : kForms) {
        if (!has(form, config)) continue;
        EXPECT_LT(
            relative_error(run(form, sample, lengths_of(lengths)), by_runtime<double>(form, sample, lengths)),
            1e-10)
            << json << " of " << n << " in form " << static_cast<int>(form);
        EXPECT_LT(
            relative_error(run(form, single, lengths_of(lengths)), by_runtime<float>(form, single, lengths)),
            1e-5)
            << json << " of " << n << " in form " << static_cast<int>(form);
      }
    }
  }
}

TEST(EncodingForms, StayNearFloat64InBfloat16) {
  for (const std::string& json : test_configs()) {
    for (const Form form : kForms) {
      Sample sample(config_of(json), kShape, 2, 30, 23, at::kBFloat16);
      if (!has(form, sample.config)) continue;
      const at::Tensor half = run(form, sample, lengths_of({30, 17}));
      EXPECT_EQ(half.scalar_type(), at::kBFloat16);
      for (at::Tensor* x : each_of(sample.rows)) *x = x->to(at::kDouble);
      for (auto& [name, x] : sample.parameters) x = x.to(at::kDouble);
      EXPECT_LT(relative_error(half, run(form, sample, lengths_of({30, 17}))), 2e-2)
          << json << " in form " << static_cast<int>(form);
    }
  }
}

// To the bit, in outputs and gradients, whatever padding holds; its own outputs are 0 and it gets no
// gradient.
TEST(EncodingForms, NothingDependsOnPadding) {
  const std::vector<int64_t> lengths{13, 5, 0};
  for (const std::string& json : test_configs()) {
    for (const Form form : kForms) {
      const Sample sample(config_of(json), kShape, 3, 17, 31);
      if (!has(form, sample.config)) continue;
      const auto outputs_and_gradients = [&](bool spoilt) {
        Sample own = sample;
        Tensors inputs;
        for (at::Tensor* x : each_of(own.rows)) {
          *x = x->clone();
          const bool query = x == &own.rows.q || x == &own.rows.summary_q;
          for (int64_t b = 0; spoilt && b < 3 && !(query && form == Form::kCross); ++b) {
            const int64_t length = lengths[static_cast<size_t>(b)];
            x->select(0, b).narrow(1, length, 17 - length).fill_(std::numeric_limits<double>::quiet_NaN());
          }
          inputs.push_back(x->set_requires_grad(true));
        }
        const at::Tensor out = run(form, own, lengths_of(lengths));
        Tensors all = torch::autograd::grad({out.square().sum()}, inputs, {}, false, false, true);
        all.push_back(out);
        return all;
      };
      const Tensors clean = outputs_and_gradients(false), spoilt = outputs_and_gradients(true);
      for (size_t i = 0; i < clean.size(); ++i) {
        if (!clean[i].defined()) continue;
        EXPECT_TRUE(at::equal(clean[i], spoilt[i]))
            << json << " in form " << static_cast<int>(form) << ", " << i;
      }
      EXPECT_EQ(clean[2].select(0, 1).narrow(1, 5, 12).abs().max().item<double>(), 0.0) << json;  // of v
      if (form == Form::kBidirectional) {
        EXPECT_EQ(clean.back().select(0, 1).narrow(0, 5, 12).abs().max().item<double>(), 0.0) << json;
      }
    }
  }
}

TEST(EncodingForms, GradientsAreDifferences) {
  for (const std::string& json : test_configs()) {
    const Sample sample(config_of(json), {4, 2, 4, 3}, 2, 11, 41);
    for (const Form form : kForms) {
      if (!has(form, sample.config)) continue;
      // An estimator's gradients of queries and keys are no differences.
      const bool estimated =
          sample.config.has_summary() && form_of(*sample.config.method).estimated_gradients;
      Tensors inputs;
      std::vector<std::string> names;
      Sample rows = sample;
      for (at::Tensor* x : each_of(rows.rows)) {
        if (estimated && x != &rows.rows.v) continue;
        inputs.push_back(*x);
        names.push_back("rows");
      }
      for (const auto& [name, x] : sample.parameters) {
        inputs.push_back(x);
        names.push_back(name);
      }
      const auto f = [&](const Tensors& in) {
        Sample moved = sample;
        size_t next = 0;
        for (at::Tensor* x : each_of(moved.rows))
          if (!estimated || x == &moved.rows.v) *x = in[next++];
        for (auto& [name, x] : moved.parameters) x = in[next++];
        return run(form, moved, lengths_of({11, 6}));
      };
      check_gradients(f, inputs, names, json);
    }
  }
}

TEST(EncodingForms, AreOfWholeSequencesWhereNoLengthsAreGiven) {
  for (const std::string& json : test_configs()) {
    const Sample sample(config_of(json), kShape, 2, 13, 5);
    for (const Form form : kForms) {
      if (!has(form, sample.config)) continue;
      EXPECT_TRUE(at::equal(run(form, sample, {}), run(form, sample, lengths_of({13, 13})))) << json;
    }
  }
}

template <class F>
std::string error_of(const F& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

TEST(EncodingForms, RefuseWhatTheyCannotDo) {
  for (const std::string& json : test_configs()) {
    const Sample sample(config_of(json), kShape, 2, 3, 5);
    if (has(Form::kCross, sample.config)) continue;
    EXPECT_THAT(error_of([&] { run(Form::kCross, sample, {}); }), testing::HasSubstr("without a summary"))
        << json;
  }
  const Sample sample(config_of(R"({"method": "relu"})"), kShape, 2, 3, 5);
  for (const at::Tensor& lengths : {lengths_of({3}), lengths_of({4, 3}), lengths_of({3, -1}),
                                    at::zeros({2}, at::kInt), at::zeros({2, 1}, at::kLong)}) {
    for (const Form form : kForms) {
      EXPECT_THAT(error_of([&] { run(form, sample, lengths); }), testing::HasSubstr("lengths: "));
    }
  }
}

}  // namespace
}  // namespace linnet::train
