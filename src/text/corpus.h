// Documents of text files: .txt and .md (one document), .jsonl (one record per line), .json (a list of
// records or of strings, or one record), plain or packed (.xz, .gz, .zst); "-" is standard input. A UTF-8
// byte-order mark at the beginning is skipped.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace linnet {

struct Document {
  std::string id;      // the record's `id`, else where it stands: "file:line", "file, record 3"
  std::string source;  // the record's `source`, else the file's name
  std::string text;
};

struct CorpusOptions {
  /// The field of records that holds the text; empty: `text`. Standard input is one document, or, where a
  /// field is named, one record per line.
  std::string field;
  /// Bytes of a record, of a .json file, or of a packed .txt or .md, at most: an archive of a few kB may hold
  /// any number.
  size_t most = size_t{1} << 30;
};

/// Whether the file's name, or "-" with these options, promises records, so that a field's name matters.
/// Throws Error on an unknown ending.
bool has_records(const std::filesystem::path& file, const CorpusOptions& options);

/// Calls `take` for each document in order; stops early where it returns false. Memory is one record, or the
/// whole of a .txt, .md or .json. Blank lines are passed over. Throws Error (where: file, or file and record)
/// on what is no such file: an unknown ending, a damaged archive, bytes that are no UTF-8, more bytes than
/// the options allow, a record that is no JSON object with the field, a string.
void for_each_document(const std::filesystem::path& file, const CorpusOptions& options,
                       const std::function<bool(Document&&)>& take);

/// Lines of a text file, unpacked, numbered from 1; stops early where `take` returns false. Streams. Throws
/// Error as above.
void for_each_line(const std::filesystem::path& file,
                   const std::function<bool(std::string_view, size_t)>& take,
                   size_t most = CorpusOptions().most);

/// Throws Error, at `where` and the line, unless the text is UTF-8.
void require_utf8(std::string_view text, const std::string& where);

/// Lines of plain text, each of them a text, a blank one too; a carriage return at its end is none of it.
/// Throws Error as above, and on bytes that are no UTF-8.
void for_each_text_line(const std::filesystem::path& file,
                        const std::function<bool(std::string_view, size_t)>& take);

std::vector<Document> read_documents(std::span<const std::filesystem::path> files,
                                     const CorpusOptions& options = {});

}  // namespace linnet
