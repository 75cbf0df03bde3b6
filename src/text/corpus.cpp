#include "text/corpus.h"

#include <fmt/format.h>
#include <lzma.h>

#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/json.h"

namespace linnet {
namespace {

constexpr size_t kMaxLine = size_t{1} << 30;  // bytes
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr uint64_t kMaxXzMemory = uint64_t{1} << 30;  // bytes, for the decoder's dictionary

/// Bytes of a file, unpacked where it is .xz, in parts.
class Source {
 public:
  Source(const std::filesystem::path& file, bool packed) : mapped_(file), where_(file.string()) {
    if (!packed) return;
    decoder_ = lzma_stream LZMA_STREAM_INIT;
    if (lzma_stream_decoder(&*decoder_, kMaxXzMemory, LZMA_CONCATENATED) != LZMA_OK) throw std::bad_alloc();
    decoder_->next_in = reinterpret_cast<const uint8_t*>(mapped_.text().data());
    decoder_->avail_in = mapped_.text().size();
    buffer_.resize(1 << 20);
  }
  ~Source() {
    if (decoder_) lzma_end(&*decoder_);
  }
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  /// The next part, valid until the next call; empty at the end.
  std::string_view next() {
    if (!decoder_) {
      const std::string_view part = mapped_.text().substr(std::min(at_, mapped_.text().size()), 1 << 20);
      at_ += part.size();
      return part;
    }
    if (ended_) return {};
    decoder_->next_out = reinterpret_cast<uint8_t*>(buffer_.data());
    decoder_->avail_out = buffer_.size();
    lzma_ret code = LZMA_OK;
    // Of an archive cut short the first call says nothing yet, the second that it cannot go on.
    while (code == LZMA_OK && decoder_->avail_out == buffer_.size())
      code = lzma_code(&*decoder_, LZMA_FINISH);
    if (code == LZMA_STREAM_END) {
      ended_ = true;
    } else if (code == LZMA_MEMLIMIT_ERROR) {
      throw Error(where_, "unpacking needs too much memory", "an xz dictionary of at most 1 GiB");
    } else if (code != LZMA_OK) {
      throw Error(where_,
                  code == LZMA_FORMAT_ERROR ? "not an xz file" : "the xz archive is damaged or cut short",
                  "a whole .xz file");
    }
    return std::string_view(buffer_).substr(0, buffer_.size() - decoder_->avail_out);
  }

 private:
  MappedFile mapped_;
  std::string where_;
  size_t at_ = 0;
  std::optional<lzma_stream> decoder_;
  std::string buffer_;
  bool ended_ = false;
};

/// The whole of a text, at most 1 GiB where it is packed: an archive of a few kB may hold any number of
/// bytes.
std::string whole_text(const std::filesystem::path& file, bool packed) {
  Source source(file, packed);
  std::string text;
  for (std::string_view part = source.next(); !part.empty(); part = source.next()) {
    stop_if_interrupted();
    text += part;
    if (packed && text.size() > kMaxLine)
      throw Error(file.string(), "a packed text of more than 1 GiB", "a smaller one, or records");
  }
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  return text;
}

Document document_of(std::string_view line, const std::filesystem::path& file, size_t number) {
  const std::string where = fmt::format("{}:{}", file.string(), number);
  const nlohmann::json record = parse_json(line, where);
  if (!record.is_object()) throw Error(where, "no JSON object", "a record with the field `text`");
  const auto field = [&](const char* name) -> const std::string* {
    const auto found = record.find(name);
    return found != record.end() && found->is_string() ? found->get_ptr<const std::string*>() : nullptr;
  };
  const std::string *text = field("text"), *id = field("id"), *source = field("source");
  if (text == nullptr) throw Error(where, "no string `text` in the record", "a record with the field `text`");
  return {id != nullptr ? *id : where, source != nullptr ? *source : file.filename().string(), *text};
}

}  // namespace

void for_each_line(const std::filesystem::path& file,
                   const std::function<bool(std::string_view, size_t)>& take) {
  Source source(file, file.extension() == ".xz");
  bool begun = false;
  std::string open;  // a line that goes on in the next part
  size_t number = 1;
  for (std::string_view part = source.next(); !part.empty(); part = source.next()) {
    while (!part.empty()) {
      const size_t end = part.find('\n');
      open += part.substr(0, end);
      if (!begun && (end != std::string_view::npos || open.size() >= kByteOrderMark.size())) {
        begun = true;
        if (open.starts_with(kByteOrderMark)) open.erase(0, kByteOrderMark.size());
      }
      if (open.size() > kMaxLine) {
        throw Error(fmt::format("{}:{}", file.string(), number), "a line of more than 1 GiB",
                    "one record a line");
      }
      if (end == std::string_view::npos) break;
      if (!take(open, number++)) return;
      open.clear();
      part.remove_prefix(end + 1);
    }
  }
  if (!open.empty()) take(open, number);
}

void for_each_document(const std::filesystem::path& file, const std::function<bool(Document&&)>& take) {
  stop_if_interrupted();
  const std::string name = file.filename().string();
  const bool packed = name.ends_with(".xz");
  const std::string_view unpacked = std::string_view(name).substr(0, name.size() - (packed ? 3 : 0));
  if (unpacked.ends_with(".txt") || unpacked.ends_with(".md")) {
    take({file.string(), name, whole_text(file, packed)});
    return;
  }
  if (!unpacked.ends_with(".jsonl")) {
    throw Error(file.string(), "unknown kind of text file",
                "a name that ends in .txt, .md or .jsonl, or one of these and .xz");
  }
  for_each_line(file, [&](std::string_view line, size_t number) {
    stop_if_interrupted();
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) return true;
    return take(document_of(line, file, number));
  });
}

std::vector<Document> read_documents(std::span<const std::filesystem::path> files) {
  std::vector<Document> documents;
  for (const auto& file : files) {
    for_each_document(file, [&](Document&& document) {
      documents.push_back(std::move(document));
      return true;
    });
  }
  return documents;
}

}  // namespace linnet
