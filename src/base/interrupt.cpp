#include "base/interrupt.h"

#include <signal.h>

#include <atomic>

#include "base/error.h"

namespace linnet {
namespace {

std::atomic<int> kept{0};
std::atomic<bool> flag{false};
static_assert(std::atomic<bool>::is_always_lock_free);  // it is written in a signal handler

}  // namespace

void catch_interrupts() {
  flag = false;
  struct sigaction action = {};
  action.sa_handler = [](int) { flag = true; };
  action.sa_flags = SA_RESETHAND | SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
}

bool interrupted() { return flag.load(std::memory_order_relaxed); }

void stop_if_interrupted() {
  if (interrupted() && kept.load(std::memory_order_relaxed) == 0)
    throw Error("interrupted", "nothing written", {}, ExitStatus::kInterrupted);
}

KeepWorking::KeepWorking() { ++kept; }

KeepWorking::~KeepWorking() { --kept; }

}  // namespace linnet
