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
    const int32_t cls = id_of(step.at("cls").at(1), vocabulary),
                  sep = id_of(step.at("sep").at(1), vocabulary);
    before.insert(before.begin(), cls);
    after.push_back(sep);
    pair = {{Part::kSpecial, cls, 0}, {Part::kFirst, 0, 0}, {Part::kSpecial, sep, 0}};
    const bool roberta = type == "RobertaProcessing";  // two separators, and one kind of token
    if (roberta) pair.push_back({Part::kSpecial, sep, 0});
    pair.push_back({Part::kSecond, 0, roberta ? 0 : 1});
    pair.push_back({Part::kSpecial, sep, roberta ? 0 : 1});
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
  if (const JsonView two = step["pair"]; !two.is_null()) add_pair(two, known, vocabulary);
}

void PostProcessor::add_pair(const JsonView& two, const JsonView& known, int32_t vocabulary) {
  constexpr int64_t kMostTypes = 1 << 16;
  const auto type_of = [&](const JsonView& part) {
    const JsonView field = part["type_id"];
    const int64_t type = field.is_null() ? 0 : field.integer();
    if (type < 0 || type >= kMostTypes)
      field.fail(fmt::format("{}", type), fmt::format("0 to {}", kMostTypes - 1));
    return static_cast<int32_t>(type);
  };
  pair.clear();
  int texts[2] = {};
  for (size_t i = 0; i < two.size(); ++i) {
    const JsonView part = two.at(i);
    if (const JsonView sequence = part["Sequence"]; !sequence.is_null()) {
      const std::string name = sequence.at("id").string();
      if (name != "A" && name != "B") sequence.fail("sequence of another name", "A or B");
      const bool second = name == "B";
      ++texts[second];
      pair.push_back({second ? Part::kSecond : Part::kFirst, 0, type_of(sequence)});
      continue;
    }
    const JsonView token = part.at("SpecialToken");
    const JsonView ids = known.at(token.at("id").string().c_str()).at("ids");
    for (size_t j = 0; j < ids.size(); ++j)
      pair.push_back({Part::kSpecial, id_of(ids.at(j), vocabulary), type_of(token)});
  }
  if (texts[0] != 1 || texts[1] != 1) pair.clear();  // a template that no pair is put in
}

}  // namespace linnet
