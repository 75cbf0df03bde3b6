// How fast an encoder reads whole sequences, with its own attention and with softmax in turn.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "model/encoder.h"

namespace linnet::cli {

struct EncoderBench {
  std::vector<int64_t>
      lengths;      // of sequences, tokens; empty: 128, 512, 2048, 8192, as far as positions reach
  int windows = 9;  // each length is measured in turn, so many times; the median counts
  uint64_t seed = 0;
};

/// {"encode": [{tokens, sequences_per_second, tokens_per_second and, where a layer is not softmax, the same
/// of the softmax model beside it}]}. Throws Error on a length past the positions.
nlohmann::ordered_json measure_encoder(const std::shared_ptr<const Model>& model,
                                       const Encoder::Options& options, const EncoderBench& how,
                                       ThreadPool& pool);

/// What of it is printed.
std::string encoder_table(const nlohmann::ordered_json& result);

}  // namespace linnet::cli
