// Where there are no CUDA devices to compile for: training_kernels() says so, and no caller gets further.
#include <stdexcept>

#include "kernels/cuda/training.h"

namespace linnet::cuda {
namespace {

[[noreturn]] void absent() { throw std::logic_error("a CUDA kernel in a build without them"); }

}  // namespace

bool training_kernels() { return false; }
void scan(const Groups&, int, int64_t, const float*, const Bf16*, Bf16*) { absent(); }
int scan_partials(const Groups&, int64_t) { absent(); }
void scan_backward(const Groups&, int, int64_t, const float*, const Bf16*, const Bf16*, Bf16*, float*) {
  absent();
}
void window_forward(const Window&, const Bf16*, const Bf16*, const Bf16*, Bf16*, float*) { absent(); }
void window_backward(const Window&, const Bf16*, const Bf16*, const Bf16*, const Bf16*, const float*,
                     const Bf16*, float*, Bf16*, Bf16*, Bf16*, float*, float*) {
  absent();
}
void mix(const Mix&, const Bf16*, const Bf16*, const Bf16*, const float*, const float*, Bf16*) { absent(); }
int mix_partials(const Mix&) { absent(); }
void mix_backward(const Mix&, const Bf16*, const Bf16*, const Bf16*, const float*, const float*, const Bf16*,
                  Bf16*, Bf16*, Bf16*, float*) {
  absent();
}
void split_heads(const Split&, const Bf16*, const HeadRows&, const HeadRows&, const HeadRows&,
                 const HeadRows&, const HeadRows&) {
  absent();
}
void join_heads(const Split&, Bf16*, const HeadRows&, const HeadRows&, const HeadRows&, const HeadRows&,
                const HeadRows&) {
  absent();
}
void divergence(int, int, Bf16*, const Bf16*, const float*, float*, bool) { absent(); }
void cross_entropy(int, int, Bf16*, const int64_t*, const float*, float*, bool) { absent(); }

}  // namespace linnet::cuda
