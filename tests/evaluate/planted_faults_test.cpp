// Each fault of mathematics.md section 5 planted in the attention of a whole model, and what `linnet check`
// says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "attention/features.h"
#include "attention/method.h"
#include "base/thread_pool.h"
#include "evaluate/check.h"
#include "tests/attention/faults.h"
#include "tests/model/random_model.h"

namespace linnet {
namespace {

using testing::Contains;
using testing::IsEmpty;

constexpr int kGroup = 8;

/// What remains broken of the checks of a random model whose attentions `make` makes.
std::vector<std::string> broken(const nlohmann::json& attention, const MakeAttention<float>& make) {
  RandomModel spec;
  spec.attention = attention;
  const TemporaryModel model(spec);
  ThreadPool pool(1);
  const auto decoder =
      Decoder::make(model.get(), {.slots = 2, .max_nodes = CheckSubject::kNodes + 1}, pool, make);
  std::vector<std::string> names;
  for (const CheckResult& result : check_decoder({decoder.get(), spec.vocabulary, 61, kGroup, 0, 1e-5, 3})) {
    if (!result.holds()) names.push_back(result.name);
  }
  return names;
}

const nlohmann::json kAugmented = {{"method", "relu"}, {"group", kGroup}, {"local", "softmax"}, {"taps", 3}};

/// The sound attention with `plant` around it. The runtime's own layer is made beside it, for faults that
/// reach inside.
template <class Plant>
MakeAttention<float> around(const Plant& plant) {
  return [plant](const AttentionConfig& config, const AttentionShape& shape, const ParameterTensors& tensors,
                 const Rotation* sinks, const std::string& where) {
    Parameters<float> parameters;
    for (const auto& [name, tensor] : tensors) parameters[name] = to_numbers<float>(tensor, name);
    return std::unique_ptr<Attention<float>>(
        plant(make_attention<float>(config, shape, tensors, sinks, where),
              std::make_unique<LinearLayer<float>>(config, shape, parameters, sinks)));
  };
}

TEST(PlantedInAModel, NothingIsFoundWithoutAFault) {
  for (const nlohmann::json& attention :
       {kAugmented, nlohmann::json{{"method", "performer"}, {"group", kGroup}, {"features", 8}},
        nlohmann::json{{"method", "linformer"}, {"group", kGroup}, {"slots", 5}}}) {
    EXPECT_THAT(broken(attention, make_attention<float>), IsEmpty()) << attention;
    EXPECT_THAT(broken(attention, around([](auto sound, auto) {
                         return std::make_unique<PassedOn<float>>(std::move(sound));
                       })),
                IsEmpty())
        << attention;
  }
}

TEST(PlantedInAModel, AFutureTapIsFound) {
  EXPECT_THAT(broken(kAugmented, around([](auto sound, auto) {
                       return std::make_unique<NextValue<float>>(std::move(sound));
                     })),
              Contains("causality"));
}

TEST(PlantedInAModel, AFormThatRoundsKeysAndValuesBesideOneThatDoesNotIsFound) {
  const MakeAttention<float> make = [](const AttentionConfig& config, const AttentionShape& shape,
                                       const ParameterTensors& tensors, const Rotation* rotation,
                                       const std::string& where) -> std::unique_ptr<Attention<float>> {
    return std::make_unique<RoundsInPrefill<float>>(
        make_attention<float>(config, shape, tensors, rotation, where), shape);
  };
  EXPECT_THAT(broken(kAugmented, make), Contains("forms"));
  EXPECT_THAT(broken({{"method", "softmax"}, {"window", 16}}, make), Contains("forms"));
}

TEST(PlantedInAModel, AGroupBoundaryOffByOneIsFound) {
  EXPECT_THAT(broken(kAugmented, around([](auto sound, auto layer) {
                       return std::make_unique<BoundaryOffByOne<float>>(std::move(sound), std::move(layer));
                     })),
              Contains("forms"));
}

TEST(PlantedInAModel, TheRootsGroupUsedForEveryNodeIsFound) {
  std::vector<std::shared_ptr<LinearLayer<float>>> layers;
  EXPECT_THAT(broken(kAugmented, around([&layers](auto sound, auto layer) {
                       layers.push_back(std::move(layer));
                       return std::make_unique<RootsGroup<float>>(std::move(sound), *layers.back());
                     })),
              Contains("trees"));
}

TEST(PlantedInAModel, SlotsOfTheWholeSequenceWithMaskedScoresAreFound) {
  const MakeAttention<float> make = [](const AttentionConfig& config, const AttentionShape& shape,
                                       const ParameterTensors& tensors, const Rotation* sinks,
                                       const std::string& where) -> std::unique_ptr<Attention<float>> {
    return std::make_unique<MaskedSlots<float>>(make_attention<float>(config, shape, tensors, sinks, where),
                                                config, shape, to_numbers<float>(tensors.at("E"), "E"),
                                                to_numbers<float>(tensors.at("F"), "F"));
  };
  EXPECT_THAT(broken({{"method", "linformer"}, {"group", kGroup}, {"slots", 5}}, make),
              Contains("causality"));
}

TEST(PlantedInAModel, AStateThatGrowsIsFound) {
  EXPECT_THAT(broken(kAugmented, around([](auto sound, auto) {
                       return std::make_unique<Growing<float>>(std::move(sound), false);
                     })),
              Contains("state"));
}

/// Performer's features, whose keys all carry the largest exponent of those that it is given together: the
/// maximum over the whole sequence that the encoder's version subtracts.
class WholeMaximum final : public FeatureMap<float> {
 public:
  WholeMaximum(const AttentionShape& shape, const std::vector<float>& projection)
      : size_(shape.head_size),
        repeat_(shape.heads / shape.kv_heads),
        features_(static_cast<int64_t>(projection.size()) / shape.kv_heads / size_),
        projection_(projection) {}
  int64_t features() const override { return features_; }
  bool scaled() const override { return true; }
  void queries(int64_t head, int64_t count, const float* x, int64_t x_row, float* phi,
               float* exponents) const override {
    const int64_t row = kernels::padded(features_);
    std::fill_n(phi, count * row, 0.0f);
    for (int64_t r = 0; r < count; ++r) {
      exponents[r] = 0;
      for (int64_t i = 0; i < features_; ++i) {
        phi[r * row + i] = std::exp(exponent(head / repeat_, i, x + r * x_row, 1));
      }
    }
  }
  void keys(int64_t kv_head, int64_t n, const float* x, int64_t x_row, float* phi,
            float* exponents) const override {
    float largest = -INFINITY;
    for (int64_t i = 0; i < features_; ++i) {
      for (int64_t s = 0; s < n; ++s) {
        phi[i * n + s] = exponent(kv_head, i, x + s, x_row);
        largest = std::max(largest, phi[i * n + s]);
      }
    }
    for (int64_t i = 0; i < features_ * n; ++i) phi[i] = std::exp(phi[i] - largest);
    std::fill_n(exponents, n, largest);
  }

