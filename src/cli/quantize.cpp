// A model folder with its matrices in integers, what that costs each layer, and what it costs a text.
#include "model/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "evaluate/masked_meter.h"
#include "evaluate/perplexity.h"
#include "evaluate/span_meter.h"
#include "model/draft_heads.h"
#include "model/write_model.h"
#include "text/corpus.h"

namespace linnet::cli {
namespace {

using Json = nlohmann::ordered_json;

struct QuantizeCommandOptions : SharedOptions {
  std::string out, group = "32";
  QuantizeOptions how;
  std::vector<std::filesystem::path> valid, calibrate;
  int64_t calibrate_tokens = 16384;
  std::optional<int64_t> window;
  int64_t shard_bytes = kShardBytes;
};

constexpr int64_t kWindow = 1024;  // of decoders, unless told

/// How well a model predicts texts, in the number that `linnet perplexity` gives of its kind.
struct Score {
  const char* key;    // in the result
  const char* words;  // for people
  double number;
};

/// What matrices that belong together lost.
struct Loss {
  double error = 0, parameters = 0;  // sum of relative errors squared × parameters
  const QuantizedTensor* worst = nullptr;

  void add(const QuantizedTensor& tensor) {
    error += tensor.relative_error * tensor.relative_error * static_cast<double>(tensor.parameters);
    parameters += static_cast<double>(tensor.parameters);
    if (worst == nullptr || tensor.relative_error > worst->relative_error) worst = &tensor;
  }
  double relative_error() const { return std::sqrt(error / parameters); }
};

/// "12" of model.layers.12.self_attn.q_proj; "" of what is in no layer.
std::string layer_of(const std::string& name) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  for (size_t at = name.find('.'); at != name.npos; at = name.find('.', at + 1)) {
    const size_t begin = at + 1,
                 end = std::find_if_not(name.begin() + begin, name.end(), digit) - name.begin();
    if (end > begin && end < name.size() && name[end] == '.') return name.substr(begin, end - begin);
  }
  return "";
}

/// A line for each layer, and for each matrix outside of them.
std::string table_of(const std::vector<QuantizedTensor>& tensors) {
  std::map<std::pair<int, std::string>, Loss> rows;
  for (const QuantizedTensor& one : tensors) {
    const std::string layer = layer_of(one.name);
    rows[layer.empty() ? std::pair(-1, one.name) : std::pair(std::stoi(layer), std::string())].add(one);
  }
  std::string table = fmt::format("{:<28} {:>10}  {}\n", "relative error of", "", "the worst");
  for (const auto& [row, loss] : rows) {
    table += fmt::format("{:<28} {:>10.5f}", row.first < 0 ? row.second : fmt::format("layer {}", row.first),
                         loss.relative_error());
    if (row.first >= 0) table += fmt::format("  {:.5f} {}", loss.worst->relative_error, loss.worst->name);
    table += '\n';
  }
  return table;
}

/// What the layers' products read of the texts' first tokens, in windows; nothing where Ctrl-C came.
std::optional<InputMoments> moments_of(const QuantizeCommandOptions& options) {
  InputMoments inputs;
  const Runtime runtime = open_runtime(options, {.inputs = &inputs});
  const Tokenizer tokenizer = Tokenizer::load(runtime.model->tokenizer_folder());
  const int32_t first = first_input(*runtime.model, tokenizer);
  const auto wanted = [&](int64_t read) { return read < options.calibrate_tokens && !interrupted(); };
  Progress progress("calibrate", "tokens", static_cast<double>(options.calibrate_tokens));
  int64_t read = 0;
  for (const std::filesystem::path& file : options.calibrate) {
    for_each_document(file, options.texts, [&](Document&& document) {
      const std::vector<int32_t> ids = tokenizer.encode(document.text);
      for (int64_t at = 0; at < std::ssize(ids) && wanted(read);) {
        const int64_t end = std::min(at + options.window.value_or(kWindow) - 1, std::ssize(ids));
        std::vector<int32_t> window = {first};
        window.insert(window.end(), ids.begin() + at, ids.begin() + end);
        runtime.decoder->reset(0);
        runtime.decoder->prefill(0, window, window.size(), {});
        progress.update(static_cast<double>(read += end - at));
        at = end;
      }
      return wanted(read);
    });
    if (!wanted(read)) break;
  }
  progress.finish();
  if (interrupted()) return std::nullopt;
  if (read == 0) throw Error("--calibrate", "no token to read", "documents that have tokens");
  return inputs;
}

/// Calls add(document, where, go_on) on the texts; false where Ctrl-C came.
template <class Add>
bool read_texts(const QuantizeCommandOptions& options, const Add& add) {
  Progress progress("perplexity", "tokens", 0);
  int64_t read = 0;
  const auto go_on = [&](int64_t more) {
    progress.update(static_cast<double>(read += more));
    return !interrupted();
  };
  for (const std::filesystem::path& file : options.valid) {
    for_each_document(file, options.texts, [&](Document&& document) {
      return add(document.text, fmt::format("{} ({})", file.string(), document.id), go_on);
    });
  }
  progress.finish();
  return !interrupted();
}

void require_tokens(int64_t scored) {
  if (scored == 0) throw Error("--valid", "no token to score", "documents that have tokens to score");
}

/// Through a meter of losses, a MaskedMeter or a SpanMeter.
template <class Meter>
std::optional<Score> losses_of(const QuantizeCommandOptions& options, Meter meter, Score kind) {
  if (!read_texts(options,
                  [&](const auto& text, const auto&, const auto& go_on) { return meter.add(text, go_on); }))
    return std::nullopt;
  require_tokens(meter.totals().tokens);
  kind.number = meter.totals().nats_a_token();
  return kind;
}

/// What the texts cost a folder's model; nothing where Ctrl-C came.
std::optional<Score> score_of(const QuantizeCommandOptions& options, const std::string& folder) {
  SharedOptions shared = options;
  shared.model = folder;
  if (folder == options.out) shared.base.clear();
  const auto model = open_model(shared, Stacks::kTwo);
  const Tokenizer tokenizer = Tokenizer::load(model->tokenizer_folder());
  if (model->family().is_encoder()) {
    ThreadPool pool(options.threads);
    const auto encoder = Encoder::make(model, {.compute = compute_type(options.dtype)}, pool);
    const int64_t window = options.window.value_or(std::min(MaskedText::kWindow, encoder->longest()));
    return losses_of(options, MaskedMeter(*encoder, *model, tokenizer, window, pool),
                     {"masked_nats", "nats per masked token", 0});
  }
  const Runtime runtime = make_runtime(shared, {}, model);
  if (model->encoder())
    return losses_of(options,
                     SpanMeter(*runtime.decoder, *model, tokenizer,
                               options.window.value_or(SpanShape::kWindow), *runtime.pool),
                     {"span_nats", "nats per token of spans", 0});
  PerplexityMeter meter(*runtime.decoder, *model, tokenizer, {.window = options.window.value_or(kWindow)},
                        *runtime.pool);
  if (!read_texts(options, [&](const auto& text, const auto& where, const auto& go_on) {
        return meter.add(text, where, go_on);
      }))
    return std::nullopt;
  require_tokens(meter.totals().tokens);
  return Score{"bits_per_byte", "bits per byte", meter.totals().bits_per_byte()};
}

ExitStatus interrupted_saying(const std::string& what) {
  note("interrupted; " + what);
  return ExitStatus::kInterrupted;
}

void check_usage(const QuantizeCommandOptions& options) {
  std::vector<std::filesystem::path> texts = options.valid;
  texts.insert(texts.end(), options.calibrate.begin(), options.calibrate.end());
  check_field(options, texts);
  if (std::find(options.valid.begin(), options.valid.end(), "-") != options.valid.end())
    throw Error("--valid", "standard input, and it is read before and after", "a file");
  for (auto name = options.how.int8.begin(); name != options.how.int8.end(); ++name)
    if (std::find(options.how.int8.begin(), name, *name) != name)
      throw Error("--int8", printable(*name, 60) + " twice", "each once");
  if (options.how.type == kernels::WeightType::kInt8)
    refuse_given(*options.app, {"--symmetric", "--int8", "--calibrate"}, "given with --weights int8",
                 "--weights int4");
  if (options.calibrate.empty())
    refuse_given(*options.app, {"--calibrate-tokens"}, "given without --calibrate", "texts to read");
  if (texts.empty())
    refuse_given(*options.app, {"--window", "--field", "--dtype"}, "given without --valid or --calibrate",
                 "texts");
}

ExitStatus quantize(QuantizeCommandOptions options) {
  check_new_folder(options.out);
  check_usage(options);
  const JsonResult json(options);
  options.how.group = options.group == "row" ? 0 : std::stoi(options.group);
  const auto model = open_any_model(options, Stacks::kTwo);
  if (model->config().is_classifier())
    refuse_given(*options.app, {"--valid", "--calibrate"}, "given for a classifier, which predicts no text",
                 "none: linnet classify --task scores it before and after");
  if (model->encoder() || model->family().is_encoder())
    refuse_given(*options.app, {"--calibrate"},
                 fmt::format("given for {}, which has an encoder", model->config().model_type),
                 "a model of a decoder alone");
  if (model->is_quantized()) throw Error(options.model, "is quantized already", "the model it was made from");
  const auto heads = heads_beside(*model);  // read before anything is written
  if (!options.calibrate.empty()) {
    const auto inputs = moments_of(options);
    if (!inputs) return interrupted_saying("nothing written");
    options.how.importance = importance_of(*model, *inputs);
  }
  std::optional<Score> before;
  if (!options.valid.empty() && !(before = score_of(options, options.model)))
    return interrupted_saying("nothing written");
  std::optional<Progress> progress;
  options.how.report = [&](double done, double total) {
    if (!progress)
      progress.emplace("quantize", "parameters", total, 0, Progress::Output::standard_error(kPatience));
    progress->update(done);
  };
  ThreadPool pool(options.threads);
  AtomicFolder out(options.out, /*replace=*/false);
  const auto tensors =
      write_quantized(out.path(), *model, options.how, static_cast<size_t>(options.shard_bytes), pool);
  progress.reset();
  if (heads) copy_heads(*heads, *Model::open(out.path()), out.target());
  out.commit();
  print(table_of(tensors));
  Json rows = Json::array();
  Loss all;
  int64_t parameters = 0, bytes = 0;
  for (const QuantizedTensor& one : tensors) {
    rows.push_back({{"name", one.name},
                    {"type", one.type},
                    {"parameters", one.parameters},
                    {"bytes", one.bytes},
                    {"relative_error", one.relative_error}});
    all.add(one);
    parameters += one.parameters, bytes += one.bytes;
  }
  Json result = {{"out", options.out},
                 {"parameters", parameters},
                 {"bytes", bytes},
                 {"relative_error", all.relative_error()},
                 {"tensors", rows}};
  print(fmt::format("{:<28} {:>10.5f}  {:.5f} {}\n", "all", all.relative_error(), all.worst->relative_error,
                    all.worst->name));
  if (before) {
    const auto after = score_of(options, options.out);
    if (!after) return interrupted_saying(fmt::format("wrote {}, which is not scored", options.out));
    result[after->key] = after->number;
    result[std::string(after->key) + "_before"] = before->number;
    print(fmt::format("{} {:.4f}, before {:.4f} ({:+.2f}%)\n", after->words, after->number, before->number,
                      100 * (after->number / before->number - 1)));
  }
  json.write(result);
  note(fmt::format("wrote {}: {} parameters in {:.2f} bits each", options.out, parameters,
                   8.0 * static_cast<double>(bytes) / static_cast<double>(parameters)));
  return ExitStatus::kDone;
}

}  // namespace

