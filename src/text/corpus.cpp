#include "text/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "text/text_bytes.h"
#include "text/utf8.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSpace = " \t\r\n";

std::string name_of(const fs::path& file) { return file == "-" ? "standard input" : file.string(); }
std::string source_of(const fs::path& file) {
  return file == "-" ? "standard input" : file.filename().string();
}

/// The whole of a text, of at most `most` bytes where `always`, or it is packed.
std::string whole_text(const fs::path& file, size_t most, bool always) {
  TextBytes bytes(file);
  if (!always && !bytes.packed()) most = SIZE_MAX;
  std::string text;
  for (std::string_view part = bytes.next(); !part.empty(); part = bytes.next()) {
    text += part;
    if (text.size() > most)
      throw Error(name_of(file), fmt::format("more than {} bytes of text", most), "a smaller one, or .jsonl");
  }
  return text;
}

/// Makes documents of one file's records.
class Records {
 public:
  Records(const fs::path& file, const CorpusOptions& options)
      : source_(source_of(file)),
        field_(options.field.empty() ? "text" : options.field),
        most_(options.most) {}

  Document document_of(std::string_view record, const std::string& where) const {
    return document_of(parse_json(record, where, {.bytes = most_}), where);
  }
  /// A string is a document too.
  Document document_of_element(std::string_view element, const std::string& where) const {
    const nlohmann::json json = parse_json(element, where, {.bytes = most_});
    if (json.is_string()) return {where, source_, json.get<std::string>()};
    return document_of(json, where);
  }

 private:
  Document document_of(const nlohmann::json& record, const std::string& where) const {
    const std::string wanted = fmt::format("a record with the field `{}`, a string", printable(field_, 60));
    if (!record.is_object()) throw Error(where, "no JSON object", wanted);
    const auto string_in = [&](const std::string& name) -> const std::string* {
      const auto found = record.find(name);
      return found != record.end() && found->is_string() ? found->get_ptr<const std::string*>() : nullptr;
    };
    const std::string *text = string_in(field_), *id = string_in("id"), *source = string_in("source");
    if (text == nullptr)
      throw Error(where, fmt::format("no string `{}` in the record", printable(field_, 60)), wanted);
    return {id != nullptr ? *id : where, source != nullptr ? *source : source_, *text};
  }

  std::string source_, field_;
  size_t most_;
};

/// Where the first element of `list` ends, which is what follows the `[` or a comma of a JSON list: at the
/// comma or `]` after it, else at the end. Whether it is JSON is for the parser to say: what is cut wrongly
/// here is none.
size_t end_of_element(std::string_view list) {
  int depth = 0;
  bool quoted = false;
  size_t i = 0;
  for (; i < list.size(); ++i) {
    const char c = list[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
      continue;
    }
    if (depth == 0 && (c == ',' || c == ']')) break;
    if (c == '"') quoted = true;
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
  }
  return std::min(i, list.size());
}

std::string_view trimmed(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
  return text.substr(0, text.find_last_not_of(kSpace) + 1);
}

/// The elements of a JSON list, or the one record that is no list: parsed one by one, so that memory is the
/// text and one of them.
void for_each_element(std::string_view text, const std::string& where,
                      const std::function<bool(std::string_view, const std::string&)>& take) {
  std::string_view rest = trimmed(text);
  if (!rest.starts_with('[')) {
    take(rest, where);
    return;
  }
  rest.remove_prefix(1);
  for (size_t number = 1;; ++number) {
    stop_if_interrupted();
    const size_t end = end_of_element(rest);
    const std::string_view element = trimmed(rest.substr(0, end));
    const std::string record = fmt::format("{}, record {}", where, number);
    const bool last = end < rest.size() && rest[end] == ']';
    if (element.empty() && last && number == 1) return;  // an empty list
    if (element.empty()) throw Error(record, "not JSON: nothing stands there", "a record or a string");
    if (end == rest.size()) throw Error(record, "not JSON: the list does not end", "a whole file");
    if (!take(element, record)) return;
    rest.remove_prefix(end + 1);
    if (!last) continue;
    if (!rest.empty()) throw Error(where, "not JSON: more stands after the list", "one list or record");
    return;
  }
}

