// `transnormer_t1`, `transnormer_t2` and the diagonal halves of each:
//
//     o_t = RMSNorm(φ(q_t)ᵀ S_t),   S_t = Σ_s φ(k_s) v_sᵀ        φ(x) = elu(x) (T1), 1 + elu(x) (T2)
//
// over the tokens that t sees globally, where RMSNorm has the gain `gain` [H, e] (Qin et al. 2022, "The Devil
// in Linear Transformer", sections 4.1 and 4.3: a norm in place of the division, which makes gradients
// unbounded). State: de numbers per key-value head. Cost of a token: de multiply-adds per query head and the
// same per key-value head.
//
//     o_t = RMSNorm(Σ_s relu(q_t·k_s/√d) v_s) (T1, gain `local_gain` [H, e]),   softmax (T2)
//
// over the own group up to t: what its first half of layers does (`transnormer_t1_diagonal`, `…t2…`; section
// 4.2). There is no summary. State: C(d + e) numbers per key-value head. Cost of a token: at most C(d + e)
// multiply-adds per query head.
#include "attention/method.h"
#include "attention/methods/pointwise.h"
#include "kernels/cpu/attention_kernels.h"

namespace linnet {
namespace {

template <PointwiseMap<float>::Function kFloat, PointwiseMap<double>::Function kDouble>
Method norm_row(std::string_view name, std::string_view description, std::string_view diagonal) {
  Method row = pointwise_row<kFloat, kDouble>(name, description);
  row.division = Division::kNone;
  row.gain = true;
  row.first_half = diagonal;
  return row;
}

Method diagonal_row(std::string_view name, std::string_view description, LocalWeight local) {
  Method row;
  row.name = name;
  row.description = description;
  row.cost = "C(d + e) at most";
  row.defaults.local = local;
  return row;
}

}  // namespace

const Method& transnormer_t1_method() {
  static const Method row = norm_row<kernels::elu<float>, kernels::elu<double>>(
      "transnormer_t1", "features elu(x), RMSNorm instead of a division", "transnormer_t1_diagonal");
  return row;
}

const Method& transnormer_t2_method() {
  static const Method row = norm_row<kernels::elu1<float>, kernels::elu1<double>>(
      "transnormer_t2", "features 1 + elu(x), RMSNorm instead of a division", "transnormer_t2_diagonal");
  return row;
}

const Method& transnormer_t1_diagonal_method() {
  static const Method row = diagonal_row(
      "transnormer_t1_diagonal",
      "a local branch alone, weights relu(x) and RMSNorm: the first half of T1's layers", LocalWeight::kRelu);
  return row;
}

const Method& transnormer_t2_diagonal_method() {
  static const Method row =
      diagonal_row("transnormer_t2_diagonal",
                   "a local branch alone, softmax over the own group: the first half of T2's layers",
                   LocalWeight::kSoftmax);
  return row;
}

}  // namespace linnet
