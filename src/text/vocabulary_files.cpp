#include "text/vocabulary_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/bpe_file.h"
#include "text/byte_level.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

namespace linnet {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kTypes = 6;

// How a byte-level BPE cuts a text, one row a way. Each pattern cuts what the ones before it left; the last
// step spells bytes, after GPT-2's pattern where `gpt2` says so.
struct Way {
  std::array<std::string_view, 4> patterns = {};
  bool digits = false;  // each digit alone, first
  bool gpt2 = false;
  bool composed = false;       // normalizes to NFC
  bool ignore_merges = false;  // a piece that is a token is taken whole
  bool bos = false;            // where the file does not say whether texts begin with BOS
};

constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr Way kByGpt2 = {.gpt2 = true};
constexpr Way kByDigits = {.digits = true, .gpt2 = true};
constexpr Way kByLlama3 = {.patterns = {kLlama3}, .ignore_merges = true, .bos = true};
constexpr Way kBySmaug = {.patterns = {kLlama3}};
constexpr Way kByQwen2 = {.patterns = {kQwen2}, .composed = true};
constexpr Way kByStableLm = {.patterns = {kQwen2}};
constexpr Way kByTekken = {.patterns = {kTekken}, .ignore_merges = true, .bos = true};
// What stands in for a pre-tokenizer whose name a file does not tell.
constexpr Way kByDefault = {
    .patterns = {R"([\p{P}\$\+<=>\^~\|]+)", kByteLevelPattern, R"(\p{N}+)", "[0-9][0-9][0-9]"}};

constexpr struct {
  std::string_view name;
  const Way* way;
} kWays[] = {
    {"default", &kByDefault},  {"gpt-2", &kByGpt2},         {"phi-2", &kByGpt2},
    {"smollm", &kByDigits},    {"starcoder", &kByDigits},   {"refact", &kByDigits},
    {"codeshell", &kByDigits}, {"llama-bpe", &kByLlama3},   {"llama3", &kByLlama3},
    {"llama-v3", &kByLlama3},  {"falcon3", &kByLlama3},     {"smaug-bpe", &kBySmaug},
    {"qwen2", &kByQwen2},      {"stablelm2", &kByStableLm}, {"deepseek-r1-qwen", &kByStableLm},
    {"tekken", &kByTekken},
};

const Way& way_of(std::string_view name, const std::string& where) {
  std::string known;
  for (const auto& row : kWays) {
    if (row.name == name) return *row.way;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  throw Error(where, fmt::format("the pre-tokenizer (\"tokenizer.ggml.pre\") is \"{}\"", printable(name, 40)),
              "one of " + known);
}

Json pre_tokenizer(const Way& way) {
  Json steps = Json::array();
  if (way.digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  for (std::string_view pattern : way.patterns) {
    if (pattern.empty()) continue;
    steps.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
  }
  steps.push_back(byte_level(false, way.gpt2));
  if (steps.size() == 1) return steps[0];
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

TokenType type_of(const BareVocabulary& vocabulary, size_t id) {
  return vocabulary.types.empty() ? TokenType::kNormal : static_cast<TokenType>(vocabulary.types[id]);
}

/// Whether the token is found in a text before the model sees it.
bool is_added(TokenType type) {
  return type == TokenType::kUnknown || type == TokenType::kControl || type == TokenType::kUserDefined;
}

void check_text(std::string_view text, std::string_view what, const std::string& where) {
  if (!is_valid_utf8(text)) throw Error(where, fmt::format("{} is no UTF-8", what), "UTF-8");
}

/// `id` of a special token, if it is one of the vocabulary's.
std::optional<int32_t> checked(std::optional<int64_t> id, std::string_view name,
                               const BareVocabulary& vocabulary, const std::string& where) {
  if (!id) return std::nullopt;
  const auto size = static_cast<int64_t>(vocabulary.tokens.size());
  if (*id < 0 || *id >= size)
    throw Error(where, fmt::format("the {} token's id is {}", name, *id), fmt::format("0 to {}", size - 1));
  if (vocabulary.tokens[static_cast<size_t>(*id)].empty())
    throw Error(where, fmt::format("the {} token (id {}) is empty", name, *id), "a token");
  return static_cast<int32_t>(*id);
}

void check(const BareVocabulary& vocabulary, const std::string& where) {
  const size_t count = vocabulary.tokens.size();
  if (count == 0 || count >= size_t{kMaxVocabulary})
    throw Error(where, fmt::format("{} tokens", count), fmt::format("1 to {}", kMaxVocabulary - 1));
  for (size_t id = 0; id < count; ++id) check_text(vocabulary.tokens[id], fmt::format("token {}", id), where);
  if (!vocabulary.types.empty() && vocabulary.types.size() != count)
    throw Error(where, fmt::format("{} token types", vocabulary.types.size()), fmt::format("{}", count));
  for (const int64_t type : vocabulary.types) {
    if (type < 1 || type > kTypes)
      throw Error(where, fmt::format("a token of type {}", type), fmt::format("1 to {}", kTypes));
  }
  check_text(vocabulary.chat_template, "the chat template", where);
}

std::string bpe_file(const BareVocabulary& vocabulary, const Way& way, std::optional<int32_t> bos,
                     const std::string& where) {
  BpeFile file{.pre_tokenizer = pre_tokenizer(way), .ignore_merges = way.ignore_merges, .bos = bos};
  if (way.composed) file.normalizer = {{"type", "NFC"}};
  file.tokens.assign(vocabulary.tokens.begin(), vocabulary.tokens.end());
  for (size_t id = 0; id < file.tokens.size(); ++id) {
    const TokenType type = type_of(vocabulary, id);
    if (!is_added(type) || file.tokens[id].empty()) continue;
    file.added.push_back({static_cast<int32_t>(id), type != TokenType::kUserDefined});
  }
  for (size_t i = 0; i < vocabulary.merges.size(); ++i) {
    const std::string_view merge = vocabulary.merges[i];
    const size_t space = merge.find(' ');
    if (space == 0 || space == merge.npos || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != merge.npos || !is_valid_utf8(merge)) {
      throw Error(where, fmt::format("merge {} is \"{}\"", i, printable(merge, 40)),
                  "two tokens in UTF-8 with a space between them");
    }
    file.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return bpe_json(file);
}

// ---- A sentencepiece model: a protocol buffer (sentencepiece_model.proto)

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}
void append_number(std::string& out, uint32_t field, uint64_t value) {
  append_varint(out, field << 3);
  append_varint(out, value);
}
void append_bytes(std::string& out, uint32_t field, std::string_view bytes) {
  append_varint(out, field << 3 | 2);
  append_varint(out, bytes.size());
  out += bytes;
}
void append_float(std::string& out, uint32_t field, float value) {
  append_varint(out, field << 3 | 5);
  const auto bits = std::bit_cast<uint32_t>(value);
  for (int byte = 0; byte < 4; ++byte) out += static_cast<char>(bits >> (8 * byte) & 0xFF);
}

std::string sentencepiece_file(const BareVocabulary& vocabulary, std::optional<int32_t> bos,
                               std::optional<int32_t> eos, const std::string& where) {
  constexpr uint64_t kBpe = 2;  // TrainerSpec.ModelType
  if (vocabulary.scores.size() != vocabulary.tokens.size()) {
    throw Error(where, fmt::format("{} scores", vocabulary.scores.size()),
                fmt::format("{}, one a token", vocabulary.tokens.size()));
  }
  std::string out, trainer, normalizer;
  bool bytes = false;
  append_number(trainer, 3, kBpe);
  append_number(trainer, 4, vocabulary.tokens.size());
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const TokenType type = type_of(vocabulary, id);
    bytes = bytes || type == TokenType::kByte;
    std::string piece;
    append_bytes(piece, 1, vocabulary.tokens[id]);
    append_float(piece, 2, vocabulary.scores[id]);
    append_number(piece, 3, static_cast<uint64_t>(type));
    append_bytes(out, 1, piece);
    if (type == TokenType::kUnknown) append_bytes(trainer, 45, vocabulary.tokens[id]);
  }
  append_number(trainer, 35, bytes ? 1 : 0);  // byte_fallback
  if (bos) append_bytes(trainer, 46, vocabulary.tokens[static_cast<size_t>(*bos)]);
  if (eos) append_bytes(trainer, 47, vocabulary.tokens[static_cast<size_t>(*eos)]);
  append_bytes(normalizer, 1, "identity");
  if (!vocabulary.charsmap.empty()) append_bytes(normalizer, 2, vocabulary.charsmap);
  append_number(normalizer, 3, vocabulary.add_space_prefix.value_or(true) ? 1 : 0);
  append_number(normalizer, 4, vocabulary.remove_extra_spaces.value_or(false) ? 1 : 0);
  append_number(normalizer, 5, 1);  // a space is U+2581
  append_bytes(out, 2, trainer);
  append_bytes(out, 3, normalizer);
  return out;
}

/// The added tokens by id, which a tokenizer.model does not name.
Json added_tokens_decoder(const BareVocabulary& vocabulary) {
  Json out = Json::object();
  auto& entries = out.get_ref<Json::object_t&>();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const TokenType type = type_of(vocabulary, id);
    if (!is_added(type)) continue;
    entries.emplace_back(fmt::to_string(id), Json{{"content", vocabulary.tokens[id]},
                                                  {"single_word", false},
                                                  {"lstrip", false},
                                                  {"rstrip", false},
                                                  {"normalized", false},
                                                  {"special", type != TokenType::kUserDefined}});
  }
  return out;
}

}  // namespace

std::map<std::string, std::string> tokenizer_files(const BareVocabulary& vocabulary,
                                                   const std::string& where) {
  const bool sentencepiece = vocabulary.model == "llama";
  if (!sentencepiece && vocabulary.model != "gpt2") {
    throw Error(
        where,
        fmt::format("the tokenizer (\"tokenizer.ggml.model\") is \"{}\"", printable(vocabulary.model, 40)),
        "gpt2 or llama");
  }
  const Way* way = sentencepiece ? nullptr : &way_of(vocabulary.pre, where);
  check(vocabulary, where);
  const std::pair<const char*, std::optional<int32_t>> named[] = {
      {"bos", checked(vocabulary.bos, "BOS", vocabulary, where)},
      {"eos", checked(vocabulary.eos, "EOS", vocabulary, where)},
      {"unk", checked(vocabulary.unknown, "unknown", vocabulary, where)},
      {"pad", checked(vocabulary.padding, "padding", vocabulary, where)}};
  const auto &bos = named[0].second, &eos = named[1].second;
  const bool add_bos = vocabulary.add_bos.value_or((sentencepiece || way->bos) && bos);
  const bool add_eos = vocabulary.add_eos.value_or(false);
  if (add_bos && !bos)
    throw Error(where, "texts are to begin with a BOS that has no id", "\"tokenizer.ggml.bos_token_id\"");
  if (add_eos && !eos)
    throw Error(where, "texts are to end with an EOS that has no id", "\"tokenizer.ggml.eos_token_id\"");

  Json config = {{"tokenizer_class", sentencepiece ? "LlamaTokenizer" : "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"add_bos_token", add_bos},
                 {"add_eos_token", add_eos}};
  for (const auto& [name, id] : named) {
    if (id) config[fmt::format("{}_token", name)] = vocabulary.tokens[static_cast<size_t>(*id)];
  }
  if (!vocabulary.chat_template.empty()) config["chat_template"] = vocabulary.chat_template;
  std::map<std::string, std::string> files;
  if (sentencepiece) {
    config["legacy"] = true;  // a space before each text between two special tokens
    config["added_tokens_decoder"] = added_tokens_decoder(vocabulary);
    const std::string& file = files["tokenizer.model"] = sentencepiece_file(vocabulary, bos, eos, where);
    read_sentencepiece(file, where + ": tokenizer", {});
  } else {
    const std::string& file = files["tokenizer.json"] =
        bpe_file(vocabulary, *way, add_bos ? bos : std::nullopt, where);
    read_tokenizer_json(file, where + ": tokenizer");
  }
  files["tokenizer_config.json"] = config.dump(2) + "\n";
  return files;
}

}  // namespace linnet
