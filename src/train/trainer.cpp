#include "train/trainer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>
#include <memory>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/timing.h"
#include "train/classifier.h"
#include "train/compat.h"
#include "train/pairs.h"
#include "train/pending_steps.h"

namespace linnet::train {
namespace {

class Runner {
 public:
  Runner(Module& module, const TokenizedText& text, const HeldOut* validation,
         const std::vector<Phase>& phases, const RunOptions& options)
      : module_(module),
        text_(text),
        validation_(validation),
        phases_(phases),
        options_(options),
        checkpoints_(options.out / "checkpoints", options.identity) {}

  RunResult run();

 private:
  size_t begin();  // the phase to start in
  void open_log(size_t phase);
  void enter(size_t phase);
  void step(const Phase& phase);
  RowBatch rows(const Phase& phase, int64_t first, int64_t count);
  std::vector<int64_t> places_of(int64_t first, int64_t count);
  double share_of(int64_t first, int64_t count, int64_t step_first, int64_t batch);
  RowBatch without_spans(const at::Tensor& texts, int64_t first) const;
  RowBatch encoder_rows(const Phase& phase, int64_t first, const at::Tensor& ids);
  at::Tensor loss(const Phase& phase, const RowBatch& rows) const;
  void check(const LogLine& line) const;
  void flush();
  void evaluate();
  bool evaluates(int64_t step) const;
  void finish_evaluation();
  void set_validation(LogLine& line) const {
    const bool in_nats = validation_ != nullptr && validation_->in_nats();
    (in_nats ? line.validation_nats_per_token : line.validation_bits_per_byte) = result_.validation_after;
  }
  void checkpoint();
  void write_log(const std::vector<LogLine>& lines, bool last);
  void plot() const;
  int64_t last_step() const;

