// The special tokens around a text: the `post_processor` field.
#pragma once

#include <cstdint>
#include <vector>

#include "text/json_view.h"

namespace linnet {

struct PostProcessor {
  std::vector<int32_t> before, after;

  PostProcessor() = default;
  /// Known: Sequence, TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing. Throws Error on
  /// another type, on a template without exactly one sequence, and on an id that is not below `vocabulary`.
  PostProcessor(const JsonView& field, int32_t vocabulary);

 private:
  void add(const JsonView& step, int32_t vocabulary);
  void add_template(const JsonView& step, int32_t vocabulary);
};

}  // namespace linnet
