// `hedgehog`:
//
//     o_t = φ_q(q_t)ᵀ S_t / max(φ_q(q_t)·z_t, 10⁻⁶),   S_t = Σ_s φ_k(k_s) v_sᵀ,  z_t = Σ_s φ_k(k_s),
//     φ(x) = [softmax(Wx), softmax(−Wx)],  W learned, its own for each query head and key-value head
//
// over the tokens that t sees globally (Zhang et al. 2024, "The Hedgehog & the Porcupine", section 4.1; W
// from the identity). State: 2d(e + 1) numbers a key-value head. Cost of a token: d² + 2de multiply-adds a
// query head and the same a key-value head, 2d exponentials each.
//
// `grouped` reads with the same map; both rows build on what stands here.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "attention/config.h"
#include "attention/summary.h"

namespace linnet {

std::vector<ParameterSpec> hedgehog_parameters(const AttentionConfig& config, const AttentionShape& shape);
std::vector<float> hedgehog_initial(const ParameterSpec& spec, const AttentionConfig& config, uint64_t seed,
                                    int layer);

template <class T>
std::unique_ptr<Summary<T>> make_hedgehog(const AttentionConfig& config, const AttentionShape& shape,
                                          const Parameters<T>& parameters);
extern template std::unique_ptr<Summary<float>> make_hedgehog(const AttentionConfig&, const AttentionShape&,
                                                              const Parameters<float>&);
extern template std::unique_ptr<Summary<double>> make_hedgehog(const AttentionConfig&, const AttentionShape&,
                                                               const Parameters<double>&);

}  // namespace linnet
