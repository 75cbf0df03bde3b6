// Documents of FILE… as the inputs of rows that measures are drawn from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "model/model.h"
#include "text/corpus.h"
#include "text/tokenizer.h"

namespace linnet::cli {

/// Ids of each document after its first input.
using Documents = std::vector<std::vector<int32_t>>;

/// Beginnings of the files, whole documents: of each file several times the `sampled` tokens.
Documents read_ids(const std::vector<std::filesystem::path>& files, const CorpusOptions& texts,
                   const Model& model, const Tokenizer& tokenizer, int64_t sampled);

/// Rows of `context` inputs that the documents have, end to end.
int64_t rows_in(const Documents& documents, int64_t context);

/// `context`, halved until the documents have a few rows, or it is less than twice `least`.
int64_t context_with_rows(const Documents& documents, int64_t context, int64_t least);

}  // namespace linnet::cli
