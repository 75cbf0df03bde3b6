// What a loaded tokenizer is made of. The readers (tokenizer_json, sentencepiece) fill it in.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "text/added_tokens.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/token_decoder.h"
#include "text/token_model.h"
#include "text/tokenizer.h"
#include "text/tokenizer_files.h"

namespace linnet {

struct Tokenizer::Impl {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::unique_ptr<TokenModel> model;
  TokenDecoder decoder;
  AddedTokens added;
  PostProcessor post;
  std::optional<int32_t> bos, eos;
  std::string where;  // the file
  int32_t vocabulary = 0;

  std::optional<int32_t> id_of(std::string_view token) const;
  /// The token of an id as the decoder takes it; nothing where it is left out. Throws Error out of range.
  std::optional<std::string> token_to_decode(int32_t id, bool skip_special) const;
  void encode(std::string_view text, std::vector<int32_t>& ids, EncodeScratch& scratch) const;
  std::vector<int32_t> encode_end(std::string_view text, size_t count, EncodeScratch& scratch) const;

  std::unique_ptr<EncodeScratch> take_scratch() const;
  void give_scratch(std::unique_ptr<EncodeScratch> scratch) const;

 private:
  /// A part of what AddedTokens::split() makes of the text as it stands.
  void encode_part(std::string_view part, int32_t id, bool first, std::vector<int32_t>& ids,
                   EncodeScratch& scratch) const;
  void encode_between(std::string_view text, bool first, std::vector<int32_t>& ids,
                      EncodeScratch& scratch) const;

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<EncodeScratch>> free_;  // at most one for each thread that has encoded
};

/// From the text of a tokenizer.json. Throws Error on anything malformed.
std::shared_ptr<Tokenizer::Impl> read_tokenizer_json(std::string_view text, const std::string& where);

/// From the bytes of a sentencepiece model and the files beside it. Throws Error on anything malformed.
std::shared_ptr<Tokenizer::Impl> read_sentencepiece(std::string_view bytes, const std::string& where,
                                                    const TokenizerFiles& files);

/// From BERT's vocab.txt, a token a line, and the files beside it. Throws Error on anything malformed, and
/// where a special token that every text gets is not among them.
std::shared_ptr<Tokenizer::Impl> read_vocab_txt(std::string_view text, const std::string& where,
                                                const TokenizerFiles& files);

/// Applies what the files say: bos_token, eos_token, add_bos_token, add_eos_token.
void apply_files(Tokenizer::Impl& tokenizer, const TokenizerFiles& files);

/// Where no file names them: the special tokens of well-known names.
void guess_bos_and_eos(Tokenizer::Impl& tokenizer);

}  // namespace linnet
