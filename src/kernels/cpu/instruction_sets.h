// Which instruction set the kernels use: the best that this machine and this build have, or one that is asked
// for, so that what a lesser machine computes can be tested here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace linnet::kernels {

/// By Highway's names ("AVX3" is AVX-512), best first; before them "AMX", the best of them and tiles, where
/// there are any.
std::vector<std::string> instruction_sets();

/// From now on every kernel uses `name`; empty: the best again. oneDNN, which large products run on, obeys a
/// name alone, and before its first product alone. Not while kernels run. Throws Error on a name that is not
/// one of instruction_sets().
void use_instruction_set(std::string_view name);

/// Whether products of bf16 use AMX's tiles: where there are any, unless a lesser set was asked for.
bool tiles_in_use();

/// Whether kernels may use AVX2, or AVX-512.
bool avx2_in_use();
bool avx512_in_use();

}  // namespace linnet::kernels
