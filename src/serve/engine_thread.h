// The engine on a thread of its own: requests come from any thread and wait their turn; what becomes of them
// is told as it comes.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "generate/engine.h"

namespace linnet::serve {

/// One text to write. Its functions are called on the engine's thread, and must be quick: they hold up all
/// texts.
struct Job {
  Request request;
  /// Text as it becomes final, and all that came of the request so far; empty where nobody wants it.
  std::function<void(std::string_view text, const Generation& so_far)> on_text;
  /// One of these at the end, unless it was cancelled.
  std::function<void(Generation result)> on_end;
  std::function<void(const std::string& error, bool bad_request)> on_error;
};

class EngineThread {
 public:
  /// The engine belongs to the thread from here on. `most`: jobs at once, waiting and running.
  EngineThread(Engine& engine, int most);
  /// Drops what is open.
  ~EngineThread();
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  /// Their ids; none where there is no room for all of them.
  std::vector<int64_t> submit(std::vector<Job> jobs);
  /// Those that have not ended end without a word.
  void cancel(const std::vector<int64_t>& jobs);
  int most() const { return most_; }

 private:
  struct Open {  // a job that the engine has
    Job job;
    int64_t engine_id = 0;
    bool dropped = false;  // nobody wants to hear of it any more
  };

  void work();
  bool take_commands(bool busy);
  void begin(int64_t id, Job job);
  void drop(int64_t id);
  void end(Open& open);
  void finish_ended();
  void fail_all(const std::string& error);
  void closed();

  Engine& engine_;
  const int most_;
  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::vector<std::pair<int64_t, Job>> submitted_;
  std::vector<int64_t> cancelled_;
  int64_t next_id_ = 0;
  int open_count_ = 0;
  bool stopping_ = false;
  std::map<int64_t, std::shared_ptr<Open>> open_;  // the thread's own
  std::thread thread_;
};

}  // namespace linnet::serve
