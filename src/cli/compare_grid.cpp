#include "cli/compare_grid.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>
#include <set>

#include "attention/method.h"
#include "attention/presets.h"
#include "base/count.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/nearest.h"
#include "cli/compare_variants.h"
#include "format/fields.h"
#include "model/teacher.h"

namespace linnet::cli {
namespace {

using GridJson = nlohmann::json;

/// What a grid is made of where its file does not say.
const GridJson& default_grid() {
  static const GridJson grid = GridJson::parse(R"({
    "methods": ["relu", "t2r", "hedgehog", "grouped"],
    "variants": ["plain", "local", "conv", "local+conv", "local+conv+gate+decay"],
    "recipes": ["transfer"],
    "train": ["lora"],
    "seeds": [0],
    "sweep": {},
    "tokens": 4000000, "batch": 48, "context": 1024,
    "group": 64, "local": "softmax", "local_groups": 2, "taps": 4, "state": "5%",
    "set": {}, "options": {}, "label": "", "evaluations": 4,
    "measures": {
      "rows": {"window": 1024, "to": 8192},
      "stream": {"from": 8192, "to": 12288},
      "recall": {"context": 4096, "distances": [512, 2048], "passage": 64, "tokens": 24576},
      "decode": {"context": 1024, "windows": 5}
    }
  })");
  return grid;
}

/// An object with defaults; throws on a key that these don't have.
GridJson with_defaults(const GridJson& given, const GridJson& defaults, const std::string& where,
                       std::string_view further = {}) {
  if (!given.is_object()) throw Error(where, printable(given.dump(), 60), "a JSON object");
  std::vector<std::string_view> known;
  for (const auto& [key, value] : defaults.items()) known.push_back(key);
  if (!further.empty()) known.push_back(further);
  for (const auto& [key, value] : given.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end())
      throw Error(where, fmt::format("key \"{}\"", printable(key, 60)), one_of(key, known));
    if (value.is_null())
      throw Error(where, fmt::format("\"{}\" is null", key), "a value, or no such key (a measure: false)");
  }
  GridJson all = defaults;
  all.update(given);
  return all;
}

/// A name that may stand in a file's and in a pattern.
std::string checked_name(const std::string& name, const std::string& where) {
  const bool is_plain =
      !name.empty() && name.size() <= 80 && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               std::string_view("+=._-,%").find(c) != std::string_view::npos;
      });
  if (!is_plain || name.front() == '.' || name.front() == '-')
    throw Error(where, fmt::format("the name \"{}\"", printable(name, 60)),
                "letters, digits and + = . _ - , % (at most 80)");
  return name;
}

/// An entry of `methods`, `variants` or `recipes`: a word, or an object with a name of its own.
struct Named {
  std::string name, what;
  GridJson set = GridJson::object(), options = GridJson::object();
  bool is_word = true;
};

Named read_named(const GridJson& entry, const char* what, const std::string& where) {
  if (entry.is_string()) return {.name = entry, .what = entry};
  const GridJson defaults = {
      {"name", ""}, {what, ""}, {"set", GridJson::object()}, {"options", GridJson::object()}};
  const GridJson all = with_defaults(entry, defaults, where);
  const Fields fields(all, where);
  Named named{.name = checked_name(fields.string("name"), where), .what = fields.string(what)};
  named.set = all["set"], named.options = all["options"], named.is_word = false;
  for (const char* key : {"set", "options"})
    if (!all[key].is_object()) fields.refuse(key, "an object");
  return named;
}

const GridJson& list_of(const Fields& fields, const char* key) {
  const GridJson& list = *fields.find(key);
  if (!list.is_array()) fields.refuse(key, "an array");
  return list;
}

int64_t tokens_of(const Fields& fields, const char* key, int64_t low, int64_t high) {
  const GridJson& value = *fields.find(key);
  if (!value.is_string()) return fields.integer(key, low, high);
  const auto count = parse_count(value.get<std::string>());
  if (!count || *count < low || *count > high) fields.refuse(key, fmt::format("{} to {} tokens", low, high));
  return *count;
}

