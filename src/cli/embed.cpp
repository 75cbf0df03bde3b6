// linnet embed: one vector a text, as JSON lines or a NumPy file.
#include "evaluate/embed.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <cstring>
#include <optional>

#include "base/count.h"
#include "base/error.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "model/encoder.h"
#include "text/corpus.h"
#include "text/tokenizer.h"

namespace linnet::cli {
namespace {

constexpr size_t kTextsAtOnce = 256;

struct EmbedCommandOptions : SharedOptions {
  std::vector<std::string> texts_given;
  std::vector<std::filesystem::path> files;
  std::string pooling, out;
  std::optional<bool> normalize;
  std::optional<int64_t> longest;
  bool truncate = false, alone = false;
};

/// Texts to embed, some hundred at a time.
class Texts {
 public:
  using Take = std::function<void(std::span<const std::string> texts, std::span<const std::string> names)>;
  explicit Texts(Take take) : take_(std::move(take)) {}

  void add(std::string text, std::string name) {
    texts_.push_back(std::move(text));
    ++count_;
    names_.push_back(std::move(name));
    if (texts_.size() == kTextsAtOnce) flush();
  }
  void flush() {
    if (!texts_.empty()) take_(texts_, names_);
    texts_.clear();
    names_.clear();
  }
  int64_t count() const { return count_; }

 private:
  Take take_;
  std::vector<std::string> texts_, names_;
  int64_t count_ = 0;
};

/// A line of a text file is a text, and so is a record of a .jsonl or .json.
void add_file(const std::filesystem::path& file, const CorpusOptions& options, Texts& texts) {
  if (has_records(file, options)) {
    return for_each_document(file, options, [&](Document&& document) {
      texts.add(std::move(document.text), std::move(document.id));
      return true;
    });
  }
  for_each_text_line(file, [&](std::string_view line, size_t number) {
    texts.add(std::string(line), fmt::format("{}:{}", file.string(), number));
    return true;
  });
}

/// JSON lines on standard output, or into a file: of .npy [texts, size] float32.
class Vectors {
 public:
  Vectors(const std::string& file, int64_t size) : size_(size) {
    if (!file.empty()) file_.emplace(file);
    is_array_ = file.ends_with(".npy");
  }

  void add(std::span<const float> vectors, std::span<const int64_t> tokens) {
    if (is_array_) numbers_.insert(numbers_.end(), vectors.begin(), vectors.end());
    std::string lines;
    for (size_t i = 0; i < tokens.size(); ++i, ++count_) {
      const auto own = vectors.subspan(i * static_cast<size_t>(size_), static_cast<size_t>(size_));
      for (const float number : own) {
        if (!std::isfinite(number))
          throw Error(fmt::format("text {}", count_), "its vector has a number that is not finite",
                      "finite weights (linnet inspect)", ExitStatus::kFailed);
      }
      if (!is_array_)
        lines += fmt::format("{{\"index\":{},\"tokens\":{},\"embedding\":[{}]}}\n", count_, tokens[i],
                             fmt::join(own, ","));
    }
    if (is_array_) return;
    if (file_) {
      file_->write(lines);
    } else {
      print(lines);
    }
  }

  void finish() {
    if (is_array_) write_array();
    if (file_) file_->commit();
  }

 private:
  /// NumPy's format 1.0: the header padded so that the numbers begin at a multiple of 64 bytes.
  void write_array() {
    std::string header = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}",
                                     numbers_.size() / static_cast<size_t>(size_), size_);
    constexpr size_t kPreamble = 10, kUnit = 64;
    const size_t length = (kPreamble + header.size() + 1 + kUnit - 1) / kUnit * kUnit - kPreamble;
    header.resize(length - 1, ' ');
    header += '\n';
    file_->write(std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(length & 0xFF) +
                 static_cast<char>(length >> 8) + header);
    file_->write(std::as_bytes(std::span(numbers_)));
  }

  int64_t size_;
  std::optional<AtomicFile> file_;
  bool is_array_ = false;
  std::vector<float> numbers_;
  int64_t count_ = 0;
};

