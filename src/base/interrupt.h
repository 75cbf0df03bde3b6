// Ctrl-C for long work: the first asks it to finish the step and keep what can be kept, the second kills.
#pragma once

namespace linnet {

/// From now on the first SIGINT only sets a flag; the second has its ordinary effect. Called by a command
/// that polls interrupted(); the others end at the first.
void catch_interrupts();

/// Whether SIGINT came since catch_interrupts(). Cheap enough for every step.
bool interrupted();

}  // namespace linnet
