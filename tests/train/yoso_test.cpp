// Section G′ of the mathematics' tests: yoso's sampled tables against the exact kernel, and its estimated
// gradients against the estimator evaluated over all pairs of tokens.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <numbers>

#include "tests/train/random_rows.h"
#include "train/ops.h"

namespace linnet::train {
namespace {

/// The share of tables in which queries and keys collide, for pairs that a query sees: q, k [n, d], planes
/// [m, bits, d] -> [n, n].
at::Tensor collisions(const at::Tensor& q, const at::Tensor& k, const at::Tensor& planes,
                      const at::Tensor& seen) {
  const auto sides = [&](const at::Tensor& x) {
    return at::matmul(planes, x.t()).gt(0).permute({2, 0, 1});  // [n, m, bits]
  };
  const at::Tensor same = sides(q).unsqueeze(1).eq(sides(k).unsqueeze(0)).all(-1);
  return same.to(at::kDouble).mean(-1) * seen;
}

/// o and the gradients of weight·o at q, k and v, of one head over all pairs of tokens.
struct ByPairs {
  at::Tensor o, dq, dk, dv;

  ByPairs(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& planes,
          const at::Tensor& seen, const at::Tensor& weight) {
    const double bits = static_cast<double>(planes.size(1));
    const at::Tensor w = collisions(q, k, planes, seen);
    const at::Tensor y = at::matmul(w, v);
    o = unit(y);
    const at::Tensor g = back(y, weight);
    const at::Tensor pairs = w * at::matmul(g, v.t()) * (bits / 2);
    dv = at::matmul(w.t(), g);
    dq = back(q, at::matmul(pairs, unit(k)));
    dk = back(k, at::matmul(pairs.t(), unit(q)));
  }

