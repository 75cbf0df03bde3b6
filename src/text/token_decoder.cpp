#include "text/token_decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "text/bpe.h"
#include "text/byte_level.h"
#include "text/normalizer.h"
#include "text/utf8.h"

namespace linnet {
namespace {

using TextMap = std::function<std::string(std::string)>;

/// Each token by itself.
class MapStage final : public DecodeStage {
 public:
  explicit MapStage(TextMap map) : map_(std::move(map)) {}
  void push(std::string token, const Emit& emit) override { emit(map_(std::move(token))); }

 private:
  TextMap map_;
};

/// What needs the whole text: held until the end.
class WholeStage final : public DecodeStage {
 public:
  explicit WholeStage(TextMap map) : map_(std::move(map)) {}
  void push(std::string token, const Emit&) override { text_ += token; }
  void finish(const Emit& emit) override { emit(map_(std::move(text_))); }

 private:
  TextMap map_;
  std::string text_;
};

/// Tokens joined by single spaces.
class SpacesStage final : public DecodeStage {
 public:
  void push(std::string token, const Emit& emit) override {
    emit(first_ ? std::move(token) : " " + token);
    first_ = false;
  }

 private:
  bool first_ = true;
};

/// The replacement character is a space, and nothing in the first token (unless `keep_first`).
class MetaspaceStage final : public DecodeStage {
 public:
  MetaspaceStage(std::string mark, bool keep_first) : mark_(std::move(mark)), first_(!keep_first) {}
  void push(std::string token, const Emit& emit) override {
    emit(replace_all(token, mark_, first_ ? "" : " "));
    first_ = false;
  }

 private:
  std::string mark_;
  bool first_;
};

/// Bytes of a text that come in parts: gives the valid prefix, U+FFFD for each maximal invalid part.
class Utf8Stream {
 public:
  std::string push(std::string_view bytes) {
    held_ += bytes;
    const size_t ready = held_.size() - unfinished_bytes(held_);
    std::string text = valid_utf8(std::string_view(held_).substr(0, ready));
    held_.erase(0, ready);
    return text;
  }
  std::string finish() { return valid_utf8(std::exchange(held_, {})); }

 private:
  std::string held_;
};

/// GPT-2's characters back to bytes; a token with another character stands for its own bytes.
class ByteLevelStage final : public DecodeStage {
 public:
  void push(std::string token, const Emit& emit) override { emit(stream_.push(bytes_of(std::move(token)))); }
  void finish(const Emit& emit) override { emit(stream_.finish()); }

 private:
  static std::string bytes_of(std::string token) {
    std::string bytes;
    for (size_t at = 0; at < token.size();) {
      const auto byte = byte_of_character(next_code_point(token, at));
      if (!byte) return token;
      bytes += static_cast<char>(*byte);
    }
    return bytes;
  }
  Utf8Stream stream_;
};

/// A run of byte tokens is one text if it is UTF-8, else one U+FFFD a byte: held until the run ends.
class ByteFallbackStage final : public DecodeStage {
 public:
  void push(std::string token, const Emit& emit) override {
    if (const auto byte = byte_of_token(token)) {
      run_ += static_cast<char>(*byte);
      return;
    }
    finish(emit);
    emit(std::move(token));
  }
  void finish(const Emit& emit) override {
    if (run_.empty()) return;
    const std::string run = std::exchange(run_, {});
    if (is_valid_utf8(run)) return emit(run);
    for (size_t i = 0; i < run.size(); ++i) emit("\uFFFD");
  }

 private:
  std::string run_;
};

/// sentencepiece's: as soon as a character is complete it is out, and an invalid byte is one U+FFFD.
class SentencePieceStage final : public DecodeStage {
 public:
  SentencePieceStage(bool strip, bool strip_all) : begins_(strip), strip_all_(strip_all) {}
  void push(std::string token, const Emit& emit) override {
    if (const auto byte = byte_of_token(token)) {
      begins_ = false;
      run_ += static_cast<char>(*byte);
      return emit(take(run_.size() - unfinished_bytes(run_)));
    }
    finish(emit);
    std::string_view text = token;
    if (begins_ && text.starts_with(kSpace)) {
      text.remove_prefix(kSpace.size());
      begins_ = strip_all_;
    }
    begins_ = begins_ && text.empty();
    emit(replace_all(text, kSpace, " "));
  }
  void finish(const Emit& emit) override { emit(take(run_.size())); }

