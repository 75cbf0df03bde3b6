#include "model/draft_heads.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "format/fields.h"
#include "model/slot_file.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int kMostHeads = 64, kMostBlocks = 16;
constexpr const char* kKindKey = "draft_heads";

const char* file_of(HeadKind kind) {
  return kind == HeadKind::kMedusa ? "medusa_lm_head.safetensors" : "heads.safetensors";
}

std::string name_of(const fs::path& model) { return named_folder(model).filename().string(); }

/// Of the whole folder but for the config's own "hash".
std::string hash_of_heads(Json config, const fs::path& tensors) {
  config.erase("hash");
  Hash hash;
  hash.add(config.dump());
  hash.add(MappedFile(tensors).bytes());
  return hash.text();
}

HeadKind kind_of(const Json& config, const std::string& where) {
  if (config.is_object() && config.contains("medusa_num_heads")) return HeadKind::kMedusa;
  const Fields fields(config, where);
  const auto kind = fields.optional_string(kKindKey);
  if (!kind)
    throw Error(where, "not of draft heads",
                fmt::format("\"{}\": \"recursive\", or \"medusa_num_heads\"", kKindKey));
  if (*kind != "recursive") fields.refuse(kKindKey, "recursive");
  return HeadKind::kRecursive;
}

TensorStore open_tensors(const fs::path& folder, HeadKind kind) {
  const fs::path file = folder / file_of(kind);
  std::error_code error;
  for (const char* pickle : {"medusa_lm_head.pt", "medusa_lm_head.bin"}) {
    if (fs::exists(file, error) || !fs::exists(folder / pickle, error)) continue;
    throw Error((folder / pickle).string(), "a pickle, and reading one can run any code",
                fmt::format("the same tensors as {}", file_of(kind)));
  }
  return TensorStore::open_file(file);
}

/// Checks tensors off one by one, so that none is left over.
class Checker {
 public:
  explicit Checker(const DraftHeads& heads) : heads_(heads) {}

  bool has(const std::string& name) const { return heads_.tensors.find(name) != nullptr; }
  const TensorView& take(const std::string& name, const std::vector<int64_t>& shape) {
    const TensorView* tensor = heads_.tensors.find(name);
    if (tensor == nullptr) throw Error(heads_.folder.string(), "no tensor " + name, to_string(shape));
    const std::string where = heads_.where(name);
    if (tensor->shape != shape) throw Error(where, to_string(tensor->shape), to_string(shape));
    const bool floating =
        tensor->type == DType::kF32 || tensor->type == DType::kF16 || tensor->type == DType::kBF16;
    if (!floating) throw Error(where, std::string(name_of(tensor->type)), "F32, F16 or BF16");
    if (!is_sound(*tensor)) throw Error(where, kUnsound, kSound);
    taken_.insert(name);
    return *tensor;
  }
  std::vector<int32_t> take_tokens(int64_t vocabulary) {
    const std::string name = head_names::kTokens;
    const TensorView* tensor = heads_.tensors.find(name);
    if (tensor == nullptr) return {};
    const std::string where = heads_.where(name);
    if (tensor->type != DType::kI32 || tensor->shape.size() != 1 || tensor->bytes.empty())
      throw Error(where, fmt::format("{} {}", name_of(tensor->type), to_string(tensor->shape)),
                  "ids of tokens, I32 [tokens]");
    std::vector<int32_t> tokens(static_cast<size_t>(tensor->numbers()));
    std::memcpy(tokens.data(), tensor->bytes.data(), tensor->bytes.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] <= (i == 0 ? -1 : tokens[i - 1]) || tokens[i] >= vocabulary)
        throw Error(where, fmt::format("token {} at {}", tokens[i], i),
                    fmt::format("ascending ids below {}", vocabulary));
    }
    taken_.insert(name);
    return tokens;
  }
  void nothing_left() const {
    for (const auto& [name, tensor] : heads_.tensors.tensors()) {
      if (!taken_.contains(name))
        throw Error(tensor_at(heads_.tensors.where(name), name), "an unknown tensor", "those of draft heads");
    }
  }

 private:
  const DraftHeads& heads_;
  std::set<std::string> taken_;
};

void check_medusa(DraftHeads& heads, const ModelConfig& model, Checker& checker) {
  // Published configs say two heads where five are stored: the tensors count.
  while (heads.count < kMostHeads && checker.has(head_names::medusa_weight(heads.count, 0))) ++heads.count;
  heads.own_vocabulary = checker.has(head_names::medusa_vocabulary(0, heads.blocks));
  const int64_t rows = heads.tokens.empty() ? model.vocabulary : std::ssize(heads.tokens);
  for (int i = 0; i < std::max(1, heads.count); ++i) {
    for (int j = 0; j < heads.blocks; ++j) {
      checker.take(head_names::medusa_weight(i, j), {model.hidden, model.hidden});
      checker.take(head_names::medusa_bias(i, j), {model.hidden});
    }
    if (heads.own_vocabulary)
      checker.take(head_names::medusa_vocabulary(i, heads.blocks), {rows, model.hidden});
  }
}

