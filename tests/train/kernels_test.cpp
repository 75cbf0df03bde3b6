// Our kernels against the operators that they stand for, on a CUDA device where there is one; and, anywhere,
// the fused form of a layer against the general one.
#include "train/kernels.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "tests/train/random_rows.h"
#include "train/attention/fused.h"
#include "train/attention/local.h"
#include "train/loss.h"

namespace linnet::train {
namespace {

const char* const kFused[] = {
    R"({"method": "hedgehog", "local": "softmax", "group": 4, "local_groups": 2, "sinks": 2, "gate": true,
        "decay": "learned"})",
    R"({"method": "relu", "local": "softmax", "group": 4, "local_groups": 1, "sinks": 4})",
    R"({"method": "elu1", "local": "relu2", "group": 4, "local_groups": 3, "decay": 0.5, "gate": true})",
};

/// A layer by fused_mix, whatever the device.
at::Tensor fused(const Sample& sample, const Documents& documents) {
  const GroupLayout& layout = documents.groups(sample.config.group);
  const SummaryPass pass{layout, sample.parameters, sample.config};
  const at::Tensor q = to_groups(sample.rows.q, layout), k = to_groups(sample.rows.k, layout),
                   v = to_groups(sample.rows.v, layout);
  const SummaryRows rows{q, k, v};
  EXPECT_TRUE(is_fused(rows, pass));
  const LocalOutput local =
      local_branch({share_heads(q, k.size(0)), k, v}, layout, sample.config, nullptr, {}, false);
  return fused_mix(local.numerator, rows, pass, sample.rows.q.size(2));
}

at::Tensor packed_documents(int64_t rows, int64_t n) {
  at::Tensor documents = at::zeros({rows, n}, at::kInt);
  for (int64_t row = 0; row < rows; ++row) {
    documents.select(0, row).narrow(0, n / 3 + row, n - n / 3 - row).add_(1);
    documents.select(0, row).narrow(0, n - 2, 2).add_(1);
  }
  return documents;
}

TEST(Kernels, TheFusedFormIsTheGeneralOneWithItsGradients) {
  for (const char* json : kFused) {
    for (const bool packed : {false, true}) {
      for (const int64_t n : {int64_t{32}, int64_t{43}}) {
        Sample sample(config_of(json), {4, 2, 6, 6}, 2, n, 11);
        const Documents documents(packed ? packed_documents(2, n) : at::Tensor(), 2, n, at::kCPU);
        Tensors leaves;
        for (at::Tensor* x : each_of(sample.rows)) leaves.push_back(x->set_requires_grad(true));
        for (auto& [name, x] : sample.parameters) leaves.push_back(x.set_requires_grad(true));
        const at::Tensor expected =
            parallel(sample.rows, documents, sample.parameters, sample.config, nullptr);
        const at::Tensor own = fused(sample, documents);
        EXPECT_LT(relative_error(own, expected), 1e-12) << json << " at " << n;
        const at::Tensor weight = at::cos(at::arange(own.numel(), at::kDouble)).view(own.sizes());
        const auto gradients = [&](const at::Tensor& out) {
          return torch::autograd::grad({(out * weight).sum()}, leaves, {}, false, false, true);
        };
        const Tensors of_own = gradients(own), of_expected = gradients(expected);
        for (size_t i = 0; i < leaves.size(); ++i) {
          EXPECT_EQ(of_own[i].defined(), of_expected[i].defined()) << json << ", input " << i;
          if (!of_expected[i].defined()) continue;
          EXPECT_LT(relative_error(of_own[i], of_expected[i]), 1e-10) << json << ", input " << i;
        }
      }
    }
  }
}

#define LINNET_NEEDS_KERNELS()                                                               \
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";                                      \
  const at::Device device(at::kCUDA, 0);                                                     \
  if (!has_kernels(at::zeros({1}, at::TensorOptions().device(device).dtype(at::kBFloat16)))) \
  GTEST_SKIP() << "a build without CUDA kernels"

/// Numbers that bfloat16 holds, so that both sides start from the same.
at::Tensor draw(std::vector<int64_t> shape, at::Generator& generator) {
  return random_tensor(std::move(shape), generator, at::kBFloat16).to(at::kDouble);
}

