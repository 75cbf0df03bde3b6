#include "model/import_gguf.h"

#include <fmt/format.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "model/family.h"
#include "model/gguf_config.h"
#include "text/vocabulary_files.h"

namespace linnet {
namespace {

using Json = nlohmann::json;

// What GGUF calls a family's modules; those of a layer stand below `blk.N.`.
struct ModuleName {
  std::string_view Family::*module;
  std::string_view name;
  bool rotated = false;  // its rows belong to query or key heads, which rotary positions turn
};
constexpr ModuleName kOfLayer[] = {
    {&Family::attention_norm, "attn_norm"},
    {&Family::q, "attn_q", true},
    {&Family::k, "attn_k", true},
    {&Family::v, "attn_v"},
    {&Family::q_norm, "attn_q_norm"},
    {&Family::k_norm, "attn_k_norm"},
    {&Family::o, "attn_output"},
    {&Family::feed_forward_norm, "ffn_norm"},
    {&Family::gate, "ffn_gate"},
    {&Family::up, "ffn_up"},
    {&Family::down, "ffn_down"},
};
constexpr ModuleName kOfModel[] = {
    {&Family::embedding, "token_embd"}, {&Family::final_norm, "output_norm"}, {&Family::head, "output"}};

/// Where the row stands that ggml has at `row`: of each head's rows, ggml has pairs that turn together side
/// by side, (0, size/2), (1, size/2 + 1), …; Hugging Face has all firsts, then all seconds.
int64_t unpermuted(int64_t row, int64_t head_size) {
  const int64_t head = row / head_size, in_head = row % head_size;
  return head * head_size + in_head % 2 * (head_size / 2) + in_head / 2;
}

/// How a tensor stands in the file otherwise than in a folder.
struct Differently {
  int64_t head_size = 0;  // of one whose rows are permuted; else 0
  float more = 0;         // than the folder's numbers: gains 1 + w stand as they are, not as w
};

/// The tensor in BF16, a row at a time. A bias's single numbers are rows.
std::vector<std::byte> to_bf16(const GgufTensor& tensor, const Differently& how, const std::string& where) {
  const int64_t head_size = how.head_size;
  const size_t row = static_cast<size_t>(tensor.shape.back());
  const size_t row_bytes = row / tensor.type->block * tensor.type->bytes;
  const size_t rows = tensor.bytes.size() / row_bytes;
  const size_t unit = tensor.shape.size() == 1 ? 1 : row;  // numbers that move together
  std::vector<std::byte> out(rows * row * size_of(DType::kBF16));
  std::vector<float> numbers(row);
  for (size_t r = 0; r < rows; ++r) {
    dequantize(*tensor.type, tensor.bytes.subspan(r * row_bytes, row_bytes), numbers);
    for (float& number : numbers) number -= how.more;
    const std::vector<std::byte> bytes = from_float(numbers, DType::kBF16);
    if (!is_sound(DType::kBF16, bytes)) throw Error(where, kUnsound, kSound);
    if (head_size == 0) {
      std::memcpy(out.data() + r * bytes.size(), bytes.data(), bytes.size());
      continue;
    }
    const size_t unit_bytes = unit * size_of(DType::kBF16);
    for (size_t i = 0; i < row / unit; ++i) {
      const auto to = static_cast<size_t>(unpermuted(static_cast<int64_t>(r * row / unit + i), head_size));
      std::memcpy(out.data() + to * unit_bytes, bytes.data() + i * unit_bytes, unit_bytes);
    }
  }
  return out;
}

/// Collects the tensors of a model, each once.
class Tensors {
 public:
  Tensors(const GgufFile& file, const ModelConfig& config, const GgufArchitecture& architecture)
      : file_(file), config_(config), architecture_(architecture), family_(*config.family) {}

  void add(const ModuleName& row, const std::string& gguf_prefix, const std::string& prefix) {
    const std::string_view module = family_.*row.module;
    if (module.empty()) return;
    const ModuleShape shape = module_shape(family_, config_, module);
    const std::string name =
        (module == family_.head ? "" : std::string(family_.prefix) + prefix) + std::string(module);
    Differently how;
    if (row.rotated && architecture_.permuted) how.head_size = config_.head_size;
    if (shape.in == 0 && family_.norm == NormKind::kRmsPlusOne) how.more = 1;
    const std::string gguf_name = gguf_prefix + std::string(row.name);
    add_tensor(gguf_name + ".weight", name + ".weight", shape.weight(), how);
    if (shape.biased) add_tensor(gguf_name + ".bias", name + ".bias", {shape.out}, how);
  }

  std::vector<NamedTensor> take() {
    for (const auto& [name, tensor] : file_.tensors()) {
      if (used_.contains(name) || name == kRopeFactors) continue;
      throw Error(tensor_at(file_.where(), name),
                  fmt::format("not known in a model of architecture {}", architecture_.name),
                  "only tensors that are");
    }
    return std::move(tensors_);
  }

  const Family& family() const { return family_; }

 private:
  void add_tensor(const std::string& gguf_name, std::string name, const std::vector<int64_t>& shape,
                  const Differently& how) {
    const std::string where = tensor_at(file_.where(), gguf_name);
    const GgufTensor* tensor = file_.find(gguf_name);
    if (tensor == nullptr) throw Error(where, "missing", to_string(shape));
    if (tensor->shape != shape) throw Error(where, to_string(tensor->shape), to_string(shape));
    used_.insert(gguf_name);
    NamedTensor& one = tensors_.emplace_back();
    one.name = std::move(name);
    one.tensor.type = DType::kBF16;
    one.tensor.shape = shape;
    one.make = [=] { return to_bf16(*tensor, how, where); };
  }

