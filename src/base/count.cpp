#include "base/count.h"

#include <cctype>
#include <limits>

namespace linnet {
namespace {

constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();

bool is_digit(std::string_view text) { return !text.empty() && text.front() >= '0' && text.front() <= '9'; }

char lower(std::string_view text) {
  return text.empty() ? '\0' : static_cast<char>(std::tolower(static_cast<unsigned char>(text.front())));
}

/// value · base^times, where that fits.
bool scale(uint64_t& value, uint64_t base, int64_t times) {
  for (; times > 0 && value != 0; --times) {
    if (value > kMost / base) return false;
    value *= base;
  }
  return true;
}

/// Takes "e6" or "e-2" from the front of `text` and adds it to `power`; what is no exponent stays.
bool take_exponent(std::string_view& text, int64_t& power) {
  if (lower(text) != 'e') return true;
  text.remove_prefix(1);
  const bool down = !text.empty() && text.front() == '-';
  if (down || (!text.empty() && text.front() == '+')) text.remove_prefix(1);
  if (!is_digit(text)) return false;
  int64_t exponent = 0;
  for (; is_digit(text); text.remove_prefix(1)) {
    if (exponent < 1000) exponent = 10 * exponent + (text.front() - '0');
  }
  power += down ? -exponent : exponent;
  return true;
}

/// Takes a unit: how many thousands, or how many factors of 1024.
void take_unit(std::string_view& text, int64_t& power, int64_t& binary) {
  constexpr std::string_view kUnits = "kmgt";
  const size_t unit = text.empty() ? kUnits.npos : kUnits.find(lower(text));
  if (unit != kUnits.npos) {
    const auto steps = static_cast<int64_t>(unit) + 1;
    text.remove_prefix(1);
    if (lower(text) == 'i') {
      text.remove_prefix(1);
      binary = steps;
    } else {
      power += 3 * steps;
    }
  }
  if (lower(text) == 'b') text.remove_prefix(1);
}

}  // namespace

std::optional<int64_t> parse_count(std::string_view text) {
  if (!is_digit(text)) return std::nullopt;
  uint64_t value = 0;
  int64_t power = 0, binary = 0;  // value · 10^power · 1024^binary
  bool fraction = false;
  for (; is_digit(text) || (!fraction && !text.empty() && text.front() == '.'); text.remove_prefix(1)) {
    if (text.front() == '.') {
      fraction = true;
      continue;
    }
    const auto digit = static_cast<uint64_t>(text.front() - '0');
    if (value > (kMost - digit) / 10) return std::nullopt;
    value = 10 * value + digit;
    if (fraction) --power;
  }
  if (!take_exponent(text, power)) return std::nullopt;
  take_unit(text, power, binary);
  if (!text.empty() || !scale(value, 1024, binary) || !scale(value, 10, power)) return std::nullopt;
  for (; power < 0 && value != 0; ++power) {
    if (value % 10 != 0) return std::nullopt;
    value /= 10;
  }
  return static_cast<int64_t>(value);
}

std::string counted(int64_t count, std::string_view noun, std::string_view plural) {
  std::string text = std::to_string(count) + " ";
  if (count == 1 || plural.empty()) return text.append(noun).append(count == 1 ? "" : "s");
  return text.append(plural);
}

}  // namespace linnet
