#include "text/text_bytes.h"

#include <fmt/format.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <new>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"

namespace linnet {
namespace {

constexpr size_t kPart = size_t{1} << 20;             // bytes
constexpr uint64_t kMaxXzMemory = uint64_t{1} << 30;  // bytes, for the decoder's dictionary
constexpr int kMaxZstdWindow = 30;                    // log2 of bytes
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

enum class Fault { kDamaged, kAnother, kTooLarge };

[[noreturn]] void fail(const std::string& where, const char* kind, const char* ending, Fault fault) {
  if (fault == Fault::kTooLarge)
    throw Error(where, "unpacking needs too much memory", "a dictionary or window of at most 1 GiB");
  throw Error(where,
              fault == Fault::kAnother ? fmt::format("not {}", kind)
                                       : fmt::format("the {} archive is damaged or cut short", ending + 1),
              fmt::format("a whole {} file", ending));
}

class Xz : public Unpacker {
 public:
  Xz(std::string_view packed, const std::string& where) : where_(where) {
    if (lzma_stream_decoder(&stream_, kMaxXzMemory, LZMA_CONCATENATED) != LZMA_OK) throw std::bad_alloc();
    stream_.next_in = reinterpret_cast<const uint8_t*>(packed.data());
    stream_.avail_in = packed.size();
  }
  ~Xz() override { lzma_end(&stream_); }
  Xz(const Xz&) = delete;
  Xz& operator=(const Xz&) = delete;

  size_t fill(std::span<char> out) override {
    stream_.next_out = reinterpret_cast<uint8_t*>(out.data());
    stream_.avail_out = out.size();
    // Of an archive cut short the first call says nothing yet, the second that it cannot go on.
    while (!ended_ && stream_.avail_out > 0) {
      const lzma_ret code = lzma_code(&stream_, LZMA_FINISH);
      ended_ = code == LZMA_STREAM_END;
      if (ended_ || code == LZMA_OK) continue;
      fail(where_, "an xz file", ".xz",
           code == LZMA_MEMLIMIT_ERROR ? Fault::kTooLarge
           : code == LZMA_FORMAT_ERROR ? Fault::kAnother
                                       : Fault::kDamaged);
    }
    return out.size() - stream_.avail_out;
  }

 private:
  std::string where_;
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool ended_ = false;
};

class Gzip : public Unpacker {
 public:
  Gzip(std::string_view packed, const std::string& where) : packed_(packed), where_(where) {
    constexpr int kGzipAlone = 16;
    if (inflateInit2(&stream_, MAX_WBITS + kGzipAlone) != Z_OK) throw std::bad_alloc();
    if (!packed.empty() && !std::string_view("\x1F\x8B").starts_with(packed.substr(0, 2)))
      another_ = true;  // zlib says of a wrong beginning and of wrong data the same
  }
  ~Gzip() override { inflateEnd(&stream_); }
  Gzip(const Gzip&) = delete;
  Gzip& operator=(const Gzip&) = delete;

  size_t fill(std::span<char> out) override {
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(out.size());
    while (!ended_ && stream_.avail_out > 0) {
      if (stream_.avail_in == 0) feed();
      const int code = inflate(&stream_, Z_NO_FLUSH);
      if (code == Z_MEM_ERROR) throw std::bad_alloc();
      if (code != Z_OK && code != Z_STREAM_END)
        fail(where_, "a gzip file", ".gz", another_ ? Fault::kAnother : Fault::kDamaged);
      if (code != Z_STREAM_END) continue;
      ended_ = stream_.avail_in == 0 && packed_.empty();
      if (!ended_) inflateReset(&stream_);  // another member follows
    }
    return out.size() - stream_.avail_out;
  }

 private:
  void feed() {
    const std::string_view part = packed_.substr(0, size_t{1} << 30);  // zlib counts in 32 bits
    packed_.remove_prefix(part.size());
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(part.data()));
    stream_.avail_in = static_cast<uInt>(part.size());
  }