std::string value_text(const GridJson& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// Measures: each is a command of its own.

constexpr int64_t kMost = int64_t{1} << 40;

GridJson checked_measures(const GridJson& given, const GridJson& defaults, const std::string& where) {
  GridJson all = with_defaults(given, defaults, where);
  for (auto& [name, own] : all.items()) {
    if (own == false) continue;
    const std::string place = where + "." + name;
    own = with_defaults(own, defaults[name], place);
    const Fields fields(own, place);
    for (const auto& [key, value] : own.items())
      key == "distances" ? void(fields.integers(key, 1, kMost)) : void(fields.integer(key, 1, kMost));
  }
  return all;
}

std::vector<CellCommand> measuring(const GridJson& measures, const std::string& model, bool is_sidecar) {
  std::vector<CellCommand> commands;
  const auto add = [&](const char* name, std::vector<std::string> more) {
    std::vector<std::string> all = {more[0], model};
    all.insert(all.end(), more.begin() + 1, more.end());
    if (is_sidecar) all.insert(all.end(), {"--base", "{base}"});
    const std::string product = fmt::format("{}.json", name);
    all.insert(all.end(), {"--json", "{cell}/" + product});
    commands.push_back({product, all});
  };
  const auto number = [&](const char* name, const char* key) { return measures[name][key].dump(); };
  if (measures["rows"] != false)
    add("rows",
        {"perplexity", "{valid}", "--window", number("rows", "window"), "--score-to", number("rows", "to")});
  if (measures["stream"] != false)
    add("stream", {"perplexity", "{valid}", "--score-from", number("stream", "from"), "--score-to",
                   number("stream", "to")});
  if (measures["recall"] != false) {
    const GridJson& distances = measures["recall"]["distances"];
    const auto list = distances.is_array() ? distances.get<std::vector<int64_t>>()
                                           : std::vector<int64_t>{distances.get<int64_t>()};
    add("recall", {"recall", "{valid}", "--alone", "--context", number("recall", "context"), "--distances",
                   fmt::format("{}", fmt::join(list, ",")), "--passage", number("recall", "passage"),
                   "--tokens", number("recall", "tokens")});
  }
  if (measures["decode"] != false)
    add("decode", {"bench", "--contexts", number("decode", "context"), "--windows",
                   number("decode", "windows"), "--prefill-tokens", "512"});
  return commands;
}

/// The attention that `linearize --method … --set …` makes of these.
GridJson linearized_as(const std::string& method, const GridJson& set, int layers) {
  return with_changes(method_attention(method, layers), set);
}

/// One point of a block: a method in a variant.
struct Point {
  Named method, variant;
  GridJson set;
  bool buys = false;     // windows, by --state
  bool has_new = false;  // tensors to train
};

class Reader {
 public:
  Reader(const std::string& where, const ModelConfig& config, const AttentionShape& shape)
      : where_(where), config_(config), shape_(shape) {}

  CompareGrid read(const GridJson& object);

 private:
  void read_block(const GridJson& block, const std::string& where, bool swept);
  std::vector<Named> variants_of(const Fields& fields, bool swept) const;
  void add_points(Point point, const Fields& fields, const GridJson& block);
  void add_cell(const Point& point, const Named& recipe, const std::string& train, uint64_t seed,
                const GridJson& block, const Fields& fields);
  bool learns(const std::vector<AttentionConfig>& layers) const;

  const std::string& where_;
  const ModelConfig& config_;
  const AttentionShape& shape_;
  CompareGrid grid_;
  std::set<std::string> names_;
};

bool Reader::learns(const std::vector<AttentionConfig>& layers) const {
  return std::any_of(layers.begin(), layers.end(), [&](const AttentionConfig& layer) {
    const auto specs = parameter_specs(layer, shape_);
    return std::any_of(specs.begin(), specs.end(), [](const ParameterSpec& spec) { return spec.trained; });
  });
}

/// Words and objects of `variants`, then one for each value of `sweep`.
std::vector<Named> Reader::variants_of(const Fields& fields, bool swept) const {
  std::vector<Named> all;
  const GridJson& sweep = *fields.find("sweep");
  if (!sweep.is_object()) fields.refuse("sweep", "an object of arrays");
  if (!swept) {
    for (const GridJson& entry : list_of(fields, "variants")) {
      if (!entry.is_string() && !entry.is_object()) fields.refuse("variants", "words and objects");
      Named named = read_named(entry, "variant", fields.where() + ": variants");
      if (named.is_word &&
          std::find(kCompareVariants.begin(), kCompareVariants.end(), named.name) == kCompareVariants.end())
        throw Error(fields.where() + ": variants", printable(named.name, 60),
                    one_of(named.name, kCompareVariants));
      all.push_back(std::move(named));
    }
  }
  for (const auto& [key, values] : sweep.items()) {
    if (!values.is_array()) fields.refuse("sweep", "an object of arrays");
    for (const GridJson& value : values) {
      const std::string name = checked_name(fmt::format("{}={}", key, value_text(value)), fields.where());
      all.push_back({.name = name, .what = "", .set = {{key, value}}, .options = {}, .is_word = false});
    }
  }
  return all;
}

void Reader::add_cell(const Point& point, const Named& recipe, const std::string& train, uint64_t seed,
                      const GridJson& block, const Fields& fields) {
  const std::string label = fields.string("label");
  const std::string name =
      fmt::format("{}.{}.{}.{}{}.{}", point.method.name, point.variant.name, recipe.name, train,
                  label.empty() ? "" : "." + checked_name(label, fields.where()), seed);
  const int64_t tokens = tokens_of(fields, "tokens", 1, kMost);
  const int64_t batch = fields.integer("batch", 1, 1000000), context = fields.integer("context", 2, 1 << 20);
  std::vector<std::string> line = {"linearize", "{base}", "--method", point.method.what};
  if (!point.set.empty()) line.emplace_back("--set");
  for (const auto& [key, value] : point.set.items()) line.push_back(key + "=" + value_text(value));
  if (point.buys) line.insert(line.end(), {"--state", fields.string("state")});
  line.insert(line.end(),
              {"--recipe", recipe.what, "--train", train, "--data", "{data}", "--valid", "{valid}",
               "--tokens", fmt::format("{}", tokens), "--batch", fmt::format("{}", batch), "--context",
               fmt::format("{}", context), "--seed", fmt::format("{}", seed)});
  const int64_t evaluations = fields.integer("evaluations", 0, 1000), steps = tokens / (batch * context);
  if (evaluations > 0)
    line.insert(line.end(),
                {"--evaluate-every", fmt::format("{}", std::max<int64_t>(1, steps / evaluations))});
  GridJson options = block["options"];
  options.update(recipe.options);
  for (const auto& [option, value] : options.items()) {
    const std::string dashed = "--" + option;
    if (option.starts_with("lora-") && train != "lora") continue;
    if (option.starts_with("transfer-") && (recipe.what != "transfer" || !point.has_new)) continue;
    if (std::find(line.begin(), line.end(), dashed) != line.end() || option == "json" || option == "out" ||
        option == "resume" || option == "device" || option == "threads")
      throw Error(fields.where() + ": options", printable(option, 60),
                  "an option that the grid does not set");
    line.insert(line.end(), {dashed, value_text(value)});
  }
  line.insert(line.end(), {"-o", "{cell}/model", "--json", "{cell}/training.json"});
  const bool is_sidecar = train == "new" || (train == "lora" && recipe.what == "transfer");
  Cell cell{.name = name,
            .about = {{"method", point.method.name},
                      {"variant", point.variant.name},
                      {"set", point.set},
                      {"recipe", recipe.name},
                      {"train", train},
                      {"label", label},
                      {"seed", seed},
                      {"tokens", tokens}},
            .commands = {{"model", line}}};
  for (CellCommand& command : measuring(grid_.measures, "{cell}/model", is_sidecar))
    cell.commands.push_back(std::move(command));
  if (!names_.insert(name).second)
    throw Error(fields.where(), fmt::format("a second cell \"{}\"", name),
                "a \"label\" to tell blocks apart");
  grid_.cells.push_back(std::move(cell));
}

/// The cells of a method in a variant: recipes × what is trained × seeds.
void Reader::add_points(Point point, const Fields& fields, const GridJson& block) {
  const std::string place = fmt::format("{}: {} {}", fields.where(), point.method.name, point.variant.name);
  const std::vector<AttentionConfig> layers = attention_over(
      config_, linearized_as(point.method.what, point.set, static_cast<int>(config_.layers)), place);
  check_heads(layers.front(), shape_.kv_heads, place);
  point.has_new = learns(layers);
  const bool is_exact =
      std::all_of(layers.begin(), layers.end(), [](const AttentionConfig& layer) { return layer.grows(); });
  for (const GridJson& entry : list_of(fields, "recipes")) {
    const Named recipe = read_named(entry, "recipe", fields.where() + ": recipes");
    if (recipe.what != "finetune" && recipe.what != "transfer")
      throw Error(fields.where() + ": recipes", printable(recipe.what, 60), "transfer or finetune");
    for (const GridJson& what : list_of(fields, "train")) {
      constexpr std::array<std::string_view, 4> kTrain{"new", "lora", "attention", "all"};
      const std::string train = value_text(what);
      if (std::find(kTrain.begin(), kTrain.end(), train) == kTrain.end())
        throw Error(fields.where() + ": train", printable(train, 60), "new, lora, attention or all");
      const char* why = train == "new" && !point.has_new        ? "has no new tensors to train"
                        : is_exact && recipe.what == "transfer" ? "the base's outputs are its own already"
                                                                : nullptr;
      for (const int64_t seed : fields.integers("seeds", 0, std::numeric_limits<int64_t>::max())) {
        if (why == nullptr) {
          add_cell(point, recipe, train, static_cast<uint64_t>(seed), block, fields);
        } else {
          grid_.left_out.emplace_back(
              fmt::format("{}.{}.{}.{}.{}", point.method.name, point.variant.name, recipe.name, train, seed),
              why);
        }
      }
    }
  }
}

/// `swept`: a sweep stands in place of the variants.
void Reader::read_block(const GridJson& block, const std::string& where, bool swept) {
  const Fields fields(block, where);
  for (const char* key : {"set", "options"})
    if (!block[key].is_object()) fields.refuse(key, "an object");
  const std::vector<Named> variants = variants_of(fields, swept);
  for (const GridJson& entry : list_of(fields, "methods")) {
    if (!entry.is_string() && !entry.is_object()) fields.refuse("methods", "words and objects");
    Named method = read_named(entry, "method", where + ": methods");
    const Method& row = find_method(method.what, where + ": methods");
    for (const Named& variant : variants) {
      Point point{.method = method, .variant = variant, .set = {}, .buys = variant.what == "budgets"};
      if (variant.is_word) {
        Augmented made = augmented(row, variant.name, block);
        if (!made.left_out.empty()) {
          grid_.left_out.emplace_back(method.name + "." + variant.name, made.left_out);
          continue;
        }
        point.set = std::move(made.set);
      } else {
        point.set = row.grows ? GridJson::object() : GridJson{{"group", block["group"]}};
      }
      point.set.update(block["set"]);
      point.set.update(method.set);
      point.set.update(variant.set);
      add_points(std::move(point), fields, block);
    }
  }
}

CompareGrid Reader::read(const GridJson& object) {
  GridJson all = with_defaults(object, default_grid(), where_, "blocks");
  grid_.measures = checked_measures(all["measures"], default_grid()["measures"], where_ + ": measures");
  grid_.cells.push_back({.name = "base",
                         .about = {{"method", "base"}},
                         .commands = measuring(grid_.measures, "{base}", false)});
  const GridJson blocks = all.value("blocks", GridJson::array({GridJson::object()}));
  if (!blocks.is_array()) throw Error(where_, "\"blocks\" is no array", "an array of objects");
  all.erase("blocks");
  all.erase("measures");
  const bool is_one = !object.contains("blocks");
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string where = is_one ? where_ : fmt::format("{}: blocks[{}]", where_, i);
    const GridJson& given = is_one ? object : blocks[i];
    const GridJson block = with_defaults(blocks[i], all, where);
    read_block(block, where, given.contains("sweep") && !given.contains("variants"));
  }
  return std::move(grid_);
}

}  // namespace

