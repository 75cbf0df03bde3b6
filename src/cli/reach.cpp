// linnet reach: which layers of a softmax model look far, and so should keep an exact window.
#include "evaluate/reach.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "text/corpus.h"

namespace linnet::cli {
namespace {

constexpr double kShare = 0.75;  // of the loss, that the layers to keep exact should hold

struct ReachCommandOptions : SharedOptions {
  std::vector<std::filesystem::path> files;
  ReachOptions how;
  int64_t tokens = 32768;
};

/// The beginning of `text` that holds about `tokens` of its `whole` tokens, cut where a code point begins.
std::string beginning(const std::string& text, int64_t tokens, int64_t whole) {
  size_t end = static_cast<size_t>(static_cast<double>(text.size()) * static_cast<double>(tokens) /
                                   static_cast<double>(whole));
  while (end > 0 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

struct Documents {
  std::vector<std::string> texts;
  int64_t tokens = 0;
};

/// About options.tokens of each file.
Documents encoded_documents(const ReachCommandOptions& options, const Tokenizer& tokenizer) {
  Documents documents;
  for (const std::filesystem::path& file : options.files) {
    int64_t left = options.tokens;
    for_each_document(file, options.texts, [&](Document&& document) {
      const auto count = static_cast<int64_t>(tokenizer.encode(document.text, /*special=*/false).size());
      if (count == 0) return true;
      documents.texts.push_back(count <= left ? document.text : beginning(document.text, left, count));
      documents.tokens += std::min(count, left);
      left -= count;
      return left > 0;
    });
  }
  return documents;
}

nlohmann::ordered_json row_of(const PerplexityTotals& totals, const PerplexityTotals& whole) {
  const auto mean = [](double nats, int64_t count) {
    return count > 0 ? nlohmann::ordered_json(nats / static_cast<double>(count)) : nlohmann::ordered_json();
  };
  return {{"bits_per_byte", totals.bits_per_byte()},
          {"loss", totals.bits_per_byte() / whole.bits_per_byte() - 1.0},
          {"far_pair_nats", mean(totals.far_nats, totals.far_tokens)},
          {"other_nats", mean(totals.other_nats, totals.other_tokens)}};
}

std::string line_of(std::string_view name, const nlohmann::ordered_json& row, double most) {
  const double loss = row["loss"].get<double>();
  const auto number = [&](const char* key) {
    return row[key].is_null() ? std::string("none") : fmt::format("{:.3f}", row[key].get<double>());
  };
  const auto blocks = most > 0 ? static_cast<size_t>(24.0 * std::max(0.0, loss) / most + 0.5) : 0;
  std::string line = fmt::format("{:<8}{:>10.4f}{:>10}{:>10}{:>10}  {}", name,
                                 row["bits_per_byte"].get<double>(), fmt::format("{:+.3f}%", 100.0 * loss),
                                 number("far_pair_nats"), number("other_nats"), std::string(blocks, '#'));
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

ExitStatus reach(const ReachCommandOptions& options) {
  if (options.how.near >= options.how.context) {
    throw Error("--near", fmt::format("{} tokens", options.how.near),
                fmt::format("fewer than the {} of --context", options.how.context));
  }
  check_field(options, options.files);
  const JsonResult json(options);
  check_device(options);
  ReachOptions how = options.how;
  how.compute = compute_type(options.dtype);
  const auto model = open_model(options);
  const Tokenizer tokenizer = Tokenizer::load(model->tokenizer_folder());
  const Documents documents = encoded_documents(options, tokenizer);
  if (documents.tokens <= how.near)
    throw Error("reach", fmt::format("{} tokens of text", documents.tokens), "more than --near");

  ThreadPool pool(options.threads);
  const size_t layers = model->attention().size();
  Progress progress("reach", "tokens",
                    static_cast<double>(documents.tokens) * static_cast<double>(layers + 1));
  int64_t read = 0;
  const Reach result = measure_reach(model, tokenizer, documents.texts, how, pool, [&](int64_t more) {
    progress.update(static_cast<double>(read += more));
    return !interrupted();
  });
  progress.finish();
  if (result.layers.size() < layers) {
    note("interrupted; nothing written");
    return ExitStatus::kInterrupted;
  }

  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  double most = 0;
  for (const PerplexityTotals& totals : result.layers) {
    rows.push_back(row_of(totals, result.whole));
    most = std::max(most, rows.back()["loss"].get<double>());
  }
  const std::vector<int> far = far_layers(result, kShare);
  const auto whole = row_of(result.whole, result.whole);
  json.write({{"context", how.context},
              {"near", how.near},
              {"tokens", result.whole.tokens},
              {"whole", whole},
              {"layers", rows},
              {"far_layers", far}});
  std::string table =
      fmt::format("{:<8}{:>10}{:>10}{:>10}{:>10}\n", "layer", "bits/byte", "loss", "far pairs", "others");
  table += line_of("none", whole, 0);
  for (size_t layer = 0; layer < layers; ++layer)
    table += line_of(fmt::format("{}", layer), rows[layer], most);
  table += fmt::format(
      "\nEach row: that layer sees its last {} tokens alone, the others up to {}. The fewest layers that "
      "hold\n"
      "{:.0f}% of the loss: linnet linearize {} --exact-layers {}\n",
      how.near, how.context, 100 * kShare, options.model, fmt::join(far, ","));
  print(table);
  return ExitStatus::kDone;
}

}  // namespace

void describe_reach(CLI::App& app, Work& work) {
  const auto options = std::make_shared<ReachCommandOptions>();
  add_evaluation(app, *options);
  add_texts(app, "FILE", options->files, "Texts")->required();
  add_field(app, *options);
  app.add_option("--near", options->how.near, "Last tokens that the limited layer sees")
      ->transform(count(1, 1 << 20))
      ->type_name("TOKENS");
  app.add_option("--context", options->how.context, "Tokens that are read at once, from the empty state")
      ->transform(count(2, 1 << 20))
      ->type_name("TOKENS");
  app.add_option("--tokens", options->tokens, "Tokens to score of each FILE, about")
      ->transform(count(1))
      ->type_name("TOKENS");
  app.callback([&work, options] { work = [options] { return reach(*options); }; });
}

}  // namespace linnet::cli
