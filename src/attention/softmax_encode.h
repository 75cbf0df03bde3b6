// The bidirectional and the cross form of `softmax`: every query reads every token, or with a window those at
// less than `window` positions from its own to either side. There is no summary; a memory is the keys and
// values themselves.
#pragma once

#include <memory>

#include "attention/attention.h"

namespace linnet {

/// Keys and values of the rows, n(d + e) numbers a key-value head.
template <class T>
std::unique_ptr<Memory<T>> remember_softmax(const AttentionShape& shape, const Rows<T>& rows);

/// As Attention::load_memory().
template <class T>
std::unique_ptr<Memory<T>> load_softmax(const AttentionShape& shape, int64_t length,
                                        std::span<const std::byte>& in);

/// Outputs [heads, rows.count, value_size] of queries that read a memory; 0 where nothing is in it.
template <class T>
void read_softmax(const AttentionShape& shape, const Memory<T>& memory, const Rows<T>& rows, int64_t window,
                  T cap, HeadRows<T> out, ThreadPool& pool);

}  // namespace linnet
