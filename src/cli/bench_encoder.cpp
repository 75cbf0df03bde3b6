#include "cli/bench_encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/count.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/timing.h"
#include "cli/bench.h"
#include "model/teacher.h"

namespace linnet::cli {
namespace {

constexpr int64_t kLengths[] = {128, 512, 2048, 8192};
constexpr double kShortest = 0.02;  // seconds that a window lasts: of short sequences it has several

std::vector<int64_t> lengths_of(const EncoderBench& how, int64_t longest) {
  for (const int64_t length : how.lengths) {
    if (length > longest)
      throw Error("--prefill-tokens", counted(length, "token"),
                  fmt::format("at most {}, the model's positions", longest));
  }
  if (!how.lengths.empty()) return how.lengths;
  std::vector<int64_t> lengths;
  for (const int64_t length : kLengths) {
    if (length <= longest) lengths.push_back(length);
  }
  if (lengths.empty()) lengths.push_back(longest);
  return lengths;
}

/// Seconds of a sequence: so many of them one after the other that the clock is fine enough.
double seconds_of(Encoder& encoder, const std::vector<int32_t>& tokens, std::vector<float>& rows) {
  const Encoder::Sequence sequence{tokens};
  const Stopwatch watch;
  int count = 0;
  do {
    encoder.encode({&sequence, 1}, rows);
    ++count;
    stop_if_interrupted();
  } while (watch.seconds() < kShortest);
  return watch.seconds() / count;
}

}  // namespace

nlohmann::ordered_json measure_encoder(const std::shared_ptr<const Model>& model,
                                       const Encoder::Options& options, const EncoderBench& how,
                                       ThreadPool& pool) {
  const auto own = Encoder::make(model, options, pool);
  const std::vector<AttentionConfig> teacher = teacher_attention(model->config());
  std::unique_ptr<Encoder> softmax;
  if (model->all_attention() != teacher)
    softmax = Encoder::make(model->with_attention(teacher), options, pool);
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const int64_t length : lengths_of(how, own->longest())) {
    const std::vector<int32_t> tokens = random_tokens(length, model->config().vocabulary, how.seed);
    std::vector<float> out(static_cast<size_t>(length * own->hidden_size()));
    std::vector<double> seconds, beside;
    for (int window = 0; window <= how.windows; ++window) {
      const double one = seconds_of(*own, tokens, out),
                   other = softmax ? seconds_of(*softmax, tokens, out) : 0;
      if (window == 0) continue;  // caches and buffers
      seconds.push_back(one);
      beside.push_back(other);
    }
    const double each = median(seconds);
    nlohmann::ordered_json row = {{"tokens", length},
                                  {"sequences_per_second", 1 / each},
                                  {"tokens_per_second", static_cast<double>(length) / each}};
    if (softmax) {
      row["softmax_sequences_per_second"] = 1 / median(beside);
      row["speedup"] = median(beside) / each;
    }
    rows.push_back(std::move(row));
  }
  return {{"encode", rows}};
}

std::string encoder_table(const nlohmann::ordered_json& result) {
  const auto& rows = result["encode"];
  const bool beside = rows.front().contains("speedup");
  std::string table = fmt::format("{:>8} {:>14} {:>12}{}\n", "tokens", "sequences/s", "tokens/s",
                                  beside ? fmt::format(" {:>14} {:>8}", "softmax's", "times") : "");
  for (const auto& row : rows) {
    table += fmt::format("{:>8} {:>14.4g} {:>12}", row["tokens"].get<int64_t>(),
                         row["sequences_per_second"].get<double>(),
                         short_number(row["tokens_per_second"].get<double>()));
    if (beside)
      table += fmt::format(" {:>14.4g} {:>8.3g}", row["softmax_sequences_per_second"].get<double>(),
                           row["speedup"].get<double>());
    table += '\n';
  }
  return table;
}

}  // namespace linnet::cli
