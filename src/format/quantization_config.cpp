#include "format/quantization_config.h"

#include <fmt/format.h>

#include "base/error.h"
#include "format/fields.h"

namespace linnet {
namespace {

using Json = nlohmann::json;

// Where no group has offsets the folder is compressed-tensors' own; that has no floating ones.
constexpr std::string_view kPublished = "compressed-tensors", kOwn = "linnet";
constexpr std::string_view kPacked = "pack-quantized", kInteger = "int-quantized", kMixed = "mixed-precision";

std::string_view format_of(int bits) { return bits == 4 ? kPacked : kInteger; }

void check_group(const Json& group, const std::string& where, bool own) {
  const Fields fields(group, where);
  for (const std::string_view key : {"input_activations", "output_activations"}) {
    if (fields.find(key) != nullptr) fields.refuse(key, "null: weights alone in integers");
  }
  const std::string place = where + ": weights";
  const Json* weights = fields.find("weights");
  if (weights == nullptr) fields.refuse("weights", "an object");
  const Fields of(*weights, place);
  const int64_t bits = of.integer("num_bits", 1, 64);
  if (bits != 4 && bits != 8) of.refuse("num_bits", "4 or 8");
  if (of.string("type") != "int") of.refuse("type", "int");
  if (!of.boolean("symmetric", true) && !own) of.refuse("symmetric", "true (zero points are not read)");
  if (of.boolean("dynamic", false)) of.refuse("dynamic", "false");
  const std::string strategy = of.string("strategy");
  if (strategy != "group" && strategy != "channel") of.refuse("strategy", "group or channel");
  if (of.find("actorder") != nullptr && *of.find("actorder") != "static" && *of.find("actorder") != "weight")
    of.refuse("actorder", "null: columns in their own order");
  const auto format = fields.optional_string("format");
  if (format && *format != format_of(static_cast<int>(bits)))
    fields.refuse("format", fmt::format("{} for {} bits", format_of(static_cast<int>(bits)), bits));
}

}  // namespace

Json quantization_config(const std::vector<QuantizedModules>& modules,
                         const std::vector<std::string>& ignored) {
  Json groups = Json::object();
  std::string_view format = format_of(modules.front().bits), method = kPublished;
  for (const QuantizedModules& one : modules) {
    Json weights = {{"num_bits", one.bits},
                    {"type", "int"},
                    {"symmetric", !one.offsets},
                    {"strategy", one.group == 0 ? "channel" : "group"},
                    {"dynamic", false}};
    if (one.group != 0) weights["group_size"] = one.group;
    groups[fmt::format("group_{}", groups.size())] = {{"targets", one.targets},
                                                      {"weights", std::move(weights)},
                                                      {"input_activations", nullptr},
                                                      {"output_activations", nullptr},
                                                      {"format", format_of(one.bits)}};
    if (format != format_of(one.bits)) format = kMixed;
    if (one.offsets) method = kOwn;
  }
  return {{"quant_method", method},  {"format", format},  {"quantization_status", "compressed"},
          {"config_groups", groups}, {"ignore", ignored}, {"kv_cache_scheme", nullptr}};
}

void check_quantization_config(const Json& object, const std::string& where) {
  const std::string place = where + ": quantization_config";
  const Fields fields(object, place);
  const std::string method = fields.optional_string("quant_method").value_or("");
  if (method != kPublished && method != kOwn)
    fields.refuse("quant_method",
                  fmt::format("{} or {}: other quantized models are not read, the one that it was "
                              "made from is",
                              kPublished, kOwn));
  const std::string format = fields.string("format");
  if (format != kPacked && format != kInteger && format != kMixed)
    fields.refuse("format", fmt::format("{}, {} or {}", kPacked, kInteger, kMixed));
  for (const std::string_view key : {"kv_cache_scheme", "sparsity_config", "transform_config"}) {
    const Json* value = fields.find(key);
    if (value != nullptr && !value->empty()) fields.refuse(key, "null");
  }
  const Json* groups = fields.find("config_groups");
  if (groups == nullptr || !groups->is_object() || groups->empty())
    fields.refuse("config_groups", "an object of groups of modules");
  for (const auto& [name, group] : groups->items())
    check_group(group, fmt::format("{}: {}", place, printable(name, 40)), method == kOwn);
}

}  // namespace linnet
