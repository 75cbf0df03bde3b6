// From tokens back to text: the `decoder` field, as a chain of stages through which tokens flow one by one,
// so that decoding a whole text and streaming it are the same computation.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_view.h"

namespace linnet {

/// One step of decoding, with its state for one text.
class DecodeStage {
 public:
  using Emit = std::function<void(std::string)>;
  virtual ~DecodeStage() = default;
  /// Takes one token (or, behind a stage that fuses, the next part of the text); emits what is final.
  virtual void push(std::string token, const Emit& emit) = 0;
  /// No more will come: emits what was held back.
  virtual void finish(const Emit&) {}
};

/// The stages of one text that is being decoded.
class DecodeChain {
 public:
  explicit DecodeChain(std::vector<std::unique_ptr<DecodeStage>> stages) : stages_(std::move(stages)) {}
  std::string push(std::string token);
  std::string finish();

 private:
  void push_from(size_t stage, std::string token, std::string& out);
  std::vector<std::unique_ptr<DecodeStage>> stages_;
};

/// Known: Sequence, ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip, BPEDecoder, WordPiece.
class TokenDecoder {
 public:
  /// Tokens joined by spaces, as where a file has no decoder.
  TokenDecoder();
  /// From the field, which may be null. Throws Error on an unknown type.
  explicit TokenDecoder(const JsonView& field);
  /// sentencepiece's own: ▁ is a space, byte tokens are decoded character by character (an invalid byte is
  /// U+FFFD). With `strip`, one ▁ that begins the text goes; with `strip_all`, that of every token up to the
  /// first that leaves text.
  static TokenDecoder sentencepiece(bool strip, bool strip_all);

  DecodeChain start() const;

 private:
  using Make = std::function<std::unique_ptr<DecodeStage>()>;
  void add(const JsonView& step);
  void add_text_map(std::function<std::string(std::string)> map, bool by_character);

  std::vector<Make> stages_;
  bool fused_ = false;  // while building: the stages so far have made one text of the tokens
};

}  // namespace linnet
