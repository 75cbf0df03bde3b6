#include "attention/hedgehog.h"
#include "attention/method.h"

namespace linnet {

const Method& grouped_method() {
  static const Method row = [] {
    Method m;
    m.name = "grouped";
    m.line = "hedgehog with softmax over four groups and sinks, gate, decay, taps: what Linnet recommends";
    m.defaults.method = "grouped";
    m.defaults.group = 64;
    m.defaults.local_groups = 4;
    m.defaults.sinks = 4;
    m.defaults.local = LocalWeight::kSoftmax;
    m.defaults.gate = true;
    m.defaults.decay_learned = true;
    m.defaults.feature_position = FeaturePosition::kNone;
    m.defaults.taps = 4;
    m.summary = SummaryKind::kFeatures;
    m.parameters = hedgehog_parameters;
    m.initial = hedgehog_initial;
    return m;
  }();
  return row;
}

}  // namespace linnet
