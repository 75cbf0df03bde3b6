// Any bytes as a chat template: an Error or a text, the same one twice, and nothing else.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto kMessages = linnet::read_messages(
      R"([{"role": "system", "content": " s\n"}, {"role": "user", "content": "é x", "n": [1, 2.5, true, {"k": "v"}]}])",
      "fuzz");
  try {
    linnet::ChatTemplate chat({reinterpret_cast<const char*>(data), size}, "fuzz");
    chat.set("bos_token", "<s>");
    const std::tm now = {};
    if (chat.render(kMessages, true, &now) != chat.render(kMessages, true, &now)) std::abort();
  } catch (const linnet::Error&) {
  }
  return 0;
}
