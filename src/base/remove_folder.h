// Removing a folder with all it holds.
#pragma once

#include <filesystem>

namespace linnet {

/// Removes a file or a folder tree, links themselves and not what they point to. What cannot be removed, or
/// is not there, is left without a word: callers clean up. Not std::filesystem::remove_all: PyTorch's own
/// libraries carry an older copy of it, and in a process with both it calls a null pointer (seen with
/// PyTorch 2.11 and g++ 13).
void remove_folder(const std::filesystem::path& path) noexcept;

}  // namespace linnet