/// What `f` gives of inputs, and their gradients where it has any: on the device in bfloat16 (those of `wide`
/// in float32), against the same on the CPU in float64.
void expect_equal(const std::function<at::Tensor(const Tensors&)>& f, const Tensors& inputs,
                  const std::vector<size_t>& wide, const std::string& what, double most = 2e-2) {
  const at::Device device(at::kCUDA, 0);
  Tensors own, plain;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool is_wide = std::find(wide.begin(), wide.end(), i) != wide.end();
    own.push_back(inputs[i].to(device, is_wide ? at::kFloat : at::kBFloat16).set_requires_grad(true));
    plain.push_back(inputs[i].clone().set_requires_grad(true));
  }
  const at::Tensor a = f(own), b = f(plain);
  EXPECT_LT(relative_error(a.cpu(), b), most) << what;
  const at::Tensor weight = at::cos(at::arange(b.numel(), at::kDouble)).view(b.sizes());
  const Tensors da =
      torch::autograd::grad({a}, own, {weight.to(device, a.scalar_type())}, false, false, true);
  const Tensors db = torch::autograd::grad({b}, plain, {weight}, false, false, true);
  for (size_t i = 0; i < inputs.size(); ++i) {
    ASSERT_EQ(da[i].defined(), db[i].defined()) << what << ", input " << i;
    if (!db[i].defined()) continue;
    EXPECT_LT(relative_error(da[i].cpu(), db[i]), most) << what << ", input " << i;
  }
}

TEST(Kernels, ALayerOnADeviceEqualsFloat64OnTheCpu) {
  LINNET_NEEDS_KERNELS();
  const char* const configs[] = {
      R"({"method": "hedgehog", "local": "softmax", "group": 64, "local_groups": 2, "sinks": 4, "gate": true,
          "decay": "learned"})",
      R"({"method": "relu", "local": "softmax", "group": 64, "local_groups": 1, "sinks": 11})",
      R"({"method": "hedgehog", "local": "softmax", "group": 64, "local_groups": 3, "decay": 0.5,
          "taps": 2})",
  };
  for (const char* json : configs) {
    for (const bool packed : {false, true}) {
      for (const int64_t n : {int64_t{320}, int64_t{349}}) {
        const Sample sample(config_of(json), {4, 2, 64, 64}, 2, n, 13);
        const at::Tensor documents = packed ? packed_documents(2, n) : at::Tensor();
        Tensors inputs;
        for (const at::Tensor* x : {&sample.rows.q, &sample.rows.k, &sample.rows.v})
          inputs.push_back(x->to(at::kBFloat16).to(at::kDouble));
        std::vector<size_t> wide;
        std::vector<std::string> names;
        for (const auto& [name, x] : sample.parameters) {
          wide.push_back(inputs.size());
          names.push_back(name);
          inputs.push_back(name.find("weight") != std::string::npos ? x / 4.0 : x);
        }
        const auto layer = [&](const Tensors& in) {
          ParameterMap parameters;
          for (size_t i = 0; i < names.size(); ++i) parameters[names[i]] = in[3 + i];
          return parallel({in[0], in[1], in[2], {}, {}}, Documents(documents, 2, n, in[0].device()),
                          parameters, sample.config, nullptr);
        };
        expect_equal(layer, inputs, wide,
                     json + std::string(packed ? ", packed, " : ", ") + std::to_string(n), 3e-2);
      }
    }
  }
}

TEST(Kernels, WindowsOnADeviceEqualFloat64OnTheCpu) {
  LINNET_NEEDS_KERNELS();
  auto generator = at::detail::createCPUGenerator(3);
  for (const bool packed : {false, true}) {
    for (const int sinks : {0, 4, 16}) {
      const int64_t n = 64 * 5 + 9;
      const Documents cpu(packed ? packed_documents(2, n) : at::Tensor(), 2, n, at::kCPU);
      const Documents gpu(packed ? packed_documents(2, n) : at::Tensor(), 2, n, device);
      const AttentionConfig config =
          config_of(R"({"method": "relu", "local": "softmax", "group": 64, "local_groups": 2, "sinks": )" +
                    std::to_string(sinks) + "}");
      const auto branch = [&](const Tensors& in) {
        const GroupLayout& layout = (in[0].is_cuda() ? gpu : cpu).groups(64);
        const at::Tensor q = to_groups(in[0], layout), k = to_groups(in[1], layout),
                         v = to_groups(in[2], layout);
        const LocalOutput out = local_branch({share_heads(q, 2), k, v}, layout, config, nullptr, {}, false);
        return from_groups(
            out.numerator.unflatten(3, {2, 64}).permute({0, 3, 1, 2, 4, 5}).reshape({4, 2, -1, 64}), layout,
            n);
      };
      expect_equal(
          branch,
          {draw({2, 4, n, 64}, generator), draw({2, 2, n, 64}, generator), draw({2, 2, n, 64}, generator)},
          {}, "sinks " + std::to_string(sinks) + (packed ? ", packed" : ""));
    }
  }
}

