// Words: runs of text between white space (code points with Unicode's White_Space property).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace linnet {

int64_t count_words(std::string_view text);

/// Words whose first byte is one of bytes [begin, end) of the text.
int64_t count_words_beginning(std::string_view text, size_t begin, size_t end);

}  // namespace linnet
