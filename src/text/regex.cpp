#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <new>

#include "base/error.h"

namespace linnet {
namespace {

constexpr uint32_t kMatchLimit = 10'000'000;  // steps from one start; a real pre-tokenizer needs a few
constexpr size_t kMaxPattern = 1 << 16;       // bytes
constexpr size_t kMaxJitStack = 8 << 20;      // bytes

template <auto free>
struct Free {
  template <typename T>
  void operator()(T* pointer) const {
    free(pointer);
  }
};

/// Oniguruma's spelling in PCRE2's. \s and \w are properties in both; PCRE2 10.42's own differ from Unicode
/// in a few characters (U+180E is a space to it, combining marks are not in a word).
std::string translated(std::string_view pattern, const std::string& where) {
  constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
  std::string out;
  int depth = 0;  // of [ ]
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const char next = i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (c == '\\') {
      ++i;
      if (next == 's')
        out += "\\p{White_Space}";
      else if (next == 'S')
        out += "\\P{White_Space}";
      else if (next == 'w')
        out += depth > 0 ? std::string(kWord) : fmt::format("[{}]", kWord);
      else if (next == 'W' && depth == 0)
        out += fmt::format("[^{}]", kWord);
      else if (next == 'h')
        out += depth > 0 ? "0-9a-fA-F" : "[0-9a-fA-F]";
      else if (next == 'u' && i + 4 < pattern.size())
        out += fmt::format("\\x{{{}}}", pattern.substr(i + 1, 4)), i += 4;
      else if (i < pattern.size())
        out += c, out += next;
      else
        out += c;
      continue;
    }
    if (depth > 0 && c == '&' && next == '&') {
      throw Error(where, "set intersection (&&) in a pattern", "a pattern without it");
    }
    if (depth > 0 && c == '[' && next == ':') {  // [:alpha:]
      const size_t close = pattern.find(":]", i);
      const size_t length = close == std::string_view::npos ? 1 : close + 2 - i;
      out += pattern.substr(i, length);
      i += length - 1;
      continue;
    }
    if (c == '[') {
      // A ] that stands first in a class is a character.
      ++depth;
      out += c;
      if (next == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') out += "\\]", ++i;
      if (depth > 1) throw Error(where, "a class within a class in a pattern", "a pattern without it");
      continue;
    }
    if (c == ']' && depth > 0) --depth;
    out += c;
  }
  return out;
}

std::string message_of(int code) {
  PCRE2_UCHAR message[256] = {};
  pcre2_get_error_message(code, message, sizeof message);
  return reinterpret_cast<const char*>(message);
}

/// What a thread matches with, whatever the pattern. A stack is memory from the system: made once, not per
/// text.
class Matching {
 public:
  static pcre2_match_context* of_thread() {
    thread_local const Matching matching;
    return matching.context_.get();
  }

 private:
  Matching()
      : context_(pcre2_match_context_create(nullptr)),
        stack_(pcre2_jit_stack_create(32 << 10, kMaxJitStack, nullptr)) {
    if (!context_) throw std::bad_alloc();
    pcre2_set_match_limit(context_.get(), kMatchLimit);
    if (stack_) pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
  }

  std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>> context_;
  std::unique_ptr<pcre2_jit_stack, Free<pcre2_jit_stack_free>> stack_;
};

}  // namespace

struct Regex::Impl {
  std::unique_ptr<pcre2_code, Free<pcre2_code_free>> code;
  std::string where;
};

Regex::Regex(std::string_view pattern, std::string where) : impl_(std::make_unique<Impl>()) {
  if (pattern.size() > kMaxPattern) {
    throw Error(where, fmt::format("a pattern of {} bytes", pattern.size()),
                fmt::format("at most {}", kMaxPattern));
  }
  const std::string ours = translated(pattern, where);
  int code = 0;
  PCRE2_SIZE offset = 0;
  impl_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(ours.data()), ours.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code,
                                  &offset, nullptr));
  if (!impl_->code) {
    throw Error(where,
                fmt::format("pattern \"{}\" does not compile ({})", printable(pattern, 60), message_of(code)),
                "a regular expression");
  }
  // Without a just-in-time compiler on this machine the interpreter does the same, slower.
  pcre2_jit_compile(impl_->code.get(), PCRE2_JIT_COMPLETE);
  impl_->where = std::move(where);
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

void Regex::for_each_match(std::string_view text, const std::function<void(size_t, size_t)>& found) const {
  const std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>> data(
      pcre2_match_data_create_from_pattern(impl_->code.get(), nullptr));
  pcre2_match_context* context = Matching::of_thread();
  if (!data) throw std::bad_alloc();
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const size_t* span = pcre2_get_ovector_pointer(data.get());
  size_t from = 0;
  uint32_t options = PCRE2_NO_UTF_CHECK;
  while (from <= text.size()) {
    const int count =
        pcre2_match(impl_->code.get(), subject, text.size(), from, options, data.get(), context);
    if (count == PCRE2_ERROR_NOMATCH) return;
    if (count < 0) {
      throw Error(impl_->where, fmt::format("the pattern gives up on this text ({})", message_of(count)),
                  "a pattern that does not backtrack so much");
    }
    // \K can put the beginning behind the end; such a match is empty.
    const size_t end = span[1], begin = std::min(span[0], end);
    found(begin, end);
    from = end;
    options = PCRE2_NO_UTF_CHECK | (begin == end ? PCRE2_NOTEMPTY_ATSTART : 0);
  }
}

std::string Regex::escape(std::string_view literal) {
  std::string escaped;
  for (const char c : literal) {
    if (static_cast<unsigned char>(c) < 0x80 && !isalnum(static_cast<unsigned char>(c))) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

}  // namespace linnet
