#include "train/weights.h"

#include <ATen/Parallel.h>

#include <cstring>
#include <utility>

#include "base/random.h"
#include "train/tensor_io.h"

namespace linnet::train {

at::Tensor load_tensor(const TensorView& view, at::Device device, at::ScalarType type,
                       const std::string& where) {
  at::Tensor tensor = at::empty(view.shape, floating_type(view, where));
  std::memcpy(tensor.data_ptr(), view.bytes.data(), view.bytes.size());  // the file's bytes may be unaligned
  return tensor.to(device, type);
}

at::Tensor map_tensor(const TensorView& view, std::shared_ptr<const void> owner, const std::string& where) {
  const at::ScalarType type = floating_type(view, where);
  if (view.bytes.empty() || reinterpret_cast<uintptr_t>(view.bytes.data()) % size_of(view.type) != 0)
    return load_tensor(view, at::kCPU, type, where);
  // libtorch has no tensors of const numbers: whoever wrote to this one would be stopped by the mapping.
  return at::from_blob(
      const_cast<std::byte*>(view.bytes.data()), view.shape, [owner = std::move(owner)](void*) {},
      at::TensorOptions().dtype(type));
}

at::Tensor widened(const kernels::Weights& weights, bool transposed) {
  at::Tensor tensor = at::empty({weights.out, weights.in}, at::kFloat);
  auto* rows = tensor.data_ptr<float>();
  for (int64_t o = 0; o < weights.out; ++o) kernels::read_row(weights, o, rows + o * weights.in);
  return transposed ? tensor.t().contiguous() : tensor;
}

namespace {

/// Every number from draw(stream, place), the stream a hash of the tensor's name (FNV-1a).
template <class Draw>
at::Tensor fill(const std::vector<int64_t>& shape, std::string_view name, Draw draw) {
  uint64_t stream = 0xcbf29ce484222325;
  for (const char c : name) stream = (stream ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  at::Tensor tensor = at::empty(shape, at::kDouble);
  double* out = tensor.data_ptr<double>();
  at::parallel_for(0, tensor.numel(), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = draw(stream, static_cast<uint64_t>(i));
  });
  return tensor;
}

}  // namespace

at::Tensor draw_tensor(const std::vector<int64_t>& shape, double deviation, uint64_t seed,
                       std::string_view name) {
  return fill(shape, name, [&](uint64_t stream, uint64_t i) { return deviation * normal(seed, stream, i); });
}

at::Tensor draw_uniform(const std::vector<int64_t>& shape, double bound, uint64_t seed,
                        std::string_view name) {
  return fill(shape, name,
              [&](uint64_t stream, uint64_t i) { return bound * (2.0 * uniform(seed, stream, i) - 1.0); });
}

std::string_view module_of(const Family& family, int slot) {
  const std::array<std::string_view, kModules> names = {family.q,
                                                        family.k,
                                                        family.v,
                                                        family.o,
                                                        family.gate,
                                                        family.up,
                                                        family.down,
                                                        family.cross_q,
                                                        family.cross_k,
                                                        family.cross_v,
                                                        family.cross_o,
                                                        family.attention_norm,
                                                        family.feed_forward_norm,
                                                        family.q_norm,
                                                        family.k_norm,
                                                        family.attention_post_norm,
                                                        family.feed_forward_post_norm,
                                                        family.affine,
                                                        family.cross_norm};
  return names[static_cast<size_t>(slot)];
}

at::Tensor Weight::value(bool teacher) const {
  if (teacher) return frozen.defined() ? frozen : master.detach();
  return trained ? master : frozen.defined() ? frozen : master.detach();
}

}  // namespace linnet::train
