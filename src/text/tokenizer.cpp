#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

namespace linnet {
namespace {

/// Scratch for one call, taken from the tokenizer's store and given back.
class Lease {
 public:
  explicit Lease(const Tokenizer::Impl& impl) : impl_(impl), scratch_(impl.take_scratch()) {}
  ~Lease() { impl_.give_scratch(std::move(scratch_)); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  EncodeScratch& operator*() { return *scratch_; }

 private:
  const Tokenizer::Impl& impl_;
  std::unique_ptr<EncodeScratch> scratch_;
};

/// A token's text in tokenizer_config.json: a string, or an object with `content`. Nothing where it is null.
std::optional<int32_t> named_token(const Tokenizer::Impl& tokenizer, const JsonView& field) {
  if (field.is_null()) return std::nullopt;
  const std::string token = field.value().is_object() ? field.at("content").string() : field.string();
  return tokenizer.id_of(token);  // a file may name a token that its vocabulary lacks
}

void set_outer(std::vector<int32_t>& ids, bool front, std::optional<int32_t> token, bool wanted,
               const JsonView& field) {
  const bool there = token && !ids.empty() && (front ? ids.front() : ids.back()) == *token;
  if (wanted && !token)
    field.fail("true without such a token in the vocabulary", "false, or the token's name");
  if (wanted && !there) ids.insert(front ? ids.begin() : ids.end(), *token);
  if (!wanted && there) ids.erase(front ? ids.begin() : ids.end() - 1);
}

}  // namespace

std::optional<int32_t> Tokenizer::Impl::id_of(std::string_view token) const {
  for (const AddedToken& added_token : added.tokens()) {
    if (added_token.in_text && added_token.content == token) return added_token.id;
  }
  return model->id_of(token);
}

std::optional<std::string> Tokenizer::Impl::token_to_decode(int32_t id, bool skip_special) const {
  const AddedToken* added_token = added.find(id);
  if (added_token != nullptr) {
    return skip_special && added_token->special ? std::nullopt : std::optional(added_token->decoded);
  }
  if (id < 0 || id >= vocabulary) {
    throw Error(where, fmt::format("token id {}", id), fmt::format("0 to {}", vocabulary - 1));
  }
  if (id >= model->size())
    throw Error(where, fmt::format("token id {} has no token", id), "an id that has one");
  return std::string(model->token(id));
}

void Tokenizer::Impl::encode_between(std::string_view text, bool first, std::vector<int32_t>& ids,
                                     EncodeScratch& scratch) const {
  added.split(text, true, [&](std::string_view part, int32_t id, size_t begin) {
    if (id >= 0) return ids.push_back(id);
    Pieces pieces{std::string(part), {{0, part.size()}}, first && begin == 0};
    pre_tokenizer.apply(pieces);
    for (const Piece& piece : pieces.pieces) model->encode(pieces.view(piece), ids, scratch);
  });
}

void Tokenizer::Impl::encode_part(std::string_view part, int32_t id, bool first, std::vector<int32_t>& ids,
                                  EncodeScratch& scratch) const {
  if (id >= 0) return ids.push_back(id);
  if (normalizer.empty()) return encode_between(part, first, ids, scratch);
  encode_between(normalizer.apply(std::string(part)), first, ids, scratch);
}

void Tokenizer::Impl::encode(std::string_view text, std::vector<int32_t>& ids, EncodeScratch& scratch) const {
  std::string repaired;
  if (!is_valid_utf8(text)) text = repaired = valid_utf8(text);
  added.split(text, false, [&](std::string_view part, int32_t id, size_t begin) {
    encode_part(part, id, begin == 0, ids, scratch);
  });
}

std::vector<int32_t> Tokenizer::Impl::encode_end(std::string_view text, size_t count,
                                                 EncodeScratch& scratch) const {
  std::string repaired;
  if (!is_valid_utf8(text)) text = repaired = valid_utf8(text);
  struct Part {
    std::string_view text;
    int32_t id;
    bool first;
  };
  std::vector<Part> parts;
  added.split(text, false, [&](std::string_view part, int32_t id, size_t begin) {
    parts.push_back({part, id, begin == 0});
  });
  std::vector<std::vector<int32_t>> ids;  // of the parts, the last one first
  for (size_t known = 0; known < count && ids.size() < parts.size(); known += ids.back().size()) {
    const Part& part = parts[parts.size() - 1 - ids.size()];
    encode_part(part.text, part.id, part.first, ids.emplace_back(), scratch);
  }
  std::vector<int32_t> end;
  for (auto part = ids.rbegin(); part != ids.rend(); ++part)
    end.insert(end.end(), part->begin(), part->end());
  if (end.size() > count) end.erase(end.begin(), end.end() - static_cast<ptrdiff_t>(count));
  return end;
}

std::unique_ptr<EncodeScratch> Tokenizer::Impl::take_scratch() const {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) return std::make_unique<EncodeScratch>();
  auto scratch = std::move(free_.back());
  free_.pop_back();
  return scratch;
}

void Tokenizer::Impl::give_scratch(std::unique_ptr<EncodeScratch> scratch) const {
  constexpr size_t kKept = 1 << 20;  // elements; a huge word's buffers are not kept
  if (scratch->symbols.capacity() > kKept) scratch->symbols = {};
  if (scratch->heap.capacity() > kKept) scratch->heap = {};
  if (scratch->path.capacity() > kKept) scratch->path = {};
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(scratch));
}

