#include "base/error.h"
#include "text/tokenizer_impl.h"
namespace linnet {
std::shared_ptr<Tokenizer::Impl> read_sentencepiece(std::string_view, const std::string& where) {
  throw Error(where, "a sentencepiece model", "tokenizer.json");
}
}  // namespace linnet
