#include <fmt/format.h>

#include "base/error.h"
#include "model/cuda_decoder.h"

namespace linnet {

void check_device(const std::string& name) {
  if (name == "cpu") return;
  const bool numbered =
      name.size() > 5 && name.starts_with("cuda:") && name.find_first_not_of("0123456789", 5) == name.npos;
  if (name == "cuda" || numbered)
    throw Error("--device", fmt::format("device unavailable: {}", name), "cpu (a GPU is for training alone)");
  throw Error("--device", fmt::format("unknown device \"{}\"", name), "cpu, cuda or cuda:N");
}

std::unique_ptr<Decoder> make_cuda_decoder(std::shared_ptr<const Model>, const Decoder::Options& options,
                                           ThreadPool&) {
  check_device(options.device);
  throw Error("--device", fmt::format("device unavailable: {}", options.device),
              "cpu (a GPU is for training alone)");
}

}  // namespace linnet
