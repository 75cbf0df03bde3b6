// The sentencepiece library, behind functions that cross a shared object's border. It is loaded when a
// tokenizer.model is read, in a scope of its own: it brings an old copy of the protocol buffer library with
// it and exports it, which breaks any other copy in the process (libtorch's) and is broken by it.
#pragma once

#include <cstddef>

namespace linnet {

struct SentencePieceFunctions {
  /// A processor for a serialized model; null, with why in `message` [room], where the library refuses it.
  void* (*load)(const char* bytes, size_t size, char* message, size_t room);
  void (*destroy)(void* processor);
  int (*pieces)(const void* processor);
  int (*bos)(const void* processor);  // −1 where there is none
  int (*eos)(const void* processor);
  /// Gives the ids of `text` to take(context, ids, count) and returns true; or false, with why in `message`.
  bool (*encode)(const void* processor, const char* text, size_t size,
                 void (*take)(void* context, const int* ids, size_t count), void* context, char* message,
                 size_t room);
};

/// The plug-in's one symbol.
extern "C" const SentencePieceFunctions* linnet_sentencepiece();

/// Loads the plug-in, which lies beside the program or in ../lib/linnet, once. Throws Error where it is
/// missing.
const SentencePieceFunctions& sentencepiece_functions();

}  // namespace linnet
