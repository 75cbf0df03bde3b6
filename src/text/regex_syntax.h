// Oniguruma's regular expressions (Ruby's syntax, as Hugging Face's tokenizers use it) in PCRE2's spelling.
#pragma once

#include <string>
#include <string_view>

namespace linnet {

/// The PCRE2 pattern (for UTF, MULTILINE) that matches what `pattern` (valid UTF-8) matches in Oniguruma:
/// its sets of characters become explicit ones, the rest is spelled so that both read it alike. Throws Error
/// (at `where`) on what Oniguruma refuses and on what has no counterpart here (absent operators,
/// conditionals, \y).
std::string pcre2_pattern(std::string_view pattern, const std::string& where);

}  // namespace linnet
