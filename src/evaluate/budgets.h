// A state of so many bytes spent on windows (docs/budgets.md): each key-value head gets one as wide as what
// it buys is worth, by what `linnet reach` measured.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "attention/config.h"
#include "evaluate/reach.h"

namespace linnet {

/// What every head loses by how many last tokens it sees, in nats per token.
struct WindowLosses {
  int64_t context = 0;           // tokens of the rows: a window of so many loses nothing
  int layers = 0, heads = 0;     // key-value heads
  std::vector<int64_t> windows;  // ascending
  std::vector<double> losses;    // [layers, heads, windows]

  /// Between two windows on a logarithmic scale; of narrower ones than were measured as the first two say.
  double at(int layer, int head, double tokens) const;
};
WindowLosses window_losses(const Reach& reach, int64_t context, double recall_weight);
/// The same from what `linnet reach --json` wrote. Throws Error (where: `where`) on anything else, or of a
/// model of other layers and heads.
WindowLosses read_window_losses(const nlohmann::json& reach, int layers, int heads, double recall_weight,
                                const std::string& where);

/// One of the things that can be had: what it costs beyond the least, and what is lost with it.
struct Offer {
  int64_t bytes = 0;
  double loss = 0;
};
/// One offer of each list, their bytes together at most `bytes`, that lose least together. Each list begins
/// with an offer of 0 bytes and does not fall in bytes. (Exact where the bytes are at most 65,536 times what
/// all offers are multiples of; else each offer's count rounded up.)
std::vector<size_t> buy(std::span<const std::vector<Offer>> lists, int64_t bytes);

struct Budgets {
  std::vector<AttentionConfig> layers;  // with local_groups of each head
  int heads = 0;                        // key-value heads
  int64_t bytes = 0, least_bytes = 0;   // of a sequence's whole state; with the narrowest windows
  double loss = 0, least_loss = 0;      // sums of the heads', with their windows alone
};
/// Throws Error (--state) where a layer's state grows with the text, or none has a local branch.
void check_spendable(const std::vector<AttentionConfig>& layers);
/// `layers` with windows that make a state of at most `bytes`. Layers without a local branch stay as they
/// are. Throws Error (--state) where the least state is more.
Budgets spend_state(std::vector<AttentionConfig> layers, const AttentionShape& shape,
                    const WindowLosses& losses, int64_t bytes);

}  // namespace linnet