  /// The gradient at x of one at x / ‖x‖.
  static at::Tensor back(const at::Tensor& x, const at::Tensor& g) {
    const at::Tensor length = x.norm(2, at::IntArrayRef{-1}, true).clamp_min(1e-6), u = x / length;
    return (g - u * (u * g).sum(-1, true)) / length;
  }
};

void check(const std::string& json, const at::Tensor& documents, const at::Tensor& seen) {
  const int64_t n = seen.size(0);
  Sample sample(config_of(json), {4, 2, 5, 11}, 1, n, 43);  // values in more than one block
  Tensors inputs = {sample.rows.q, sample.rows.k, sample.rows.v};
  for (at::Tensor& x : inputs) x = x.detach().clone().set_requires_grad(true);
  sample.rows = {inputs[0], inputs[1], inputs[2], {}, {}};
  const at::Tensor out = sample.run(documents)[0].transpose(0, 1);  // [H, n, e]
  const at::Tensor weight = at::randn(out.sizes(), at::detail::createCPUGenerator(5), at::kDouble);
  const Tensors actual = torch::autograd::grad({(out * weight).sum()}, inputs);
  at::NoGradGuard off;
  at::Tensor dk = at::zeros_like(inputs[1]), dv = at::zeros_like(inputs[2]);
  for (int64_t h = 0; h < 4; ++h) {
    const int64_t g = h / 2;
    const ByPairs expected(inputs[0][0][h], inputs[1][0][g], inputs[2][0][g], sample.parameters["planes"][g],
                           seen, weight[h]);
    EXPECT_LT(relative_error(out[h], expected.o), 1e-12) << json;
    EXPECT_LT(relative_error(actual[0][0][h], expected.dq), 1e-10) << json;
    dk[0][g] += expected.dk;
    dv[0][g] += expected.dv;
  }
  EXPECT_LT(relative_error(actual[1], dk), 1e-10) << json;
  EXPECT_LT(relative_error(actual[2], dv), 1e-10) << json;
}

TEST(YosoGradients, AreTheEstimatorsOverAllPairs) {
  const int64_t n = 75;  // 19 groups: more than the chunks of 16 that they go in
  const at::Tensor all = at::ones({n, n}, at::kDouble).tril();
  check(R"({"method": "yoso", "group": 4, "tables": 6, "bits": 2})", {}, all);
  check(R"({"method": "yoso", "group": 4, "tables": 3, "bits": 1})", {}, all);
  const int64_t longer = 300;  // chunks of 256 tokens, of which a row of a table has more than one block
  check(R"({"method": "yoso", "group": 16, "tables": 2, "bits": 1})", {},
        at::ones({longer, longer}, at::kDouble).tril());
  at::Tensor documents = at::zeros({1, n}, at::kInt), packed = all.clone();
  for (const int64_t start : {5, 6, 16, 35, 66}) {
    documents.narrow(1, start, n - start).add_(1);
    packed.narrow(0, start, n - start).narrow(1, 0, start).zero_();
  }
  check(R"({"method": "yoso", "group": 4, "tables": 6, "bits": 2})", documents, packed);
}

TEST(YosoGradients, BesideALocalBranchAreOfTheGroupsBefore) {
  // α at 0 leaves the summary alone wherever it sees anything: queries of the first groups have no gradient.
  const int64_t n = 75, c = 4;
  const at::Tensor group = at::arange(n, at::kLong).div(c, "floor");
  for (const int w : {1, 2}) {
    at::Tensor seen = (group.unsqueeze(-1) - group >= w).to(at::kDouble);
    seen.narrow(1, 0, 3).zero_();  // sinks
    Sample sample(config_of(R"({"method": "yoso", "group": 4, "tables": 6, "bits": 2, "local": "yoso",
                                "alpha": 0, "sinks": 3, "local_groups": )" +
                            std::to_string(w) + "}"),
                  {2, 2, 5, 9}, 1, n, 47);
    Tensors inputs = {sample.rows.q, sample.rows.k, sample.rows.v};
    for (at::Tensor& x : inputs) x = x.detach().clone().set_requires_grad(true);
    sample.rows = {inputs[0], inputs[1], inputs[2], {}, {}};
    const at::Tensor out = sample.run()[0].transpose(0, 1);
    at::Tensor weight = at::randn(out.sizes(), at::detail::createCPUGenerator(5), at::kDouble);
    weight.narrow(1, 0, (w + 1) * c).zero_();  // from there on every query sees a token
    const Tensors actual = torch::autograd::grad({(out * weight).sum()}, inputs);
    at::NoGradGuard off;
    for (int64_t h = 0; h < 2; ++h) {
      const ByPairs expected(inputs[0][0][h], inputs[1][0][h], inputs[2][0][h],
                             sample.parameters["planes"][h], seen, weight[h]);
      EXPECT_LT(relative_error(actual[0][0][h], expected.dq), 1e-10) << w;
      EXPECT_LT(relative_error(actual[1][0][h], expected.dk), 1e-10) << w;
      EXPECT_LT(relative_error(actual[2][0][h], expected.dv), 1e-10) << w;
    }
  }
}

// Query 2 collides with key 0, itself, in every table, with key 2, its opposite, in none, and with key 1 in a
// share of them: o = (1, share) / length. A mean of m samples of chance p is off by √(p(1 − p)/m); 4.5 times
// that is 1 in 150,000.
TEST(YosoKernel, OfTenThousandTablesIsTheExactKernel) {
  constexpr int64_t kDraws = 40, kTables = 250;
  for (const int bits : {1, 3, 5}) {
    Sample sample(
        config_of(R"({"method": "yoso", "group": 4, "tables": 250, "bits": )" + std::to_string(bits) + "}"),
        {1, 1, 8, 2}, 1, 3, 7);
    const at::Tensor q = sample.rows.q[0][0][2], other = sample.rows.q[0][0][0].clone();
    sample.rows.v[0][0] = at::eye(3, at::kDouble).narrow(1, 0, 2);
    auto generator = at::detail::createCPUGenerator(7);
    for (const double part : {0.2, 0.5, 0.8, 1.0}) {
      const at::Tensor key = other * part + q * (1 - part);
      sample.rows.k[0][0] = at::stack({q, key, -q});
      double share = 0;
      for (int64_t draw = 0; draw < kDraws; ++draw) {
        sample.parameters["planes"] = random_tensor({1, kTables, bits, 8}, generator);
        const at::Tensor o = sample.run()[0][2][0];
        share += (o[1] / o[0]).item<double>() / kDraws;
      }
      const double cosine = (unit(q) * unit(key)).sum().item<double>();
      const double exact = std::pow(1 - std::acos(cosine) / std::numbers::pi, bits);
      EXPECT_NEAR(share, exact, 4.5 * std::sqrt(exact * (1 - exact) / (kDraws * kTables)))
          << bits << " bits, cosine " << cosine;
    }
  }
}

}  // namespace
}  // namespace linnet::train
