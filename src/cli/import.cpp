// A Hugging Face folder from a GGUF file.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "model/import_gguf.h"
#include "model/write_model.h"

namespace linnet::cli {
namespace {

namespace fs = std::filesystem;

struct ImportOptions : SharedOptions {
  std::string file, out;
  int64_t shard_bytes = kShardBytes;
};

/// Refuses a folder, by what it is instead of a file.
void refuse_folder(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return;
  if (fs::exists(path / "config.json", error))
    throw Error(path.string(), "is a model folder already", "no import: every command takes it as MODEL");
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(path, error))
    if (entry.path().extension() == ".gguf") files.push_back(entry.path().string());
  std::sort(files.begin(), files.end());
  throw Error(path.string(), "is a folder",
              files.empty() ? "a GGUF file" : "a GGUF file, such as " + printable(files.front(), 300));
}

void import(const ImportOptions& options) {
  refuse_folder(options.file);
  check_new_folder(options.out);
  const JsonResult json(options);
  const GgufFile file = GgufFile::open(options.file);
  const ImportedModel model = import_gguf(file);
  int64_t parameters = 0;
  std::map<std::string, int64_t> types;  // numbers of each type in the file
  for (const NamedTensor& one : model.tensors) parameters += one.tensor.numbers();
  for (const auto& [name, tensor] : file.tensors())
    types[std::string(tensor.type->name)] += TensorView{.shape = tensor.shape, .bytes = {}}.numbers();
  {
    Progress progress("import", "parameters", static_cast<double>(parameters), 0,
                      Progress::Output::standard_error(kPatience));
    write_imported(options.out, model, static_cast<size_t>(options.shard_bytes),
                   [&](double done, double) { progress.update(done); });
  }
  json.write({{"out", options.out},
              {"tensors", model.tensors.size()},
              {"parameters", parameters},
              {"types", types}});
  note(fmt::format("wrote {}: {} parameters in BF16", options.out, parameters));
}

}  // namespace

void describe_import(CLI::App& app, Work& work) {
  auto options = std::make_shared<ImportOptions>();
  app.add_option("FILE", options->file,
                 "A GGUF file, version 2 or 3, of architecture llama, qwen2, qwen3 or gemma")
      ->required();
  output_folder(app.add_option("-o,--out", options->out, "The folder to write; it must not exist yet"))
      ->required();
  add_shard_size(app, options->shard_bytes);
  add_json(app, *options);
  app.callback([options, &work] {
    work = [options] {
      import(*options);
      return ExitStatus::kDone;
    };
  });
}

}  // namespace linnet::cli