void apply_files(Tokenizer::Impl& tokenizer, const TokenizerFiles& files) {
  const auto bos = named_token(tokenizer, files.named("bos_token"));
  const auto eos = named_token(tokenizer, files.named("eos_token"));
  const PostProcessor told = tokenizer.post;
  // A sentencepiece model has names of its own, and begins texts with its BOS.
  if (bos && tokenizer.bos) std::ranges::replace(tokenizer.post.before, *tokenizer.bos, *bos);
  if (bos) tokenizer.bos = bos;
  if (eos) tokenizer.eos = eos;
  const JsonView add_bos = files.config()["add_bos_token"], add_eos = files.config()["add_eos_token"];
  if (!add_bos.is_null())
    set_outer(tokenizer.post.before, true, tokenizer.bos, add_bos.boolean(false), add_bos);
  if (!add_eos.is_null())
    set_outer(tokenizer.post.after, false, tokenizer.eos, add_eos.boolean(false), add_eos);
  if (tokenizer.post.before != told.before || tokenizer.post.after != told.after) tokenizer.post.pair.clear();
}

void guess_bos_and_eos(Tokenizer::Impl& tokenizer) {
  const auto first_of = [&](std::initializer_list<const char*> names) -> std::optional<int32_t> {
    for (const char* name : names) {
      const auto id = tokenizer.id_of(name);
      if (id && tokenizer.added.find(*id) != nullptr) return id;
    }
    return std::nullopt;
  };
  if (!tokenizer.bos && !tokenizer.post.before.empty()) tokenizer.bos = tokenizer.post.before.front();
  if (!tokenizer.bos) tokenizer.bos = first_of({"<s>", "<bos>", "<|begin_of_text|>", "<|endoftext|>"});
  if (!tokenizer.eos) tokenizer.eos = first_of({"</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"});
}

Tokenizer Tokenizer::load(const std::filesystem::path& folder_or_file) {
  std::filesystem::path file = folder_or_file, folder = folder_or_file.parent_path();
  if (folder.empty()) folder = ".";
  if (std::filesystem::is_directory(folder_or_file)) {
    folder = folder_or_file;
    file = folder / "tokenizer.json";
    if (!std::filesystem::exists(file)) file = folder / "tokenizer.model";
    if (!std::filesystem::exists(file)) file = folder / "spiece.model";
    if (!std::filesystem::exists(file)) file = folder / "vocab.txt";
    if (!std::filesystem::exists(file)) {
      throw Error(folder.string(), "no tokenizer here",
                  "tokenizer.json, tokenizer.model, spiece.model or vocab.txt");
    }
  }
  const MappedFile mapped(file);
  const TokenizerFiles files(folder);
  const auto extension = file.extension();
  auto impl = extension == ".model" ? read_sentencepiece(mapped.text(), file.string(), files)
              : extension == ".txt" ? read_vocab_txt(mapped.text(), file.string(), files)
                                    : read_tokenizer_json(mapped.text(), file.string());
  apply_files(*impl, files);
  guess_bos_and_eos(*impl);
  return Tokenizer(std::move(impl));
}

Tokenizer Tokenizer::from_json(std::string_view text, const std::string& where) {
  auto impl = read_tokenizer_json(text, where);
  guess_bos_and_eos(*impl);
  return Tokenizer(std::move(impl));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool special) const {
  std::vector<int32_t> ids;
  if (special) ids = impl_->post.before;
  {
    Lease scratch(*impl_);
    impl_->encode(text, ids, *scratch);
  }
  if (special) ids.insert(ids.end(), impl_->post.after.begin(), impl_->post.after.end());
  return ids;
}

