#include "train/written_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "base/random.h"
#include "format/safetensors.h"
#include "generate/engine.h"
#include "model/decoder.h"

namespace linnet::train {
namespace {

constexpr uint64_t kPromptLengths = 0x70726d70;  // a stream of random numbers

}  // namespace

TokenizedText write_text(const std::shared_ptr<const Model>& model, const Tokenizer& tokenizer,
                         const TokenRows& rows, int64_t first, int64_t count, const Written& how,
                         ThreadPool& pool) {
  const auto decoder = Decoder::make(model, {.slots = how.slots, .max_nodes = how.slots}, pool);
  const auto drafter = make_no_drafter();
  Engine engine(*decoder, tokenizer, *drafter, {.slots = how.slots, .max_nodes = how.slots});
  std::vector<int32_t> row(static_cast<size_t>(rows.context()) + 1), documents(row.size() - 1);
  const auto request_of = [&](int64_t i) {
    rows.row(first + i, row, documents);
    const auto shortest = std::max<int64_t>(1, how.context / 16),
               longest = std::max<int64_t>(1, how.context / 4);
    const auto length =
        shortest + static_cast<int64_t>(uniform_integer(how.seed, kPromptLengths, static_cast<uint64_t>(i),
                                                        static_cast<uint64_t>(longest - shortest + 1)));
    Request request;
    request.prompt = {how.start_token};
    request.prompt.insert(request.prompt.end(), row.begin(), row.begin() + std::min(length, rows.context()));
    const bool greedy =
        std::floor(static_cast<double>(i + 1) * how.greedy) > std::floor(static_cast<double>(i) * how.greedy);
    request.sampling.temperature = greedy ? 0 : how.temperature;
    request.seed = how.seed;
    request.sequence = static_cast<uint64_t>(i);
    request.max_new_tokens = std::max<int64_t>(1, how.context - std::ssize(request.prompt));
    return request;
  };
  Progress progress("writing", "tokens", static_cast<double>(count * how.context));
  TokenizedText text;
  // A few rounds of all slots at a time: a request holds its prompt.
  for (int64_t done = 0; done < count && !interrupted();) {
    std::vector<Request> requests;
    for (; done < count && std::ssize(requests) < 16 * how.slots; ++done)
      requests.push_back(request_of(done));
    const auto results = engine.run(requests, {}, interrupted);
    for (size_t i = 0; i < results.size(); ++i) {
      text.starts.push_back(std::ssize(text.tokens));
      text.tokens.insert(text.tokens.end(), requests[i].prompt.begin(), requests[i].prompt.end());
      text.tokens.insert(text.tokens.end(), results[i].tokens.begin(), results[i].tokens.end());
    }
    progress.update(static_cast<double>(text.tokens.size()), "");
  }
  progress.finish();
  return text;
}

void keep_written(const std::filesystem::path& file, const TokenizedText& text, const std::string& identity) {
  const std::vector<NamedTensor> tensors = {
      {"tokens", {DType::kI32, {std::ssize(text.tokens)}, std::as_bytes(std::span(text.tokens))}},
      {"starts", {DType::kI64, {std::ssize(text.starts)}, std::as_bytes(std::span(text.starts))}}};
  write_safetensors(file, tensors, {{"identity", identity}, {"hash", hash_of(text)}});
}

std::optional<TokenizedText> read_written(const std::filesystem::path& file, const std::string& identity) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) return std::nullopt;
  try {
    const SafetensorsFile saved = SafetensorsFile::open(file);
    const auto found = saved.metadata().find("identity"), hash = saved.metadata().find("hash");
    const auto tokens = saved.tensors().find("tokens"), starts = saved.tensors().find("starts");
    if (found == saved.metadata().end() || found->second != identity || hash == saved.metadata().end() ||
        tokens == saved.tensors().end() || starts == saved.tensors().end())
      return std::nullopt;
    TokenizedText text;
    text.tokens.resize(tokens->second.bytes.size() / sizeof(int32_t));
    text.starts.resize(starts->second.bytes.size() / sizeof(int64_t));
    std::memcpy(text.tokens.data(), tokens->second.bytes.data(), text.tokens.size() * sizeof(int32_t));
    std::memcpy(text.starts.data(), starts->second.bytes.data(), text.starts.size() * sizeof(int64_t));
    if (hash_of(text) != hash->second) return std::nullopt;
    return text;
  } catch (const Error&) {
    return std::nullopt;  // it is written anew
  }
}

}  // namespace linnet::train
