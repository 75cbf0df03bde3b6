#pragma once

namespace linnet::kernels {

/// Activations of feed-forward layers: SiLU, GELU by its tanh approximation and exact, ReLU.
enum class Unary { kSilu, kGeluTanh, kGelu, kRelu };

}  // namespace linnet::kernels
