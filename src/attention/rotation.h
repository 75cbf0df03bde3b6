// How keys turn with their positions (Su et al. 2021, section 3.2, in the half-split layout of LLaMA): moved
// on, and turned back to what they were before, so that a state need not hold a key twice.
//
//     k at position p = factor · R(p) k before,   so   k before = R(−p) k / factor
//
// Of every form the runtime has, each reads keys before rotary that are turned back from rotated ones, a
// token's numbers by themselves and in one order: the same bits whether the token stands in a block that
// folds, waits, or is a node of a tree.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/summary.h"
#include "base/scratch.h"

namespace linnet {

/// What a model's keys do with their positions: number i of a head turns with number i + n, n being the
/// number of frequencies; those from 2n on stand still. Without any frequency (learned positions) keys are
/// the same before and after.
struct Rotation {
  std::vector<double> inverse_frequencies;  // [rotary size / 2]
  int64_t trained_positions = 0;            // P: past it keys of sinks and kept tokens move on
  double factor = 1;                        // that multiplies what turns (yarn)
};

template <class T>
class KeyRotation {
 public:
  /// `group`: tokens of a block, whose angles are made together.
  KeyRotation(const Rotation& rotation, int64_t head_size, int64_t group);

  bool turns() const { return half_ > 0; }
  int64_t trained_positions() const { return rotation_.trained_positions; }

  /// Moves a rotated vector on by so many positions, back where that is below 0: number x is
  /// vector[x * stride]. S: T, or the type in which a state holds it, to which it is rounded.
  template <class S>
  void turn(int64_t positions, S* vector, int64_t stride) const;

  /// Consecutive tokens of one block with their keys before rotary, which stand in scratch.
  TokenBlock<T> before_rotary(TokenBlock<T> rotated, Scratch& scratch) const;
  /// Keys before rotary, in scratch, of `count` columns of keys [d, row], column s at position positions[s];
  /// row is padded(count). Those of a position below 0 are 0.
  const T* before_rotary(int64_t count, const int64_t* positions, const T* keys, int64_t row,
                         Scratch& scratch) const;

 private:
  /// Cosines and sines [half, angle_row_], over the factor, that turn each token of a block back.
  void block_angles(int64_t block, T* cosines, T* sines) const;

  Rotation rotation_;
  int64_t head_size_, half_, group_;
  int64_t angle_row_;               // readable to padded(count) from any token on
  std::vector<T> cosines_, sines_;  // [half, angle_row_] of turning back by a token's place in its block
};

}  // namespace linnet
