#include "text/code_points.h"

#include <algorithm>

namespace linnet {

CodePointSet::CodePointSet(std::vector<CodePointRange> ranges) {
  std::ranges::sort(ranges, {}, &CodePointRange::first);
  for (const CodePointRange& range : ranges) {
    if (!ranges_.empty() && range.first <= ranges_.back().last + 1)
      ranges_.back().last = std::max(ranges_.back().last, range.last);
    else
      ranges_.push_back(range);
  }
}

bool CodePointSet::contains(char32_t code_point) const {
  const auto after = std::ranges::upper_bound(ranges_, code_point, {}, &CodePointRange::first);
  return after != ranges_.begin() && code_point <= std::prev(after)->last;
}

CodePointSet CodePointSet::complement() const {
  CodePointSet set;
  char32_t begin = 0;
  for (const CodePointRange& range : ranges_) {
    if (range.first > begin) set.ranges_.push_back({begin, range.first - 1});
    begin = range.last + 1;
  }
  if (begin <= kLastCodePoint) set.ranges_.push_back({begin, kLastCodePoint});
  return set;
}

CodePointSet CodePointSet::operator|(const CodePointSet& other) const {
  std::vector<CodePointRange> both = ranges_;
  both.insert(both.end(), other.ranges_.begin(), other.ranges_.end());
  return CodePointSet(std::move(both));
}

CodePointSet CodePointSet::operator&(const CodePointSet& other) const {
  CodePointSet set;
  for (size_t i = 0, j = 0; i < ranges_.size() && j < other.ranges_.size();) {
    const CodePointRange& a = ranges_[i];
    const CodePointRange& b = other.ranges_[j];
    const CodePointRange common{std::max(a.first, b.first), std::min(a.last, b.last)};
    if (common.first <= common.last) set.ranges_.push_back(common);
    ++(a.last < b.last ? i : j);
  }
  return set;
}

}  // namespace linnet
