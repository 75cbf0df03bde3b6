// Random attentions, sequences and trees, and one attention run over them in every form.
#pragma once

#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "attention/rotation.h"
#include "base/random.h"
#include "tests/attention/reference.h"

namespace linnet {

template <class T>
constexpr double kTolerance = sizeof(T) == 8 ? 1e-10 : 1e-5;

/// Rows of tokens, rounded to T, laid out as [heads, count, size].
template <class T>
struct Tokens {
  AttentionShape shape;
  int64_t count;
  std::vector<T> q, k, v, summary_q, summary_k;

  Tokens(const AttentionShape& s, int64_t n, uint64_t seed) : shape(s), count(n) {
    const auto fill = [&](std::vector<T>& to, int64_t numbers, uint64_t stream) {
      to.resize(numbers);
      for (int64_t i = 0; i < numbers; ++i) to[i] = T(normal(seed, stream, i));
    };
    fill(q, s.heads * n * s.head_size, 1);
    fill(k, s.kv_heads * n * s.head_size, 2);
    fill(v, s.kv_heads * n * s.value_size, 3);
    fill(summary_q, q.size(), 4);
    fill(summary_k, k.size(), 5);
  }

  Rows<T> rows(int64_t first, int64_t n) const {
    const auto part = [&](const std::vector<T>& from, int64_t size) {
      return HeadRows<const T>{from.data() + first * size, count * size, size};
    };
    return {n,
            part(q, shape.head_size),
            part(k, shape.head_size),
            part(v, shape.value_size),
            part(summary_q, shape.head_size),
            part(summary_k, shape.head_size)};
  }
  Rows<T> rows() const { return rows(0, count); }

  /// Makes k what the rotation makes of summary_k, row i at position i.
  void turn_keys(const Rotation& rotation) {
    const int64_t half = std::ssize(rotation.inverse_frequencies), d = shape.head_size;
    k = summary_k;
    for (int64_t row = 0; row < shape.kv_heads * count; ++row) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(row % count) * rotation.inverse_frequencies[i];
        const double first = k[row * d + i], second = k[row * d + i + half];
        k[row * d + i] = T(rotation.factor * (first * std::cos(angle) - second * std::sin(angle)));
        k[row * d + i + half] = T(rotation.factor * (second * std::cos(angle) + first * std::sin(angle)));
      }
    }
  }

  /// Appends one head's tokens `indices` to a sequence.
  void append(int head, const std::vector<int32_t>& indices, HeadSequence& to) const {
    const int kv_head = head * shape.kv_heads / shape.heads;
    const auto row = [&](const std::vector<T>& from, int h, int64_t i, int64_t size) {
      const auto begin = from.begin() + (h * count + i) * size;
      return Vec(begin, begin + size);
    };
    for (int32_t i : indices) {
      to.q.push_back(row(q, head, i, shape.head_size));
      to.k.push_back(row(k, kv_head, i, shape.head_size));
      to.v.push_back(row(v, kv_head, i, shape.value_size));
      to.summary_q.push_back(row(summary_q, head, i, shape.head_size));
      to.summary_k.push_back(row(summary_k, kv_head, i, shape.head_size));
    }
  }
};

/// An attention with random learned tensors.
template <class T>
struct Instance {
  AttentionConfig config;
  AttentionShape shape;
  std::map<std::string, std::vector<float>> storage;
  ParameterNumbers numbers;
  std::unique_ptr<Rotation> rotation;
  std::unique_ptr<Attention<T>> attention;

  /// The output at a sequence's last token by decoding it, every other head's rows being 0.
  Vec decoded_last(int head, const HeadSequence& x) const {
    Tokens<T> tokens(shape, static_cast<int64_t>(x.v.size()), 0);
    const auto put = [&](std::vector<T>& to, const std::vector<Vec>& from, int h, int64_t size) {
      std::fill(to.begin(), to.end(), T(0));
      for (int64_t i = 0; i < tokens.count; ++i) {
        for (int64_t j = 0; j < size; ++j) to[(h * tokens.count + i) * size + j] = T(from[i][j]);
      }
    };
    const int kv_head = head * shape.kv_heads / shape.heads;
    put(tokens.q, x.q, head, shape.head_size);
    put(tokens.k, x.k, kv_head, shape.head_size);
    put(tokens.v, x.v, kv_head, shape.value_size);
    put(tokens.summary_q, x.summary_q, head, shape.head_size);
    put(tokens.summary_k, x.summary_k, kv_head, shape.head_size);
    ThreadPool pool(1);
    const auto state = attention->make_state();
    const int32_t root[] = {0};
    for (int64_t t = 0; t + 1 < tokens.count; ++t) attention->commit(*state, root, tokens.rows(t, 1), pool);
    std::vector<T> out(shape.heads * shape.value_size);
    attention->attend(*state, TokenTree::single(0), tokens.rows(tokens.count - 1, 1),
                      {out.data(), shape.value_size, shape.value_size}, pool);
    return Vec(out.begin() + head * shape.value_size, out.begin() + (head + 1) * shape.value_size);
  }

