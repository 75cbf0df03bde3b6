// Small models with random weights, written as Hugging Face folders: what the decoder's tests run on.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/model.h"

namespace linnet {

// Attentions with small groups, so that a short sequence crosses many of their ends.
inline const nlohmann::json kGrouped = {
    {"method", "grouped"}, {"group", 8}, {"local_groups", 2}, {"sinks", 3}};
inline const nlohmann::json kHybrid = {{"method", "elu1"},
                                       {"group", 5},
                                       {"local", "softmax"},
                                       {"taps", 3},
                                       {"layers", {{"1", {{"method", "softmax"}}}}}};

struct RandomModel {
  bool gpt2 = false;
  int64_t hidden = 48, layers = 3, heads = 6, kv_heads = 2, head_size = 8, intermediate = 72, vocabulary = 61;
  int64_t positions = 512;
  bool tied = true, biased = false;
  DType type = DType::kF32;  // of every original tensor; new ones are float32
  nlohmann::json attention;  // the `linear_attention` object; null: plain
  uint64_t seed = 1;
  double theta = 10000.0;  // rope_theta
  StateType state = StateType::kComputed;
};

/// Writes config.json and model.safetensors into `folder`, which is made.
void write_random_model(const RandomModel& spec, const std::filesystem::path& folder);

/// Writes it to a temporary folder and opens it; the folder goes when this goes.
class TemporaryModel {
 public:
  explicit TemporaryModel(const RandomModel& spec);
  ~TemporaryModel();
  TemporaryModel(const TemporaryModel&) = delete;
  TemporaryModel& operator=(const TemporaryModel&) = delete;
  const std::shared_ptr<const Model>& get() const { return model_; }
  const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
  std::shared_ptr<const Model> model_;
};

/// `count` ids below `vocabulary`, a function of the seed.
std::vector<int32_t> random_tokens(size_t count, int64_t vocabulary, uint64_t seed);

}  // namespace linnet
