#include "train/attention/kept.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "train/ops.h"

namespace linnet::train {

using torch::autograd::AutogradContext;
using torch::autograd::Function;

namespace {

/// Each token's place in the order of surprise, [G, B, tokens] int64, from 0 on: numbers without ties.
/// `tokens` where it is never kept.
at::Tensor ranks_of(const at::Tensor& surprises) {
  const at::Tensor flat = surprises.flatten(2);
  const int64_t tokens = flat.size(2);
  const at::Tensor order = std::get<1>(at::sort(flat, /*stable=*/true, 2, /*descending=*/true));
  const at::Tensor rank = at::empty_like(order);
  rank.scatter_(2, order, at::arange(tokens, order.options()).expand_as(order));
  return rank.masked_fill_(flat == -std::numeric_limits<double>::infinity(), tokens);
}

}  // namespace

KeptTokens choose_kept(const at::Tensor& surprises, const GroupLayout& layout, int64_t local_groups,
                       int64_t kept, int64_t span) {
  at::NoGradGuard off;
  const int64_t heads = surprises.size(0), rows = surprises.size(1), c = layout.size;
  const int64_t tokens = surprises.size(2) * c, blocks = (layout.groups + span - 1) / span;
  const int64_t most = std::min(kept, tokens);
  const at::Tensor rank = ranks_of(surprises);
  const auto options = rank.options();
  const at::Tensor number = at::constant_pad_nd(layout.number, {0, blocks * span - layout.groups});
  at::Tensor carried = at::full({heads, rows, most}, -1, options);  // −1: none
  Tensors places, hidden;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t first = block * span;
    const at::Tensor folded =
        at::arange((first - local_groups) * c, (first - local_groups + span) * c, options);
    const at::Tensor all = at::cat({carried, folded.expand({heads, rows, span * c})}, 2);
    const at::Tensor inside = all.clamp(0, tokens - 1);
    const at::Tensor ranks = at::where(all == inside, rank.gather(2, inside), at::full({}, tokens, options));
    const auto [sorted, by] = at::sort(ranks, 2);
    places.push_back(inside.gather(2, by));
    // Of a reader's document, folded for it, and among the M of largest surprise.
    const at::Tensor reader = at::arange(first, first + span, options).unsqueeze(-1);  // [span, 1]
    const at::Tensor start =
        reader - number.narrow(1, first, span).unsqueeze(-1);  // its document's first group
    const at::Tensor group = places.back().div(c, "floor").unsqueeze(2);
    const at::Tensor seen =
        (sorted < tokens).unsqueeze(2) & (group >= start) & (group <= reader - local_groups);
    const at::Tensor keeps = seen & (seen.cumsum(-1) <= kept);  // [G, B, span, M + span · C]
    hidden.push_back(keeps.logical_not());
    // The last reader's, first in the order.
    const at::Tensor last = sorted.masked_fill(hidden.back().select(2, span - 1), tokens);
    const auto [least, of] = last.topk(most, 2, /*largest=*/false, /*sorted=*/true);
    carried = places.back().gather(2, of).masked_fill(least == tokens, -1);
  }
  return {at::stack(places, 2), at::stack(hidden, 2)};
}

namespace {

/// Rows of x [tokens, d]. A token that many blocks keep gets its gradient as one sum in the sums' type.
struct Gather : Function<Gather> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& index) {
    context->save_for_backward({index});
    context->saved_data["tokens"] = x.size(0);
    return x.index_select(0, index);
  }
  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const at::Tensor& given = gradients[0];
    const auto type = sum_type(given.scalar_type());
    const at::Tensor sum =
        at::zeros({context->saved_data["tokens"].toInt(), given.size(1)}, given.options().dtype(type));
    sum.index_add_(0, context->get_saved_variables()[0], given.to(type));
    return {sum.to(given.scalar_type()), {}};
  }
};

}  // namespace

at::Tensor at_places(const at::Tensor& x, const at::Tensor& places) {
  const int64_t heads = x.size(0), rows = x.size(1), tokens = x.size(2) * x.size(3), d = x.size(4);
  const at::Tensor first = at::arange(heads * rows, places.options()).view({heads, rows, 1, 1}) * tokens;
  return Gather::apply(x.reshape({heads * rows * tokens, d}), (places + first).flatten())
      .view({heads, rows, places.size(2), places.size(3), d});
}

}  // namespace linnet::train
