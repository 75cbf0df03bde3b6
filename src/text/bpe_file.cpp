#include "text/bpe_file.h"

namespace linnet {
namespace {

using Json = nlohmann::ordered_json;

/// A post-processor that sets the token `id` before a text.
Json begin_with(const std::string& token, int32_t id) {
  const Json begin = {{"SpecialToken", {{"id", token}, {"type_id", 0}}}};
  const auto sequence = [](const char* name, int type) {
    return Json{{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({begin, sequence("A", 0)})},
          {"pair", Json::array({begin, sequence("A", 0), sequence("B", 1)})},
          {"special_tokens",
           {{token, {{"id", token}, {"ids", Json::array({id})}, {"tokens", Json::array({token})}}}}}};
}

}  // namespace

Json byte_level(bool prefix_space, bool pattern) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", prefix_space},
          {"trim_offsets", true},
          {"use_regex", pattern}};
}

std::string bpe_json(const BpeFile& file) {
  const auto token = [&](int32_t id) -> const std::string& { return file.tokens[static_cast<size_t>(id)]; };
  Json added = Json::array(), vocab = Json::object(), merges = Json::array();
  for (const BpeFile::Added& one : file.added) {
    added.push_back({{"id", one.id},
                     {"content", token(one.id)},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", one.special}});
  }
  // Appended as they are: looking each key up in an ordered object is quadratic.
  auto& entries = vocab.get_ref<Json::object_t&>();
  for (size_t id = 0; id < file.tokens.size(); ++id) {
    if (!file.tokens[id].empty()) entries.emplace_back(file.tokens[id], id);
  }
  for (const auto& [left, right] : file.merges) merges.push_back({left, right});
  const Json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"ignore_merges", file.ignore_merges},
                      {"vocab", std::move(vocab)},
                      {"merges", std::move(merges)}};
  const Json json = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", std::move(added)},
      {"normalizer", file.normalizer},
      {"pre_tokenizer", file.pre_tokenizer},
      {"post_processor", file.bos ? begin_with(token(*file.bos), *file.bos) : byte_level(true)},
      {"decoder", byte_level(true)},
      {"model", model}};
  return json.dump(1) + "\n";
}

}  // namespace linnet
