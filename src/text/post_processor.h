// The special tokens around a text, or around two: the `post_processor` field.
#pragma once

#include <cstdint>
#include <vector>

#include "text/json_view.h"

namespace linnet {

struct PostProcessor {
  std::vector<int32_t> before, after;  // of one text

  /// What a pair of texts becomes, in order.
  struct Part {
    enum Kind { kSpecial, kFirst, kSecond } kind;
    int32_t id;    // of a special token
    int32_t type;  // the kind that its tokens are of, as token-type embeddings count them
  };
  std::vector<Part> pair;  // empty: the file says nothing of pairs

  PostProcessor() = default;
  /// Known: Sequence, TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing. Throws Error on
  /// another type, on a template without exactly one sequence of each text, and on an id that is not below
  /// `vocabulary`.
  PostProcessor(const JsonView& field, int32_t vocabulary);

 private:
  void add(const JsonView& step, int32_t vocabulary);
  void add_template(const JsonView& step, int32_t vocabulary);
  void add_pair(const JsonView& pair, const JsonView& known, int32_t vocabulary);
};

}  // namespace linnet