 private:
  static constexpr std::string_view kSpace = "▁";

  std::string take(size_t bytes) {
    std::string text;
    size_t at = 0;
    while (at < bytes) {
      const size_t begin = at;
      next_code_point(run_, at);
      const std::string_view character = std::string_view(run_).substr(begin, at - begin);
      if (is_valid_utf8(character)) {
        text += character;
      } else {
        text += "\uFFFD";
        at = begin + 1;
      }
    }
    run_.erase(0, at);
    return text;
  }
  bool begins_, strip_all_;
  std::string run_;
};

/// Takes away up to `start` characters `content` at the beginning and `stop` at the end of the text.
class StripStage final : public DecodeStage {
 public:
  StripStage(std::string content, size_t start, size_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}
  void push(std::string token, const Emit& emit) override {
    std::string_view text = token;
    for (; start_ > 0 && text.starts_with(content_); --start_) text.remove_prefix(content_.size());
    if (text.empty()) return;
    start_ = 0;
    std::string out;
    if (stop_ == 0) return emit(std::string(text));
    while (!text.empty()) {
      size_t next = 0;
      next_code_point(text, next);
      const std::string_view character = text.substr(0, next);
      text.remove_prefix(next);
      if (stop_ > 0 && character == content_) {
        ++held_;
      } else {
        release(held_, out);
        out += character;
      }
    }
    if (!out.empty()) emit(std::move(out));
  }
  void finish(const Emit& emit) override {
    std::string out;
    release(held_ - std::min(held_, stop_), out);
    if (!out.empty()) emit(std::move(out));
  }

 private:
  void release(size_t count, std::string& out) {
    for (size_t i = 0; i < count; ++i) out += content_;
    held_ = 0;
  }
  std::string content_;
  size_t start_, stop_, held_ = 0;
};

/// A suffix that ends words is a space, and nothing in the last token.
class WordEndStage final : public DecodeStage {
 public:
  explicit WordEndStage(std::string suffix) : suffix_(std::move(suffix)) {}
  void push(std::string token, const Emit& emit) override {
    if (held_) emit(replaced(*held_, " "));
    held_ = std::move(token);
  }
  void finish(const Emit& emit) override {
    if (held_) emit(replaced(*held_, ""));
  }

 private:
  std::string replaced(const std::string& token, std::string_view by) const {
    return suffix_.empty() ? token : replace_all(token, suffix_, by);
  }
  std::string suffix_;
  std::optional<std::string> held_;
};

/// Strips one token alone.
std::string strip_token(std::string token, const std::string& content, size_t start, size_t stop) {
  StripStage stage(content, start, stop);
  std::string out;
  const DecodeStage::Emit emit = [&](std::string part) { out += part; };
  stage.push(std::move(token), emit);
  stage.finish(emit);
  return out;
}

/// A space before each token but the first and those that go on with a word; with `cleanup` none before what
/// ends a phrase or shortens a word.
class WordPieceStage final : public DecodeStage {
 public:
  WordPieceStage(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}
  void push(std::string token, const Emit& emit) override {
    if (!first_) {
      if (token.starts_with(prefix_)) {
        token.erase(0, prefix_.size());
      } else {
        token.insert(0, " ");
      }
    }
    first_ = false;
    emit(cleanup_ ? cleaned(std::move(token)) : std::move(token));
  }