EmbedOptions options_of(const EmbedCommandOptions& options, const Model& model) {
  // What the folder says is for its own pooling: with another none of it counts.
  const SentenceConfig said =
      options.pooling.empty() ? SentenceConfig::read(model.tokenizer_folder()) : SentenceConfig();
  if (options.pooling.empty() && !said.pooling) {
    throw Error("--pooling",
                fmt::format("not given, and {} does not say how a text's rows become one",
                            model.tokenizer_folder().string()),
                "mean, first or last");
  }
  EmbedOptions how = {.pooling = said.pooling ? *said.pooling : parse_pooling(options.pooling),
                      .normalize = options.normalize.value_or(said.normalized),
                      .truncate = options.truncate,
                      .longest = options.longest.value_or(said.longest.value_or(INT64_MAX))};
  if (options.alone) how.tokens_at_once = 1;
  return how;
}

ExitStatus embed(const EmbedCommandOptions& options) {
  if (!options.texts_given.empty() && !options.files.empty())
    throw Error("--file", "given together with texts", "one of the two");
  check_field(options, options.files);
  if (!options.pooling.empty()) parse_pooling(options.pooling);
  const auto model = open_model(options);
  const EmbedOptions how = options_of(options, *model);
  const Tokenizer tokenizer = Tokenizer::load(model->tokenizer_folder());
  ThreadPool pool(options.threads);
  const auto encoder =
      Encoder::make(model, {.compute = compute_type(options.dtype), .weights = weight_type(options)}, pool);
  Embedder embedder(*encoder, *model, tokenizer, how, pool);
  Vectors vectors(options.out, embedder.size());
  Texts texts([&](std::span<const std::string> some, std::span<const std::string> names) {
    const std::vector<float> found = embedder.embed(some, names);
    vectors.add(found, embedder.tokens());
  });
  for (const std::string& text : options.texts_given)
    texts.add(text, fmt::format("\"{}\"", printable(text, 40)));
  for (const std::filesystem::path& file : options.files) add_file(file, options.texts, texts);
  if (options.texts_given.empty() && options.files.empty()) add_file("-", options.texts, texts);
  texts.flush();
  if (texts.count() == 0)
    throw Error(options.files.empty() ? "standard input" : options.files.front().string(), "no text",
                "one a line");
  vectors.finish();
  return ExitStatus::kDone;
}

}  // namespace

void describe_embed(CLI::App& app, Work& work) {
  const auto options = std::make_shared<EmbedCommandOptions>();
  add_model(app, *options);
  text_itself(app.add_option("TEXT", options->texts_given,
                             "Texts (default: the lines of --file, else of standard input)"))
      ->type_name("");
  app.add_option("--file", options->files,
                 "Texts: each line of a .txt or .md, each record of a .jsonl or .json, plain or packed (.xz, "
                 ".gz, .zst); - is standard input")
      ->type_name("FILE");
  add_field(app, *options);
  app.add_option("--pooling", options->pooling,
                 "A text's vector of its tokens' rows: mean, first or last (default: as the folder's "
                 "modules.json and 1_Pooling say)");
  CLI::Option* const on = app.add_flag_callback(
      "--normalize", [options] { options->normalize = true; },
      "Vectors of length 1 (default: as the folder's modules.json says)");
  app.add_flag_callback(
         "--no-normalize", [options] { options->normalize = false; }, "Vectors as they are")
      ->excludes(on);
  app.add_option("--max-length", options->longest,
                 "Most tokens of a text, special ones included (default: the folder's "
                 "sentence_bert_config.json, else the model's positions)")
      ->transform(count(1))
      ->type_name("TOKENS");
  app.add_flag("--truncate", options->truncate, "Leave out what is past that; else such a text is an error");
  app.add_flag(
      "--alone", options->alone,
      "Read each text by itself, which takes longer: its vector is the same to the bit whatever other "
      "texts there are");
  output_file(app.add_option("--output,-o", options->out,
                             "Write to this file: .npy is an array [texts, size] of float32, another name "
                             "JSON lines (default: JSON lines on standard output)"))
      ->type_name("FILE");
  add_dtype(app, *options);
  add_weights(app, *options);
  add_threads(app, *options);
  add_instructions(app);
  app.callback([options, &work] { work = [options] { return embed(*options); }; });
}

}  // namespace linnet::cli
