// What is said beside the results: to standard error, so that standard output stays a program's to read.
#pragma once

#include <string_view>

namespace linnet {

/// `linnet: warning: TEXT`, each distinct text once a process. Thread-safe.
void warn(std::string_view text);

/// `linnet: TEXT`: what happens, for a person. Thread-safe.
void note(std::string_view text);

}  // namespace linnet