  Instance(const AttentionConfig& c, const AttentionShape& s, uint64_t seed, bool rotate = false)
      : config(c), shape(s) {
    ParameterTensors tensors;
    uint64_t stream = 10;
    for (const auto& spec : parameter_specs(config, shape)) {
      auto& values = storage[spec.name];
      values.resize(std::accumulate(spec.shape.begin(), spec.shape.end(), int64_t{1}, std::multiplies<>()));
      const double scale = spec.name.ends_with("weight") ? 1 / std::sqrt(double(shape.head_size)) : 0.5;
      for (size_t i = 0; i < values.size(); ++i) values[i] = float(scale * normal(seed, stream, i));
      ++stream;
      numbers[spec.name] = Vec(values.begin(), values.end());
      numbers["key-value heads"] = {double(shape.kv_heads)};
      tensors[spec.name] = {DType::kF32, spec.shape, std::as_bytes(std::span<const float>(values))};
    }
    if (rotate) {
      rotation = std::make_unique<Rotation>();
      rotation->trained_positions = 2 * config.group + 1;
      rotation->factor = 1.25;
      for (int i = 0; i < shape.head_size / 4; ++i) {  // half of the head rotates
        rotation->inverse_frequencies.push_back(std::pow(100.0, -i / (shape.head_size / 4.0)));
      }
    }
    attention = make_attention<T>(config, shape, tensors, rotation.get(), "test");
  }

  /// Random tokens whose keys are as the instance says that they turn.
  Tokens<T> tokens(int64_t count, uint64_t seed) const {
    Tokens<T> made(shape, count, seed);
    if (rotation) made.turn_keys(*rotation);
    return made;
  }

  /// The reference's output of a head at the sequence's last token; of a row that it doesn't know, what
  /// decoding the sequence token by token gives.
  Vec reference_last(int head, const HeadSequence& x) const {
    if (!ReferenceHead::knows(*config.method)) return decoded_last(head, x);
    return ReferenceHead(config, shape, numbers, rotation.get(), head).last(x);
  }
};

/// Outputs [heads, count, value_size].
template <class T>
struct Outputs {
  int64_t count, size;
  std::vector<T> numbers;

  Outputs(const AttentionShape& shape, int64_t n)
      : count(n), size(shape.value_size), numbers(shape.heads * n * shape.value_size, T(NAN)) {}
  HeadRows<T> rows(int64_t first = 0) { return {numbers.data() + first * size, count * size, size}; }
  std::vector<T> row(int64_t head, int64_t index) const {
    const auto begin = numbers.begin() + (head * count + index) * size;
    return {begin, begin + size};
  }
};

template <class T>
Outputs<T> by_reference(const Instance<T>& instance, const Tokens<T>& tokens) {
  Outputs<T> out(instance.shape, tokens.count);
  for (int h = 0; h < instance.shape.heads; ++h) {
    HeadSequence sequence;
    for (int32_t t = 0; t < tokens.count; ++t) {
      tokens.append(h, {t}, sequence);
      const Vec last = instance.reference_last(h, sequence);
      for (int64_t i = 0; i < out.size; ++i) out.numbers[(h * out.count + t) * out.size + i] = T(last[i]);
    }
  }
  return out;
}

template <class T>
Outputs<T> by_prefill(const Instance<T>& instance, const Tokens<T>& tokens, int64_t chunk, State<T>& state,
                      ThreadPool& pool) {
  Outputs<T> out(instance.shape, tokens.count);
  for (int64_t first = 0; first < tokens.count; first += chunk) {
    const int64_t n = std::min(chunk, tokens.count - first);
    instance.attention->prefill(state, tokens.rows(first, n), out.rows(first), pool);
  }
  return out;
}

template <class T>
Outputs<T> by_decoding(const Instance<T>& instance, const Tokens<T>& tokens, State<T>& state,
                       ThreadPool& pool) {
  Outputs<T> out(instance.shape, tokens.count);
  const TokenTree tree = TokenTree::single(0);
  const int32_t root[] = {0};
  for (int64_t t = 0; t < tokens.count; ++t) {
    instance.attention->attend(state, tree, tokens.rows(t, 1), out.rows(t), pool);
    instance.attention->commit(state, root, tokens.rows(t, 1), pool);
  }
  return out;
}

/// In what way the state grew while `tokens` were committed one by one, "" where it is of constant size.
template <class T>
std::string growth(const Attention<T>& attention, const Tokens<T>& tokens, ThreadPool& pool) {
  const auto state = attention.make_state();
  const int32_t root[] = {0};
  const auto bytes = static_cast<size_t>(attention.layout().bytes);
  std::vector<std::byte> first, saved;
  state->save(first);
  for (int64_t t = 0; t < tokens.count; ++t) {
    attention.commit(*state, root, tokens.rows(t, 1), pool);
    saved.clear();
    state->save(saved);
    const std::string when = " after " + std::to_string(t + 1) + " tokens";
    if (state->bytes() != bytes) return std::to_string(state->bytes()) + " bytes" + when;
    if (saved.size() != first.size()) return std::to_string(saved.size()) + " saved bytes" + when;
  }
  state->reset();
  saved.clear();
  state->save(saved);
  return saved == first ? "" : "something is left after reset";
}

/// √(Σ (a − b)² / Σ b²); NaN where a number was never written.
template <class A, class B>
double relative_error(const std::vector<A>& a, const std::vector<B>& b) {
  double away = 0, size = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    away += (double(a[i]) - double(b[i])) * (double(a[i]) - double(b[i]));
    size += double(b[i]) * double(b[i]);
  }
  return std::sqrt(away / std::max(size, 1e-300));
}

/// A tree of `nodes` nodes, at most `depth` deep; node 0 is the root.
inline TokenTree random_tree(int32_t nodes, int32_t depth, uint64_t seed) {
  TokenTree tree;
  tree.add(0, -1);
  for (int32_t i = 1; i < nodes; ++i) {
    int32_t parent = static_cast<int32_t>(uniform_integer(seed, 7, i, i));
    while (tree.depth(parent) + 1 >= depth) parent = tree.parent(parent);
    tree.add(0, parent);
  }
  return tree;
}

}  // namespace linnet
