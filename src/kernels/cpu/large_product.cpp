#include "kernels/cpu/large_product.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>
#include <vector>

#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/panel_product.h"

// libgomp's, which oneDNN runs on; clang would offer another runtime's under -fopenmp.
extern "C" void omp_set_num_threads(int threads);
extern "C" int omp_get_max_threads();

namespace linnet::kernels {
namespace {

using dnnl::memory;

constexpr int64_t kRows = 128;   // of a piece
constexpr int64_t kPanel = 256;  // outputs of a piece, about
constexpr int64_t kAlign = 32;   // panels begin at multiples of it

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

/// While it lives, oneDNN runs on the calling thread alone.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

memory::data_type data_type(WeightType type) {
  return type == WeightType::kBFloat16 ? memory::data_type::bf16 : memory::data_type::f32;
}

int64_t bytes_of(WeightType type) { return type == WeightType::kBFloat16 ? 2 : 4; }

/// W's panel [outputs, in] as oneDNN sees it: its transpose, in place.
memory::desc plain_weights(WeightType type, int64_t in, int64_t outputs) {
  return memory::desc({in, outputs}, data_type(type), memory::format_tag::ba);
}

}  // namespace

void limit_large_products(std::string_view instruction_set) {
  const bool avx512 = instruction_set.starts_with("AVX3"), avx2 = instruction_set == "AVX2";
  // oneDNN's steps within AVX-512 are not Highway's; AMX is none of them.
  dnnl::set_max_cpu_isa(avx512 ? dnnl::cpu_isa::avx512_core_bf16
                        : avx2 ? dnnl::cpu_isa::avx2
                               : dnnl::cpu_isa::sse41);
}

bool fast_bfloat16() {
  // oneDNN's names are sets of bits, each step's with those of the steps before: later versions have steps
  // past these two.
  constexpr auto kBits = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & kBits) == kBits;
}

struct LargeMatrix::Impl {
  struct Panel {
    int64_t begin = 0, outputs = 0;
    memory weights;  // the layout alone where they are turned for every product
    bool turned = false;
  };
  struct Kernel {
    dnnl::matmul::primitive_desc description;
    dnnl::matmul run;
  };

  Weights stored;
  int64_t in, y_stride;
  WeightType multiply;
  bool by_panels = false;         // of panel_product.h, not oneDNN's
  const uint64_t id = next_id();  // no other matrix ever has it
  std::vector<Panel> panels;
  std::map<std::pair<int64_t, int64_t>, Kernel> kernels;  // by rows and outputs

  Kernel make(int64_t rows, int64_t outputs, const memory::desc& weights) const {
    const memory::desc x({rows, in}, data_type(multiply), memory::format_tag::ab);
    const memory::desc y({rows, outputs}, memory::data_type::f32, memory::dims{y_stride, 1});
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    Kernel kernel;
    kernel.description = dnnl::matmul::primitive_desc({x, weights, y}, attributes, engine());
    kernel.run = dnnl::matmul(kernel.description);
    return kernel;
  }

  static uint64_t next_id() {
    static std::atomic<uint64_t> last = 0;
    return ++last;
  }

  /// Rows [begin, begin + count) of the weights in the type to multiply, row-major.
  void turn(int64_t begin, int64_t count, std::byte* to) const {
    if (multiply == WeightType::kFloat32) {
      for (int64_t r = 0; r < count; ++r) read_row(stored, begin + r, reinterpret_cast<float*>(to) + r * in);
      return;
    }
    thread_local std::vector<float> row;
    row.resize(std::max(row.size(), static_cast<size_t>(in)));
    for (int64_t r = 0; r < count; ++r) {
      read_row(stored, begin + r, row.data());
      to_bfloat16(row.data(), in, reinterpret_cast<uint16_t*>(to) + r * in);
    }
  }

  /// A panel's weights in the type to multiply and the layout that oneDNN chose. Each thread keeps its last
  /// panel: the pieces of a product that it takes share one, and turning it for each costs a tenth of the
  /// product.
  memory turned(const Panel& panel) const {
    thread_local struct {
      uint64_t matrix = 0;
      int64_t begin = 0;
      std::vector<std::byte> plain;
      memory packed;
    } last;
    if (last.matrix == id && last.begin == panel.begin) return last.packed;
    const int64_t bytes = panel.outputs * in * bytes_of(multiply);
    last.plain.resize(std::max(last.plain.size(), static_cast<size_t>(bytes)));
    turn(panel.begin, panel.outputs, last.plain.data());
    thread_local dnnl::stream stream(engine());
    memory source(plain_weights(multiply, in, panel.outputs), engine(), last.plain.data());
    const memory::desc layout = panel.weights.get_desc();
    if (!last.packed || last.packed.get_desc() != layout) last.packed = memory(layout, engine());
    dnnl::reorder(source, last.packed).execute(stream, source, last.packed);
    stream.wait();
    last.matrix = id;
    last.begin = panel.begin;
    return last.packed;
  }

