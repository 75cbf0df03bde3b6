#include "cli/documents.h"

#include "base/interrupt.h"
#include "evaluate/perplexity.h"

namespace linnet::cli {

Documents read_ids(const std::vector<std::filesystem::path>& files, const CorpusOptions& texts,
                   const Model& model, const Tokenizer& tokenizer, int64_t sampled) {
  constexpr int64_t kTimes = 8;
  const int32_t first = first_input(model, tokenizer);
  Documents documents;
  for (const std::filesystem::path& file : files) {
    int64_t left = kTimes * sampled;
    for_each_document(file, texts, [&](Document&& document) {
      std::vector<int32_t> ids = tokenizer.encode(document.text);
      left -= std::ssize(ids);
      ids.insert(ids.begin(), first);
      documents.push_back(std::move(ids));
      stop_if_interrupted();
      return left > 0;
    });
  }
  return documents;
}

int64_t rows_in(const Documents& documents, int64_t context) {
  int64_t rows = 0;
  for (const auto& ids : documents) rows += (std::ssize(ids) - 1) / context;
  return rows;
}

int64_t context_with_rows(const Documents& documents, int64_t context, int64_t least) {
  constexpr int64_t kFewestRows = 4;
  while (context >= 2 * least && rows_in(documents, context) < kFewestRows) context /= 2;
  return context;
}

}  // namespace linnet::cli
