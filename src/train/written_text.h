// Text that a model writes itself, to train its draft heads on: what they shall guess is what it would say.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/thread_pool.h"
#include "model/model.h"
#include "text/tokenizer.h"
#include "train/data.h"

namespace linnet::train {

struct Written {
  int64_t context = 512;     // tokens of a text, its prompt included
  double greedy = 0.5;       // share of texts whose every token is the likeliest
  double temperature = 0.8;  // of the others
  int32_t start_token = 0;   // that begins each
  uint64_t seed = 0;
  int slots = 64;  // texts at once
};

/// As many rows as `count` of `rows` from `first` on, each continued from its beginning, a sixteenth to a
/// quarter of it. Nothing where interrupted.
TokenizedText write_text(const std::shared_ptr<const Model>& model, const Tokenizer& tokenizer,
                         const TokenRows& rows, int64_t first, int64_t count, const Written& how,
                         ThreadPool& pool);

/// Kept in a file while a run lasts, so that --resume need not write it again. `identity` is what two runs
/// must share; read_written() gives nothing where the file is absent, damaged or another run's.
void keep_written(const std::filesystem::path& file, const TokenizedText& text, const std::string& identity);
std::optional<TokenizedText> read_written(const std::filesystem::path& file, const std::string& identity);

}  // namespace linnet::train
