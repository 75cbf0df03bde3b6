// The names under which files and folders are written until they are whole, and what killed processes leave
// under them.
#pragma once

#include <filesystem>

namespace linnet {

/// A new name beside `target`: .NAME.PROCESS.NUMBER.tmp
std::filesystem::path temporary_beside(const std::filesystem::path& target);

/// Removes what processes that are no more left under such names of `target`, and what they left beside that:
/// a folder is filled by writers with temporary names of their own.
void remove_left_beside(const std::filesystem::path& target);

}  // namespace linnet
