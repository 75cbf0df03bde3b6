#include "model/forward.h"

#include <algorithm>
#include <cmath>

#include "base/scratch.h"
#include "kernels/cpu/rotary.h"

namespace linnet {
namespace {

kernels::Unary unary_of(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return kernels::Unary::kSilu;
    case Activation::kGeluTanh:
      return kernels::Unary::kGeluTanh;
    case Activation::kGelu:
      return kernels::Unary::kGelu;
    case Activation::kRelu:
      return kernels::Unary::kRelu;
  }
  return kernels::Unary::kSilu;
}

}  // namespace

template <class T>
Forward<T>::Forward(const Model& model, const WeightOptions& how, ThreadPool& pool,
                    const MakeAttention<T>& make)
    : pool_(pool), weights_(model, how, pool, make) {
  const ModelConfig& config = model.config();
  const AttentionShape shape = model.attention_shape();
  hidden_ = config.hidden, heads_ = shape.heads, kv_heads_ = shape.kv_heads;
  head_size_ = shape.head_size, value_size_ = shape.value_size;
  vocabulary_ = config.vocabulary, norm_epsilon_ = config.norm_epsilon;
  embedding_scale_ = config.embedding_scale, query_scale_ = config.query_scale;
  logit_cap_ = config.logit_cap, parallel_ = config.parallel;
  norm_ = config.norm, gated_ = model.family().gated, unit_ = model.family().gated_unit;
  norm_after_sum_ = model.family().norm_after_sum;
  inner_ = config.intermediate * (gated_ ? 2 : 1);
  activation_ = unary_of(config.activation);
  head_activation_ = model.family().gelu_head ? kernels::Unary::kGelu : activation_;
  if (model.family().positions == PositionKind::kRotary) rope_ = rope_frequencies(config);
}

template <class T>
void Forward<T>::plan_steps(int64_t rows) {
  scratch_.plan(rows, weights_.widest_input());
  final_.plan(rows * hidden_);
}

template <class T>
void Forward<T>::plan(Activations<T>& a, int64_t rows, size_t kept_layers) const {
  if (a.rows >= rows) return;
  const auto room = [&](Room<T>& numbers, int64_t width) { numbers.plan(rows * width); };
  a.rows = rows;
  room(a.hidden, hidden_);
  room(a.normed, hidden_);
  room(a.delta, hidden_);
  room(a.mixed, heads_ * value_size_);
  if (weights_.layers.front().cross) room(a.cross_q, heads_ * head_size_);
  room(a.inner, inner_);
  room(a.cosines, static_cast<int64_t>(rope_.inverse.size()));
  room(a.sines, static_cast<int64_t>(rope_.inverse.size()));
  a.projected.resize(kept_layers);
  a.rotated.resize(kept_layers);
  for (size_t i = 0; i < kept_layers; ++i) {
    room(a.projected[i], projected_size());
    if (unit_ || !rope_.inverse.empty()) room(a.rotated[i], rotated_size());
  }
  a.tokens.resize(static_cast<size_t>(rows));
  a.positions.resize(static_cast<size_t>(rows));
  if (weights_.token_type_embedding.out > 0) a.types.resize(static_cast<size_t>(rows));
}

template <class T>
void Forward<T>::add_embedding(const Matrix& matrix, int64_t index, T* row, T* room) const {
  kernels::read_row(matrix, index, room);
  kernels::add(row, room, hidden_);
}

template <class T>
void Forward<T>::embed(Activations<T>& a, int64_t rows) {
  const auto half = static_cast<int64_t>(rope_.inverse.size());
  for_rows(rows, pool_, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      T* row = a.hidden.data() + r * hidden_;
      kernels::read_row(weights_.embedding, a.tokens[r], row);
      if (embedding_scale_ != 1) {
        for (int64_t x = 0; x < hidden_; ++x) row[x] *= T(embedding_scale_);
      }
      if (half > 0) {
        kernels::rotary_angles<T>(rope_.inverse, rope_.factor, a.positions[r], a.cosines.data() + r * half,
                                  a.sines.data() + r * half);
      }
      T* room = a.delta.data() + r * hidden_;
      if (weights_.token_type_embedding.out > 0)
        add_embedding(weights_.token_type_embedding, a.types[r], row, room);
      if (weights_.position_embedding.out > 0)
        add_embedding(weights_.position_embedding, a.positions[r], row, room);
      if (weights_.embedding_norm) norm_rows(weights_.embedding_norm, row, 1, row);
    }
  });
}

