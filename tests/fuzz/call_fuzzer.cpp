// Any bytes as the body of a request to `linnet serve`: an ApiError of one line or a call within its limits.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "serve/api_error.h"
#include "serve/call.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace linnet::serve;
  for (const Api api : {Api::kCompletions, Api::kChat}) {
    try {
      const Call call = read_call({reinterpret_cast<const char*>(data), size}, api, {});
      call.settings.sampling.check();
      if (api == Api::kChat ? call.messages.empty() : call.prompts.empty()) std::abort();
      if (call.settings.max_new_tokens < 0 || call.settings.logprobs.value_or(0) > kMostLogprobs)
        std::abort();
    } catch (const ApiError& error) {
      if (std::string_view(error.what()).find('\n') != std::string_view::npos || error.json().empty())
        std::abort();
    }
  }
  return 0;
}