std::vector<int32_t> Tokenizer::encode_end(std::string_view text, size_t count) const {
  Lease scratch(*impl_);
  return impl_->encode_end(text, count, *scratch);
}

std::vector<std::vector<int32_t>> Tokenizer::encode_documents(std::span<const std::string> texts,
                                                              ThreadPool& pool, bool special) const {
  std::vector<std::vector<int32_t>> ids(texts.size());
  pool.run(texts.size(), [&](size_t i) { ids[i] = encode(texts[i], special); });
  return ids;
}

Tokenizer::Framed Tokenizer::framed(std::span<const int32_t> text) const {
  Framed framed{impl_->post.before, {}};
  framed.tokens.insert(framed.tokens.end(), text.begin(), text.end());
  framed.tokens.insert(framed.tokens.end(), impl_->post.after.begin(), impl_->post.after.end());
  framed.types.assign(framed.tokens.size(), 0);
  return framed;
}

Tokenizer::Framed Tokenizer::framed(std::span<const int32_t> first, std::span<const int32_t> second) const {
  Framed framed;
  if (impl_->post.pair.empty()) {
    framed = this->framed(first);
    const Framed other = this->framed(second);
    framed.tokens.insert(framed.tokens.end(), other.tokens.begin(), other.tokens.end());
    framed.types.resize(framed.tokens.size(), 1);
    return framed;
  }
  for (const PostProcessor::Part& part : impl_->post.pair) {
    const std::span<const int32_t> ids = part.kind == PostProcessor::Part::kFirst    ? first
                                         : part.kind == PostProcessor::Part::kSecond ? second
                                                                                     : std::span(&part.id, 1);
    framed.tokens.insert(framed.tokens.end(), ids.begin(), ids.end());
    framed.types.resize(framed.tokens.size(), part.type);
  }
  return framed;
}

size_t Tokenizer::framing(bool pair) const {
  return pair ? framed({}, {}).tokens.size() : impl_->post.before.size() + impl_->post.after.size();
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  DecodeChain chain = impl_->decoder.start();
  std::string text;
  for (const int32_t id : ids) {
    if (auto token = impl_->token_to_decode(id, skip_special)) text += chain.push(std::move(*token));
  }
  return text += chain.finish();
}

int32_t Tokenizer::vocabulary() const { return impl_->vocabulary; }
std::optional<int32_t> Tokenizer::bos() const { return impl_->bos; }
std::optional<int32_t> Tokenizer::eos() const { return impl_->eos; }
std::optional<int32_t> Tokenizer::id_of(std::string_view token) const { return impl_->id_of(token); }

std::optional<int32_t> Tokenizer::special_id_of(std::string_view token) const {
  const std::optional<int32_t> id = id_of(token);
  const AddedToken* added = id ? impl_->added.find(*id) : nullptr;
  return added != nullptr && added->special ? id : std::nullopt;
}

std::string Tokenizer::text_of(int32_t id) const {
  if (id < 0 || id >= vocabulary()) return {};
  try {
    const int32_t twice[] = {id, id};  // what begins a text may lose its space
    const std::string both = decode(twice, false), first = decode(std::span(twice).first(1), false);
    return both.starts_with(first) ? both.substr(first.size()) : first;
  } catch (const Error&) {
    return {};  // a hole in the vocabulary
  }
}

struct StreamingDetokenizer::State {
  std::shared_ptr<const Tokenizer::Impl> tokenizer;
  bool skip_special;
  DecodeChain chain;
};

StreamingDetokenizer::StreamingDetokenizer(Tokenizer tokenizer, bool skip_special)
    : state_(new State{tokenizer.impl_, skip_special, tokenizer.impl_->decoder.start()}) {}
StreamingDetokenizer::~StreamingDetokenizer() = default;
StreamingDetokenizer::StreamingDetokenizer(StreamingDetokenizer&&) noexcept = default;
StreamingDetokenizer& StreamingDetokenizer::operator=(StreamingDetokenizer&&) noexcept = default;

std::string StreamingDetokenizer::push(int32_t id) {
  auto token = state_->tokenizer->token_to_decode(id, state_->skip_special);
  return token ? state_->chain.push(std::move(*token)) : std::string();
}

std::string StreamingDetokenizer::finish() { return state_->chain.finish(); }

}  // namespace linnet