 private:
  float exponent(int64_t kv_head, int64_t feature, const float* x, int64_t stride) const {
    const float scale = std::pow(float(size_), -0.25f);
    float sum = 0;
    for (int64_t j = 0; j < size_; ++j) {
      const float y = x[j * stride] * scale;
      sum += projection_[(kv_head * features_ + feature) * size_ + j] * y - 0.5f * y * y;
    }
    return sum;
  }

  int64_t size_, repeat_, features_;
  std::vector<float> projection_;
};

TEST(PlantedInAModel, TheMaximumOfTheWholeSequenceIsFound) {
  static Method method = find_method("performer", "test");
  method.make_float = [](const AttentionConfig& config, const AttentionShape& shape,
                         const Parameters<float>& parameters) {
    return make_features<float>(std::make_unique<WholeMaximum>(shape, parameters.find("projection")->second),
                                config, shape, parameters);
  };
  const MakeAttention<float> make = [](const AttentionConfig& config, const AttentionShape& shape,
                                       const ParameterTensors& tensors, const Rotation* sinks,
                                       const std::string& where) {
    AttentionConfig faulty = config;
    faulty.method = &method;
    return make_attention<float>(faulty, shape, tensors, sinks, where);
  };
  EXPECT_THAT(broken({{"method", "performer"}, {"group", kGroup}, {"features", 8}}, make),
              Contains("causality"));
}

}  // namespace
}  // namespace linnet
