#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/nearest.h"
#include "base/processors.h"
#include "base/timing.h"
#include "kernels/cpu/large_product.h"
#include "train/module.h"

// Of OpenBLAS, which runs libtorch's float32 products in threads of its own: as many as there are processors,
// whatever libtorch was told. Null where another library does.
extern "C" void openblas_set_num_threads(int threads) __attribute__((weak));

namespace linnet::train {
namespace {

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 3> kComputeTypes{
    {{"float32", at::kFloat}, {"bfloat16", at::kBFloat16}, {"float64", at::kDouble}}};

}  // namespace

at::Device parse_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  int index = 0;
  const bool numbered = name.rfind("cuda:", 0) == 0;
  if (numbered) {
    const auto [end, error] = std::from_chars(name.data() + 5, name.data() + name.size(), index);
    if (error != std::errc() || end != name.data() + name.size() || index < 0 || index > 127) index = -1;
  }
  if ((!numbered && name != "cuda") || index < 0) {
    throw Error("--device", fmt::format("\"{}\"", printable(name)), "cpu, cuda or cuda:N");
  }
  const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(index));
  try {
    at::empty({1}, at::TensorOptions().device(device)).zero_();
  } catch (const c10::Error&) {
    throw Error("--device", fmt::format("{} is unavailable", name),
                "a machine with it and libtorch with CUDA, or cpu");
  }
  return device;
}

at::ScalarType parse_compute(const std::string& name) {
  for (const auto& [known, type] : kComputeTypes) {
    if (name == known) return type;
  }
  throw Error("--dtype", fmt::format("\"{}\"", printable(name)), "float32, bfloat16 or float64");
}

std::string_view compute_name(at::ScalarType compute) {
  for (const auto& [name, type] : kComputeTypes) {
    if (type == compute) return name;
  }
  return at::toString(compute);
}

at::ScalarType fastest_compute(const at::Device& device, bool processor_multiplies_bfloat16) {
  return device.is_cpu() && !processor_multiplies_bfloat16 ? at::kFloat : at::kBFloat16;
}

at::ScalarType fastest_compute(const at::Device& device) {
  return fastest_compute(device, kernels::fast_bfloat16());
}

Train parse_train(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, Train>, 4> kChoices{
      {{"new", Train::kNew}, {"lora", Train::kLora}, {"attention", Train::kAttention}, {"all", Train::kAll}}};
  std::array<std::string_view, kChoices.size()> names;
  for (size_t i = 0; i < kChoices.size(); ++i) {
    if (kChoices[i].first == name) return kChoices[i].second;
    names[i] = kChoices[i].first;
  }
  throw Error("--train", fmt::format("\"{}\"", printable(name)), one_of(name, names));
}

int set_threads(int threads) {
  if (threads < 1) threads = available_processors();
  at::set_num_threads(threads);
  if (openblas_set_num_threads != nullptr) openblas_set_num_threads(threads);
  return threads;
}

double matrix_rate(const at::Device& device, at::ScalarType type) {
  constexpr int64_t kSize = 8192;
  constexpr int kProducts = 10;
  at::NoGradGuard no_gradients;
  const at::Tensor a = at::randn({kSize, kSize}, at::TensorOptions().device(device).dtype(type));
  at::Tensor c = at::empty_like(a);
  const double seconds = median_seconds(5, [&] {
    for (int i = 0; i < kProducts; ++i) at::mm_out(c, a, a);
    c[0][0].item<float>();  // waits for the device
  });
  return 2.0 * kSize * kSize * kSize * kProducts / seconds;
}

}  // namespace linnet::train