  const GgufFile& file_;
  const ModelConfig& config_;
  const GgufArchitecture& architecture_;
  const Family& family_;
  std::set<std::string, std::less<>> used_;
  std::vector<NamedTensor> tensors_;
};

std::vector<NamedTensor> import_tensors(const GgufFile& file, const ModelConfig& config,
                                        const GgufArchitecture& architecture) {
  Tensors tensors(file, config, architecture);
  for (const ModuleName& row : kOfModel) {
    if (row.module == &Family::head && config.tied_embeddings) continue;
    tensors.add(row, "", "");
  }
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    for (const ModuleName& row : kOfLayer)
      tensors.add(row, fmt::format("blk.{}.", layer),
                  layer_prefix(tensors.family(), static_cast<int>(layer)));
  }
  return tensors.take();
}

BareVocabulary vocabulary_of(const GgufFile& file, int64_t rows) {
  const auto key = [](std::string_view name) { return fmt::format("tokenizer.ggml.{}", name); };
  const auto id = [&](std::string_view name) {
    return file.integer(key(fmt::format("{}_token_id", name)), 0, INT32_MAX);
  };
  BareVocabulary vocabulary;
  vocabulary.model = file.string(key("model")).value_or("");
  vocabulary.pre = file.string(key("pre")).value_or("default");
  vocabulary.tokens = file.strings(key("tokens")).value_or(std::vector<std::string_view>());
  if (vocabulary.tokens.size() > static_cast<size_t>(rows)) {
    throw Error(file.where(), fmt::format("{} tokens", vocabulary.tokens.size()),
                fmt::format("at most {}, the embedding's rows", rows));
  }
  vocabulary.types = file.integers(key("token_type")).value_or(std::vector<int64_t>());
  vocabulary.merges = file.strings(key("merges")).value_or(std::vector<std::string_view>());
  vocabulary.scores = file.floats(key("scores")).value_or(std::vector<float>());
  if (const auto charsmap = file.octets(key("precompiled_charsmap")))
    vocabulary.charsmap = {reinterpret_cast<const char*>(charsmap->data()), charsmap->size()};
  vocabulary.bos = id("bos");
  vocabulary.eos = id("eos");
  vocabulary.unknown = id("unknown");
  vocabulary.padding = id("padding");
  vocabulary.add_bos = file.boolean(key("add_bos_token"));
  vocabulary.add_eos = file.boolean(key("add_eos_token"));
  vocabulary.add_space_prefix = file.boolean(key("add_space_prefix"));
  vocabulary.remove_extra_spaces = file.boolean(key("remove_extra_whitespaces"));
  vocabulary.chat_template = file.string("tokenizer.chat_template").value_or("");
  return vocabulary;
}

/// BOS, padding, and what ends a text: EOS, and the token that ends a turn.
Json generation_config(const GgufFile& file, const BareVocabulary& vocabulary) {
  Json config = Json::object(), ends = Json::array();
  if (vocabulary.bos) config["bos_token_id"] = *vocabulary.bos;
  if (vocabulary.padding) config["pad_token_id"] = *vocabulary.padding;
  if (vocabulary.eos) ends.push_back(*vocabulary.eos);
  const auto turn =
      file.integer("tokenizer.ggml.eot_token_id", 0, static_cast<int64_t>(vocabulary.tokens.size()) - 1);
  if (turn && turn != vocabulary.eos) ends.push_back(*turn);
  if (!ends.empty()) config["eos_token_id"] = ends;
  return config;
}

}  // namespace

ImportedModel import_gguf(const GgufFile& file) {
  const GgufArchitecture& architecture = architecture_of(file);
  const Json json = gguf_config(file, architecture);
  const ModelConfig config = ModelConfig::parse(json, file.where() + ": config");
  const BareVocabulary vocabulary = vocabulary_of(file, config.vocabulary);
  ImportedModel model;
  model.tensors = import_tensors(file, config, architecture);
  model.files = tokenizer_files(vocabulary, file.where());
  model.files["config.json"] = json.dump(2) + "\n";
  model.files["generation_config.json"] = generation_config(file, vocabulary).dump(2) + "\n";
  return model;
}

void write_imported(const std::filesystem::path& out, const ImportedModel& model, size_t shard_bytes,
                    const std::function<void(double done, double total)>& report) {
  AtomicFolder folder(out, /*replace=*/false);
  for (const auto& [name, text] : model.files) write_file(folder.path() / name, text);
  double total = 0, done = 0;
  for (const NamedTensor& one : model.tensors) total += static_cast<double>(one.tensor.numbers());
  std::vector<NamedTensor> tensors = model.tensors;
  for (NamedTensor& one : tensors) {
    one.make = [&, make = one.make, numbers = one.tensor.numbers()] {
      std::vector<std::byte> bytes = make();
      done += static_cast<double>(numbers);
      if (report) report(done, total);
      return bytes;
    };
  }
  write_sharded(folder.path(), tensors, shard_bytes);
  folder.commit();
}

}  // namespace linnet
