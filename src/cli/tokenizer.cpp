// linnet tokenizer train|encode|decode.
#include <fmt/format.h>

#include <charconv>
#include <filesystem>

#include "base/count.h"
#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/timing.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "text/corpus.h"
#include "text/tokenizer.h"
#include "text/train_bpe.h"

namespace linnet::cli {
namespace {

using Paths = std::vector<std::filesystem::path>;

// ---- train

struct TrainOptions : SharedOptions {
  Paths files;
  std::string out;
  int32_t vocabulary = 8192;
  std::vector<std::string> special = {"<s>"};
  uint64_t sample_bytes = 0;
};

/// Documents of the files go to `words`, some MB at a time; at most `sample_bytes` (0: all), shared equally
/// by the files, what one leaves going to the next. Returns the bytes read.
uint64_t count_words(const TrainOptions& options, ThreadPool& pool, WordCounts& words) {
  constexpr size_t kBatchBytes = 16 << 20;
  Progress progress("count words", "B", static_cast<double>(options.sample_bytes));
  std::vector<std::string> batch;
  size_t batch_bytes = 0;
  uint64_t read = 0;
  const auto count = [&] {
    words.add(batch, pool);
    batch.clear();
    batch_bytes = 0;
    progress.update(static_cast<double>(read));
  };
  for (size_t i = 0; i < options.files.size(); ++i) {
    const uint64_t budget = options.sample_bytes * (i + 1) / options.files.size();
    for_each_document(options.files[i], options.texts, [&](Document&& document) {
      if (options.sample_bytes > 0 && read >= budget) return false;
      read += document.text.size();
      batch_bytes += document.text.size();
      batch.push_back(std::move(document.text));
      if (batch_bytes >= kBatchBytes) count();
      return true;
    });
  }
  count();
  return read;
}

ExitStatus train(const TrainOptions& options) {
  check_field(options, options.files);
  const Stopwatch watch;
  const JsonResult result(options);
  AtomicFolder folder(options.out, false);
  ThreadPool pool(options.threads);
  WordCounts words;
  const uint64_t bytes = count_words(options, pool, words);
  if (bytes == 0) throw Error("tokenizer train", "no text in the files", "documents");
  const int32_t merges = options.vocabulary - 256 - static_cast<int32_t>(options.special.size());
  TrainedBpe trained;
  {
    Progress progress("merge pairs", "merges", merges);
    trained = train_bpe(words, options.vocabulary, options.special, [&](size_t done) {
      stop_if_interrupted();
      progress.update(static_cast<double>(done));
    });
  }
  const auto vocabulary = static_cast<int32_t>(trained.tokens.size());
  if (vocabulary < options.vocabulary) {
    warn(fmt::format("the text gives {} only, not the {} asked for: no pair stands twice any more",
                     counted(vocabulary, "token"), options.vocabulary));
  }
  write_file(folder.path() / "tokenizer.json", tokenizer_json(trained, options.special));
  write_file(folder.path() / "tokenizer_config.json", tokenizer_config_json(options.special));
  folder.commit();
  result.write({{"vocabulary", vocabulary},
                {"merges", trained.merges.size()},
                {"bytes", bytes},
                {"seconds", watch.seconds()}});
  note(fmt::format("{}: {} from {} of text in {}", options.out, counted(vocabulary, "token"),
                   counted(bytes, "byte"), short_time(watch.seconds())));
  return ExitStatus::kDone;
}

void describe_train(CLI::App& app, Work& work) {
  auto options = std::make_shared<TrainOptions>();
  add_texts(app, "FILE", options->files, "Texts")->required();
  add_field(app, *options);
  output_folder(
      app.add_option("-o,--out", options->out, "New folder for tokenizer.json and tokenizer_config.json"))
      ->required();
  app.add_option("--vocabulary", options->vocabulary, "Tokens in all: special ones, 256 bytes, merges")
      ->transform(count(1, 1 << 24))
      ->type_name("TOKENS");
  app.add_option("--special", options->special,
                 "A special token, ids from 0; may be repeated: the first is BOS and begins every text, the "
                 "last is EOS")
      ->type_name("TOKEN")
      ->allow_extra_args(false);
  app.add_option("--sample-bytes", options->sample_bytes,
                 "Bytes of text to learn from, an equal share of each file's beginning; 0 is all")
      ->transform(count(0))
      ->type_name("BYTES");
  add_threads(app, *options);
  add_json(app, *options);
  app.callback([options, &work] { work = [options] { return train(*options); }; });
}

// ---- encode and decode

struct CodeOptions : SharedOptions {
  std::string text, file = "-";  // of ids
  Paths files = {"-"};           // of text
  bool special = false;
  const CLI::Option* text_given = nullptr;
};

/// MODEL's tokenizer: a folder or file that has one, or a sidecar, whose base has it.
Tokenizer open_tokenizer(const CodeOptions& options) {
  const std::filesystem::path path = options.model;
  if (std::filesystem::is_directory(path) && !std::filesystem::exists(path / "tokenizer.json") &&
      !std::filesystem::exists(path / "tokenizer.model") && std::filesystem::exists(path / "config.json")) {
    Model::OpenOptions how = open_options(options);
    how.check_numbers = how.check_hash = false;
    return Tokenizer::load(Model::open(path, how)->tokenizer_folder());
  }
  if (!options.base.empty())
    throw Error("--base", "given for a folder or file with its own tokenizer",
                "a sidecar or a LoRA without one");
  return Tokenizer::load(path);
}

std::vector<Document> documents_of(const CodeOptions& options) {
  if (options.text_given->count() > 0) return {{"--text", "--text", options.text}};
  return read_documents(options.files, options.texts);
}

ExitStatus encode(const CodeOptions& options) {
  check_field(options, options.text_given->count() > 0 ? Paths() : options.files);
  const JsonResult result(options);
  const Tokenizer tokenizer = open_tokenizer(options);
  const std::vector<Document> documents = documents_of(options);
  std::vector<std::string> texts;
  size_t bytes = 0, tokens = 0;
  for (const Document& document : documents) {
    texts.push_back(document.text);
    bytes += document.text.size();
  }
  ThreadPool pool(options.threads);
  const Stopwatch watch;
  const auto ids = tokenizer.encode_documents(texts, pool, options.special);
  const double taken = watch.seconds();
  auto list = nlohmann::ordered_json::array();
  for (size_t i = 0; i < documents.size(); ++i) {
    print(fmt::format("{}\n", fmt::join(ids[i], " ")));
    tokens += ids[i].size();
    if (!options.json.empty()) list.push_back({{"id", documents[i].id}, {"ids", ids[i]}});
  }
  result.write({{"tokens", tokens}, {"bytes", bytes}, {"seconds", taken}, {"documents", list}});
  return ExitStatus::kDone;
}

/// Integers between spaces, commas, brackets or line ends.
std::vector<int32_t> parse_ids(std::string_view text, std::string_view where) {
  constexpr std::string_view kBetween = " \t\r\n,[]";
  std::vector<int32_t> ids;
  for (size_t begin = text.find_first_not_of(kBetween); begin < text.size();) {
    const size_t end = std::min(text.find_first_of(kBetween, begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    int32_t id = 0;
    const auto [rest, code] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (code != std::errc() || rest != word.data() + word.size()) {
      throw Error(where, fmt::format("\"{}\"", printable(word, 40)), "token ids");
    }
    ids.push_back(id);
    begin = text.find_first_not_of(kBetween, end);
  }
  return ids;
}

ExitStatus decode(const CodeOptions& options) {
  const JsonResult result(options);
  const Tokenizer tokenizer = open_tokenizer(options);
  std::string where = "--ids", text = options.text;
  if (options.text_given->count() == 0) {
    where = options.file == "-" ? "standard input" : options.file;
    text = options.file == "-" ? read_whole("-") : std::string(MappedFile(options.file).text());
  }
  const std::vector<int32_t> ids = parse_ids(text, where);
  const std::string decoded = tokenizer.decode(ids, !options.special);
  print(decoded);
  result.write({{"text", decoded}, {"tokens", ids.size()}});
  return ExitStatus::kDone;
}

void describe_encode(CLI::App& app, Work& work) {
  auto options = std::make_shared<CodeOptions>();
  add_model(app, *options);
  CLI::Option* file = add_texts(app, "FILE", options->files, "Text")->expected(1);
  options->text_given = app.add_option("--text", options->text, "The text itself")->excludes(file);
  app.add_flag("--special", options->special,
               "Add the special tokens that models expect around a text (BOS, …)");
  add_field(app, *options);
  add_threads(app, *options);
  add_json(app, *options);
  app.callback([options, &work] { work = [options] { return encode(*options); }; });
}

void describe_decode(CLI::App& app, Work& work) {
  auto options = std::make_shared<CodeOptions>();
  add_model(app, *options);
  CLI::Option* file = app.add_option("FILE", options->file, "Ids in decimals; -: standard input");
  options->text_given =
      app.add_option("--ids", options->text, "The ids themselves, in one argument")->excludes(file);
  app.add_flag("--special", options->special, "Keep special tokens in the text");
  add_json(app, *options);
  app.callback([options, &work] { work = [options] { return decode(*options); }; });
}

}  // namespace

void describe_tokenizer(CLI::App& app, Work& work) {
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* summary, Describe describe) {
    CLI::App* sub = app.add_subcommand(name, summary)->group("Commands");
    sub->option_defaults()->always_capture_default();
    describe(*sub, work);
  };
  add("train", "a byte-level BPE from text, in Hugging Face's format", &describe_train);
  add("encode", "text to ids, a line a document", &describe_encode);
  add("decode", "ids to text", &describe_decode);
}

}  // namespace linnet::cli
