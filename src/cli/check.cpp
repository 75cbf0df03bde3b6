// linnet check: is a model causal, the same in every form, of constant state, exact on trees?
#include "evaluate/check.h"

#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "base/error.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"

namespace linnet::cli {
namespace {

struct CheckCommandOptions : SharedOptions {
  int64_t tokens = 0;
};

std::string amount(double x) { return std::isinf(x) ? "any" : fmt::format("{:.3g}", x); }

ExitStatus check(const CheckCommandOptions& options) {
  check_device(options);
  const JsonResult json(options);
  CheckOptions how = {compute_type(options.dtype), options.tokens, options.seed};
  const auto model = open_any_model(options, Stacks::kTwo);
  ThreadPool pool(options.threads);
  Progress progress("check", "tokens", 0, 0, Progress::Output::standard_error(kPatience));
  int64_t read = 0;
  how.progress = [&](std::string_view check, int64_t tokens) {
    progress.update(static_cast<double>(read += tokens), check);
  };
  bool all = true;
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  check_model(model, how, pool, [&](const CheckResult& result) {
    progress.clear();
    if (rows.empty()) {
      print(fmt::format("{:<11} {:<5} {:>9} {:>9}  {:<15} {}\n", "check", "holds", "measured", "allowed",
                        "unit", "claim"));
    }
    all = all && result.holds();
    print(fmt::format("{:<11} {:<5} {:>9} {:>9}  {:<15} {}\n", result.name, result.holds() ? "yes" : "NO",
                      std::isinf(result.measured) ? "broken" : amount(result.measured), amount(result.limit),
                      result.unit, result.claim));
    const auto number = [](double x) { return std::isfinite(x) ? nlohmann::json(x) : nlohmann::json(); };
    rows.push_back({{"check", result.name},
                    {"holds", result.holds()},
                    {"measured", number(result.measured)},
                    {"allowed", number(result.limit)},
                    {"unit", result.unit},
                    {"claim", result.claim}});
  });
  json.write({{"holds", all}, {"checks", rows}});
  return all ? ExitStatus::kDone : ExitStatus::kFailed;
}

}  // namespace

void describe_check(CLI::App& app, Work& work) {
  const auto options = std::make_shared<CheckCommandOptions>();
  options->dtype = "float32";
  add_runtime(app, *options);
  add_state_type(app, *options);
  app.add_option("--tokens", options->tokens,
                 "Length of the sequence that is tried, at least 8; 0: past every fold, at most 2048")
      ->transform(count(0))
      ->type_name("TOKENS");
  app.callback([&work, options] { work = [options] { return check(*options); }; });
}

}  // namespace linnet::cli
