#include <dlfcn.h>

#include <filesystem>
#include <string>

#include "base/error.h"
#include "text/sentencepiece_plugin.h"

namespace linnet {
namespace {

constexpr const char* kFile = "liblinnet_sentencepiece.so";

const SentencePieceFunctions& load_plugin() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  // Its own symbols before the process's. Sanitizers forbid that, and their programs need no libtorch.
  const bool sanitized =
      ::dlsym(RTLD_DEFAULT, "__asan_init") != nullptr || ::dlsym(RTLD_DEFAULT, "__tsan_init") != nullptr;
  const int mode = RTLD_NOW | RTLD_LOCAL | (sanitized ? 0 : RTLD_DEEPBIND);
  std::string why;
  for (const auto& folder : {program, program / ".." / "lib" / "linnet"}) {
    void* plugin = ::dlopen((folder / kFile).c_str(), mode);
    if (plugin == nullptr) {
      if (why.empty()) why = ::dlerror();
      continue;
    }
    void* symbol = ::dlsym(plugin, "linnet_sentencepiece");
    if (symbol != nullptr) return *reinterpret_cast<decltype(&linnet_sentencepiece)>(symbol)();
    why = ::dlerror();
  }
  throw Error("tokenizer.model", why, std::string(kFile) + " beside the program");
}

}  // namespace

const SentencePieceFunctions& sentencepiece_functions() {
  static const SentencePieceFunctions& functions = load_plugin();
  return functions;
}

}  // namespace linnet
