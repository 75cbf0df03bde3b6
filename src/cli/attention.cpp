// One attention applied to tensors in a file, so that any other implementation can be compared.
#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "cli/attention.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "evaluate/attention_file.h"

namespace linnet::cli {
namespace {

struct AttentionOptions {
  SharedOptions shared;
  std::string file, output, form = "prefill";
  int64_t chunk = 0;
};

template <class T>
void run(const AttentionFile& file, FileForm form, FileType type, const AttentionOptions& options) {
  ThreadPool pool(options.shared.threads);
  const std::vector<T> outputs = apply<T>(file, form, options.chunk, type, pool);
  write_outputs(options.output, file, form, std::span<const T>(outputs));
}

ExitStatus attention(const AttentionOptions& options) {
  const FileForm form = file_form(options.form);
  const FileType type = file_type_named(options.shared.dtype);
  if (options.chunk > 0 && form != FileForm::kPrefill)
    throw Error("--chunk", fmt::format("given with --form {}", options.form), "--form prefill");
  const JsonResult json(options.shared);
  const AttentionFile file = AttentionFile::open(options.file, form);
  if (type == FileType::kFloat64) {
    run<double>(file, form, type, options);
  } else {
    run<float>(file, form, type, options);
  }
  json.write(attention_result(file, options.output, options.form, options.shared.dtype));
  return ExitStatus::kDone;
}

}  // namespace

nlohmann::ordered_json attention_result(const AttentionFile& file, const std::string& output,
                                        const std::string& form, const std::string& dtype) {
  return {{"out", output},
          {"form", form},
          {"dtype", dtype},
          {"attention", nlohmann::json::parse(file.config_text())},
          {"tokens", file.tokens()},
          {"heads", file.shape().heads},
          {"kv_heads", file.shape().kv_heads},
          {"head_size", file.shape().head_size},
          {"value_size", file.shape().value_size}};
}

void describe_attention(CLI::App& app, Work& run) {
  auto options = std::make_shared<AttentionOptions>();
  options->shared.dtype = "float64";
  app.add_option("FILE", options->file,
                 "safetensors file: q, k, v, parameter.*, tree.*, metadata linear_attention")
      ->required();
  output_file(app.add_option("-o,--output", options->output, "File to write: o, or tree.o in form tree"))
      ->required();
  app.add_option(
      "--form", options->form,
      "prefill, decode (token by token), tree (nodes after all tokens) or parallel (the training form)");
  app.add_option("--chunk", options->chunk, "Tokens of a prefill's chunk; 0 is all at once")
      ->transform(count(0));
  app.add_option("--dtype", options->shared.dtype,
                 "Arithmetic: float64, float32, or bfloat16 (inputs rounded, sums in float32)");
  add_threads(app, options->shared);
  add_instructions(app);
  add_json(app, options->shared);
  app.callback([&run, options] { run = [options] { return attention(*options); }; });
}

}  // namespace linnet::cli