void describe_quantize(CLI::App& app, Work& work) {
  auto options = std::make_shared<QuantizeCommandOptions>();
  options->weights = "int8";
  add_model(app, *options);
  output_folder(app.add_option("-o,--out", options->out, "The folder to write; it must not exist yet"))
      ->required();
  app.add_option("--weights", options->weights,
                 "What the layers' matrices become; embedding and vocabulary matrix are int8 under both")
      ->check(one_of_words({"int8", "int4"}));
  app.add_option("--group", options->group,
                 "Numbers of a row that share a scale: 32, 64, 128 or row, all of them")
      ->check(one_of_words({"32", "64", "128", "row"}));
  app.add_flag(
      "--symmetric", options->how.symmetric,
      "Of int4, scales without offsets: half a bit less per number in groups of 32, in a layout that "
      "transformers reads, and further from the model");
  app.add_flag("--keep-embedding", options->how.keep_embedding,
               "Leave embedding and vocabulary matrix as they are");
  comma_list(
      app.add_option("--int8", options->how.int8,
                     "Beside int4, matrices of every layer that become int8, such as down_proj,v_proj"))
      ->type_name("NAMES");
  add_texts(app, "--valid", options->valid,
            "Texts that are predicted before and after, in the number that perplexity gives");
  add_texts(app, "--calibrate", options->calibrate,
            "Texts to see which inputs are large, so that int4 errs where they are small");
  app.add_option("--calibrate-tokens", options->calibrate_tokens, "Tokens of --calibrate that are read")
      ->transform(count(1))
      ->type_name("TOKENS");
  add_field(app, *options);
  app.add_option(
         "--window", options->window,
         fmt::format("Most tokens of --valid and --calibrate that are read at once (default: {}; of T5 and "
                     "of encoders {})",
                     kWindow, MaskedText::kWindow))
      ->transform(count(2))
      ->type_name("TOKENS");
  add_dtype(app, *options);
  add_threads(app, *options);
  add_shard_size(app, options->shard_bytes);
  add_json(app, *options);
  app.callback([options, &work] {
    work = [options] {
      QuantizeCommandOptions now = *options;
      now.how.type = *weight_type(now);
      now.weights = "stored";
      return quantize(now);
    };
  });
}

}  // namespace linnet::cli