  Module& module_;
  const TokenizedText& text_;
  const HeldOut* validation_;
  const std::vector<Phase>& phases_;
  const RunOptions& options_;
  Checkpoints checkpoints_;
  std::map<RowOptions, TokenRows> rows_;
  std::unique_ptr<TrainingLog> log_;  // null: nothing is written
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<Progress> progress_bar_;
  PendingSteps pending_;
  RunProgress progress_;
  int64_t phase_begin_ = 0;      // step before the phase's first
  int64_t optimizer_begin_ = 0;  // step before the optimizer's first
  int64_t process_begin_ = 0;    // step before this process's first
  std::vector<int64_t> order_;   // of pairs, in the epoch
  int64_t order_epoch_ = -1;
  int64_t first_row_ = 0;  // the phase's first row, counted in rows of its context
  Stopwatch unsaved_;      // since progress_.seconds was last brought up to date
  Stopwatch steps_;        // since the last flush, evaluations and checkpoints taken out
  double trained_seconds_ = 0;
  int64_t trained_tokens_ = 0, tokens_before_ = 0;  // of this process, of earlier ones
  RunResult result_;
};

int64_t Runner::last_step() const {
  int64_t steps = 0;
  for (const Phase& phase : phases_) steps += phase.schedule.steps;
  return steps;
}

/// Where the run stands: at the beginning, or after the newest checkpoint.
size_t Runner::begin() {
  std::optional<std::filesystem::path> saved;
  if (options_.resume) {
    saved = checkpoints_.to_resume();
    progress_ = checkpoints_.read_progress(*saved);
  }
  size_t phase = 0;
  while (phase + 1 < phases_.size() && progress_.step > phase_begin_ + phases_[phase].schedule.steps) {
    phase_begin_ += phases_[phase++].schedule.steps;
    if (!phases_[phase].goes_on) optimizer_begin_ = phase_begin_;
  }
  enter(phase);
  if (saved) {
    checkpoints_.load(*saved, *optimizer_, progress_.step - optimizer_begin_);
    result_.checkpoint = *saved;
    note(fmt::format("resuming after step {}", progress_.step));
  }
  return phase;
}

/// The log, with what the model scores before it is trained. Nothing is written before that is known.
void Runner::open_log(size_t phase) {
  const bool anew = progress_.step == 0;
  if (anew && validation_ != nullptr) {
    evaluate();
    stop_if_interrupted();
  }
  if (options_.out.empty()) return;
  std::filesystem::create_directories(options_.out);
  log_ = std::make_unique<TrainingLog>(options_.out, options_.title,
                                       options_.resume ? std::optional(progress_.step) : std::nullopt);
  if (anew && result_.validation_after) {
    note(fmt::format("validation before training: {:.4f} {}", *result_.validation_after,
                     unit_of(validation_->in_nats())));
    constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
    LogLine line{.step = 0,
                 .tokens = 0,
                 .phase = phases_[phase].name,
                 .loss = kNone,
                 .learning_rate = kNone,
                 .gradient_norm = kNone,
                 .tokens_per_second = kNone,
                 .seconds = 0};
    set_validation(line);
    log_->write({line});
  }
  result_.validation_before = log_->first_validation();
}

void Runner::enter(size_t index) {
  const Phase& phase = phases_[index];
  int64_t tokens_before = 0;
  for (size_t i = 0; i < index; ++i) tokens_before += phases_[i].schedule.steps * phases_[i].tokens_a_step();
  first_row_ = (tokens_before + phase.rows.context - 1) / phase.rows.context;
  if (options_.pairs == nullptr) rows_.try_emplace(phase.rows, text_, phase.rows, options_.seed);
  if (phase.goes_on && optimizer_) return;
  optimizer_begin_ = phase.goes_on ? optimizer_begin_ : phase_begin_;
  if (!options_.learner) module_.set_trainable(phase.trainable);
  optimizer_ = std::make_unique<AdamW>(options_.learner ? options_.learner->parameters : module_.parameters(),
                                       phase.adamw);
  result_.trained_parameters = 0;
  for (const Parameter& parameter : optimizer_->parameters())
    result_.trained_parameters += parameter.tensor.numel();
}

/// Where the pairs of these rows stand: each epoch in another order.
std::vector<int64_t> Runner::places_of(int64_t first, int64_t count) {
  const int64_t pairs = options_.pairs->size();
  std::vector<int64_t> places;
  for (int64_t row = first; row < first + count; ++row) {
    if (row / pairs != order_epoch_) order_ = order_of(pairs, options_.seed, order_epoch_ = row / pairs);
    places.push_back(order_[static_cast<size_t>(row % pairs)]);
  }
  return places;
}

/// What part of a step's loss some of its rows are: of pairs, by the tokens that are to be written.
double Runner::share_of(int64_t first, int64_t count, int64_t step_first, int64_t batch) {
  if (options_.pairs == nullptr || count == batch)
    return static_cast<double>(count) / static_cast<double>(batch);
  const auto tokens = [&](int64_t from, int64_t rows) {
    return static_cast<double>(options_.pairs->to_write(places_of(from, rows)));
  };
  return tokens(first, count) / tokens(step_first, batch);
}

RowBatch Runner::rows(const Phase& phase, int64_t first, int64_t count) {
  const at::Device device = module_.options().device;
  if (options_.pairs != nullptr) return batch_of(*options_.pairs, places_of(first, count), device);
  const TokenRows& source = rows_.at(phase.rows);
  const auto host = at::TensorOptions().dtype(at::kInt).pinned_memory(device.is_cuda());
  const int64_t context = phase.rows.context;
  at::Tensor ids = at::empty({count, context + 1}, host);
  at::Tensor documents = at::empty({count, context}, at::kInt);
  for (int64_t row = 0; row < count; ++row)
    source.row(first + row, {ids.data_ptr<int32_t>() + row * (context + 1), static_cast<size_t>(context + 1)},
               {documents.data_ptr<int32_t>() + row * context, static_cast<size_t>(context)});
  if (options_.spans) return without_spans(ids, first);
  if (options_.special) return encoder_rows(phase, first, ids);
  // From pinned memory the copy overlaps what the device is still doing.
  ids = ids.to(device, /*non_blocking=*/true).to(at::kLong);
  RowBatch result{.batch = {.tokens = ids.narrow(1, 0, context).contiguous()},
                  .targets = ids.narrow(1, 1, context).contiguous()};
  if (options_.packing == Packing::kDocuments && documents.max().item<int32_t>() > 0)
    result.batch.documents = documents;
  return result;
}

/// Rows of text [count, context + 1], the first of number `first`, as sources and what is to be written.
RowBatch Runner::without_spans(const at::Tensor& texts, int64_t first) const {
  const SpanTokens& tokens = *options_.spans;
  const int64_t count = texts.size(0), context = texts.size(1) - 1;
  const SpanShape shape(context);
  at::Tensor sources = at::empty({count, shape.source()}, at::kInt);
  at::Tensor targets = at::empty({count, shape.target()}, at::kInt);
  const auto row_of = [](const at::Tensor& x, int64_t row, int64_t size) {
    return std::span(x.data_ptr<int32_t>() + row * x.size(1), static_cast<size_t>(size));
  };
  for (int64_t row = 0; row < count; ++row) {
    corrupt(row_of(texts, row, context), tokens, options_.seed, static_cast<uint64_t>(first + row),
            row_of(sources, row, shape.source()), row_of(targets, row, shape.target()));
  }
  const at::Device device = module_.options().device;
  RowBatch result;
  result.batch.source = sources.to(device, /*non_blocking=*/true).to(at::kLong);
  result.targets = targets.to(device, /*non_blocking=*/true).to(at::kLong);
  result.batch.tokens = at::cat({at::full({count, 1}, tokens.start, result.targets.options()),
                                 result.targets.narrow(1, 0, shape.target() - 1)},
                                1);
  return result;
}

/// Rows of text as sequences; under Objective::kMasked with tokens masked.
RowBatch Runner::encoder_rows(const Phase& phase, int64_t first, const at::Tensor& ids) {
  const int64_t context = phase.rows.context;
  std::vector<int64_t> places, wanted;
  for (int64_t row = 0; row < ids.size(0); ++row) {
    const std::span tokens(ids.data_ptr<int32_t>() + row * (context + 1), static_cast<size_t>(context));
    frame(tokens, *options_.special);
    if (phase.objective != Objective::kMasked) continue;
    const std::vector<int32_t> before(tokens.begin(), tokens.end());
    for (const int64_t place : mask_tokens(tokens, *options_.special, options_.seed, first + row)) {
      places.push_back(row * context + place);
      wanted.push_back(before[static_cast<size_t>(place)]);
    }
  }
  const at::Device device = module_.options().device;
  RowBatch result{
      .batch = {.tokens = ids.narrow(1, 0, context).to(device, at::kLong, /*non_blocking=*/true)}};
  if (phase.objective == Objective::kMasked) {
    result.masked = at::tensor(places, at::kLong).to(device, /*non_blocking=*/true);
    result.targets = at::tensor(wanted, at::kLong).to(device, /*non_blocking=*/true);
  }
  return result;
}

at::Tensor Runner::loss(const Phase& phase, const RowBatch& rows) const {
  if (options_.learner) return options_.learner->loss(rows);
  if (phase.objective == Objective::kTransfer) return module_.transfer_loss(rows.batch);
  if (phase.objective == Objective::kMasked) {
    const at::Tensor hidden = module_.hidden(rows.batch).flatten(0, 1);
    return module_.next_token_loss(hidden.index_select(0, rows.masked), rows.targets);
  }
  if (phase.objective == Objective::kNextToken)
    return module_.next_token_loss(module_.hidden(rows.batch), rows.targets, rows.weights);
  return module_.distill_loss(rows.batch);
}

void Runner::step(const Phase& phase) {
  const int64_t index = progress_.step - phase_begin_;
  const double rate = phase.schedule.at(index);
  at::Tensor total;
  for (int64_t done = 0; done < phase.batch; done += phase.micro_batch) {
    const int64_t count = std::min(phase.micro_batch, phase.batch - done);
    const int64_t step_first = first_row_ + index * phase.batch, first = step_first + done;
    const at::Tensor share =
        loss(phase, rows(phase, first, count)) * share_of(first, count, step_first, phase.batch);
    if (share.requires_grad()) share.backward();  // else nothing that is trained had a part in it
    total = total.defined() ? total + share.detach() : share.detach();
  }
  const at::Tensor norm = optimizer_->clip_gradients(phase.clip);
  optimizer_->step(rate);
  ++progress_.step;
  progress_.tokens += phase.tokens_a_step();
  pending_.add(
      {.step = progress_.step, .tokens = progress_.tokens, .phase = phase.name, .learning_rate = rate}, total,
      norm);
}

/// Throws Error where a step's numbers say that training can have no effect.
void Runner::check(const LogLine& line) const {
  if (line.step == process_begin_ + 1 && line.gradient_norm == 0)
    throw Error(fmt::format("step {}", line.step), "nothing can learn: all gradients are 0",
                "longer rows (--context), --packing stream, or more that is trained (--train)",
                ExitStatus::kFailed);
}

/// Brings the pending steps' numbers from the device, checks them, and writes their lines.
void Runner::flush() {
  if (pending_.empty()) return;
  std::vector<LogLine> lines = pending_.take(checkpoints_);
  const double elapsed = std::max(steps_.seconds(), 1e-9);
  const int64_t tokens = progress_.tokens - tokens_before_ - trained_tokens_;
  trained_tokens_ += tokens;
  trained_seconds_ += elapsed;
  progress_.seconds += unsaved_.restart();
  for (LogLine& line : lines) {
    line.tokens_per_second = static_cast<double>(tokens) / elapsed;
    line.seconds = progress_.seconds;
    check(line);
    if (options_.on_line) options_.on_line(line);
  }
  result_.loss = lines.back().loss;
  const bool last = progress_.step == last_step();
  if (evaluates(progress_.step)) {
    evaluate();
    set_validation(lines.back());
    lines.back().acceptance = result_.acceptance;
  }
  write_log(lines, last);
  progress_bar_->update(
      static_cast<double>(progress_.tokens),
      fmt::format("loss {:.4f}{}", result_.loss,
                  !result_.acceptance.empty()
                      ? fmt::format(", right {:.3f}", fmt::join(result_.acceptance, " "))
                  : result_.validation_after ? fmt::format(", validation {:.4f}", *result_.validation_after)
                                             : ""));
  steps_.restart();
}

bool Runner::evaluates(int64_t step) const {
  return step == last_step() || (options_.evaluate_every > 0 && step % options_.evaluate_every == 0);
}

/// The score that Ctrl-C cut off after the step that a resumed run goes on from.
void Runner::finish_evaluation() {
  if (!log_ || validation_ == nullptr || !log_->last()) return;
  LogLine line = *log_->last();
  if (line.step != progress_.step || !evaluates(line.step) || validation_of(line)) return;
  evaluate();
  result_.interrupted = interrupted();
  if (!result_.validation_after) return;
  set_validation(line);
  log_->score_last(line);
}

void Runner::evaluate() {
  if (options_.learner && options_.learner->acceptance) result_.acceptance = options_.learner->acceptance();
  if (validation_ == nullptr) return;
  result_.validation_after = validation_->score(module_, std::max<int64_t>(1, phases_.front().micro_batch));
}

void Runner::checkpoint() {
  result_.checkpoint = checkpoints_.save(progress_, *optimizer_);
  plot();
  steps_.restart();
}

/// After the last step the trained weights are worth more than the log.
void Runner::write_log(const std::vector<LogLine>& lines, bool last) {
  if (!log_) return;
  if (last) return attempt([&] { log_->write(lines); });
  log_->write(lines);
}

void Runner::plot() const {
  if (log_) log_->plot();
}

RunResult Runner::run() {
  unsaved_.restart();
  catch_interrupts();
  size_t index = begin();
  tokens_before_ = progress_.tokens;
  process_begin_ = progress_.step;
  const int64_t last = last_step();
  int64_t total_tokens = 0;
  for (const Phase& phase : phases_) total_tokens += phase.schedule.steps * phase.tokens_a_step();
  open_log(index);
  if (options_.resume) finish_evaluation();
  std::optional<KeepWorking> keep;
  if (log_) keep.emplace();  // from now on there is something to keep
  steps_.restart();
  while (true) {
    const Phase& phase = phases_[index];
    const int64_t phase_end = phase_begin_ + phase.schedule.steps;
    if (!progress_bar_ || progress_.step == phase_begin_)
      progress_bar_ = std::make_unique<Progress>(phase.name, "tokens", static_cast<double>(total_tokens),
                                                 static_cast<double>(progress_.tokens));
    while (progress_.step < phase_end && !result_.interrupted) {
      step(phase);
      const int64_t done = progress_.step;
      if (options_.on_step) options_.on_step(done);
      const auto due = [done](int64_t every) { return every > 0 && done % every == 0; };
      if (done == phase_end || due(options_.log_every) || due(options_.evaluate_every)) flush();
      result_.interrupted = interrupted() && done < last;  // in the evaluation, too
      const bool save = log_ && (due(options_.checkpoint_every) || result_.interrupted || done == last);
      if (save) flush();
      if (save && done == last) {
        attempt([this] { checkpoint(); });
      } else if (save) {
        checkpoint();
      }
    }
    if (result_.interrupted || index + 1 == phases_.size()) break;
    phase_begin_ = phase_end;
    enter(++index);
  }
  progress_bar_->finish();
  attempt([this] { plot(); });
  result_.steps = progress_.step;
  result_.tokens = progress_.tokens;
  result_.seconds = progress_.seconds;
  if (trained_seconds_ > 0)
    result_.tokens_per_second = static_cast<double>(trained_tokens_) / trained_seconds_;
  if (log_ && log_->last()) {  // of a run whose last step was an earlier process's
    if (trained_tokens_ == 0) result_.loss = log_->last()->loss;
    if (!result_.validation_after) result_.validation_after = validation_of(*log_->last());
  }
  result_.peak_memory = peak_memory();
  result_.peak_device_memory = compat::peak_device_memory(module_.options().device);
  return result_;
}

}  // namespace

RunResult run_phases(Module& module, const TokenizedText& text, const HeldOut* validation,
                     const std::vector<Phase>& phases, const RunOptions& options) {
  return Runner(module, text, validation, phases, options).run();
}

void warn_of_slow_products(const Module::Options& options) {
  constexpr int64_t kSize = 512;
  constexpr double kSlow =
      25e9;  // a second of one core: the reference BLAS does 5e9, a good one 50e9 and more
  if (!options.device.is_cpu()) return;
  at::NoGradGuard no_gradients;
  const at::Tensor matrix = at::ones({kSize, kSize});
  double seconds =
      1e9;  // of processor time, so that a busy machine looks no slower; the first starts threads
  for (int i = 0; i < 4; ++i) {
    const std::clock_t start = std::clock();
    at::mm(matrix, matrix);
    seconds = std::min(seconds, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  const double rate = 2.0 * kSize * kSize * kSize / std::max(seconds, 1e-6);
  if (rate < kSlow)
    warn(fmt::format(
        "float32 products run at {:.0f} GFLOP/s a core: install a fast BLAS (libopenblas0-pthread)",
        rate / 1e9));
}

nlohmann::json identity_of_run(const std::filesystem::path& out) {
  const Checkpoints checkpoints(out / "checkpoints", {});
  const auto newest = checkpoints.newest();
  return newest ? Checkpoints::read_identity(*newest) : nlohmann::json::object();
}

void remove_checkpoints(const std::filesystem::path& out) {
  Checkpoints(out / "checkpoints", {}).remove_all();
}

}  // namespace linnet::train
