// Draft heads of random numbers, written as folders: what drafters guess with in tests.
#pragma once

#include <cmath>
#include <deque>
#include <filesystem>
#include <string>
#include <vector>

#include "base/random.h"
#include "model/draft_heads.h"

namespace linnet {

struct RandomHeads {
  HeadKind kind = HeadKind::kRecursive;
  int count = 3, blocks = 1;
  bool own_vocabulary = true;
  std::vector<int32_t> tokens;
  double scale = 0.5;  // of blocks; 0: every head says what the model itself just said
  int64_t inner = 24;
};

/// Writes them with write_heads(). Vocabulary matrices are the model's where heads have their own, so that
/// small blocks guess what the model tends to say.
inline void write_random_heads(const RandomHeads& spec, const Model& model,
                               const std::filesystem::path& folder) {
  DraftHeads form;
  form.kind = spec.kind, form.count = spec.count, form.blocks = spec.blocks;
  form.own_vocabulary = spec.own_vocabulary, form.tokens = spec.tokens;
  const int64_t hidden = model.config().hidden;
  std::deque<std::vector<std::byte>> kept;
  std::vector<NamedTensor> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, double scale) {
    TensorView view{DType::kF32, std::move(shape), {}};
    std::vector<float> numbers(static_cast<size_t>(view.numbers()));
    for (size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = static_cast<float>(scale * normal(3, tensors.size(), i));
    view.bytes = kept.emplace_back(from_float(numbers, view.type));
    tensors.push_back({name, view});
  };
  const Family& family = model.family();
  const TensorView& head =
      *model.tensor(model.config().tied_embeddings ? family.embedding : family.head, "weight");
  const auto vocabulary = [&](const std::string& name, bool rest) {
    std::vector<float> all = to_float(head, "head"), rows;
    for (const int32_t token : spec.tokens)
      rows.insert(rows.end(), all.begin() + token * hidden, all.begin() + (token + 1) * hidden);
    if (spec.tokens.empty()) rows = all;
    if (rest) rows.resize(rows.size() + static_cast<size_t>(hidden));
    tensors.push_back({name,
                       {DType::kF32,
                        {std::ssize(rows) / hidden, hidden},
                        kept.emplace_back(from_float(rows, DType::kF32))}});
  };
  const double inner_scale = spec.scale / std::sqrt(static_cast<double>(hidden));
  if (spec.kind == HeadKind::kRecursive) {
    add(head_names::kInput, {spec.inner, 2 * hidden}, inner_scale);
    add(head_names::kInputBias, {spec.inner}, spec.scale);
    add(head_names::kOutput, {hidden, spec.inner}, inner_scale);
    if (spec.own_vocabulary) vocabulary(head_names::kVocabulary, !spec.tokens.empty());
  }
  for (int i = 0; spec.kind == HeadKind::kMedusa && i < spec.count; ++i) {
    for (int j = 0; j < spec.blocks; ++j) {
      add(head_names::medusa_weight(i, j), {hidden, hidden}, inner_scale);
      add(head_names::medusa_bias(i, j), {hidden}, spec.scale);
    }
    if (spec.own_vocabulary) vocabulary(head_names::medusa_vocabulary(i, spec.blocks), false);
  }
  if (!spec.tokens.empty())
    tensors.push_back({head_names::kTokens,
                       {DType::kI32, {std::ssize(spec.tokens)}, std::as_bytes(std::span(spec.tokens))}});
  write_heads(folder, form, tensors, model);
}

}  // namespace linnet
