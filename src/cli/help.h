// What `--help` looks like: name and kind of each option, then its text with range and default in brackets,
// wrapped. Commands describe an option once; everything shown derives from that.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>

namespace linnet::cli {

std::shared_ptr<CLI::FormatterBase> help_formatter();

}  // namespace linnet::cli
