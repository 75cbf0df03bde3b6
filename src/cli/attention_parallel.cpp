// The workshop's side of `linnet attention`: the training form of the attention in a file.
#include "base/error.h"
#include "base/file.h"
#include "cli/attention.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "evaluate/attention_file.h"
#include "train/attention/parallel.h"
#include "train/module.h"
#include "train/weights.h"

namespace linnet::cli {
namespace {

struct ParallelAttentionOptions {
  SharedOptions shared;
  std::string file, output, form = "parallel";
};

template <class T>
void run(const AttentionFile& file, FileType type, const std::string& output) {
  // The runtime checks the learned tensors: which there must be, of what shape, and that they are numbers.
  make_attention<T>(file.config(), file.shape(), file.parameters(), nullptr, file.where());
  const auto scalar = c10::CppTypeToScalarType<T>::value;
  const auto input = [&](const std::string& name, int64_t heads) {
    if (!file.has(name)) return at::Tensor();
    const std::vector<T> numbers = file.numbers<T>(name, type);
    return at::tensor(at::ArrayRef<T>(numbers), scalar).view({1, heads, file.tokens(), -1});
  };
  const int64_t heads = file.shape().heads, kv_heads = file.shape().kv_heads;
  const train::Rows rows{input("q", heads), input("k", kv_heads), input("v", kv_heads),
                         input("q.plain", heads), input("k.plain", kv_heads)};
  train::ParameterMap parameters;
  for (const auto& [name, view] : file.parameters()) {
    parameters[name] = train::load_tensor(view, at::kCPU, scalar, file.where() + ": " + name);
  }
  at::NoGradGuard off;
  const train::Documents documents({}, 1, file.tokens(), at::kCPU);
  const at::Tensor o =
      train::parallel(rows, documents, parameters, file.config(), nullptr)[0].transpose(0, 1).contiguous();
  write_outputs(output, file, FileForm::kParallel,
                std::span<const T>(o.data_ptr<T>(), static_cast<size_t>(o.numel())));
}

ExitStatus attention_parallel(const ParallelAttentionOptions& options) {
  if (file_form(options.form) != FileForm::kParallel) {
    throw Error("--form", options.form, "parallel: the other forms are `linnet`'s");
  }
  const FileType type = file_type_named(options.shared.dtype);
  const JsonResult json(options.shared);
  train::set_threads(options.shared.threads);
  const AttentionFile file = AttentionFile::open(options.file, FileForm::kParallel);
  if (type == FileType::kFloat64) {
    run<double>(file, type, options.output);
  } else {
    run<float>(file, type, options.output);
  }
  json.write(attention_result(file, options.output, options.form, options.shared.dtype));
  return ExitStatus::kDone;
}

}  // namespace

void describe_attention_parallel(CLI::App& app, Work& run) {
  auto options = std::make_shared<ParallelAttentionOptions>();
  options->shared.dtype = "float64";
  app.add_option("FILE", options->file, "safetensors file: q, k, v, parameter.*, metadata linear_attention")
      ->required();
  output_file(app.add_option("-o,--output", options->output, "File to write: o"))->required();
  app.add_option("--form", options->form, "parallel, the training form");
  app.add_option("--dtype", options->shared.dtype,
                 "Arithmetic: float64, float32, or bfloat16 (inputs rounded, sums in float32)");
  add_threads(app, options->shared);
  add_json(app, options->shared);
  app.callback([&run, options] { run = [options] { return attention_parallel(*options); }; });
}

}  // namespace linnet::cli
