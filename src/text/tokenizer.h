// Text to ids and back: tokenizer.json (byte-level BPE, BPE with byte fallback, Unigram, WordPiece),
// tokenizer.model or BERT's vocab.txt.
// The ids are those of Hugging Face's tokenizers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace linnet {

class ThreadPool;

class Tokenizer {
 public:
  /// A model folder (tokenizer.json, else tokenizer.model, else vocab.txt, with tokenizer_config.json and
  /// special_tokens_map.json where they are) or one such file. Throws Error on anything malformed.
  static Tokenizer load(const std::filesystem::path& folder_or_file);
  /// From the text of a tokenizer.json alone; `where` names it in errors.
  static Tokenizer from_json(std::string_view text, const std::string& where);

  /// Invalid UTF-8 counts as U+FFFD, one for each maximal invalid part. `special` adds what the
  /// post-processor adds (BOS, …). Thread-safe. Throws Error where a pattern of the file gives up on the
  /// text.
  std::vector<int32_t> encode(std::string_view text, bool special = false) const;
  /// The last `count` ids of encode(text), or all of them: a text is read no further back than the added
  /// token before those, as what stands between two of them is cut by itself.
  std::vector<int32_t> encode_end(std::string_view text, size_t count) const;
  /// Each text by itself, in parallel.
  std::vector<std::vector<int32_t>> encode_documents(std::span<const std::string> texts, ThreadPool& pool,
                                                     bool special = false) const;
  /// Ids between the special tokens that the file sets around one text, or around two; `types` are the kinds
  /// of tokens that encoders tell apart. Where the file says nothing of pairs, each text stands as alone.
  struct Framed {
    std::vector<int32_t> tokens, types;
  };
  Framed framed(std::span<const int32_t> text) const;
  Framed framed(std::span<const int32_t> first, std::span<const int32_t> second) const;
  /// How many special tokens these are.
  size_t framing(bool pair = false) const;

  /// The whole text of ids; special tokens left out unless asked for. Throws Error on an id that has no
  /// token.
  std::string decode(std::span<const int32_t> ids, bool skip_special = true) const;

  int32_t vocabulary() const;  // one past the largest id
  std::optional<int32_t> bos() const;
  std::optional<int32_t> eos() const;
  std::optional<int32_t> id_of(std::string_view token) const;
  /// The id of a special token, one that decode() leaves out.
  std::optional<int32_t> special_id_of(std::string_view token) const;
  /// The text of one token as it stands within a text: "\uFFFD" for a part of a code point, "" past the
  /// vocabulary.
  std::string text_of(int32_t id) const;

  struct Impl;
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

 private:
  friend class StreamingDetokenizer;
  std::shared_ptr<const Impl> impl_;
};

/// Text as it becomes final, token by token; never splits a code point. The pieces' concatenation is decode()
/// of all ids. To continue a prompt, push its ids first and drop what they give: else the space that begins
/// the first new word counts as the text's own beginning, which many tokenizers leave out.
class StreamingDetokenizer {
 public:
  explicit StreamingDetokenizer(Tokenizer tokenizer, bool skip_special = true);
  ~StreamingDetokenizer();
  StreamingDetokenizer(StreamingDetokenizer&&) noexcept;
  StreamingDetokenizer& operator=(StreamingDetokenizer&&) noexcept;
  /// Throws Error on an id that has no token.
  std::string push(int32_t id);
  std::string finish();  // what was held back

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace linnet
