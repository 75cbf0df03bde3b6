// The sets of code points that Oniguruma's patterns name, in its version of Unicode (16.0 in tokenizers
// 0.23), and how PCRE2's general categories (Unicode 14.0 in 10.42) differ from them. The data is made by
// scripts/golden/make_unicode.py.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/code_points.h"

namespace linnet {

/// By the name of a property (\p{…}: general category, script, block as InGreek, binary property; case,
/// spaces, _ and - do not count), of a bracket ("[:alpha:]") or of an escape ("\w", "\d", "\s", "\h").
std::optional<CodePointSet> named_set(std::string_view name);

/// The members of a PCRE2 class ([…] without the brackets) that holds `set` and nothing else.
/// `by_category`: whole categories are spelled \p{…}, which matches faster; only for a PCRE2 of Unicode 14
/// and where case counts.
struct ClassSpelling {
  std::string members;
  size_t ranges = 0;  // that are spelled out
};
ClassSpelling spell_class(const CodePointSet& set, bool by_category);

}  // namespace linnet
