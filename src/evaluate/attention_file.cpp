#include "evaluate/attention_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "attention/method.h"
#include "base/bfloat16.h"
#include "base/error.h"
#include "base/json.h"
#include "base/nearest.h"

namespace linnet {
namespace {

constexpr std::array<std::string_view, 3> kTypes{"float64", "float32", "bfloat16"};
constexpr std::array<std::string_view, 4> kForms{"prefill", "decode", "tree", "parallel"};

template <size_t n>
size_t index_of(std::string_view name, const std::array<std::string_view, n>& names,
                std::string_view option) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    throw Error(option, fmt::format("unknown value \"{}\"", printable(name)), one_of(name, names));
  }
  return static_cast<size_t>(found - names.begin());
}

/// To bf16 and back.
float rounded(float x) { return bfloat16_to_float(float_to_bfloat16(x)); }

/// The options that a config leaves open, as the tensors' shapes tell them.
void read_sizes(const nlohmann::json& object, const std::map<std::string, TensorView, std::less<>>& tensors,
                AttentionConfig& config) {
  for (const Option& option : config.method->options) {
    const auto given = object.find(option.key);
    const auto tensor = tensors.find("parameter." + std::string(option.tensor));
    if ((given != object.end() && !given->is_null()) || tensor == tensors.end()) continue;
    const auto& shape = tensor->second.shape;
    const int64_t size = option.dimension < shape.size() ? shape[option.dimension] : -1;
    if (size >= option.least && size <= option.most) config.options[option.key] = static_cast<int>(size);
  }
}

}  // namespace

FileType file_type_named(std::string_view name) {
  return static_cast<FileType>(index_of(name, kTypes, "--dtype"));
}
FileForm file_form(std::string_view name) { return static_cast<FileForm>(index_of(name, kForms, "--form")); }

AttentionFile AttentionFile::open(const std::filesystem::path& path, FileForm form) {
  return read(SafetensorsFile::open(path), path.string(), form);
}

AttentionFile AttentionFile::read(SafetensorsFile source, const std::string& where, FileForm form) {
  AttentionFile file;
  file.file_ = std::move(source);
  file.where_ = where;
  const auto metadata = file.file_.metadata().find("linear_attention");
  if (metadata == file.file_.metadata().end()) {
    throw Error(where, "no metadata linear_attention", "the config of the attention in __metadata__");
  }
  file.config_text_ = metadata->second;
  const auto object = parse_json(file.config_text_, where + ": linear_attention");
  file.config_ = parse_layer_attention(object, where);
  const auto& tensors = file.file_.tensors();
  read_sizes(object, tensors, file.config_);
  const auto shape_of = [&](const char* name) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) throw Error(where + ": " + name, "missing tensor", "[heads, tokens, size]");
    const auto& shape = found->second.shape;
    const auto fits = [](int64_t x) { return x > 0 && x <= (int64_t{1} << 31) - 1; };
    if (shape.size() != 3 || !std::all_of(shape.begin(), shape.end(), fits)) {
      throw Error(where + ": " + name, "shape " + to_string(shape), "[heads, tokens, size], none of them 0");
    }
    return shape;
  };
  const auto q = shape_of("q"), k = shape_of("k"), v = shape_of("v");
  file.shape_ = {static_cast<int>(q[0]), static_cast<int>(k[0]), static_cast<int>(q[2]),
                 static_cast<int>(v[2])};
  file.tokens_ = q[1];
  check_heads(file.config_, k[0], where + ": linear_attention");
  if (file.shape_.heads % file.shape_.kv_heads != 0) {
    throw Error(where + ": k", fmt::format("{} key-value heads", k[0]),
                fmt::format("a divisor of {} heads", q[0]));
  }
  file.check_rows("", file.tokens_);
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with("parameter.")) file.parameters_[name.substr(10)] = tensor;
  }
  std::vector<std::string> known;
  for (const ParameterSpec& spec : parameter_specs(file.config_, file.shape_)) known.push_back(spec.name);
  for (const auto& [name, tensor] : file.parameters_) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw Error(where + ": parameter." + name, "not a tensor of this attention",
                  fmt::format("those of {}: {}", file.config_.name(), fmt::join(known, ", ")));
    }
  }
  if (form == FileForm::kTree) file.read_tree();
  return file;
}

void AttentionFile::check_input(const std::string& name, const std::vector<int64_t>& shape) const {
  const std::string place = where_ + ": " + name;
  const auto found = file_.tensors().find(name);
  if (found == file_.tensors().end()) throw Error(place, "missing tensor", to_string(shape));
  if (found->second.shape != shape)
    throw Error(place, "shape " + to_string(found->second.shape), to_string(shape));
  const std::vector<double> numbers = to_double(found->second, place);
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (!std::isfinite(numbers[i])) {
      throw Error(place, fmt::format("number {} is {}", i, numbers[i]), "finite numbers");
    }
  }
}

void AttentionFile::check_rows(const std::string& prefix, int64_t count) const {
  const std::vector<int64_t> queries{shape_.heads, count, shape_.head_size};
  const std::vector<int64_t> keys{shape_.kv_heads, count, shape_.head_size};
  check_input(prefix + "q", queries);
  check_input(prefix + "k", keys);
  check_input(prefix + "v", {shape_.kv_heads, count, shape_.value_size});
  if (config_.feature_position == FeaturePosition::kNone) {
    check_input(prefix + "q.plain", queries);
    check_input(prefix + "k.plain", keys);
  }
}

