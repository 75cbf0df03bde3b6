// Counts of tokens and bytes as people write them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace linnet {

/// A whole number that is not negative: digits, with a decimal point or an exponent where the value stays
/// whole ("1.5M", "1e6"), and a unit in either case: K, M, G, T are powers of 1000, Ki, Mi, Gi, Ti of 1024,
/// and a B may follow ("20M", "4MB", "4MiB"). Exact. Nothing where `text` is anything else, a fraction, or
/// more than int64_t holds.
std::optional<int64_t> parse_count(std::string_view text);

/// "1 step", "2 steps": a count with its noun. `plural` where it is not the noun and an s.
std::string counted(int64_t count, std::string_view noun, std::string_view plural = {});

}  // namespace linnet