  /// The layout that oneDNN would choose for a panel, or W's own where that is a plain one.
  memory::desc best_weights(int64_t outputs) const {
    const memory::desc any({in, outputs}, data_type(multiply), memory::format_tag::any);
    const memory::desc best = make(kRows, outputs, any).description.weights_desc();
    const bool plain =
        best.data.format_kind == dnnl_blocked && best.data.format_desc.blocking.inner_nblks == 0;
    return plain && multiply == WeightType::kBFloat16 ? plain_weights(multiply, in, outputs) : best;
  }
};

LargeMatrix::LargeMatrix(const Weights& weights, WeightType multiply, int64_t y_stride)
    : impl_(std::make_unique<Impl>()) {
  const OneThread one;
  const int64_t out = weights.out, in = weights.in;
  impl_->stored = weights;
  impl_->in = in;
  impl_->y_stride = y_stride;
  impl_->multiply = multiply;
  impl_->by_panels =
      weights.type == WeightType::kBFloat16 && multiply == WeightType::kBFloat16 && in % 2 == 0 &&
      fastest_rows(WeightType::kBFloat16) == RowType::kBFloat16 &&
      dnnl::get_effective_cpu_isa() == dnnl::cpu_isa::avx512_core_bf16;  // with AMX oneDNN has tiles
  if (impl_->by_panels) return;
  const int64_t count = std::max<int64_t>(1, (out + kPanel / 2) / kPanel);
  const int64_t width = ((out + count - 1) / count + kAlign - 1) / kAlign * kAlign;
  dnnl::stream stream(engine());
  for (int64_t begin = 0; begin < out; begin += width) {
    const int64_t outputs = std::min(width, out - begin);
    if (weights.type != multiply) {
      // A copy of all of a model's weights in a wider type would take a multiple of the model's memory.
      impl_->panels.push_back(
          {begin, outputs, memory(impl_->best_weights(outputs), engine(), nullptr), true});
      continue;
    }
    // oneDNN takes inputs through pointers without const; it does not write them.
    auto* from = const_cast<std::byte*>(weights.data) + begin * weights.row_bytes();
    memory source(plain_weights(multiply, in, outputs), engine(), from);
    const memory::desc best = impl_->best_weights(outputs);
    if (best == source.get_desc()) {
      impl_->panels.push_back({begin, outputs, source});
      continue;
    }
    memory packed(best, engine());
    dnnl::reorder(source, packed).execute(stream, source, packed);
    impl_->panels.push_back({begin, outputs, packed});
  }
}

LargeMatrix::~LargeMatrix() = default;
LargeMatrix::LargeMatrix(LargeMatrix&&) noexcept = default;

int64_t LargeMatrix::prepare(int64_t rows) {
  const OneThread one;
  for (const auto& panel : impl_->panels) {
    for (int64_t now : {std::min(rows, kRows), rows % kRows}) {
      const auto key = std::pair(now, panel.outputs);
      if (now > 0 && !impl_->kernels.contains(key))
        impl_->kernels.emplace(key, impl_->make(now, panel.outputs, panel.weights.get_desc()));
    }
  }
  return pieces(rows);
}

int64_t LargeMatrix::pieces(int64_t rows) const {
  if (impl_->by_panels) return panel_dot::pieces(impl_->stored.out, rows);
  return static_cast<int64_t>(impl_->panels.size()) * ((rows + kRows - 1) / kRows);
}

void LargeMatrix::piece(int64_t index, const void* x, int64_t rows, float* y) const {
  if (impl_->by_panels)
    return panel_dot::piece(index, reinterpret_cast<const uint16_t*>(impl_->stored.data), impl_->in,
                            impl_->stored.out, static_cast<const uint16_t*>(x), rows, y, impl_->y_stride);
  // Rows change fastest: threads at work at once share a panel.
  const int64_t blocks = (rows + kRows - 1) / kRows;
  const auto& panel = impl_->panels[index / blocks];
  const int64_t begin = index % blocks * kRows, now = std::min(kRows, rows - begin);
  const auto& kernel = impl_->kernels.at({now, panel.outputs});
  const OneThread one;
  thread_local dnnl::stream stream(engine());
  thread_local std::vector<std::byte> scratch;
  scratch.resize(std::max(scratch.size(), kernel.description.scratchpad_desc().get_size()));
  const memory weights = panel.turned ? impl_->turned(panel) : panel.weights;
  auto* from = static_cast<std::byte*>(const_cast<void*>(x)) + begin * impl_->in * bytes_of(impl_->multiply);
  kernel.run.execute(
      stream,
      {{DNNL_ARG_SRC, memory(kernel.description.src_desc(), engine(), from)},
       {DNNL_ARG_WEIGHTS, weights},
       {DNNL_ARG_DST,
        memory(kernel.description.dst_desc(), engine(), y + begin * impl_->y_stride + panel.begin)},
       {DNNL_ARG_SCRATCHPAD, memory(kernel.description.scratchpad_desc(), engine(), scratch.data())}});
  stream.wait();
}

}  // namespace linnet::kernels
