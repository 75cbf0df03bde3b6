// Ctrl-C for long work: the first asks it to finish the step and keep what can be kept, the second kills.
#pragma once

namespace linnet {

/// From now on the first SIGINT only sets a flag; the second has its ordinary effect. Called before a command
/// works: whatever takes long polls interrupted(), or calls stop_if_interrupted().
void catch_interrupts();

/// Whether SIGINT came since catch_interrupts(). Cheap enough for every step.
bool interrupted();

/// Throws Error of status kInterrupted if interrupted(): for work of which nothing is worth keeping. Whoever
/// has something to keep polls interrupted(), and holds a KeepWorking while it is written.
void stop_if_interrupted();

/// While one lives, stop_if_interrupted() does nothing: a model that is done is written, Ctrl-C or not.
class KeepWorking {
 public:
  KeepWorking();
  ~KeepWorking();
  KeepWorking(const KeepWorking&) = delete;
  KeepWorking& operator=(const KeepWorking&) = delete;
};

}  // namespace linnet
