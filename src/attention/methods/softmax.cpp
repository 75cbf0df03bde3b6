// `softmax`, the teacher's attention (attention/softmax.cpp): every token so far, or the last `window` of
// them.
#include "attention/method.h"

namespace linnet {

const Method& softmax_method() {
  static const Method row = [] {
    Method m;
    m.name = "softmax";
    m.description = "the teacher's attention: every token so far, or the last `window`; its cache grows";
    m.cost = "n(d + e)";
    m.grows = true;
    return m;
  }();
  return row;
}

}  // namespace linnet
