// A safetensors file that holds one attention and its input, laid out as tests/data/attention is: what
// `linnet attention` reads, so that any other implementation can be compared.
//
//     q [H, n, d], k [G, n, d], v [G, n, e]; q.plain, k.plain where feature_position is none
//     tree.parents [N] int64; tree.q, tree.k, tree.v, tree.q.plain, tree.k.plain: nodes after all n tokens
//     parameter.NAME: the learned tensors; metadata linear_attention: the config of one layer
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "attention/attention.h"
#include "format/safetensors.h"

namespace linnet {

/// In what a file's attention is computed: kBFloat16 rounds q, k, v and nodes to bf16, and computes in
/// float32.
enum class FileType { kFloat64, kFloat32, kBFloat16 };
FileType file_type_named(std::string_view name);  // "float64", …; throws Error on another

/// prefill: in chunks. decode: each token by attend on a tree of one node, then commit. tree: all tokens
/// committed, then one attend on tree.*. parallel: the workshop's.
enum class FileForm { kPrefill, kDecode, kTree, kParallel };
FileForm file_form(std::string_view name);

class AttentionFile {
 public:
  /// Throws Error naming the tensor on a missing one, a wrong shape, a number that is not finite, or a tree
  /// whose parents are not before their children. `form` says which tensors are needed.
  static AttentionFile open(const std::filesystem::path& path, FileForm form);
  static AttentionFile read(SafetensorsFile file, const std::string& where, FileForm form);

  const AttentionConfig& config() const { return config_; }
  const AttentionShape& shape() const { return shape_; }
  int64_t tokens() const { return tokens_; }  // n
  const ParameterTensors& parameters() const { return parameters_; }
  const TokenTree& tree() const { return tree_; }  // empty unless form tree
  const std::string& where() const { return where_; }
  const std::string& config_text() const { return config_text_; }
  /// An input by name ("q", "tree.k.plain"), rounded to bf16 where asked for. Throws Error if it is absent.
  template <class T>
  std::vector<T> numbers(const std::string& name, FileType type) const;
  bool has(const std::string& name) const { return file_.tensors().contains(name); }

 private:
  void check_input(const std::string& name, const std::vector<int64_t>& shape) const;
  void check_rows(const std::string& prefix, int64_t count) const;
  void read_tree();

  SafetensorsFile file_;
  std::string where_, config_text_;
  AttentionConfig config_;
  AttentionShape shape_;
  int64_t tokens_ = 0;
  ParameterTensors parameters_;
  TokenTree tree_;
};

/// Outputs of the runtime's forms: [H, n, e], of tree nodes [H, N, e]. `chunk` splits a prefill; 0: whole.
/// T is double for FileType::kFloat64, else float.
template <class T>
std::vector<T> apply(const AttentionFile& file, FileForm form, int64_t chunk, FileType type,
                     ThreadPool& pool);
extern template std::vector<float> apply(const AttentionFile&, FileForm, int64_t, FileType, ThreadPool&);
extern template std::vector<double> apply(const AttentionFile&, FileForm, int64_t, FileType, ThreadPool&);

/// Writes outputs as `o` (`tree.o` in form tree), with the config beside it.
void write_outputs(const std::filesystem::path& path, const AttentionFile& file, FileForm form,
                   std::span<const float> outputs);
void write_outputs(const std::filesystem::path& path, const AttentionFile& file, FileForm form,
                   std::span<const double> outputs);

}  // namespace linnet
