#include "attention/rotation.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/rotary_columns.h"

namespace linnet {
namespace {

using kernels::padded;

/// Cosines and sines of one turn, kept by the thread: all layers of a model turn alike. In float64.
struct Turn {
  int64_t positions = -1;
  std::vector<double> frequencies, cosines, sines;

  static const Turn& of(int64_t positions, const std::vector<double>& frequencies) {
    thread_local Turn turn;
    if (turn.positions != positions || turn.frequencies != frequencies) {
      turn.positions = positions;
      turn.frequencies = frequencies;
      turn.cosines.clear();
      turn.sines.clear();
      for (double frequency : frequencies) {
        turn.cosines.push_back(std::cos(static_cast<double>(positions) * frequency));
        turn.sines.push_back(std::sin(static_cast<double>(positions) * frequency));
      }
    }
    return turn;
  }
};

}  // namespace

template <class T>
KeyRotation<T>::KeyRotation(const Rotation& rotation, int64_t head_size, int64_t group)
    : rotation_(rotation),
      head_size_(head_size),
      half_(static_cast<int64_t>(rotation.inverse_frequencies.size())),
      group_(group),
      angle_row_(padded(group) + kernels::kPad),
      cosines_(half_ * angle_row_),
      sines_(half_ * angle_row_) {
  for (int64_t i = 0; i < half_; ++i) {
    for (int64_t s = 0; s < angle_row_; ++s) {
      const double angle = -static_cast<double>(s) * rotation.inverse_frequencies[i];
      cosines_[i * angle_row_ + s] = T(std::cos(angle));
      sines_[i * angle_row_ + s] = T(std::sin(angle));
    }
  }
}

// A vector at position p turned on by `positions` is that at p + positions: the angles add.
template <class T>
template <class S>
void KeyRotation<T>::turn(int64_t positions, S* vector, int64_t stride) const {
  const Turn& angles = Turn::of(positions, rotation_.inverse_frequencies);
  for (int64_t i = 0; i < half_; ++i) {
    const T cosine = T(angles.cosines[i]), sine = T(angles.sines[i]);
    S &first = vector[i * stride], &second = vector[(i + half_) * stride];
    const T before = T(first), other = T(second);
    first = S(before * cosine - other * sine);
    second = S(other * cosine + before * sine);
  }
}

template <class T>
void KeyRotation<T>::block_angles(int64_t block, T* cosines, T* sines) const {
  const Turn& start = Turn::of(-block * group_, rotation_.inverse_frequencies);
  for (int64_t i = 0; i < half_; ++i) {
    const T cosine = T(start.cosines[i] / rotation_.factor), sine = T(start.sines[i] / rotation_.factor);
    kernels::add_angle(angle_row_, cosine, sine, cosines_.data() + i * angle_row_,
                       sines_.data() + i * angle_row_, cosines + i * angle_row_, sines + i * angle_row_);
  }
}

template <class T>
TokenBlock<T> KeyRotation<T>::before_rotary(TokenBlock<T> tokens, Scratch& scratch) const {
  if (!turns() || tokens.count == 0) return tokens;
  const int64_t row = padded(tokens.count), place = tokens.position % group_;
  assert(place + tokens.count <= group_);
  T* keys = scratch.take<T>(head_size_ * row);
  const Scratch::Scope scope(scratch);
  T* cosines = scratch.take<T>(half_ * angle_row_);
  T* sines = scratch.take<T>(half_ * angle_row_);
  block_angles(tokens.position / group_, cosines, sines);
  kernels::turn_columns(head_size_, half_, row, tokens.keys, tokens.key_row, cosines + place, sines + place,
                        angle_row_, keys, row);
  tokens.keys = keys;
  tokens.key_row = row;
  return tokens;
}

template <class T>
const T* KeyRotation<T>::before_rotary(int64_t count, const int64_t* positions, const T* keys, int64_t row,
                                       Scratch& scratch) const {
  if (!turns()) return keys;
  T* out = scratch.take<T>(head_size_ * row);
  const Scratch::Scope scope(scratch);
  T* block_cosines = scratch.take<T>(half_ * angle_row_);
  T* block_sines = scratch.take<T>(half_ * angle_row_);
  T* cosines = scratch.take<T>(half_ * row);
  T* sines = scratch.take<T>(half_ * row);
  std::fill_n(cosines, half_ * row, T(0));
  std::fill_n(sines, half_ * row, T(0));
  int64_t block = -1;
  for (int64_t s = 0; s < count; ++s) {
    if (positions[s] < 0) continue;
    if (positions[s] / group_ != block) {
      block = positions[s] / group_;
      block_angles(block, block_cosines, block_sines);
    }
    const int64_t place = positions[s] % group_;
    for (int64_t i = 0; i < half_; ++i) {
      cosines[i * row + s] = block_cosines[i * angle_row_ + place];
      sines[i * row + s] = block_sines[i * angle_row_ + place];
    }
  }
  kernels::turn_columns(head_size_, half_, row, keys, row, cosines, sines, row, out, row);
  return out;
}

template class KeyRotation<float>;
template class KeyRotation<double>;
template void KeyRotation<float>::turn(int64_t, float*, int64_t) const;
template void KeyRotation<float>::turn(int64_t, BFloat16*, int64_t) const;
template void KeyRotation<double>::turn(int64_t, double*, int64_t) const;
template void KeyRotation<double>::turn(int64_t, BFloat16*, int64_t) const;

}  // namespace linnet
