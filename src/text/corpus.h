// Documents of text files: .txt and .md (one document), .jsonl (one a record, field `text`); each may be
// packed (.xz). A UTF-8 byte-order mark at the beginning is skipped.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace linnet {

struct Document {
  std::string id;      // the record's `id`, else file:line
  std::string source;  // the record's `source`, else the file's name
  std::string text;
};

/// Calls `take` for each document in order; stops early where it returns false. Streams: memory is one
/// record. Blank lines are passed over. Throws Error (where: file, or file:line) on what is no such file: an
/// unknown ending, a damaged archive, a line over 1 GiB, a record that is no JSON object with a string
/// `text`.
void for_each_document(const std::filesystem::path& file, const std::function<bool(Document&&)>& take);

/// Lines of a text file (unpacked where its name ends in .xz), numbered from 1; stops early where `take`
/// returns false. Streams. Throws Error as above.
void for_each_line(const std::filesystem::path& file,
                   const std::function<bool(std::string_view, size_t)>& take);

std::vector<Document> read_documents(std::span<const std::filesystem::path> files);

}  // namespace linnet