 private:
  static std::string cleaned(std::string token) {
    constexpr std::pair<std::string_view, std::string_view> kShorter[] = {
        {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
        {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (const auto& [from, to] : kShorter) token = replace_all(token, from, to);
    return token;
  }

  std::string prefix_;
  bool cleanup_, first_ = true;
};

bool is_one_character(const std::string& text) {
  size_t at = 0;
  if (!text.empty()) next_code_point(text, at);
  return !text.empty() && at == text.size();
}

size_t count_of(const JsonView& field) {
  const int64_t count = field.integer();
  if (count < 0) field.fail(fmt::to_string(count), "a count");
  return static_cast<size_t>(count);
}

}  // namespace

std::string DecodeChain::push(std::string token) {
  std::string out;
  push_from(0, std::move(token), out);
  return out;
}

void DecodeChain::push_from(size_t stage, std::string token, std::string& out) {
  if (stage == stages_.size()) {
    out += token;
    return;
  }
  stages_[stage]->push(std::move(token),
                       [&](std::string next) { push_from(stage + 1, std::move(next), out); });
}

std::string DecodeChain::finish() {
  std::string out;
  for (size_t stage = 0; stage < stages_.size(); ++stage) {
    stages_[stage]->finish([&](std::string next) { push_from(stage + 1, std::move(next), out); });
  }
  return out;
}

TokenDecoder::TokenDecoder() {
  stages_.push_back([] { return std::make_unique<SpacesStage>(); });
}

TokenDecoder::TokenDecoder(const JsonView& field) {
  if (field.is_null())
    *this = TokenDecoder();
  else
    add(field);
}

TokenDecoder TokenDecoder::sentencepiece(bool strip, bool strip_all) {
  TokenDecoder decoder;
  decoder.stages_ = {[=] { return std::make_unique<SentencePieceStage>(strip, strip_all); }};
  return decoder;
}

DecodeChain TokenDecoder::start() const {
  std::vector<std::unique_ptr<DecodeStage>> stages;
  for (const Make& make : stages_) stages.push_back(make());
  return DecodeChain(std::move(stages));
}

/// A map of tokens; behind a fuse it needs the whole text unless it works character by character.
void TokenDecoder::add_text_map(TextMap map, bool by_character) {
  if (fused_ && !by_character)
    stages_.push_back([map] { return std::make_unique<WholeStage>(map); });
  else
    stages_.push_back([map] { return std::make_unique<MapStage>(map); });
}

void TokenDecoder::add(const JsonView& step) {
  const std::string type = step.at("type").string();
  if (type == "Sequence") {
    const JsonView list = step.at("decoders");
    for (size_t i = 0; i < list.size(); ++i) add(list.at(i));
    return;
  }
  if (type == "Replace") {
    const JsonView literal = step.at("pattern")["String"];
    return add_text_map(replacer(step), !literal.is_null() && is_one_character(literal.string()));
  }
  if (type == "Strip") {
    const std::string content = step.at("content").string();
    if (!is_one_character(content)) step["content"].fail("not one character", "one character");
    const size_t start = count_of(step.at("start")), stop = count_of(step.at("stop"));
    if (fused_) return stages_.push_back([=] { return std::make_unique<StripStage>(content, start, stop); });
    return add_text_map(
        [=](std::string token) { return strip_token(std::move(token), content, start, stop); }, false);
  }
  if (type == "Fuse") {
    fused_ = true;
    return;
  }
  // The rest speak of tokens; of one fused text each needs all of it.
  if (fused_) {
    stages_.push_back([] { return std::make_unique<WholeStage>([](std::string text) { return text; }); });
  }
  if (type == "ByteLevel") {
    fused_ = true;
    return stages_.push_back([] { return std::make_unique<ByteLevelStage>(); });
  }
  if (type == "ByteFallback") return stages_.push_back([] { return std::make_unique<ByteFallbackStage>(); });
  if (type == "Metaspace") {
    const std::string mark = step["replacement"].string("▁");
    if (!is_one_character(mark)) step["replacement"].fail("not one character", "one character");
    const bool keep =
        step["prepend_scheme"].string(step["add_prefix_space"].boolean(true) ? "always" : "never") == "never";
    return stages_.push_back([=] { return std::make_unique<MetaspaceStage>(mark, keep); });
  }
  if (type == "BPEDecoder") {
    const std::string suffix = step["suffix"].string("</w>");
    return stages_.push_back([=] { return std::make_unique<WordEndStage>(suffix); });
  }
  if (type == "WordPiece") {
    const std::string prefix = step["prefix"].string("##");
    const bool cleanup = step["cleanup"].boolean(true);
    return stages_.push_back([=] { return std::make_unique<WordPieceStage>(prefix, cleanup); });
  }
  step.fail(fmt::format("decoder \"{}\"", printable(type, 40)),
            "Sequence, ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip, BPEDecoder or WordPiece");
}

}  // namespace linnet