void AttentionFile::read_tree() {
  const std::string place = where_ + ": tree.parents";
  const auto found = file_.tensors().find("tree.parents");
  if (found == file_.tensors().end()) throw Error(place, "missing tensor", "[nodes] of I64");
  const TensorView& tensor = found->second;
  if (tensor.type != DType::kI64 || tensor.shape.size() != 1 || tensor.shape[0] == 0) {
    throw Error(place, fmt::format("{} {}", name_of(tensor.type), to_string(tensor.shape)),
                "I64 [nodes], some");
  }
  for (int64_t i = 0; i < tensor.shape[0]; ++i) {
    int64_t parent;
    std::memcpy(&parent, tensor.bytes.data() + i * sizeof(parent), sizeof(parent));
    if (parent < -1 || parent >= i) {
      throw Error(place, fmt::format("node {} has parent {}", i, parent), "an earlier node, or -1");
    }
    tree_.add(0, static_cast<int32_t>(parent));
  }
  check_rows("tree.", tree_.size());
}

template <class T>
std::vector<T> AttentionFile::numbers(const std::string& name, FileType type) const {
  const auto found = file_.tensors().find(name);
  if (found == file_.tensors().end()) throw Error(where_ + ": " + name, "missing tensor", "one of that name");
  std::vector<T> out = to_numbers<T>(found->second, where_ + ": " + name);
  if (type == FileType::kBFloat16) {
    for (T& number : out) number = rounded(static_cast<float>(number));
  }
  return out;
}
template std::vector<float> AttentionFile::numbers(const std::string&, FileType) const;
template std::vector<double> AttentionFile::numbers(const std::string&, FileType) const;

namespace {

/// Inputs under a prefix, owned, as rows.
template <class T>
struct Inputs {
  std::vector<T> q, k, v, summary_q, summary_k;
  int64_t count;
  AttentionShape shape;

  Inputs(const AttentionFile& file, const std::string& prefix, int64_t n, FileType type)
      : count(n), shape(file.shape()) {
    q = file.numbers<T>(prefix + "q", type);
    k = file.numbers<T>(prefix + "k", type);
    v = file.numbers<T>(prefix + "v", type);
    if (file.config().feature_position == FeaturePosition::kNone) {
      summary_q = file.numbers<T>(prefix + "q.plain", type);
      summary_k = file.numbers<T>(prefix + "k.plain", type);
    }
  }

  Rows<T> rows(int64_t first, int64_t n) const {
    const auto part = [&](const std::vector<T>& from, int64_t size) {
      return HeadRows<const T>{from.empty() ? nullptr : from.data() + first * size, count * size, size};
    };
    return {n,
            part(q, shape.head_size),
            part(k, shape.head_size),
            part(v, shape.value_size),
            part(summary_q, shape.head_size),
            part(summary_k, shape.head_size)};
  }
};

template <class T>
void write(const std::filesystem::path& path, const AttentionFile& file, FileForm form,
           std::span<const T> outputs) {
  const AttentionShape& shape = file.shape();
  const int64_t rows = static_cast<int64_t>(outputs.size()) / (shape.heads * shape.value_size);
  const NamedTensor tensor{form == FileForm::kTree ? "tree.o" : "o",
                           {sizeof(T) == 8 ? DType::kF64 : DType::kF32,
                            {shape.heads, rows, shape.value_size},
                            std::as_bytes(outputs)}};
  write_safetensors(path, {&tensor, 1}, {{"linear_attention", file.config_text()}});
}

}  // namespace

template <class T>
std::vector<T> apply(const AttentionFile& file, FileForm form, int64_t chunk, FileType type,
                     ThreadPool& pool) {
  const AttentionShape& shape = file.shape();
  const auto attention =
      make_attention<T>(file.config(), shape, file.parameters(), nullptr, file.where() + ": parameter.");
  const auto state = attention->make_state();
  const int64_t n = file.tokens(), row = shape.value_size;
  const Inputs<T> tokens(file, "", n, type);
  std::vector<T> out(shape.heads * n * row);
  const auto rows = [&](int64_t first) { return HeadRows<T>{out.data() + first * row, n * row, row}; };

  if (form == FileForm::kDecode) {
    const TokenTree single = TokenTree::single(0);
    const int32_t root[] = {0};
    for (int64_t t = 0; t < n; ++t) {
      attention->attend(*state, single, tokens.rows(t, 1), rows(t), pool);
      attention->commit(*state, root, tokens.rows(t, 1), pool);
    }
    return out;
  }
  if (form == FileForm::kTree) {
    std::vector<int32_t> all(n);
    for (int64_t t = 0; t < n; ++t) all[t] = static_cast<int32_t>(t);
    attention->commit(*state, all, tokens.rows(0, n), pool);
    const int64_t nodes = file.tree().size();
    const Inputs<T> branches(file, "tree.", nodes, type);
    out.resize(shape.heads * nodes * row);
    attention->attend(*state, file.tree(), branches.rows(0, nodes), {out.data(), nodes * row, row}, pool);
    return out;
  }
  if (form == FileForm::kParallel)
    throw Error("--form", "parallel in the runtime", "prefill, decode or tree");
  if (chunk <= 0) chunk = n;
  for (int64_t first = 0; first < n; first += chunk) {
    attention->prefill(*state, tokens.rows(first, std::min(chunk, n - first)), rows(first), pool);
  }
  return out;
}
template std::vector<float> apply(const AttentionFile&, FileForm, int64_t, FileType, ThreadPool&);
template std::vector<double> apply(const AttentionFile&, FileForm, int64_t, FileType, ThreadPool&);

void write_outputs(const std::filesystem::path& path, const AttentionFile& file, FileForm form,
                   std::span<const float> outputs) {
  write(path, file, form, outputs);
}
void write_outputs(const std::filesystem::path& path, const AttentionFile& file, FileForm form,
                   std::span<const double> outputs) {
  write(path, file, form, outputs);
}

}  // namespace linnet
