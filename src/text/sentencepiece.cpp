// Reads a sentencepiece model (tokenizer.model). The library encodes; but it takes a file's word for a great
// deal, so the file is walked first: a protocol buffer, of which this needs four messages' fields
// (sentencepiece_model.proto).
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <unordered_set>

#include "base/error.h"
#include "text/bpe.h"
#include "text/charsmap.h"
#include "text/sentencepiece_plugin.h"
#include "text/tokenizer_files.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace linnet {
namespace {

/// One field of a message: a number, or bytes.
struct Field {
  uint64_t number;
  uint64_t value = 0;      // varint, or the bits of a fixed32
  std::string_view bytes;  // length-delimited
};

/// Calls take(field) for each field of `message`. Throws Error on what is no protocol buffer.
void for_each_field(std::string_view message, const std::string& where,
                    const std::function<void(const Field&)>& take) {
  const auto broken = [&]() -> Error {
    return {where, "not a sentencepiece model, or cut short", "a whole protocol buffer"};
  };
  size_t at = 0;
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (at == message.size()) throw broken();
      const auto byte = static_cast<uint8_t>(message[at++]);
      if (shift < 64) value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    throw broken();
  };
  const auto take_bytes = [&](uint64_t count) {
    if (count > message.size() - at) throw broken();
    const std::string_view bytes = message.substr(at, count);
    at += count;
    return bytes;
  };
  while (at < message.size()) {
    const uint64_t tag = varint();
    Field field{tag >> 3};
    switch (tag & 7) {
      case 0:
        field.value = varint();
        break;
      case 1:
        take_bytes(8);
        break;
      case 2:
        field.bytes = take_bytes(varint());
        break;
      case 5: {
        uint32_t bits = 0;
        std::memcpy(&bits, take_bytes(4).data(), 4);
        field.value = bits;
        break;
      }
      default:
        throw broken();
    }
    take(field);
  }
}

enum class PieceType { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct SentencePiece {
  std::string text;
  PieceType type = PieceType::kNormal;
};

/// What the file says, as far as it is needed here.
struct ModelFile {
  std::vector<SentencePiece> pieces;
  bool dummy_prefix = true, remove_extra_spaces = true;
  std::string unk_surface = " \u2047 ";
};

SentencePiece read_piece(std::string_view message, const std::string& where) {
  SentencePiece piece;
  for_each_field(message, where, [&](const Field& field) {
    if (field.number == 1) piece.text = field.bytes;
    if (field.number == 2 && !std::isfinite(std::bit_cast<float>(static_cast<uint32_t>(field.value)))) {
      throw Error(where, "a score that is no number", "a number");
    }
    if (field.number == 3) {
      if (field.value < 1 || field.value > 6)
        throw Error(where, fmt::format("type {}", field.value), "1 to 6");
      piece.type = static_cast<PieceType>(field.value);
    }
  });
  if (piece.text.empty() || !is_valid_utf8(piece.text))
    throw Error(where, "an empty or invalid piece", "UTF-8");
  if (piece.text.size() > kMaxPieceBytes) {
    throw Error(where, fmt::format("a piece of {} bytes", piece.text.size()),
                fmt::format("at most {}", kMaxPieceBytes));
  }
  if (piece.type == PieceType::kByte && !byte_of_token(piece.text)) {
    throw Error(where, fmt::format("byte piece \"{}\"", printable(piece.text, 40)), "<0x00> to <0xFF>");
  }
  return piece;
}

ModelFile read_model_file(std::string_view bytes, const std::string& where) {
  ModelFile model;
  std::unordered_set<std::string> seen;
  int unknown = 0;
  for_each_field(bytes, where, [&](const Field& field) {
    if (field.number == 1) {
      const std::string place = fmt::format("{}: piece {}", where, model.pieces.size());
      if (model.pieces.size() >= size_t{kMaxVocabulary})
        throw Error(place, "too many pieces", fmt::format("at most {}", kMaxVocabulary));
      model.pieces.push_back(read_piece(field.bytes, place));
      unknown += model.pieces.back().type == PieceType::kUnknown;
      if (!seen.insert(model.pieces.back().text).second) {
        throw Error(place, fmt::format("\"{}\" stands twice", printable(model.pieces.back().text, 40)),
                    "each piece once");
      }
    } else if (field.number == 2) {  // TrainerSpec
      for_each_field(field.bytes, where, [&](const Field& inner) {
        if (inner.number == 44) model.unk_surface = inner.bytes;
      });
    } else if (field.number == 3) {  // NormalizerSpec
      for_each_field(field.bytes, where, [&](const Field& inner) {
        if (inner.number == 2 && !inner.bytes.empty()) CharsMap(inner.bytes, where);  // checks it
        if (inner.number == 3) model.dummy_prefix = inner.value != 0;
        if (inner.number == 4) model.remove_extra_spaces = inner.value != 0;
      });
    }
  });
  if (model.pieces.empty()) throw Error(where, "no pieces", "a sentencepiece model");
  if (unknown != 1) throw Error(where, fmt::format("{} unknown pieces", unknown), "one");
  if (!is_valid_utf8(model.unk_surface)) throw Error(where, "unk_surface is no UTF-8", "UTF-8");
  return model;
}

/// `bytes` of a model without the space that it puts before each text: messages that stand twice are merged.
std::string without_dummy_prefix(std::string_view bytes) {
  constexpr std::string_view kNormalizer("\x1a\x02\x18\x00", 4);  // field 3, of 2 bytes: its field 3 is 0
  return std::string(bytes).append(kNormalizer);
}

/// transformers' `legacy: false`: one space before a text, none behind the added tokens in it, and none where
/// a space is there already.
PreTokenizer one_space_before(const JsonView& config) {
  const bool wanted = config["add_prefix_space"].boolean(true);
  const nlohmann::json step = {
      {"type", "Metaspace"}, {"prepend_scheme", wanted ? "first" : "never"}, {"split", false}};
  return PreTokenizer({step, "tokenizer_config.json"});
}

/// transformers' T5Tokenizer: an end token behind a text, and sentinels behind the pieces.
bool is_t5(const JsonView& config) {
  const JsonView name = config["tokenizer_class"];
  return !name.is_null() && name.string().starts_with("T5Tokenizer");
}

/// <extra_id_0> is the last of `extra_ids`. Nothing where the files name them.
void add_sentinels(const JsonView& config, const TokenModel& model, std::vector<AddedToken>& tokens) {
  const auto is_sentinel = [](const AddedToken& token) { return token.content.starts_with("<extra_id_"); };
  constexpr int32_t kSentinels = 100, kMost = 10'000;
  const JsonView given = config["extra_ids"];
  const int64_t count = given.is_null() ? kSentinels : given.integer();
  if (count < 0 || count > kMost) given.fail(fmt::format("{}", count), fmt::format("0 to {}", kMost));
  if (std::any_of(tokens.begin(), tokens.end(), is_sentinel)) return;
  for (int64_t i = 0; i < count; ++i) {
    AddedToken token;
    token.id = model.size() + static_cast<int32_t>(count - 1 - i);
    token.content = fmt::format("<extra_id_{}>", i);
    token.special = true;
    tokens.push_back(std::move(token));
  }
}

/// The library's normalizer, pre-tokenizer and model in one.
class SentencePieceModel final : public TokenModel {
 public:
  SentencePieceModel(std::string_view bytes, const std::vector<SentencePiece>& pieces,
                     const std::string& where)
      : library_(sentencepiece_functions()), where_(where) {
    char message[256] = {};
    processor_.reset(library_.load(bytes.data(), bytes.size(), message, sizeof(message)));
    if (processor_ == nullptr) throw Error(where, printable(message), "a sentencepiece model");
    std::vector<std::string> tokens;
    for (const SentencePiece& piece : pieces) tokens.push_back(piece.text);
    if (static_cast<size_t>(library_.pieces(processor_.get())) != tokens.size()) {
      throw Error(where, "the pieces do not fit the model", "a sentencepiece model");
    }
    vocabulary_ = Vocabulary(std::move(tokens));
  }

