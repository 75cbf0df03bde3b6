// The plug-in itself: the only file that includes the sentencepiece library. Nothing is thrown across its
// border.
#include "text/sentencepiece_plugin.h"

#include <sentencepiece_processor.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <string_view>
#include <vector>

namespace linnet {
namespace {

using sentencepiece::SentencePieceProcessor;

const SentencePieceProcessor& processor_of(const void* processor) {
  return *static_cast<const SentencePieceProcessor*>(processor);
}

void* load(const char* bytes, size_t size, char* message, size_t room) {
  try {
    auto processor = std::make_unique<SentencePieceProcessor>();
    const auto status = processor->LoadFromSerializedProto(std::string_view(bytes, size));
    if (status.ok()) return processor.release();
    std::snprintf(message, room, "%s", status.message());
  } catch (const std::exception& error) {
    std::snprintf(message, room, "%s", error.what());
  }
  return nullptr;
}

bool encode(const void* processor, const char* text, size_t size,
            void (*take)(void* context, const int* ids, size_t count), void* context, char* message,
            size_t room) {
  try {
    std::vector<int> ids;
    const auto status = processor_of(processor).Encode(std::string_view(text, size), &ids);
    if (status.ok()) {
      take(context, ids.data(), ids.size());
      return true;
    }
    std::snprintf(message, room, "%s", status.message());
  } catch (const std::exception& error) {
    std::snprintf(message, room, "%s", error.what());
  }
  return false;
}

constexpr SentencePieceFunctions kFunctions{
    .load = load,
    .destroy = [](void* processor) { delete static_cast<SentencePieceProcessor*>(processor); },
    .pieces = [](const void* processor) { return processor_of(processor).GetPieceSize(); },
    .bos = [](const void* processor) { return processor_of(processor).bos_id(); },
    .eos = [](const void* processor) { return processor_of(processor).eos_id(); },
    .encode = encode,
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const SentencePieceFunctions* linnet_sentencepiece() {
  return &kFunctions;
}

}  // namespace linnet
