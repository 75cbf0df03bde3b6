// Documents of text files: .txt (one document), .jsonl and .jsonl.xz (one a record, field `text`).
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace linnet {

struct Document {
  std::string id;      // the record's `id`, else file:line
  std::string source;  // the record's `source`, else the file's name
  std::string text;
};

/// Calls `take` for each document in order; stops early where it returns false. Streams: memory is one
/// record. Throws Error (where: file, or file:line) on what is no such file.
void for_each_document(const std::filesystem::path& file, const std::function<bool(Document&&)>& take);

std::vector<Document> read_documents(std::span<const std::filesystem::path> files);

}  // namespace linnet
