#include "serve/engine_thread.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/error.h"

namespace linnet::serve {
namespace {

std::string words_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& thrown) {
    return thrown.what();
  }
}

}  // namespace

EngineThread::EngineThread(Engine& engine, int most) : engine_(engine), most_(most) {
  thread_ = std::thread([this] { work(); });
}

EngineThread::~EngineThread() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
  for (const auto& [id, open] : open_) end(*open);
}

std::vector<int64_t> EngineThread::submit(std::vector<Job> jobs) {
  std::vector<int64_t> ids;
  {
    const std::lock_guard lock(mutex_);
    if (jobs.size() > static_cast<size_t>(most_ - open_count_)) return ids;
    open_count_ += static_cast<int>(jobs.size());
    for (Job& job : jobs) {
      ids.push_back(next_id_);
      submitted_.emplace_back(next_id_++, std::move(job));
    }
  }
  changed_.notify_one();
  return ids;
}

void EngineThread::cancel(const std::vector<int64_t>& jobs) {
  {
    const std::lock_guard lock(mutex_);
    cancelled_.insert(cancelled_.end(), jobs.begin(), jobs.end());
  }
  changed_.notify_one();
}

void EngineThread::work() {
  for (bool busy = false; take_commands(busy);) {
    try {
      busy = engine_.step();
      finish_ended();
    } catch (const std::bad_alloc&) {
      fail_all("memory: not enough for this");
    } catch (const std::exception& error) {
      fail_all(error.what());
    }
  }
}

/// Waits for some where there is nothing to do; false: no more work.
bool EngineThread::take_commands(bool busy) {
  std::vector<std::pair<int64_t, Job>> submitted;
  std::vector<int64_t> cancelled;
  {
    std::unique_lock lock(mutex_);
    const auto asked = [&] { return stopping_ || !submitted_.empty() || !cancelled_.empty(); };
    if (!busy) changed_.wait(lock, asked);
    if (stopping_) return false;
    submitted.swap(submitted_);
    cancelled.swap(cancelled_);
  }
  for (auto& [id, job] : submitted) begin(id, std::move(job));
  for (const int64_t id : cancelled) drop(id);
  return true;
}

void EngineThread::begin(int64_t id, Job job) {
  const auto open = std::make_shared<Open>(Open{std::move(job)});
  OnText on_text;
  if (open->job.on_text)
    on_text = [this, open](std::string_view text) {
      if (!open->dropped) open->job.on_text(text, engine_.so_far(open->engine_id));
    };
  try {
    open->engine_id = engine_.add(std::move(open->job.request), std::move(on_text));
    open_.emplace(id, open);
  } catch (const std::exception& error) {
    open->job.on_error(error.what(), dynamic_cast<const Error*>(&error) != nullptr);
    closed();
  }
}

void EngineThread::drop(int64_t id) {
  const auto found = open_.extract(id);
  if (found) end(*found.mapped());  // else it has ended
}

/// Takes a job from the engine that has not ended.
void EngineThread::end(Open& open) {
  open.dropped = true;
  engine_.cancel(open.engine_id);
  engine_.take(open.engine_id);
  closed();
}

void EngineThread::finish_ended() {
  for (auto it = open_.begin(); it != open_.end();) {
    const auto open = it->second;
    if (!engine_.ended(open->engine_id)) {
      ++it;
      continue;
    }
    it = open_.erase(it);
    Generation result = engine_.take(open->engine_id);
    if (result.error) {
      open->job.on_error(words_of(result.error), false);
    } else {
      open->job.on_end(std::move(result));
    }
    closed();
  }
}

/// The engine broke down as a whole.
void EngineThread::fail_all(const std::string& error) {
  for (const auto& [id, open] : std::exchange(open_, {})) {
    end(*open);
    open->job.on_error(error, false);
  }
}

void EngineThread::closed() {
  const std::lock_guard lock(mutex_);
  --open_count_;
}

}  // namespace linnet::serve
