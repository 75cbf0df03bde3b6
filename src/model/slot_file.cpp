#include "model/slot_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/hash.h"

namespace linnet {
namespace {

constexpr std::string_view kMagic = "linnet state";
constexpr uint32_t kVersion = 2;
constexpr const char* kWhere = "state";

template <class Number>
void put(const Number& number, std::vector<std::byte>& out) {
  const auto bytes = std::as_bytes(std::span(&number, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void put(std::string_view text, std::vector<std::byte>& out) {
  const auto bytes = std::as_bytes(std::span(text));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

/// The text behind its length.
void put_counted(std::string_view text, std::vector<std::byte>& out) {
  put(static_cast<uint32_t>(text.size()), out);
  put(text, out);
}

std::span<const std::byte> take(std::span<const std::byte>& in, size_t count) {
  if (in.size() < count) throw Error(kWhere, "ends too early", "a whole saved state");
  const auto taken = in.first(count);
  in = in.subspan(count);
  return taken;
}

template <class Number>
Number take(std::span<const std::byte>& in) {
  Number number;
  std::memcpy(&number, take(in, sizeof(number)).data(), sizeof(number));
  return number;
}

std::string_view take_text(std::span<const std::byte>& in, size_t count) {
  const auto bytes = take(in, count);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Text from shortly before the first byte that differs from `other`, fit for a line that shows both.
std::string from_difference(std::string_view text, std::string_view other) {
  constexpr size_t kBefore = 24, kShown = 160;
  const auto at = static_cast<size_t>(
      std::mismatch(text.begin(), text.end(), other.begin(), other.end()).first - text.begin());
  const size_t begin = at > kBefore ? at - kBefore : 0;
  return (begin > 0 ? "…" : "") + printable(text.substr(begin), kShown);
}

/// The methods that the text of an attention's config names, each once.
std::string methods_in(std::string_view config) {
  constexpr std::string_view kKey = R"("method":")";
  std::set<std::string> names;
  for (size_t at = config.find(kKey); at != config.npos; at = config.find(kKey, at)) {
    at += kKey.size();
    names.emplace(config.substr(at, config.find('"', at) - at));
  }
  return names.empty() ? "softmax" : fmt::format("{}", fmt::join(names, ", "));
}

std::string hexadecimal(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

void add(std::string_view name, const TensorView& tensor, Hash& hash) {
  hash.add(name);
  hash.add(name_of(tensor.type));
  hash.add(to_string(tensor.shape));
  hash.add(tensor.bytes);
}

}  // namespace

std::array<std::byte, 16> fingerprint(const Model& model) {
  Hash hash;
  hash.add(model.weights_hash());
  const Family& family = model.family();
  const ModelConfig& config = model.config();
  // The same weights under another config make other keys.
  hash.add(fmt::format("{} {} {} {}", config.heads, config.positions, config.norm_epsilon,
                       static_cast<int>(config.activation)));
  if (config.score_cap != 0 || config.query_scale != 1 || config.embedding_scale != 1 || config.parallel)
    hash.add(fmt::format("{} {} {} {}", config.score_cap, config.query_scale, config.embedding_scale,
                         config.parallel));
  if (std::ranges::count(config.rotated, config.rotated.front()) < config.layers)
    hash.add(fmt::format("{}", fmt::join(config.rotated, " ")));
  if (family.positions == PositionKind::kRotary) {
    const RopeFrequencies rope = rope_frequencies(config);
    hash.add(fmt::format("{} {}", rope.factor, fmt::join(rope.inverse, " ")));
  }
  for (const auto& [name, tensor] : model.saved_tensors()) add(name, tensor, hash);
  for (int layer = 0; layer < config.layers; ++layer) {
    for (const auto& [name, tensor] : model.linear_parameters(layer)) add(name, tensor, hash);
    if (model.encoder())
      for (const auto& [name, tensor] : model.cross_parameters(layer)) add("cross " + name, tensor, hash);
    for (const std::string_view module : layer_modules(family)) {
      const auto lora = model.lora_of(layer, module);
      if (!lora) continue;
      add(model.module_name(layer, module), *lora->a, hash);
      add(fmt::format("{}", lora->scale), *lora->b, hash);
    }
  }
  if (model.encoder()) {
    hash.add(fmt::format("{} {}", config.relative_buckets, config.relative_distance));
    hash.add(std::span<const std::byte>(fingerprint(*model.encoder())));
  }
  return hash.bytes();
}

void write_header(const SlotHeader& header, std::vector<std::byte>& out) {
  put(kMagic, out);
  put(kVersion, out);
  put(header.number_bytes, out);
  put_counted(header.arithmetic, out);
  put(header.fingerprint, out);
  put_counted(header.attention, out);
  put(header.length, out);
  put(header.layers, out);
}

void seal(std::vector<std::byte>& bytes) { put(checksum(bytes), bytes); }

SlotBody read_header(std::span<const std::byte> bytes, const SlotHeader& expected) {
  std::span<const std::byte> in = bytes;
  if (take_text(in, kMagic.size()) != kMagic)
    throw Error(kWhere, "is no saved state", "one that Linnet wrote");
  if (const auto version = take<uint32_t>(in); version != kVersion)
    throw Error(kWhere, fmt::format("version {}", version), fmt::format("version {}", kVersion));
  if (const auto size = take<uint32_t>(in); size != expected.number_bytes)
    throw Error(kWhere, fmt::format("numbers of {} bytes", size),
                fmt::format("{} bytes (the same --dtype)", expected.number_bytes));
  const auto arithmetic = take_text(in, take<uint32_t>(in));
  if (arithmetic != expected.arithmetic)
    throw Error(kWhere, "saved with " + printable(arithmetic, 60), "one saved with " + expected.arithmetic);
  const auto fingerprint = take(in, expected.fingerprint.size());
  const auto attention = take_text(in, take<uint32_t>(in));
  if (const auto methods = methods_in(attention), own = methods_in(expected.attention); methods != own)
    throw Error(kWhere, "of attention by " + printable(methods), "one by " + own);
  if (attention != expected.attention)
    throw Error(kWhere, "attention " + from_difference(attention, expected.attention),
                from_difference(expected.attention, attention));
  if (std::memcmp(fingerprint.data(), expected.fingerprint.data(), fingerprint.size()) != 0)
    throw Error(kWhere, "belongs to other weights, " + hexadecimal(fingerprint),
                "one saved with this model's, " + hexadecimal(expected.fingerprint));
  const auto length = take<int64_t>(in);
  const auto layers = take<uint32_t>(in);
  if (length < 0 || layers != expected.layers)
    throw Error(kWhere, fmt::format("{} tokens in {} layers", length, layers),
                fmt::format("{} layers", expected.layers));
  if (in.size() < sizeof(uint64_t)) throw Error(kWhere, "ends too early", "a whole saved state");
  auto sum = in.last(sizeof(uint64_t));
  if (take<uint64_t>(sum) != checksum(bytes.first(bytes.size() - sizeof(uint64_t))))
    throw Error(kWhere, "checksum differs: bytes are missing or changed", "a state as it was saved");
  return {length, in.first(in.size() - sizeof(uint64_t))};
}

}  // namespace linnet