TEST(Kernels, ScansOnADeviceEqualFloat64OnTheCpu) {
  LINNET_NEEDS_KERNELS();
  auto generator = at::detail::createCPUGenerator(5);
  for (const bool packed : {false, true}) {
    for (const int lag : {1, 3}) {
      const int64_t n = 4 * 21;
      const Documents cpu(packed ? packed_documents(2, n) : at::Tensor(), 2, n, at::kCPU);
      const Documents gpu(packed ? packed_documents(2, n) : at::Tensor(), 2, n, device);
      const auto scanned = [&](const Tensors& in) {
        const GroupLayout& layout = (in[0].is_cuda() ? gpu : cpu).groups(4);
        const at::Tensor x = in[0].narrow(2, 0, layout.groups), log_decay = at::log_sigmoid(in[1]);
        if (x.is_cuda()) return scan_kernel(x, layout, lag, log_decay);
        const int64_t groups = layout.groups;
        const at::Tensor sums = scan_groups(x.narrow(2, 0, groups - lag), layout, log_decay);
        const at::Tensor seen = at::constant_pad_nd(sums, {0, 0, lag, 0});
        return seen.masked_fill((layout.number < lag).unsqueeze(0).unsqueeze(-1), 0.0);
      };
      expect_equal(scanned, {draw({3, 2, 24, 310}, generator), draw({3}, generator)}, {1},
                   "lag " + std::to_string(lag) + (packed ? ", packed" : ""));
    }
  }
}

TEST(Kernels, HeadsOnADeviceEqualFloat64OnTheCpu) {
  LINNET_NEEDS_KERNELS();
  auto generator = at::detail::createCPUGenerator(7);
  const at::Tensor angle = draw({1, 11, 8}, generator);
  for (const int turned : {0, 1}) {
    for (const bool plain : {false, true}) {
      for (const bool first : {false, true}) {
        const auto split = [&](const Tensors& in) {
          const auto options =
              at::TensorOptions().device(in[0].device()).dtype(sum_type(in[0].scalar_type()));
          const RotaryTable table{angle.cos().to(options), angle.sin().to(options)};
          const Rows r = split_heads(in[0], 4, 2, turned ? &table : nullptr, plain, first);
          return plain ? at::cat({r.q, r.k, r.v, r.summary_q, r.summary_k}, 1) : at::cat({r.q, r.k, r.v}, 1);
        };
        expect_equal(split, {draw({2, 11, 8 * 24}, generator)}, {}, "split_heads");
      }
    }
  }
}

TEST(Kernels, LossesOnADeviceEqualFloat64OnTheCpu) {
  LINNET_NEEDS_KERNELS();
  auto generator = at::detail::createCPUGenerator(9);
  const int64_t rows = 70, vocabulary = 520, size = 32;
  const at::Tensor hidden = draw({rows, size}, generator), head = draw({vocabulary, size}, generator),
                   teacher = draw({rows, size}, generator),
                   weights = at::rand({rows}, generator, at::kDouble);
  const at::Tensor targets = at::randint(vocabulary, {rows}, generator, at::kLong);
  const auto like = [](const at::Tensor& x, const at::Tensor& of) {
    return x.is_floating_point() ? x.to(of.device(), of.scalar_type()) : x.to(of.device());
  };
  const auto sums = [](const at::Tensor& x, const at::Tensor& of) {
    return x.to(of.device(), sum_type(of.scalar_type()));
  };
  expect_equal(
      [&](const Tensors& in) {
        return cross_entropy(in[0], in[1], like(targets, in[0]), sums(weights, in[0]), 32);
      },
      {hidden, head}, {}, "cross_entropy");
  expect_equal(
      [&](const Tensors& in) {
        return kl_divergence(in[0], in[1], like(teacher, in[0]), in[1], sums(weights, in[0]), 32);
      },
      {hidden, head}, {}, "kl_divergence");
}

}  // namespace
}  // namespace linnet::train
