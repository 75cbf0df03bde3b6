// How rows of x are grouped that meet a weight together.
#pragma once

#include <cstdint>

namespace linnet::kernels {

/// Rows in groups that meet a weight while it is in a register: as many, or one more.
struct Groups {
  int64_t rows, count;

  int64_t smaller() const { return rows / count; }
  int64_t larger() const { return (rows + count - 1) / count; }
  /// The first row of a group.
  int64_t begin(int64_t group) const { return group * rows / count; }
  int64_t of_row(int64_t row) const { return ((row + 1) * count - 1) / rows; }
};

}  // namespace linnet::kernels
