#include "train/attention/documents.h"

#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "train/ops.h"

namespace linnet::train {

using torch::autograd::AutogradContext;
using torch::autograd::Function;

Documents::Documents(const at::Tensor& documents, int64_t rows, int64_t length, at::Device device)
    : rows_(rows), length_(length), longest_(length), device_(device) {
  const auto integers = at::TensorOptions().dtype(at::kLong);
  if (!documents.defined()) {
    positions_ = at::arange(length, integers.device(device)).unsqueeze(0);
    return;
  }
  if (documents.dim() != 2 || documents.size(0) != rows || documents.size(1) != length ||
      documents.scalar_type() != at::kInt || !documents.device().is_cpu()) {
    throw Error("documents", "not of the tokens' shape",
                fmt::format("[{}, {}] int32 on the CPU", rows, length));
  }
  starts_cpu_ = at::empty({rows, length}, integers);
  const at::Tensor ids = documents.contiguous();
  const int32_t* id = ids.data_ptr<int32_t>();
  int64_t* start = starts_cpu_.data_ptr<int64_t>();
  std::vector<int32_t> boundaries;
  longest_ = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t t = 0; t < length; ++t, ++id, ++start) {
      if (t > 0 && id[0] < id[-1])
        throw Error("documents", "numbers fall along a row", "non-decreasing ones");
      const bool begins = t == 0 || id[0] != id[-1];
      *start = begins ? t : start[-1];
      if (begins) boundaries.push_back(static_cast<int32_t>(row * length + t));
      longest_ = std::max(longest_, t - *start + 1);
    }
  }
  boundaries.push_back(static_cast<int32_t>(rows * length));
  positions_ = (at::arange(length, integers) - starts_cpu_).to(device, true);
  boundaries_ = at::tensor(at::ArrayRef<int32_t>(boundaries), at::kInt).to(device, true);
}

const GroupLayout& Documents::groups(int64_t size) const {
  const auto found = layouts_.find(size);
  return found != layouts_.end() ? found->second : layouts_.emplace(size, lay(size)).first->second;
}

GroupLayout Documents::lay(int64_t size) const {
  const auto integers = at::TensorOptions().dtype(at::kLong);
  GroupLayout layout;
  layout.size = size;
  if (one_each()) {
    layout.groups = (length_ + size - 1) / size;
    layout.number = at::arange(layout.groups, integers.device(device_)).unsqueeze(0);
    return layout;
  }
  // A token's place in its row of groups; then the widest row says how many groups all rows get.
  std::vector<int64_t> place(static_cast<size_t>(rows_ * length_));
  const int64_t* start = starts_cpu_.data_ptr<int64_t>();
  for (int64_t row = 0; row < rows_; ++row) {
    int64_t next = 0;
    for (int64_t t = 0; t < length_; ++t) {
      if (start[row * length_ + t] == t) next = (next + size - 1) / size * size;
      place[static_cast<size_t>(row * length_ + t)] = next++;
    }
    layout.groups = std::max(layout.groups, (next + size - 1) / size);
  }
  const int64_t wide = layout.groups * size;
  at::Tensor index = at::zeros({rows_ * wide}, integers), inverse = at::empty({rows_ * length_}, integers);
  at::Tensor number = at::zeros({rows_, layout.groups}, integers);
  for (int64_t row = 0; row < rows_; ++row) {
    for (int64_t t = 0; t < length_; ++t) {
      const int64_t token = row * length_ + t, at = place[static_cast<size_t>(token)];
      index.data_ptr<int64_t>()[row * wide + at] = token;
      inverse.data_ptr<int64_t>()[token] = row * wide + at;
      number.data_ptr<int64_t>()[row * layout.groups + at / size] = (t - start[token]) / size;
    }
  }
  layout.index = index.to(device_, true);
  layout.inverse = inverse.to(device_, true);
  layout.number = number.to(device_, true);
  return layout;
}

namespace {

/// x [heads, tokens, d] -> [heads, places, d]. A token has one place, so backward is a gather too.
struct Lay : Function<Lay> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& index,
                            const at::Tensor& inverse) {
    context->save_for_backward({inverse});
    return x.index_select(1, index);
  }
  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    return {gradients[0].index_select(1, context->get_saved_variables()[0]), {}, {}};
  }
};

}  // namespace

at::Tensor to_groups(const at::Tensor& x, const GroupLayout& layout) {
  const int64_t rows = x.size(0), heads = x.size(1), n = x.size(2), d = x.size(3);
  at::Tensor out = x.transpose(0, 1);
  if (layout.index.defined()) {
    out = Lay::apply(out.reshape({heads, rows * n, d}), layout.index, layout.inverse);
  } else if (n < layout.groups * layout.size) {
    out = at::constant_pad_nd(out, {0, 0, 0, layout.groups * layout.size - n});
  }
  return out.reshape({heads, rows, layout.groups, layout.size, d});
}

at::Tensor from_groups(const at::Tensor& x, const GroupLayout& layout, int64_t length) {
  const int64_t heads = x.size(0), rows = x.size(1), d = x.size(3);
  if (!layout.inverse.defined()) return part_of(x, 2, 0, length);
  // The gradient of a place without a token is 0: index_select's backward adds into zeros.
  return x.reshape({heads, -1, d}).index_select(1, layout.inverse).view({heads, rows, length, d});
}

}  // namespace linnet::train
