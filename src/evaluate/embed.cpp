#include "evaluate/embed.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/count.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/log.h"
#include "format/fields.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;

constexpr JsonLimits kLimits{.bytes = 1 << 20, .depth = 16};

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

/// The one pooling of a file that turns several on and off, or names it.
Pooling pooling_of(const fs::path& file) {
  const nlohmann::json json = read_json(file, kLimits);
  const Fields fields(json, file.string());
  constexpr std::pair<std::string_view, Pooling> kKnown[] = {
      {"mean_tokens", Pooling::kMean}, {"cls_token", Pooling::kFirst}, {"lasttoken", Pooling::kLast}};
  constexpr std::string_view kPrefix = "pooling_mode_";
  std::vector<std::string> wanted;
  if (const auto named = fields.optional_string("pooling_mode")) {
    wanted.push_back(*named == "mean" ? "mean_tokens" : *named == "cls" ? "cls_token" : *named);
  } else {
    for (const auto& [key, value] : json.items()) {
      if (key.starts_with(kPrefix) && value == true) wanted.push_back(key.substr(kPrefix.size()));
    }
  }
  if (wanted.size() == 1) {
    for (const auto& [name, pooling] : kKnown) {
      if (wanted.front() == name) return pooling;
    }
  }
  throw Error(file.string(),
              wanted.empty() ? "no pooling"
                             : fmt::format("pooling \"{}\"{}", printable(wanted.front(), 40),
                                           wanted.size() > 1 ? " and others" : ""),
              "mean_tokens, cls_token or lasttoken alone, or --pooling");
}

}  // namespace

Pooling parse_pooling(std::string_view name) {
  if (name == "mean") return Pooling::kMean;
  if (name == "first") return Pooling::kFirst;
  if (name == "last") return Pooling::kLast;
  throw Error("--pooling", printable(name), "mean, first or last");
}

SentenceConfig SentenceConfig::read(const fs::path& folder) {
  SentenceConfig config;
  const fs::path file = folder / "modules.json";
  fs::path pooling = folder / "1_Pooling" / "config.json";
  if (is_there(file)) {
    const nlohmann::json modules = read_json(file, kLimits);
    if (!modules.is_array()) throw Error(file.string(), "no list", "a list of modules");
    for (const nlohmann::json& module : modules) {
      const Fields fields(module, file.string());
      const std::string type = fields.string("type"), kind = type.substr(type.rfind('.') + 1);
      if (kind == "Pooling") {
        const fs::path path = fields.optional_string("path").value_or("");
        // A path out of the folder is none that sentence-transformers writes.
        if (path.is_absolute() || path.has_root_path() || std::ranges::count(path, "..") > 0)
          fields.refuse("path", "a folder in the model's");
        pooling = folder / path / "config.json";
      } else if (kind == "Normalize") {
        config.normalized = true;
      } else if (kind != "Transformer") {
        throw Error(file.string(), fmt::format("module \"{}\"", printable(type, 80)),
                    "Transformer, Pooling and Normalize, or --pooling, which leaves this file aside");
      }
    }
  }
  if (is_there(pooling)) config.pooling = pooling_of(pooling);
  if (const fs::path sentence = folder / "sentence_bert_config.json"; is_there(sentence)) {
    const nlohmann::json json = read_json(sentence, kLimits);
    config.longest = Fields(json, sentence.string()).optional_integer("max_seq_length", 1, INT32_MAX);
  }
  return config;
}

void LongTexts::see(const std::string& where, int64_t tokens) {
  constexpr int64_t kLong = 1 << 15;
  if (said_ || tokens < kLong) return;
  said_ = true;
  warn(fmt::format("{}: {}, all of which are read; {} would cut it", where, counted(tokens, "token"),
                   option_));
}

Embedder::Embedder(Encoder& encoder, const Model& model, const Tokenizer& tokenizer,
                   const EmbedOptions& options, ThreadPool& pool)
    : encoder_(encoder), tokenizer_(tokenizer), options_(options), pool_(pool) {
  options_.longest = std::min(options_.longest, encoder.longest());
  if (model.family().is_encoder() && tokenizer.framing() < 2)
    throw Error(model.tokenizer_folder().string(), "its tokenizer sets no special tokens around a text",
                "a first and a separator token, as [CLS] and [SEP], which the model was trained with");
  if (options_.longest <= static_cast<int64_t>(tokenizer.framing()))
    throw Error(model.tokenizer_folder().string(),
                fmt::format("texts of at most {}", counted(options_.longest, "token")),
                fmt::format("more than the {} special ones", tokenizer.framing()));
}

std::vector<std::vector<int32_t>> Embedder::tokenize(std::span<const std::string> texts,
                                                     std::span<const std::string> names) {
  std::vector<std::vector<int32_t>> ids = tokenizer_.encode_documents(texts, pool_);
  const auto room = options_.longest - static_cast<int64_t>(tokenizer_.framing());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (std::ssize(ids[i]) > room && !options_.truncate)
      throw Error(names[i], counted(std::ssize(ids[i]) + options_.longest - room, "token"),
                  fmt::format("at most {}, or --truncate", options_.longest));
    if (std::ssize(ids[i]) > room) ids[i].resize(static_cast<size_t>(room));
    ids[i] = tokenizer_.framed(ids[i]).tokens;
    if (ids[i].empty()) throw Error(names[i], "no token", "a text");
    long_.see(names[i], std::ssize(ids[i]));
  }
  return ids;
}

void Embedder::pool_rows(std::span<const Encoder::Sequence> sequences, const float* rows, float* out) const {
  const int64_t size = this->size();
  std::vector<double> sum(static_cast<size_t>(size));
  for (const Encoder::Sequence& sequence : sequences) {
    const auto count = std::ssize(sequence.tokens);
    const int64_t only = options_.pooling == Pooling::kLast ? count - 1 : 0;
    const bool mean = options_.pooling == Pooling::kMean;
    std::ranges::fill(sum, 0.0);
    for (int64_t r = mean ? 0 : only; r < (mean ? count : only + 1); ++r) {
      for (int64_t x = 0; x < size; ++x) sum[static_cast<size_t>(x)] += rows[r * size + x];
    }
    double squares = 0;
    for (const double number : sum) squares += number * number;
    // A mean's length does not matter where it becomes 1.
    const double by = options_.normalize ? 1.0 / std::max(std::sqrt(squares), 1e-12)
                      : mean             ? 1.0 / static_cast<double>(count)
                                         : 1.0;
    for (int64_t x = 0; x < size; ++x) out[x] = static_cast<float>(sum[static_cast<size_t>(x)] * by);
    rows += count * size;
    out += size;
  }
}

std::vector<float> Embedder::embed(std::span<const std::string> texts, std::span<const std::string> names) {
  const std::vector<std::vector<int32_t>> ids = tokenize(texts, names);
  tokens_.clear();
  for (const auto& text : ids) tokens_.push_back(std::ssize(text));
  std::vector<float> out(texts.size() * static_cast<size_t>(size()));
  std::vector<Encoder::Sequence> together;
  for (size_t begin = 0, end = 0; begin < ids.size(); begin = end) {
    stop_if_interrupted();
    together.clear();
    int64_t rows = 0;
    for (; end < ids.size() && (rows == 0 || rows + tokens_[end] <= options_.tokens_at_once); ++end) {
      together.push_back({ids[end]});
      rows += tokens_[end];
    }
    rows_.resize(static_cast<size_t>(rows * size()));
    encoder_.encode(together, rows_);
    pool_rows(together, rows_.data(), out.data() + begin * static_cast<size_t>(size()));
  }
  return out;
}

}  // namespace linnet