void check_recursive(DraftHeads& heads, const ModelConfig& model, Checker& checker) {
  const TensorView* input = heads.tensors.find(head_names::kInput);
  const int64_t inner = input == nullptr || input->shape.empty() ? 1 : input->shape.front();
  if (inner < 1) throw Error(heads.where(head_names::kInput), to_string(input->shape), "a row at least");
  checker.take(head_names::kInput, {inner, 2 * model.hidden});
  checker.take(head_names::kInputBias, {inner});
  checker.take(head_names::kOutput, {model.hidden, inner});
  heads.own_vocabulary = checker.has(head_names::kVocabulary);
  const int64_t rows = heads.tokens.empty() ? model.vocabulary : std::ssize(heads.tokens) + 1;
  if (heads.own_vocabulary) checker.take(head_names::kVocabulary, {rows, model.hidden});
}

/// Heads that say whose they are are this model's.
void check_model(const Fields& fields, HeadKind kind, const Model& model) {
  const auto hash = fields.optional_string("model_hash");
  const std::string own = model_hash(model);
  if (!hash || *hash == own) return;
  const auto name =
      fields.optional_string(kind == HeadKind::kMedusa ? "base_model_name_or_path" : "model").value_or("?");
  throw Error(fields.where(), fmt::format("heads of {} ({})", printable(name), printable(*hash)),
              fmt::format("heads of {} ({})", name_of(model.folder()), own));
}

Json config_of(const DraftHeads& form, const Model& model, const std::string& name) {
  Json config = {{"hidden_size", model.config().hidden},
                 {"vocab_size", model.config().vocabulary},
                 {"model_hash", model_hash(model)}};
  if (form.kind == HeadKind::kRecursive) {
    config.update({{kKindKey, "recursive"}, {"count", form.count}, {"model", name}});
    return config;
  }
  config.update({{"medusa_num_heads", form.count},
                 {"medusa_num_layers", form.blocks},
                 {"base_model_name_or_path", name}});
  if (!form.own_vocabulary) config["version"] = "2";
  return config;
}

}  // namespace

namespace head_names {

std::string medusa_weight(int head, int block) { return fmt::format("{}.{}.linear.weight", head, block); }
std::string medusa_bias(int head, int block) { return fmt::format("{}.{}.linear.bias", head, block); }
std::string medusa_vocabulary(int head, int blocks) { return fmt::format("{}.{}.weight", head, blocks); }

}  // namespace head_names

std::string model_hash(const Model& model) { return hash_of(fingerprint(model)); }

DraftHeads open_heads(const fs::path& folder, const Model& model) {
  const fs::path file = folder / "config.json";
  std::error_code error;
  if (!fs::is_regular_file(file, error))
    throw Error(folder.string(), "holds no config.json", "a folder of draft heads (`linnet train-heads`)");
  const Json config = read_json(file);
  DraftHeads heads;
  heads.folder = folder;
  heads.kind = kind_of(config, file.string());
  const Fields fields(config, file.string());
  check_model(fields, heads.kind, model);
  heads.tensors = open_tensors(folder, heads.kind);
  const auto hash = fields.optional_string("hash");
  if (hash && *hash != hash_of_heads(config, folder / file_of(heads.kind)))
    throw Error(folder.string(), "damaged: its hash does not fit", "the files as they were written");
  Checker checker(heads);
  heads.tokens = checker.take_tokens(model.config().vocabulary);
  if (heads.kind == HeadKind::kMedusa) {
    heads.blocks = static_cast<int>(fields.optional_integer("medusa_num_layers", 1, kMostBlocks).value_or(1));
    check_medusa(heads, model.config(), checker);
  } else {
    heads.count = static_cast<int>(fields.integer("count", 1, kMostHeads));
    check_recursive(heads, model.config(), checker);
  }
  checker.nothing_left();
  return heads;
}

fs::path heads_folder(const fs::path& model) { return model / "heads"; }

bool has_heads(const fs::path& model) {
  std::error_code error;
  return fs::is_regular_file(heads_folder(model) / "config.json", error);
}

std::optional<DraftHeads> heads_beside(const Model& model) {
  if (!has_heads(model.folder())) return std::nullopt;
  return open_heads(heads_folder(model.folder()), model);
}

void write_heads(const fs::path& out, const DraftHeads& form, std::span<const NamedTensor> tensors,
                 const Model& model, const fs::path& known_as) {
  std::error_code error;
  fs::create_directories(out, error);
  check_writable(out);
  const fs::path file = out / file_of(form.kind);
  write_safetensors(file, tensors, {{"format", "pt"}});
  Json config = config_of(form, model, name_of(known_as.empty() ? model.folder() : known_as));
  config["hash"] = hash_of_heads(config, file);
  write_file(out / "config.json", config.dump(2) + "\n");
}

void copy_heads(const DraftHeads& heads, const Model& model, const fs::path& known_as) {
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : heads.tensors.tensors()) tensors.push_back({name, tensor});
  write_heads(heads_folder(model.folder()), heads, tensors, model, known_as);
}

}  // namespace linnet
