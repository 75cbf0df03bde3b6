// The name that a user most likely meant: for errors on unknown keys, methods and options.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace linnet {

/// The candidate with the smallest edit distance to `name`; "" if none is near (more than half of it
/// differs).
std::string_view nearest(std::string_view name, std::span<const std::string_view> candidates);

/// "one of a, b, c; did you mean b?": what an error on an unknown name says it expected.
std::string one_of(std::string_view name, std::span<const std::string_view> candidates);

}  // namespace linnet
