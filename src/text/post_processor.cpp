#include "text/post_processor.h"

#include <fmt/format.h>

#include "base/error.h"

namespace linnet {
namespace {

int32_t id_of(const JsonView& field, int32_t vocabulary) {
  const int64_t id = field.integer();
  if (id < 0 || id >= vocabulary)
    field.fail(fmt::format("id {}", id), fmt::format("0 to {}", vocabulary - 1));
  return static_cast<int32_t>(id);
}

}  // namespace

PostProcessor::PostProcessor(const JsonView& field, int32_t vocabulary) {
  if (!field.is_null()) add(field, vocabulary);
}

void PostProcessor::add(const JsonView& step, int32_t vocabulary) {
  const std::string type = step.at("type").string();
  if (type == "ByteLevel") return;  // it moves offsets alone
  if (type == "TemplateProcessing") return add_template(step, vocabulary);
  if (type == "Sequence") {
    const JsonView list = step.at("processors");
    for (size_t i = 0; i < list.size(); ++i) add(list.at(i), vocabulary);
    return;
  }
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    before.insert(before.begin(), id_of(step.at("cls").at(1), vocabulary));
    after.push_back(id_of(step.at("sep").at(1), vocabulary));
    return;
  }
  step.fail(fmt::format("post-processor \"{}\"", printable(type, 40)),
            "Sequence, TemplateProcessing, ByteLevel, BertProcessing or RobertaProcessing");
}

void PostProcessor::add_template(const JsonView& step, int32_t vocabulary) {
  const JsonView single = step.at("single"), known = step.at("special_tokens");
  std::vector<int32_t> left, right;
  int sequences = 0;
  for (size_t i = 0; i < single.size(); ++i) {
    const JsonView part = single.at(i);
    if (!part["Sequence"].is_null()) {
      ++sequences;
      continue;
    }
    const std::string name = part.at("SpecialToken").at("id").string();
    const JsonView ids = known.at(name.c_str()).at("ids");
    auto& side = sequences == 0 ? left : right;
    for (size_t j = 0; j < ids.size(); ++j) side.push_back(id_of(ids.at(j), vocabulary));
  }
  if (sequences != 1) single.fail(fmt::format("{} sequences", sequences), "one");
  before.insert(before.begin(), left.begin(), left.end());
  after.insert(after.end(), right.begin(), right.end());
}

}  // namespace linnet
