// Reads Hugging Face's tokenizer.json.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "text/tokenizer_files.h"
#include "text/tokenizer_impl.h"
#include "text/unigram.h"
#include "text/word_piece.h"

namespace linnet {
namespace {

std::vector<AddedToken> read_added_tokens(const JsonView& field) {
  std::vector<AddedToken> tokens;
  if (field.is_null()) return tokens;
  for (size_t i = 0; i < field.size(); ++i) {
    const JsonView entry = field.at(i);
    AddedToken token = read_added_token(entry);
    token.id = checked_id(entry["id"], token.content);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

/// Every added token has an id of its own, and that which the model gives it where it knows it.
void check_added_tokens(const std::vector<AddedToken>& tokens, const TokenModel& model,
                        const std::string& where) {
  std::unordered_map<int32_t, const AddedToken*> ids;
  std::unordered_map<std::string_view, int32_t> contents;
  for (const AddedToken& token : tokens) {
    const std::string name = printable(token.content, 40);
    if (!ids.emplace(token.id, &token).second || !contents.emplace(token.content, token.id).second) {
      throw Error(where, fmt::format("added token \"{}\" (id {}) stands twice", name, token.id),
                  "each token and id once");
    }
    const auto known = model.id_of(token.content);
    if (known && *known != token.id) {
      throw Error(where, fmt::format("added token \"{}\" has id {}", name, token.id),
                  fmt::format("{}, its id in the vocabulary", *known));
    }
    if (!known && token.id < model.size() && !model.token(token.id).empty()) {
      throw Error(where,
                  fmt::format("added token \"{}\" has the id {} of \"{}\"", name, token.id,
                              printable(model.token(token.id), 40)),
                  "an id of its own");
    }
  }
}

/// Tokens by id; empty where an id has none.
std::vector<std::string> read_vocabulary(const JsonView& field, const std::vector<AddedToken>& added) {
  if (!field.value().is_object()) field.fail("not an object", "tokens with their ids");
  std::vector<std::string> tokens;
  std::vector<bool> taken;
  int32_t largest = -1;
  for (const auto& [token, value] : field.value().items()) {
    // The place in words is made only where it is needed: there may be 256,000 tokens.
    const bool plain = value.is_number_unsigned() && value.get<uint64_t>() < uint64_t{kMaxVocabulary};
    const auto id =
        plain ? value.get<size_t>() : static_cast<size_t>(checked_id({value, field.where()}, token));
    check_length(field, token);
    if (id >= tokens.size()) tokens.resize(std::max(id + 1, tokens.size() * 2)), taken.resize(tokens.size());
    if (taken[id]) {
      field.fail(fmt::format("id {} is that of \"{}\" and of \"{}\"", id, printable(tokens[id], 40),
                             printable(token, 40)),
                 "one token an id");
    }
    taken[id] = true;
    tokens[id] = token;
    largest = std::max(largest, static_cast<int32_t>(id));
  }
  if (largest < 0 && added.empty()) field.fail("an empty vocabulary", "at least one token");
  tokens.resize(static_cast<size_t>(largest + 1));
  return tokens;
}

/// The two tokens of merges[index]: ["a", "b"], or "a b" as files before 2024 have it. There may be 300,000:
/// the place in words is made only for an error.
std::pair<std::string_view, std::string_view> merge_parts(const JsonView& field, size_t index) {
  const nlohmann::json& merge = field.value()[index];
  if (merge.is_string()) {
    const std::string_view both = merge.get_ref<const std::string&>();
    const size_t space = both.find(' ');
    if (space == std::string_view::npos || both.find(' ', space + 1) != std::string_view::npos) {
      field.at(index).fail(fmt::format("\"{}\"", printable(both, 40)),
                           "two tokens with a space between them");
    }
    return {both.substr(0, space), both.substr(space + 1)};
  }
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
  }
  const JsonView view = field.at(index);
  if (view.size() != 2) view.fail(fmt::format("{} parts", view.size()), "two tokens");
  view.fail("not two strings", "two tokens");
}

std::vector<MergeRule> read_merges(const JsonView& field, const Vocabulary& vocabulary,
                                   const std::string& prefix) {
  std::vector<MergeRule> merges;
  merges.reserve(field.size());
  std::string both;
  for (size_t i = 0; i < field.size(); ++i) {
    const auto [left, right] = merge_parts(field, i);
    const auto id = [&](std::string_view token) {
      const auto found = vocabulary.id_of(token);
      if (!found) {
        field.at(i).fail(fmt::format("token \"{}\" is not in the vocabulary", printable(token, 40)),
                         "known tokens");
      }
      return *found;
    };
    const bool prefixed = !prefix.empty() && right.starts_with(prefix);
    both = left;
    both += prefixed ? right.substr(prefix.size()) : right;
    merges.push_back({id(left), id(right), id(both)});
  }
  return merges;
}

std::unique_ptr<TokenModel> read_bpe(const JsonView& field, const std::vector<AddedToken>& added) {
  BpeOptions options;
  options.unk_token = field["unk_token"].string("");
  options.continuing_prefix = field["continuing_subword_prefix"].string("");
  options.end_suffix = field["end_of_word_suffix"].string("");
  options.fuse_unk = field["fuse_unk"].boolean(false);
  options.byte_fallback = field["byte_fallback"].boolean(false);
  options.ignore_merges = field["ignore_merges"].boolean(false);
  Vocabulary vocabulary(read_vocabulary(field.at("vocab"), added));
  const auto merges = read_merges(field.at("merges"), vocabulary, options.continuing_prefix);
  return std::make_unique<Bpe>(std::move(vocabulary), merges, std::move(options), field.where());
}

/// A score as Hugging Face's reader of JSON (serde_json) has it: its digits as a whole number, times or
/// divided by a power of ten, which misses the nearest double by a little at times. That decides between
/// divisions of a text whose scores are equal but for rounding.
double score_of(double value) {
  std::array<char, 32> text;
  const auto written =
      std::to_chars(text.begin(), text.end(), std::abs(value), std::chars_format::scientific);
  const std::string number(text.data(), written.ptr);  // d.ddde±dd
  const size_t e = number.find('e');
  if (e == std::string::npos) return value;  // no number
  std::string digits = number.substr(0, e);
  std::erase(digits, '.');
  const int power = std::stoi(number.substr(e + 1)) - static_cast<int>(digits.size() - 1);
  if (std::abs(power) > 300) return value;
  const double whole = std::stod(digits), ten = std::stod(fmt::format("1e{}", std::abs(power)));
  return std::copysign(power < 0 ? whole / ten : whole * ten, value);
}

std::unique_ptr<TokenModel> read_unigram(const JsonView& field) {
  const JsonView list = field.at("vocab");
  std::vector<std::string> tokens;
  std::vector<double> scores;
  std::unordered_set<std::string> seen;
  if (list.size() >= size_t{kMaxVocabulary}) list.fail(fmt::format("{} tokens", list.size()), "fewer");
  for (size_t i = 0; i < list.size(); ++i) {
    const nlohmann::json& entry = list.value()[i];
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      list.at(i).fail(printable(entry.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), 60),
                      "a token and its score");
    }
    tokens.push_back(entry[0].get_ref<const std::string&>());
    scores.push_back(score_of(entry[1].get<double>()));
    check_length(list, tokens.back());
    if (!seen.insert(tokens.back()).second) {
      list.at(i).fail(fmt::format("token \"{}\" stands twice", printable(tokens.back(), 40)),
                      "each token once");
    }
  }
  const JsonView unk = field["unk_id"];
  const int64_t unk_id = unk.is_null() ? -1 : unk.integer();
  if (!unk.is_null() && unk_id < 0) unk.fail(fmt::to_string(unk_id), "an id");
  return std::make_unique<Unigram>(Vocabulary(std::move(tokens)), std::move(scores), unk_id,
                                   field["byte_fallback"].boolean(false), field.where());
}

std::unique_ptr<TokenModel> read_word_piece(const JsonView& field, const std::vector<AddedToken>& added) {
  WordPieceOptions options;
  options.unk_token = field["unk_token"].string("[UNK]");
  options.continuing_prefix = field["continuing_subword_prefix"].string("##");
  const JsonView longest = field["max_input_chars_per_word"];
  if (!longest.is_null()) options.longest_word = longest.integer();
  if (options.longest_word < 0) longest.fail(fmt::to_string(options.longest_word), "a count of characters");
  return std::make_unique<WordPiece>(Vocabulary(read_vocabulary(field.at("vocab"), added)),
                                     std::move(options), field.where());
}

std::unique_ptr<TokenModel> read_model(const JsonView& field, const std::vector<AddedToken>& added) {
  // Files written before 2021 have no `type`; BPE is what has merges, WordPiece what bounds words.
  const bool bounded = !field["max_input_chars_per_word"].is_null();
  const std::string type = field["type"].string(!field["merges"].is_null() ? "BPE"
                                                : bounded                  ? "WordPiece"
                                                                           : "Unigram");
  if (type == "BPE") return read_bpe(field, added);
  if (type == "Unigram") return read_unigram(field);
  if (type == "WordPiece") return read_word_piece(field, added);
  field.fail(fmt::format("model \"{}\"", printable(type, 40)), "BPE, Unigram or WordPiece");
}

}  // namespace

std::shared_ptr<Tokenizer::Impl> read_tokenizer_json(std::string_view text, const std::string& where) {
  const nlohmann::json json = parse_json(text, where);
  const JsonView root(json, where);
  auto impl = std::make_shared<Tokenizer::Impl>();
  impl->where = where;
  std::vector<AddedToken> added = read_added_tokens(root["added_tokens"]);
  impl->model = read_model(root.at("model"), added);
  check_added_tokens(added, *impl->model, where + ".added_tokens");
  impl->vocabulary = impl->model->size();
  for (const AddedToken& token : added) impl->vocabulary = std::max(impl->vocabulary, token.id + 1);
  impl->normalizer = Normalizer(root["normalizer"]);
  impl->pre_tokenizer = PreTokenizer(root["pre_tokenizer"]);
  impl->decoder = TokenDecoder(root["decoder"]);
  impl->post = PostProcessor(root["post_processor"], impl->vocabulary);
  impl->added = AddedTokens(std::move(added), impl->normalizer);
  return impl;
}

}  // namespace linnet
