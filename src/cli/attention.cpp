// One attention applied to tensors in a file, so that any other implementation can be compared.
#include <fmt/format.h>

#include "attention/attention_file.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/options.h"

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
  const FileType type = file_type(options.shared.dtype);
  check_writable(options.output);
  if (form == FileForm::kParallel) {
    return start_workshop({"attention", options.file, "-o", options.output, "--form", options.form, "--dtype",
                           options.shared.dtype, "--threads", std::to_string(options.shared.threads)});
  }
  const AttentionFile file = AttentionFile::open(options.file, form);
  if (type == FileType::kFloat64) {
    run<double>(file, form, type, options);
  } else {
    run<float>(file, form, type, options);
  }
  return ExitStatus::kDone;
}

}  // namespace

void describe_attention(CLI::App& app, Work& run) {
  auto options = std::make_shared<AttentionOptions>();
  options->shared.dtype = "float64";
  app.add_option("FILE", options->file,
                 "safetensors file: q, k, v, parameter.*, tree.*, metadata linear_attention")
      ->required();
  app.add_option("-o,--output", options->output, "File to write: o, or tree.o in form tree")->required();
  app.add_option(
      "--form", options->form,
      "prefill, decode (token by token), tree (nodes after all tokens) or parallel (the training form)");
  app.add_option("--chunk", options->chunk, "Tokens of a prefill's chunk; 0 is all at once")
      ->check(at_least(0));
  app.add_option("--dtype", options->shared.dtype,
                 "Arithmetic: float64, float32, or bfloat16 (inputs rounded, sums in float32)");
  add_threads(app, options->shared);
  app.callback([&run, options] { run = [options] { return attention(*options); }; });
}

}  // namespace linnet::cli