  std::string_view packed_;  // what zlib has not been given yet
  std::string where_;
  z_stream stream_ = {};
  bool another_ = false, ended_ = false;
};

class Zstd : public Unpacker {
 public:
  Zstd(std::string_view packed, const std::string& where)
      : input_{packed.data(), packed.size(), 0}, where_(where), context_(ZSTD_createDCtx(), &ZSTD_freeDCtx) {
    if (context_ == nullptr) throw std::bad_alloc();
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kMaxZstdWindow);
  }

  size_t fill(std::span<char> out) override {
    ZSTD_outBuffer output = {out.data(), out.size(), 0};
    while (!ended_ && output.pos < output.size) {
      const size_t before = output.pos, read = input_.pos;
      const size_t left = ZSTD_decompressStream(context_.get(), &output, &input_);  // 0: a frame is whole
      if (ZSTD_isError(left)) fail(where_, "a zstd file", ".zst", fault_of(ZSTD_getErrorCode(left)));
      ended_ = left == 0 && input_.pos == input_.size;
      if (!ended_ && output.pos == before && input_.pos == read)
        fail(where_, "a zstd file", ".zst", Fault::kDamaged);  // the input is at its end, the frame is not
    }
    return output.pos;
  }

 private:
  static Fault fault_of(ZSTD_ErrorCode code) {
    if (code == ZSTD_error_memory_allocation) throw std::bad_alloc();
    if (code == ZSTD_error_prefix_unknown) return Fault::kAnother;
    return code == ZSTD_error_frameParameter_windowTooLarge ? Fault::kTooLarge : Fault::kDamaged;
  }

  ZSTD_inBuffer input_;
  std::string where_;
  std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context_;
  bool ended_ = false;
};

template <class T>
std::unique_ptr<Unpacker> make(std::string_view packed, const std::string& where) {
  return std::make_unique<T>(packed, where);
}

using Make = std::unique_ptr<Unpacker> (*)(std::string_view, const std::string&);

struct Packing {
  std::string_view ending, magic;  // what archives begin with
  Make make;
};
constexpr Packing kPackings[] = {{".xz",
                                  {"\xFD"
                                   "7zXZ\0",
                                   6},
                                  &make<Xz>},
                                 {".gz", "\x1F\x8B", &make<Gzip>},
                                 {".zst", "\x28\xB5\x2F\xFD", &make<Zstd>}};

/// Null where none fits: the text is plain.
template <class Fits>
Make unpacker_where(const Fits& fits) {
  const auto found = std::find_if(std::begin(kPackings), std::end(kPackings), fits);
  return found == std::end(kPackings) ? nullptr : found->make;
}

Make unpacker_of(const std::filesystem::path& file) {
  const std::string ending = file.extension().string();
  return unpacker_where([&](const Packing& packing) { return packing.ending == ending; });
}

/// Standard input has no name.
Make unpacker_of_bytes(std::string_view bytes) {
  return unpacker_where([&](const Packing& packing) { return bytes.starts_with(packing.magic); });
}

}  // namespace

bool is_packed(const std::filesystem::path& file) { return unpacker_of(file) != nullptr; }

TextBytes::TextBytes(const std::filesystem::path& file) {
  const bool is_input = file == "-";
  if (is_input) {
    standard_input_ = read_whole("-");
    bytes_ = standard_input_;
  } else {
    mapped_ = MappedFile(file);
    bytes_ = mapped_.text();
  }
  if (const Make make_unpacker = is_input ? unpacker_of_bytes(bytes_) : unpacker_of(file)) {
    unpacker_ = make_unpacker(bytes_, is_input ? "standard input" : file.string());
    buffer_.resize(kPart);
  }
}

std::string_view TextBytes::next_part() {
  if (unpacker_ != nullptr) return std::string_view(buffer_).substr(0, unpacker_->fill(buffer_));
  const std::string_view part = bytes_.substr(at_, kPart);
  at_ += part.size();
  return part;
}

std::string_view TextBytes::next() {
  stop_if_interrupted();
  std::string_view part = next_part();
  if (!std::exchange(begun_, true) && part.starts_with(kByteOrderMark)) {
    part.remove_prefix(kByteOrderMark.size());
    if (part.empty()) part = next_part();
  }
  return part;
}

}  // namespace linnet
