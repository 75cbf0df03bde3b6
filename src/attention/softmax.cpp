#include "attention/method.h"

namespace linnet {

const Method& softmax_method() {
  static const Method row = [] {
    Method m;
    m.name = "softmax";
    m.line = "the teacher's attention: every token so far, or the last `window`; its cache grows";
    m.defaults.method = "softmax";
    m.grows = true;
    m.options = {"window"};
    return m;
  }();
  return row;
}

}  // namespace linnet
