#include "attention/method.h"

namespace linnet {

const Method& relu_method() {
  static const Method row = [] {
    Method m;
    m.name = "relu";
    m.line = "features relu(x), normalized by their sum";
    m.defaults.method = "relu";
    m.summary = SummaryKind::kFeatures;
    return m;
  }();
  return row;
}

}  // namespace linnet
