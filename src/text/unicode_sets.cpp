#include "text/unicode_sets.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

namespace linnet {
namespace {

struct NamedSet {
  uint32_t categories;  // bits
  uint16_t first, count;
};

#include "text/unicode_data.inc"

constexpr std::array<std::string_view, 29> kCategories = {
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
    "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cn"};
constexpr std::pair<std::string_view, uint32_t> kGroups[] = {
    {"L", 0x1F}, {"M", 0x7 << 5}, {"N", 0x7 << 8}, {"P", 0x7F << 11}, {"S", 0xF << 18}, {"Z", 0x7 << 22}};
constexpr uint32_t kUnassigned = 1u << 28;

/// Calls take(range, category) for the runs of the general categories.
template <typename Take>
void for_each_category_run(const Take& take) {
  const size_t count = std::size(kCategoryRuns);
  for (size_t i = 0; i < count; ++i) {
    const char32_t end = i + 1 < count ? kCategoryRuns[i + 1] >> 5 : kLastCodePoint + 1;
    take(CodePointRange{kCategoryRuns[i] >> 5, end - 1}, kCategoryRuns[i] & 31);
  }
}

/// What both hold of, or neither.
CodePointSet symmetric_difference(const CodePointSet& a, const CodePointSet& b) {
  return (a & b.complement()) | (b & a.complement());
}

CodePointSet set_of(const NamedSet& named) {
  std::vector<CodePointRange> whole;
  for_each_category_run([&](CodePointRange range, uint32_t category) {
    if (named.categories >> category & 1) whole.push_back(range);
  });
  const auto* first = kDiffering + named.first;
  return symmetric_difference(CodePointSet(std::move(whole)),
                              CodePointSet(std::vector<CodePointRange>(first, first + named.count)));
}

/// PCRE2's categories, each as a set.
const std::array<CodePointSet, 29>& pcre2_categories() {
  static const std::array<CodePointSet, 29> kSetsByCategory = [] {
    std::array<std::vector<CodePointRange>, 29> theirs;
    std::vector<CodePointRange> changed;
    for (const auto& [first, last, category] : kPcre2Differs) {
      changed.push_back({first, last});
      theirs[category].push_back({first, last});
    }
    const CodePointSet same = CodePointSet(std::move(changed)).complement();
    std::array<std::vector<CodePointRange>, 29> ours;
    for_each_category_run([&](CodePointRange range, uint32_t c) { ours[c].push_back(range); });
    std::array<CodePointSet, 29> sets;
    for (size_t c = 0; c < sets.size(); ++c)
      sets[c] = (CodePointSet(std::move(ours[c])) & same) | CodePointSet(std::move(theirs[c]));
    return sets;
  }();
  return kSetsByCategory;
}

/// Whether any member of `set` lies in `range`.
bool touches(const CodePointSet& set, CodePointRange range) {
  const auto at = std::ranges::lower_bound(set.ranges(), range.first, {}, &CodePointRange::last);
  return at != set.ranges().end() && at->first <= range.last;
}

std::string spelled(uint32_t categories) {
  std::string out;
  for (const auto& [name, bits] : kGroups) {
    if ((categories & bits) != bits) continue;
    out += fmt::format("\\p{{{}}}", name);
    categories &= ~bits;
  }
  for (size_t c = 0; c < kCategories.size(); ++c) {
    if (categories >> c & 1) out += fmt::format("\\p{{{}}}", kCategories[c]);
  }
  return out;
}

}  // namespace

std::optional<CodePointSet> named_set(std::string_view name) {
  std::string key;
  for (const char c : name) {
    if (c == ' ' || c == '_' || c == '-') continue;
    key += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  const auto* found = std::ranges::lower_bound(kNames, std::string_view(key), {},
                                               &std::pair<std::string_view, uint16_t>::first);
  if (found == std::end(kNames) || found->first != key) return std::nullopt;
  return set_of(kSets[found->second]);
}

ClassSpelling spell_class(const CodePointSet& set, bool by_category) {
  uint32_t whole = 0;
  CodePointSet covered;
  for (size_t c = 0; by_category && c < kCategories.size(); ++c) {
    const CodePointSet& category = pcre2_categories()[c];
    if ((kUnassigned >> c & 1) != 0 || (category & set) != category) continue;
    whole |= 1u << c;
    covered = covered | category;
  }
  const CodePointSet uncovered = set & covered.complement();
  ClassSpelling spelling{spelled(whole)};
  for (auto [first, last] : set.ranges()) {
    // PCRE2 looks the first 256 up in a table; beyond, each range costs a comparison.
    if (first > 0xFF && !touches(uncovered, {first, last})) continue;
    if (first >= 0xD800 && first <= 0xDFFF) first = 0xE000;  // no code points to PCRE2
    if (last >= 0xD800 && last <= 0xDFFF) last = 0xD7FF;
    if (first > last) continue;
    spelling.members += fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", uint32_t{first}, uint32_t{last});
    ++spelling.ranges;
  }
  return spelling;
}

}  // namespace linnet
