#include "evaluate/span_meter.h"

#include <algorithm>
#include <vector>

namespace linnet {

SpanMeter::SpanMeter(Decoder& decoder, const Model& model, const Tokenizer& tokenizer, int64_t window,
                     ThreadPool& pool)
    : decoder_(decoder),
      tokenizer_(tokenizer),
      tokens_(SpanTokens::of(model.config(), tokenizer, model.tokenizer_folder().string())),
      window_(window),
      scorer_(decoder, decoder.vocabulary(), pool) {
  tokens_.check(window, "--window");
}

bool SpanMeter::add(std::string_view text, const std::function<bool(int64_t)>& progress) {
  const std::vector<int32_t> ids = tokenizer_.encode(text);
  std::span<const int32_t> left = ids;
  while (left.size() > 1) {
    const auto piece = left.first(std::min(left.size(), static_cast<size_t>(window_)));
    left = left.subspan(piece.size());
    const SpanShape shape(std::ssize(piece));
    std::vector<int32_t> source(static_cast<size_t>(shape.source())),
        written(static_cast<size_t>(shape.target()) + 1);
    written.front() = tokens_.start;
    corrupt(piece, tokens_, 0, static_cast<uint64_t>(totals_.texts), source, std::span(written).subspan(1));
    decoder_.read_source(0, source);
    std::vector<double> scores;
    scorer_.read(0, written, 0, scores);
    for (const double nats : scores) totals_.nats += nats;
    totals_.tokens += std::ssize(scores);
    totals_.texts += 1;
    totals_.text_tokens += std::ssize(piece);
    if (progress && !progress(std::ssize(piece))) return false;
  }
  return true;
}

}  // namespace linnet
