// What a model is asked for an example: few-shot examples, the prompt and each choice, as text and as tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "evaluate/likelihood.h"
#include "evaluate/task_records.h"
#include "text/tokenizer.h"

namespace linnet {

/// One choice of an example: how likely is the continuation after the context?
struct TaskPrompt {
  std::string context, continuation;
};

/// The prompts of example `index` of a set, one a choice; where the answer is
/// to be written one, nothing after it.
std::vector<TaskPrompt> prompts_of(const TaskSet& set, size_t index);

/// Tokens of prompts as the common harness makes them: white space at the context's end belongs to the
/// continuation; the continuation's tokens are those of the whole past as many as the context alone has;
/// special tokens as the tokenizer's post-processor adds them, unless the text begins with BOS; an empty
/// context is BOS, else EOS.
class PromptEncoder {
 public:
  /// `prefix`: what stands for an empty context. `positions`: a longer prompt loses its beginning.
  PromptEncoder(const Tokenizer& tokenizer, int32_t prefix, int64_t positions);

  /// Throws Error (where: `where`) on a continuation without a token or longer than the positions.
  LikelihoodRequest encode(const TaskPrompt& prompt, const std::string& where) const;

  /// The context of a text of up to `tokens` more; a longer one loses its
  /// beginning. Throws Error (where: `where`) where there are not so many
  /// positions.
  std::vector<int32_t> encode_before(std::string_view context, int64_t tokens,
                                     const std::string& where) const;

 private:
  std::vector<int32_t> ids_of(std::string_view text) const;

  const Tokenizer& tokenizer_;
  int32_t prefix_;
  std::string bos_;  // its text; empty: none
  size_t positions_;
};

}  // namespace linnet
