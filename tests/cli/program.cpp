#include "tests/cli/program.h"

#include "base/file.h"
#include "base/json.h"
#include "model/model.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;

nlohmann::json tokenizer() {
  nlohmann::json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}, {"Ġ", 3}, {"Ċ", 4}};
  for (char c = '!'; c <= '~'; ++c) vocab[std::string(1, c)] = vocab.size();
  nlohmann::json added = nlohmann::json::array();
  for (const char* name : {"<unk>", "<s>", "</s>"}) {
    added.push_back({{"id", vocab[name]},
                     {"content", name},
                     {"special", true},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false}});
  }
  return {{"version", "1.0"},
          {"added_tokens", added},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model",
           {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}, {"unk_token", "<unk>"}}}};
}

}  // namespace

TemporaryFolder* Program::inputs_ = nullptr;

void Program::SetUpTestSuite() {
  inputs_ = new TemporaryFolder;
  fs::copy(fs::path(LINNET_TEST_DATA) / "hf/llama-gqa-tied", model());
  write_file(model() / "tokenizer.json", tokenizer().dump());
  write_file(inputs_->path() / "empty.txt", "");
  write_file(inputs_->path() / "text.txt", "a story about nothing. it is short, and it ends.");
  write_file(inputs_->path() / "broken.jsonl", "{\"text\": \"a\"}\n{\"text\": 3}\n");
  fs::create_directory(inputs_->path() / "tasks");
  write_file(inputs_->path() / "tasks/piqa-validation.jsonl",
             "{\"goal\": \"a\", \"sol1\": \"b c\", \"sol2\": \"b d\", \"label\": 0}\n"
             "{\"goal\": \"e\", \"sol1\": \"f\", \"sol2\": \"g\", \"label\": \"1\"}\n");
  fs::create_directory(inputs_->path() / "nothing");
  fs::copy(model(), inputs_->path() / "bos");
  write_file(inputs_->path() / "bos/tokenizer_config.json", R"({"bos_token": "<s>", "add_bos_token": true})");
  make_sidecar(inputs_->path() / "sidecar", {{"method", "relu"}, {"group", 8}});
  fs::copy(model(), inputs_->path() / "gpt2");
  for (const char* file : {"config.json", "generation_config.json", "model.safetensors"}) {
    fs::copy_file(fs::path(LINNET_TEST_DATA) / "hf/gpt2" / file, inputs_->path() / "gpt2" / file,
                  fs::copy_options::overwrite_existing);
  }
}

void Program::TearDownTestSuite() { delete inputs_; }

std::vector<std::string> Program::fill_in(std::vector<std::string> arguments) {
  for (std::string& argument : arguments) {
    const auto replace = [&](std::string_view what, const std::string& with) {
      const size_t at = argument.find(what);
      if (at != std::string::npos) argument.replace(at, what.size(), with);
    };
    replace("{m}", model());
    replace("{i}", inputs_->path());
  }
  return arguments;
}

void Program::make_sidecar(const fs::path& folder, const nlohmann::json& attention) {
  const std::string header = "{}      ";
  fs::create_directories(folder);
  write_file(folder / "linear_attention.safetensors", std::string("\x08\0\0\0\0\0\0\0", 8) + header);
  const nlohmann::json config = {{"linear_attention", attention},
                                 {"base", "model"},
                                 {"base_hash", tensors_hash(Model::open(model())->base_tensors())}};
  write_file(folder / "config.json", config.dump());
}

}  // namespace linnet
