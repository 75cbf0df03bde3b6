// Everything that differs between the libtorch releases we build with (Debian's 1.13 on a CPU, PyTorch 2.11
// with CUDA), in one place. Operators that only newer ones have are looked up by name and called through
// their schema, so no caller and no compiler needs to know which release this is: where one is missing, the
// caller falls back to operators that all have.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/Allocator.h>
#include <torch/version.h>
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 9)
#define LINNET_DEVICE_STATISTICS 1
#include <c10/core/CachingDeviceAllocator.h>
#endif

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace linnet::train::compat {

#if TORCH_VERSION_MAJOR >= 2
template <class T>
using Optional = std::optional<T>;
#else
template <class T>
using Optional = c10::optional<T>;
#endif

/// An allocator of tensors on the CPU.
class TensorAllocator : public c10::Allocator {
 public:
  virtual c10::DataPtr take(size_t bytes) = 0;

#if TORCH_VERSION_MAJOR >= 2
  c10::DataPtr allocate(size_t bytes) final { return take(bytes); }
  void copy_data(void* to, const void* from, size_t bytes) const final { default_copy_data(to, from, bytes); }
#else
  c10::DataPtr allocate(size_t bytes) const final { return const_cast<TensorAllocator*>(this)->take(bytes); }
#endif
};

/// Bytes of the device that tensors held at the highest point so far; 0 on a CPU, or where it is not known.
inline int64_t peak_device_memory([[maybe_unused]] const at::Device& device) {
#ifdef LINNET_DEVICE_STATISTICS
  if (!device.is_cpu())
    return c10::getDeviceAllocator(device.type())->getDeviceStats(device.index()).allocated_bytes[0].peak;
#endif
  return 0;
}

/// An operator that this release may lack.
class Operator {
 public:
  explicit Operator(const char* name, const char* overload = "")
      : handle_(c10::Dispatcher::singleton().findSchema({name, overload})) {}

  bool exists() const { return handle_.has_value(); }

  /// Calls it with arguments by name; the others take their defaults. Tensor results in order.
  std::vector<at::Tensor> operator()(
      std::initializer_list<std::pair<std::string_view, at::IValue>> arguments) const {
    std::vector<at::IValue> stack;
    for (const auto& argument : handle_->schema().arguments()) {
      const auto given = std::find_if(arguments.begin(), arguments.end(),
                                      [&](const auto& a) { return a.first == argument.name(); });
      if (given != arguments.end()) {
        stack.push_back(given->second);
      } else if (argument.default_value()) {
        stack.push_back(*argument.default_value());
      } else {
        throw Error(handle_->schema().name(), "needs the argument " + argument.name(),
                    "a libtorch release that Linnet knows", ExitStatus::kFailed);
      }
    }
    handle_->callBoxed(&stack);
    std::vector<at::Tensor> results;
    for (const at::IValue& value : stack) {
      if (value.isTensor()) results.push_back(value.toTensor());
    }
    return results;
  }

 private:
  Optional<c10::OperatorHandle> handle_;
};

/// scaled_dot_product_attention (PyTorch 2): q [B, H, n, d], k and v [B, G, n, ...], causal, fused.
inline const Operator& fused_attention() {
  static const Operator op("aten::scaled_dot_product_attention");
  return op;
}

/// FlashAttention over packed sequences (PyTorch 2, CUDA): q [tokens, H, d], cumulative lengths.
inline const Operator& packed_attention() {
  static const Operator op("aten::_flash_attention_forward");
  return op;
}

/// RMSNorm in one kernel each way (PyTorch 2.9, CUDA).
inline const Operator& fused_rms_norm() {
  static const Operator op("aten::_fused_rms_norm");
  return op;
}

}  // namespace linnet::train::compat