enum class Kind { kText, kLines, kList };

Kind kind_of(const fs::path& file, const CorpusOptions& options) {
  if (file == "-") return options.field.empty() ? Kind::kText : Kind::kLines;
  const std::string ending = (is_packed(file) ? file.stem() : file).extension().string();
  if (ending == ".txt" || ending == ".md") return Kind::kText;
  if (ending == ".jsonl") return Kind::kLines;
  if (ending == ".json") return Kind::kList;
  throw Error(file.string(), "unknown kind of text file",
              "a name that ends in .txt, .md, .jsonl or .json, or one of these and .xz, .gz or .zst");
}

}  // namespace

bool has_records(const fs::path& file, const CorpusOptions& options) {
  return kind_of(file, options) != Kind::kText;
}

void for_each_line(const fs::path& file, const std::function<bool(std::string_view, size_t)>& take,
                   size_t most) {
  TextBytes bytes(file);
  std::string open;  // a line that goes on in the next part
  size_t number = 1;
  for (std::string_view part = bytes.next(); !part.empty(); part = bytes.next()) {
    while (!part.empty()) {
      const size_t end = part.find('\n');
      open += part.substr(0, end);
      if (open.size() > most) {
        throw Error(fmt::format("{}:{}", name_of(file), number),
                    fmt::format("a line of more than {} bytes", most), "one record a line");
      }
      if (end == std::string_view::npos) break;
      if (!take(open, number++)) return;
      open.clear();
      part.remove_prefix(end + 1);
    }
  }
  if (!open.empty()) take(open, number);
}

void require_utf8(std::string_view text, const std::string& where) {
  if (is_valid_utf8(text)) return;
  size_t line = 1;
  for (std::string_view rest = text; !rest.empty(); ++line) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    if (!is_valid_utf8(rest.substr(0, end))) break;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  throw Error(fmt::format("{}:{}", where, line), "bytes that are no UTF-8", "text in UTF-8");
}

void for_each_text_line(const fs::path& file, const std::function<bool(std::string_view, size_t)>& take) {
  for_each_line(file, [&](std::string_view line, size_t number) {
    if (!is_valid_utf8(line))
      throw Error(fmt::format("{}:{}", name_of(file), number), "bytes that are no UTF-8", "text in UTF-8");
    if (line.ends_with('\r')) line.remove_suffix(1);
    return take(line, number);
  });
}

void for_each_document(const fs::path& file, const CorpusOptions& options,
                       const std::function<bool(Document&&)>& take) {
  const Records records(file, options);
  switch (kind_of(file, options)) {
    case Kind::kText: {
      std::string text = whole_text(file, options.most, false);
      require_utf8(text, name_of(file));
      take({name_of(file), source_of(file), std::move(text)});
      return;
    }
    case Kind::kLines:
      for_each_line(
          file,
          [&](std::string_view line, size_t number) {
            stop_if_interrupted();
            if (trimmed(line).empty()) return true;
            return take(records.document_of(line, fmt::format("{}:{}", name_of(file), number)));
          },
          options.most);
      return;
    case Kind::kList:
      for_each_element(whole_text(file, options.most, true), name_of(file),
                       [&](std::string_view element, const std::string& where) {
                         return take(records.document_of_element(element, where));
                       });
      return;
  }
}

std::vector<Document> read_documents(std::span<const fs::path> files, const CorpusOptions& options) {
  std::vector<Document> documents;
  for (const auto& file : files) {
    for_each_document(file, options, [&](Document&& document) {
      documents.push_back(std::move(document));
      return true;
    });
  }
  return documents;
}

}  // namespace linnet