template <class T>
Rows<T> Forward<T>::rows_of(const Activations<T>& a, size_t layer, int64_t begin, int64_t count) const {
  const size_t kept = layer % a.projected.size();
  const int64_t q_size = heads_ * head_size_, k_size = kv_heads_ * head_size_, stride = projected_size();
  const T* projected = a.projected[kept].data() + begin * stride;
  Rows<T> rows;
  rows.count = count;
  if (unit_) {
    const T* maps = a.rotated[kept].data() + begin * rotated_size();
    for (HeadRows<const T>* one : {&rows.q, &rows.k, &rows.summary_q, &rows.summary_k}) {
      *one = {maps, head_size_, rotated_size()};
      maps += head_size_;
    }
    rows.v = {projected + head_size_, value_size_, stride};
    return rows;
  }
  rows.q = {projected, head_size_, stride};
  rows.k = {projected + q_size, head_size_, stride};
  rows.v = {projected + q_size + k_size, value_size_, stride};
  rows.summary_q = rows.q, rows.summary_k = rows.k;
  if (weights_.layers[layer].rotated) {
    const T* rotated = a.rotated[kept].data() + begin * (q_size + k_size);
    rows.q = {rotated, head_size_, q_size + k_size};
    rows.k = {rotated + q_size, head_size_, q_size + k_size};
  }
  return rows;
}

template <class T>
void Forward<T>::product(Linear& linear, const T* x, int64_t x_stride, int64_t rows, Room<T>& y,
                         Stage stage) {
  if (stage == Stage::kStep) {
    linear.step(x, x_stride, rows, y.data(), scratch_, pool_);
  } else {
    linear.prefill(x, x_stride, rows, y.data(), scratch_, pool_);
  }
}

template <class T>
void Forward<T>::prepare_heads(Activations<T>& a, size_t i, int64_t rows) {
  if (unit_) return prepare_unit(a, i, rows);
  const LayerWeights<T>& layer = weights_.layers[i];
  const size_t kept = i % a.projected.size();
  const int64_t q_size = heads_ * head_size_, k_size = kv_heads_ * head_size_;
  if (layer.q_norm || query_scale_ != 1) {
    const int64_t stride = q_size + k_size + kv_heads_ * value_size_;
    const auto norm = [&](const NormWeights<T>& of, T* heads, int64_t size) {
      const auto one = static_cast<int64_t>(of.gain.size());
      if (of) kernels::rms_norm(heads, size / one, one, of.gain.data(), norm_epsilon_, heads);
    };
    for_rows(rows, pool_, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        T* q = a.projected[kept].data() + r * stride;
        norm(layer.q_norm, q, q_size);
        norm(layer.k_norm, q + q_size, k_size);
        for (int64_t x = 0; x < q_size; ++x) q[x] *= T(query_scale_);
      }
    });
  }
  if (layer.rotated) rotate(a, kept, rows);
}

template <class T>
void Forward<T>::prepare_unit(Activations<T>& a, size_t i, int64_t rows) {
  const LayerWeights<T>& layer = weights_.layers[i];
  const size_t kept = i % a.projected.size();
  const auto half = static_cast<int64_t>(rope_.inverse.size());
  const int64_t maps = layer.rotated ? (layer.summary_rotated ? 4 : 2) : 0;  // of the four, those that turn
  for_rows(rows, pool_, [&](int64_t begin, int64_t end) {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    T* made = scratch.take<T>(rotated_size());
    for (int64_t r = begin; r < end; ++r) {
      T* z = a.projected[kept].data() + r * projected_size();
      T* to = a.rotated[kept].data() + r * rotated_size();
      kernels::activate(activation_, z, projected_size());
      for (int64_t x = 0; x < rotated_size(); ++x)
        made[x] = z[x % head_size_] * layer.affine.gain[x] + layer.affine.bias[x];
      kernels::rotate(made, maps, head_size_, half, a.cosines.data() + r * half, a.sines.data() + r * half,
                      to);
      std::copy(made + maps * head_size_, made + rotated_size(), to + maps * head_size_);
    }
  });
}

template <class T>
void Forward<T>::rotate(Activations<T>& a, size_t kept, int64_t rows) {
  const auto half = static_cast<int64_t>(rope_.inverse.size());
  const int64_t turned = (heads_ + kv_heads_) * head_size_, stride = turned + kv_heads_ * value_size_;
  for_rows(rows, pool_, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      kernels::rotate(a.projected[kept].data() + r * stride, heads_ + kv_heads_, head_size_, half,
                      a.cosines.data() + r * half, a.sines.data() + r * half,
                      a.rotated[kept].data() + r * turned);
  });
}

template <class T>
void Forward<T>::norm_rows(const NormWeights<T>& norm, const T* x, int64_t rows, T* y) const {
  const T *gain = norm.gain.data(), *bias = norm.bias.data();
  if (norm_ == NormKind::kLayer) return kernels::layer_norm(x, rows, hidden_, gain, bias, norm_epsilon_, y);
  kernels::rms_norm(x, rows, hidden_, gain, norm_epsilon_, y);
}

