// Any bytes as a tokenizer file, tokenizer.json or sentencepiece model: an Error or a tokenizer that holds
// its promises on a text, and nothing else.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/tokenizer_impl.h"

namespace {

constexpr std::string_view kText = "The river's  mill \u00e9te\u0301 <s> 3.14\r\n\t\u6cb3\U0001F600 ab\xFF";

void use(const linnet::Tokenizer& tokenizer) {
  const auto ids = tokenizer.encode(kText, true);
  for (const int32_t id : ids) {
    if (id < 0 || id >= tokenizer.vocabulary()) std::abort();
  }
  for (const bool skip : {false, true}) {
    linnet::StreamingDetokenizer stream(tokenizer, skip);
    std::string text;
    for (const int32_t id : ids) text += stream.push(id);
    text += stream.finish();
    if (text != tokenizer.decode(ids, skip)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    if (!bytes.empty() && bytes.front() == '\n')
      use(linnet::Tokenizer(linnet::read_sentencepiece(bytes, "fuzz", {})));
    else
      use(linnet::Tokenizer::from_json(bytes, "fuzz"));
  } catch (const linnet::Error&) {
  }
  return 0;
}
