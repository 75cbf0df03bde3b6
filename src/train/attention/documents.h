// Where packed rows' documents begin, and how their tokens are laid into groups: every document starts a
// group of its own, so that positions, groups and attention start anew in it. Planned on the CPU, where
// packing put the documents, so that a training step never waits for the device.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <memory>

namespace linnet::train {

/// Tokens of B rows as groups of C: [B, groups, C] places. A document starts a new group; the places after
/// its last token, up to the end of that group, are padding. Where a row is one document, so is the end of
/// the row.
struct GroupLayout {
  int64_t size = 0;    // C
  int64_t groups = 0;  // of a row, padding included
  at::Tensor index;    // [B · groups · C] int64: the token (of B · n) at each place; undefined: in order
  at::Tensor inverse;  // [B · n] int64: each token's place
  at::Tensor number;   // [B or 1, groups] int64: the group's number within its document
};

class Documents {
 public:
  /// `documents` [B, n] int32 on the CPU as in Batch; undefined: one document a row. `device` gets the
  /// indices. Throws Error where it decreases along a row or has another shape than [B, n].
  Documents(const at::Tensor& documents, int64_t rows, int64_t length, at::Device device);

  bool one_each() const { return !starts_cpu_.defined(); }
  int64_t rows() const { return rows_; }
  int64_t length() const { return length_; }
  at::Device device() const { return device_; }

  /// Each token's position in its document, [B or 1, n] int64 on the device.
  const at::Tensor& positions() const { return positions_; }
  /// The place in the row where each token's document begins, [B, n] int64 on the CPU. Undefined if
  /// one_each().
  const at::Tensor& starts_cpu() const { return starts_cpu_; }
  /// Where documents begin among all B · n tokens, and their end: [documents + 1] int32 on the device.
  const at::Tensor& boundaries() const { return boundaries_; }
  int64_t longest() const { return longest_; }  // tokens of the longest document

  /// Computed once for each group size.
  const GroupLayout& groups(int64_t size) const;

 private:
  GroupLayout lay(int64_t size) const;

  int64_t rows_, length_, longest_;
  at::Device device_;
  at::Tensor starts_cpu_, positions_, boundaries_;
  mutable std::map<int64_t, GroupLayout> layouts_;
};

/// x [B, heads, n, d] -> [heads, B, groups, C, d]; padding holds any numbers of x, or 0.
at::Tensor to_groups(const at::Tensor& x, const GroupLayout& layout);
/// x [heads, B, groups · C, d] -> [heads, B, n, d].
at::Tensor from_groups(const at::Tensor& x, const GroupLayout& layout, int64_t length);

}  // namespace linnet::train