template <class T>
void Forward<T>::add_and_norm_rows(const NormWeights<T>& norm, T* x, const T* delta, int64_t rows,
                                   T* y) const {
  const T *gain = norm.gain.data(), *bias = norm.bias.data();
  if (!norm) return kernels::add(x, delta, rows * hidden_);
  if (norm_ == NormKind::kLayer)
    return kernels::add_layer_norm(x, delta, rows, hidden_, gain, bias, norm_epsilon_, y);
  kernels::add_rms_norm(x, delta, rows, hidden_, gain, norm_epsilon_, y);
}

template <class T>
void Forward<T>::normalize(const NormWeights<T>& norm, const T* x, int64_t rows, T* y) {
  for_rows(rows, pool_, [&](int64_t begin, int64_t end) {
    norm_rows(norm, x + begin * hidden_, end - begin, y + begin * hidden_);
  });
}

template <class T>
void Forward<T>::add_delta(Activations<T>& a, int64_t rows, const NormWeights<T>& post_norm,
                           const NormWeights<T>& next) {
  for_rows(rows, pool_, [&](int64_t begin, int64_t end) {
    const int64_t count = end - begin, at = begin * hidden_;
    T *x = a.hidden.data() + at, *delta = a.delta.data() + at, *normed = a.normed.data() + at;
    if (norm_after_sum_) {
      add_and_norm_rows(post_norm, x, delta, count, x);
      if (next) norm_rows(next, x, count, normed);
    } else {
      if (post_norm) norm_rows(post_norm, delta, count, delta);
      add_and_norm_rows(next, x, delta, count, normed);
    }
  });
}

template <class T>
void Forward<T>::activate(Room<T>& inner, int64_t rows) {
  for_rows(rows, pool_, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      T* row = inner.data() + r * inner_;
      if (gated_) {
        kernels::activate_gated(activation_, row, row + inner_ / 2, inner_ / 2);
      } else {
        kernels::activate(activation_, row, inner_);
      }
    }
  });
}

template <class T>
void Forward<T>::run_layers(Activations<T>& a, int64_t rows, Stage stage, const Attend& attend,
                            const Read& read) {
  timed(Operation::kEmbed, Profile::kNoLayer, nullptr, [&] { embed(a, rows); });
  enter(0, a, rows);
  for (size_t i = 0; i < weights_.layers.size(); ++i) one_layer(i, a, rows, stage, attend, read);
}

template <class T>
Rows<T> Forward<T>::cross_rows(size_t layer, std::span<const T> encoded, Room<T>& room) {
  Linear& kv = weights_.layers[layer].cross->kv;
  const int64_t k_size = kv_heads_ * head_size_, stride = kv.out(), rows = std::ssize(encoded) / hidden_;
  room.plan(rows * stride);
  kv.prefill(encoded.data(), hidden_, rows, room.data(), scratch_, pool_);
  Rows<T> of;
  of.count = rows;
  of.k = {room.data(), head_size_, stride};
  of.v = {room.data() + k_size, value_size_, stride};
  of.summary_k = of.k;
  return of;
}

template <class T>
void Forward<T>::enter(size_t i, Activations<T>& a, int64_t rows) {
  const NormWeights<T>& norm = weights_.layers[i].attention_norm;
  if (!norm) return;
  timed(Operation::kNorm, i, nullptr, [&] { normalize(norm, a.hidden.data(), rows, a.normed.data()); });
}

