// A full folder from a sidecar or a LoRA and its base.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/count.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "model/draft_heads.h"
#include "model/write_model.h"

namespace linnet::cli {
namespace {

struct MergeOptions : SharedOptions {
  std::string out;
  int64_t shard_bytes = kShardBytes;
};

void merge(const MergeOptions& options) {
  check_new_folder(options.out);
  const JsonResult json(options);
  const auto model = open_any_model(options, Stacks::kTwo);
  if (!model->is_sidecar())
    throw Error(options.model, "has its own weights", "a sidecar or a PEFT LoRA folder");
  const auto heads = heads_beside(*model);  // read before anything is written
  const auto merged = merge_lora(*model);
  std::vector<NamedTensor> changed;
  for (const auto& [name, tensor] : merged) changed.push_back({name, tensor.view()});
  for (NamedTensor& added : model->added_tensors()) changed.push_back(std::move(added));
  AtomicFolder out(options.out, /*replace=*/false);
  write_full(out.path(), *model, changed, model->all_attention(), static_cast<size_t>(options.shard_bytes),
             /*replace=*/false, model->added_are_trained());
  if (heads) copy_heads(*heads, *Model::open(out.path()), out.target());
  out.commit();
  json.write({{"out", options.out}, {"merged_matrices", merged.size()}, {"changed_tensors", changed.size()}});
  const auto matrices = static_cast<int64_t>(merged.size());
  const auto added = static_cast<int64_t>(changed.size()) - matrices;
  std::vector<std::string> what;
  if (matrices > 0) what.push_back(counted(matrices, "matrix", "matrices") + " with LoRA merged");
  if (added > 0) what.push_back(counted(added, "new tensor"));
  if (heads) what.push_back("its draft heads");
  note(fmt::format("wrote {}{}", options.out,
                   what.empty() ? "" : fmt::format(" ({})", fmt::join(what, ", "))));
}

}  // namespace

void describe_merge(CLI::App& app, Work& work) {
  auto options = std::make_shared<MergeOptions>();
  add_model(app, *options, "Folder of a sidecar or a LoRA");
  output_folder(app.add_option("-o,--out", options->out, "The folder to write; it must not exist yet"))
      ->required();
  add_shard_size(app, options->shard_bytes);
  add_json(app, *options);
  app.callback([options, &work] {
    work = [options] {
      merge(*options);
      return ExitStatus::kDone;
    };
  });
}

}  // namespace linnet::cli
