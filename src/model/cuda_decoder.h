// The decoder on a CUDA device. No build has one yet: decoder_no_cuda.cpp stands where it will be, and
// refuses.
#pragma once

#include <memory>

#include "model/decoder.h"

namespace linnet {

/// Throws Error where the build has no CUDA, or the machine no such device.
std::unique_ptr<Decoder> make_cuda_decoder(std::shared_ptr<const Model> model,
                                           const Decoder::Options& options, ThreadPool& pool);

}  // namespace linnet
