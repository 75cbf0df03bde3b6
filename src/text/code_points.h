// Sets of code points, as classes of regular expressions have them.
#pragma once

#include <cstdint>
#include <vector>

namespace linnet {

struct CodePointRange {
  char32_t first, last;
  bool operator==(const CodePointRange&) const = default;
};

constexpr char32_t kLastCodePoint = 0x10FFFF;

class CodePointSet {
 public:
  CodePointSet() = default;
  /// In any order, overlapping or not.
  explicit CodePointSet(std::vector<CodePointRange> ranges);

  /// Sorted; neither overlapping nor touching.
  const std::vector<CodePointRange>& ranges() const { return ranges_; }
  bool empty() const { return ranges_.empty(); }
  bool contains(char32_t code_point) const;

  CodePointSet complement() const;
  CodePointSet operator|(const CodePointSet& other) const;
  CodePointSet operator&(const CodePointSet& other) const;
  bool operator==(const CodePointSet&) const = default;

 private:
  std::vector<CodePointRange> ranges_;
};

}  // namespace linnet
