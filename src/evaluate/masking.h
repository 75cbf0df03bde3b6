// Rows of text for encoders: framed by special tokens, and some of their tokens masked (BERT's objective,
// Devlin et al., 2019, section 3.1).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace linnet {

struct EncoderTokens {
  int32_t first = 0, separator = 0;  // around a sequence; the latter stands between documents too
  int32_t mask = -1;                 // −1: the tokenizer has none
  int32_t vocabulary = 0;            // replacements are drawn below it

  /// Throws Error (at `where`) where the tokenizer sets no two tokens around a text.
  static EncoderTokens of(const Tokenizer& tokenizer, const std::string& where);
  /// Throws Error (at `where`) where there is no mask.
  void require_mask(const std::string& where) const;
  /// Throws Error (at `where`) on texts of so many tokens, of which two frame them, that the model's
  /// positions do not hold.
  static void check_window(int64_t tokens, int64_t longest, const std::string& where);
};

/// A row of a text becomes a sequence: its first and its last token give way to the special ones.
void frame(std::span<int32_t> tokens, const EncoderTokens& special);

/// Masks a row in place: each token but the special ones is chosen with 15%, one at least; of those 80%
/// become the mask, 10% a random token, and 10% stay. Gives their places. A function of (seed, row) alone.
/// Throws Error where the tokenizer has no mask.
std::vector<int64_t> mask_tokens(std::span<int32_t> tokens, const EncoderTokens& special, uint64_t seed,
                                 int64_t row);

/// A text with tokens masked, and what was asked of it.
struct MaskedText {
  static constexpr int64_t kWindow = 512;  // tokens at most, unless told, and as far as positions reach

  std::vector<int32_t> tokens;  // special ones around
  std::vector<int64_t> places;  // of the masked ones
  std::vector<int32_t> wanted;  // what stood there
  std::vector<int32_t> types;   // of the tokens; empty: all are of kind 0
};

/// A document as texts of at most `window` ≥ 3 tokens, the special ones among them, the last with what
/// remains; each masked by its number, which is `first` of the first, and seed 0: what held-out text is
/// scored by, in training and by `linnet perplexity`.
std::vector<MaskedText> masked_texts(std::span<const int32_t> document, const EncoderTokens& special,
                                     int64_t window, int64_t first);

}  // namespace linnet