CompareGrid read_grid(const GridJson& object, const std::string& where, const ModelConfig& config,
                      const AttentionShape& shape) {
  return Reader(where, config, shape).read(object);
}

Cell window_cell(const GridJson& attention, const GridJson& measures) {
  const std::string object = attention.dump();
  const std::string hash = hash_of(std::as_bytes(std::span(object.data(), object.size())));
  Cell cell{
      .name = "window." + hash.substr(hash.size() - 8),
      .about = {{"method", "window"}},
      .commands = {
          {"model", {"linearize", "{base}", "--attention", object, "--tokens", "0", "-o", "{cell}/model"}}}};
  for (CellCommand& command : measuring(measures, "{cell}/model", true))
    cell.commands.push_back(std::move(command));
  return cell;
}

std::string shell_line(const std::vector<std::string>& arguments) {
  std::string line = "linnet";
  for (const std::string& argument : arguments) {
    const bool is_plain = !argument.empty() && std::all_of(argument.begin(), argument.end(), [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
             std::string_view("+=._-,%/:@").find(c) != std::string_view::npos;
    });
    line += ' ';
    if (is_plain) {
      line += argument;
      continue;
    }
    line += '\'';
    for (const char c : argument) c == '\'' ? line += "'\\''" : line += c;
    line += '\'';
  }
  return line;
}

}  // namespace linnet::cli
