#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <new>
#include <optional>

#include "base/error.h"
#include "text/regex_syntax.h"
#include "text/utf8.h"

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
  const std::string ours = pcre2_pattern(pattern, where);
  // Looking ahead for where a match may start, PCRE2 10.42's just-in-time code misses matches that begin with
  // an atomic group ((?>.+?)b in "<ab"); matches of tokenizers mostly stand side by side, so it would save
  // nothing.
  constexpr uint32_t kOptions =
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_START_OPTIMIZE;
  int code = 0;
  PCRE2_SIZE offset = 0;
  impl_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(ours.data()), ours.size(), kOptions, &code,
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
  std::optional<size_t> last;  // where the match before ended
  while (from <= text.size()) {
    const int count =
        pcre2_match(impl_->code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK, data.get(), context);
    if (count == PCRE2_ERROR_NOMATCH) return;
    if (count < 0) {
      throw Error(impl_->where, fmt::format("the pattern gives up on this text ({})", message_of(count)),
                  "a pattern that does not backtrack so much");
    }
    // \K can put the beginning behind the end; such a match is empty.
    const size_t end = span[1], begin = std::min(span[0], end);
    if (begin == end && last == end) {  // an empty match right behind another does not count
      if (from == text.size()) return;
      next_code_point(text, from);
      continue;
    }
    found(begin, end);
    from = end;
    last = end;
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
