#include "attention/method.h"

namespace linnet {

const Method& elu1_method() {
  static const Method row = [] {
    Method m;
    m.name = "elu1";
    m.line = "features 1 + elu(x), normalized by their sum";
    m.defaults.method = "elu1";
    m.summary = SummaryKind::kFeatures;
    return m;
  }();
  return row;
}

}  // namespace linnet
