// What attention needs of vectors, for T float and double: small products, rows of weights, feature maps.
//
// Every matrix here has rows of a multiple of kPad numbers, zero past what they hold, so that no loop has a
// tail; "padded" below. One canonical order: each number of a product is summed by itself, in the order of k,
// with one fused multiply-add a term; a row's sum is taken in lanes by the index from the row's start. So a
// row gets the same bits alone, in a batch, in a tree, and a term of weight 0 changes nothing.
#pragma once

#include <cstdint>

#include "base/bfloat16.h"

namespace linnet::kernels {

constexpr int64_t kPad = 16;
constexpr int64_t padded(int64_t count) { return (count + kPad - 1) / kPad * kPad; }

/// c[i, j] (+)= Σ_k a[i * a_row + k] · b[k * b_row + j] for i < m, j < n; n is padded. In order of k,
/// starting from c where `accumulate`, else from 0. B is T or BFloat16: then the bits are those of the
/// same numbers as T.
template <class T, class B>
void matmul(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, const B* b, int64_t b_row, T* c,
            int64_t c_row, bool accumulate);

/// c[i, j] (+)= Σ_k a[k * a_row + i] · b[k * b_row + j]: matmul of a turned round.
template <class T>
void matmul_transposed(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, const T* b, int64_t b_row,
                       T* c, int64_t c_row, bool accumulate);

/// out[j] += Σ_i weights[i] · rows[indices[i] * row + j] for j < n, in order of i: matmul's bits. n is
/// padded.
template <class T>
void add_weighted_rows(const T* weights, const int32_t* indices, int64_t count, const T* rows, int64_t row,
                       int64_t n, T* out);

/// x[i] = exp(x[i] − max x) for i < count, 0 from there to padded(count); returns the sum. count > 0.
template <class T>
T exponentiate(T* x, int64_t count);

/// Of weights w = exponentiate(scores), whose sum is `sum`, and of gradients g with respect to share · w /
/// sum, taken as if share were 1: returns ḡ = Σ w g / sum, and makes of the weights share · w / sum and of
/// the gradients those with respect to the scores times `scale`, share · w / sum · (g − ḡ) · scale. Both are
/// readable to padded(count) and 0 from count to there after. count > 0.
template <class T>
T softmax_gradient(T* weights, T* gradients, int64_t count, T sum, T share, T scale);

/// x[i] *= exp(exponents[i] − m) for i < count, m being the largest of them and `least`; returns m. Both are
/// readable to padded(count), and x may hold anything from count on.
template <class T>
T scale_to_largest(T* x, const T* exponents, int64_t count, T least);

/// Σ x[i] for i < count; x is readable to padded(count).
template <class T>
T sum(const T* x, int64_t count);

/// Σ a[i] b[i] for i < count; both zero from there to padded(count).
template <class T>
T dot(const T* a, const T* b, int64_t count);

/// out[s] = Σ_x a[x * a_row + s]² for s < n: squared lengths of columns. n is padded. B as in matmul.
template <class T, class B>
void column_squares(int64_t rows, int64_t n, const B* a, int64_t a_row, T* out);

/// [softmax(y), softmax(−y)] of each of `rows` rows y of `size` numbers; phi's rows hold 2 size numbers and
/// are zero from there to padded(2 size).
template <class T>
void hedgehog_rows(int64_t rows, int64_t size, const T* y, int64_t y_row, T* phi, int64_t phi_row);

/// The same of each of n columns (n padded): y [size, n], phi [2 size, n].
template <class T>
void hedgehog_columns(int64_t size, int64_t n, const T* y, int64_t y_row, T* phi, int64_t phi_row);

/// y = exp(y − m)/√size of each of `rows` rows of `size` numbers, m their largest, which goes to
/// largest[row]; zero from size to padded(size).
template <class T>
void favor_rows(int64_t rows, int64_t size, T* y, int64_t y_row, T* largest);

/// The same of each of n columns (n padded): y [size, n].
template <class T>
void favor_columns(int64_t size, int64_t n, T* y, int64_t y_row, T* largest);

/// y = max(x, 0), y = elu(x) and y = 1 + elu(x), number by number; n is padded. y may be x.
template <class T>
void relu(int64_t n, const T* x, T* y);
template <class T>
void elu(int64_t n, const T* x, T* y);
template <class T>
void elu1(int64_t n, const T* x, T* y);

}  // namespace linnet::kernels