template <class T>
void Forward<T>::one_layer(size_t i, Activations<T>& a, int64_t rows, Stage stage, const Attend& attend,
                           const Read& read) {
  LayerWeights<T>& layer = weights_.layers[i];
  const size_t kept = i % a.projected.size();
  const NormWeights<T>& after =
      i + 1 < weights_.layers.size() ? weights_.layers[i + 1].attention_norm : weights_.final_norm;
  const auto multiply = [&](Operation operation, Linear& linear, const T* x, int64_t stride, Room<T>& y) {
    if (inputs_ != nullptr) inputs_->add(operation, i, x, stride, rows, linear.in());
    timed(operation, i, &linear, [&] { product(linear, x, stride, rows, y, stage); });
  };
  const auto add = [&](const NormWeights<T>& post_norm, const NormWeights<T>& next) {
    timed(Operation::kNorm, i, nullptr, [&] { add_delta(a, rows, post_norm, next); });
  };
  multiply(Operation::kQkv, layer.qkv, read_of(layer.attention_norm, a), hidden_, a.projected[kept]);
  timed(Operation::kRotate, i, nullptr, [&] { prepare_heads(a, i, rows); });
  timed(Operation::kAttention, i, nullptr, [&] {
    attend(i, HeadRows<T>{a.mixed.data(), value_size_, heads_ * value_size_});
  });
  if (unit_) {
    multiply(Operation::kUp, layer.up, read_of(layer.attention_norm, a), hidden_, a.inner);
    timed(Operation::kActivate, i, nullptr, [&] {
      for_rows(rows, pool_, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
          kernels::activate_gated(activation_, a.inner.data() + r * inner_, a.mixed.data() + r * inner_,
                                  inner_);
      });
    });
    multiply(Operation::kOutput, layer.o, a.inner.data(), inner_, a.delta);
    return add(layer.attention_post_norm, after);
  }
  multiply(Operation::kOutput, layer.o, a.mixed.data(), heads_ * value_size_, a.delta);
  if (layer.cross) {
    add(layer.attention_post_norm, layer.cross->norm);
    const int64_t size = heads_ * head_size_;
    multiply(Operation::kQkv, layer.cross->q, read_of(layer.cross->norm, a), hidden_, a.cross_q);
    Rows<T> queries;
    queries.count = rows;
    queries.q = queries.summary_q = {a.cross_q.data(), head_size_, size};
    timed(Operation::kAttention, i, nullptr, [&] {
      if (query_scale_ != 1)
        for (int64_t x = 0; x < rows * size; ++x) a.cross_q.data()[x] *= T(query_scale_);
      read(i, queries, HeadRows<T>{a.mixed.data(), value_size_, heads_ * value_size_});
    });
    multiply(Operation::kOutput, layer.cross->o, a.mixed.data(), heads_ * value_size_, a.delta);
  }
  if (parallel_) {  // always with a norm, which reads the stream before anything is added
    timed(Operation::kNorm, i, nullptr,
          [&] { normalize(layer.feed_forward_norm, a.hidden.data(), rows, a.normed.data()); });
    add(layer.attention_post_norm, {});
  } else {
    add(layer.attention_post_norm, layer.feed_forward_norm);
  }
  multiply(Operation::kUp, layer.up, read_of(layer.feed_forward_norm, a), hidden_, a.inner);
  timed(Operation::kActivate, i, nullptr, [&] { activate(a.inner, rows); });
  multiply(Operation::kDown, layer.down, a.inner.data(), inner_, a.delta);
  add(layer.feed_forward_post_norm, after);
}

template <class T>
void Forward<T>::cap_logits(T* logits, int64_t rows) {
  constexpr int64_t kPiece = 4096;
  const int64_t count = rows * vocabulary_;
  pool_.run(static_cast<size_t>((count + kPiece - 1) / kPiece), [&](size_t piece) {
    const int64_t begin = static_cast<int64_t>(piece) * kPiece;
    kernels::cap(logits + begin, std::min(count - begin, kPiece), T(logit_cap_));
  });
}

template <class T>
void Forward<T>::pool_rows(const T* x, int64_t rows, T* out) {
  weights_.pooler.prefill(x, hidden_, rows, out, scratch_, pool_);
  for (int64_t i = 0; i < rows * hidden_; ++i) out[i] = std::tanh(out[i]);
}

template <class T>
void Forward<T>::logits(const T* x, int64_t rows, Stage stage, float* out) {
  final_.plan(rows * hidden_);
  std::copy_n(x, rows * hidden_, final_.data());
  final_rows_ = static_cast<size_t>(rows);
  if (weights_.head_dense.out() > 0) {
    transformed_.plan(rows * hidden_);
    product(weights_.head_dense, x, hidden_, rows, transformed_, stage);
    for_rows(rows, pool_, [&](int64_t begin, int64_t end) {
      kernels::activate(head_activation_, transformed_.data() + begin * hidden_, (end - begin) * hidden_);
    });
    normalize(weights_.head_norm, transformed_.data(), rows, transformed_.data());
    x = transformed_.data();
  }
  const auto run = [&](T* to) {
    if (stage == Stage::kStep) {
      weights_.head.step(x, hidden_, rows, to, scratch_, pool_);
    } else {
      weights_.head.prefill(x, hidden_, rows, to, scratch_, pool_);
    }
    if (logit_cap_ > 0) cap_logits(to, rows);
  };
  timed(Operation::kHead, Profile::kNoLayer, &weights_.head, [&] {
    if constexpr (std::is_same_v<T, float>) {
      run(out);
    } else {
      wide_logits_.plan(rows * vocabulary_);
      run(wide_logits_.data());
      std::copy_n(wide_logits_.data(), rows * vocabulary_, out);
    }
  });
}

template class Forward<float>;
template class Forward<double>;

}  // namespace linnet
