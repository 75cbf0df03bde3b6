// The drafter that is a smaller model with the same tokenizer. It reads the text as it is committed and keeps
// a state of its own for each slot; guesses are nodes of its own trees, computed depth by depth.
#pragma once

#include <memory>
#include <string>

#include "base/thread_pool.h"
#include "generate/drafter.h"
#include "model/decoder.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace linnet {

/// `slots`: of the engine.
std::unique_ptr<Drafter> make_model_drafter(std::shared_ptr<const Model> model, ComputeType compute,
                                            int slots, ThreadPool& pool);

/// Throws Error naming `where` where two tokenizers differ: in their number of tokens, one token's text, or
/// how they cut a text.
void check_same_tokenizer(const Tokenizer& draft, const Tokenizer& own, const std::string& where);

}  // namespace linnet