  void encode(std::string_view piece, std::vector<int32_t>& ids, EncodeScratch&) const override {
    const auto take = [](void* out, const int* found, size_t count) {
      auto& all = *static_cast<std::vector<int32_t>*>(out);
      all.insert(all.end(), found, found + count);
    };
    char message[256] = {};
    if (!library_.encode(processor_.get(), piece.data(), piece.size(), take, &ids, message, sizeof(message)))
      throw Error(where_, printable(message), "a text that sentencepiece takes");
  }
  std::optional<int32_t> id_of(std::string_view token) const override { return vocabulary_.id_of(token); }
  std::string_view token(int32_t id) const override { return vocabulary_.token(id); }
  int32_t size() const override { return vocabulary_.size(); }
  int bos() const { return library_.bos(processor_.get()); }
  int eos() const { return library_.eos(processor_.get()); }

 private:
  struct Destroy {
    void operator()(void* processor) const { sentencepiece_functions().destroy(processor); }
  };
  const SentencePieceFunctions& library_;
  std::unique_ptr<void, Destroy> processor_;
  Vocabulary vocabulary_;
  std::string where_;
};

}  // namespace

std::shared_ptr<Tokenizer::Impl> read_sentencepiece(std::string_view bytes, const std::string& where,
                                                    const TokenizerFiles& files) {
  const ModelFile file = read_model_file(bytes, where);
  // A model that takes superfluous spaces away would take ours too.
  const bool one_space =
      file.dummy_prefix && !file.remove_extra_spaces && !files.config()["legacy"].boolean(true);
  auto model = std::make_unique<SentencePieceModel>(
      one_space ? without_dummy_prefix(bytes) : std::string(bytes), file.pieces, where);
  auto impl = std::make_shared<Tokenizer::Impl>();
  if (one_space) impl->pre_tokenizer = one_space_before(files.config());
  impl->where = where;
  impl->vocabulary = model->size();
  std::vector<AddedToken> added = named_tokens(files, *model);
  if (is_t5(files.config())) add_sentinels(files.config(), *model, added);
  std::unordered_set<int32_t> named;
  for (const AddedToken& token : added) {
    named.insert(token.id);
    impl->vocabulary = std::max(impl->vocabulary, token.id + 1);
  }
  // Of those that no file names, control pieces are special and the unknown one is shown as its surface.
  // Neither is looked for in a text.
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    const SentencePiece& piece = file.pieces[id];
    if (piece.type != PieceType::kControl && piece.type != PieceType::kUnknown) continue;
    if (named.contains(static_cast<int32_t>(id))) continue;
    const bool control = piece.type == PieceType::kControl;
    added.push_back({.id = static_cast<int32_t>(id),
                     .content = control ? piece.text : file.unk_surface,
                     .special = control,
                     .in_text = false});
  }
  if (is_t5(files.config())) {
    impl->post.after = {model->eos()};
  } else if (model->bos() >= 0) {
    impl->bos = model->bos();
    impl->post.before = {model->bos()};  // as LLaMA's; tokenizer_config.json's add_bos_token says otherwise
  }
  if (model->eos() >= 0) impl->eos = model->eos();
  impl->added = AddedTokens(std::move(added), impl->normalizer);
  impl->decoder =
      TokenDecoder::sentencepiece(file.dummy_prefix || file.remove_extra_spaces, file.remove_extra_spaces);
  impl->model = std::move(model);
  return impl;
}

}  // namespace linnet
