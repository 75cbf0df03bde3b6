#include "format/store_reading.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/thread_pool.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr size_t kPiece = 1 << 20;           // bytes whose numbers a thread checks at a time
constexpr size_t kWindow = 16 * kPiece;      // hashed in one thread while the others check its pieces
constexpr size_t kAhead = size_t{64} << 20;  // asked of the disk before it is needed
constexpr int64_t kSettled = 1'000'000'000;  // ns: a file written less before its reading is not remembered
constexpr JsonLimits kLimits{.bytes = 10'000'000, .depth = 8};

int64_t now() {
  return std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// The files, as what is remembered about them is found again; null where one may change unseen.
Json files_of(const TensorStore& store) {
  Json files = Json::array();
  const int64_t settled = now() - kSettled;
  for (const auto& [path, file] : store.files()) {
    std::error_code error;
    const fs::path real = fs::canonical(path, error);
    if (error || file.modified > settled) return {};
    files.push_back({real.string(), file.device, file.inode, file.size, file.modified});
  }
  return files;
}

class Memory {
 public:
  Memory(const TensorStore& store, const ReadingOptions& options) {
    int64_t bytes = 0;
    for (const auto& [path, file] : store.files()) bytes += static_cast<int64_t>(file.size);
    if (options.cache.empty() || bytes < options.least) return;
    files_ = files_of(store);
    const std::string key = files_.dump(-1, ' ', false, Json::error_handler_t::replace);
    entry_ = options.cache / ("weights-" + hash_of(std::as_bytes(std::span(key))).substr(9) + ".json");
  }

  std::optional<StoreReading> recall(const TensorStore& store) const {
    std::error_code none;
    if (files_.is_null() || !fs::exists(entry_, none)) return std::nullopt;
    try {
      const Json entry = read_json(entry_, kLimits);
      if (entry.at("files") != files_) return std::nullopt;
      StoreReading reading{entry.at("hash"), entry.at("broken")};
      for (const std::string& name : reading.broken)
        if (store.find(name) == nullptr) return std::nullopt;
      return reading;
    } catch (const Error&) {
    } catch (const Json::exception&) {
    }
    return std::nullopt;
  }

  void remember(const StoreReading& reading) const {
    if (files_.is_null()) return;
    std::error_code none;
    fs::create_directories(entry_.parent_path(), none);
    try {
      write_file(entry_, Json{{"files", files_}, {"hash", reading.hash}, {"broken", reading.broken}}.dump());
    } catch (const Error&) {
    } catch (const Json::exception&) {  // a path that is not UTF-8
    }
  }

 private:
  Json files_;  // null: nothing is remembered
  fs::path entry_;
};

/// Hashes and checks tensors, window by window.
class Reader {
 public:
  Reader(int threads, std::function<void(size_t)> report) : pool_(threads), report_(std::move(report)) {}

  /// Whether every number is sound.
  bool read(const TensorView& tensor, Hash& hash) {
    std::atomic<bool> sound{true};
    for (auto rest = tensor.bytes; !rest.empty();) {
      stop_if_interrupted();
      const auto window = rest.first(std::min(rest.size(), kWindow));
      rest = rest.subspan(window.size());
      read_ahead(rest.first(std::min(rest.size(), kAhead)));
      const size_t pieces = (window.size() + kPiece - 1) / kPiece;
      // The last piece, which the pool hands out first, is the longest: the hash.
      pool_.run(pieces + 1, [&](size_t piece) {
        if (piece == pieces) return hash.add(window);
        const auto part = window.subspan(piece * kPiece);
        if (!is_sound(tensor.type, part.first(std::min(part.size(), kPiece)))) sound = false;
      });
      report_(window.size());
    }
    return sound;
  }

 private:
  ThreadPool pool_;
  std::function<void(size_t)> report_;
};

StoreReading read_all(const TensorStore& store, const ReadingOptions& options) {
  double total = 0, done = 0;
  for (const auto& [name, tensor] : store.tensors()) total += static_cast<double>(tensor.bytes.size());
  Reader reader(options.threads, [&](size_t bytes) {
    done += static_cast<double>(bytes);
    if (options.report) options.report(done, total);
  });
  Hash hash;
  StoreReading reading;
  for (const auto& [name, tensor] : store.tensors()) {
    hash.add(name);
    hash.add(name_of(tensor.type));
    hash.add(fmt::format("{}", fmt::join(tensor.shape, ",")));
    if (!reader.read(tensor, hash)) reading.broken.push_back(name);
  }
  reading.hash = hash.text();
  return reading;
}

}  // namespace

fs::path cache_folder() {
  const auto folder = [](const char* variable) {
    const char* value = std::getenv(variable);
    const fs::path path = value == nullptr ? "" : value;
    return path.is_absolute() ? path : fs::path();
  };
  if (const fs::path cache = folder("XDG_CACHE_HOME"); !cache.empty()) return cache / "linnet";
  const fs::path home = folder("HOME");
  return home.empty() ? home : home / ".cache" / "linnet";
}

StoreReading read_store(const TensorStore& store, const ReadingOptions& options) {
  const Memory memory(store, options);
  if (!options.verify)
    if (auto remembered = memory.recall(store)) return *std::move(remembered);
  StoreReading reading = read_all(store, options);
  memory.remember(reading);
  return reading;
}

std::string tensors_hash(const TensorStore& store) { return read_store(store, {}).hash; }

}  // namespace linnet
