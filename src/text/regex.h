// The regular expressions of tokenizer files, which are written for Oniguruma and run here on PCRE2 with its
// just-in-time compiler. A pattern or text that backtracks without end gives an Error, not a hang.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace linnet {

class Regex {
 public:
  /// Throws Error (at `where`) on a pattern that does not compile (regex_syntax.h).
  Regex(std::string_view pattern, std::string where);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  /// Calls found(begin, end) for each match in order, without overlaps. `text` is valid UTF-8. Throws Error
  /// past the match limit. Thread-safe.
  void for_each_match(std::string_view text, const std::function<void(size_t, size_t)>& found) const;

  /// `pattern` in which every character stands for itself.
  static std::string escape(std::string_view literal);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet
