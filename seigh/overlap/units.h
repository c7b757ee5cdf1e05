// Which entries of a parameter tensor belong to one output unit, and which to one input unit.
//
// A tensor may hold several layers, one after the other in its rows: queries, keys and values, of each head,
// groups of a convolution. Each has a layout of its own, and columns that no other's are. How many is said by
// whoever knows the network; else guessed, like the rest, from names and shapes. What they do not tell: that
// a convolution is transposed ([in, out, ...]; its units are then exchanged, which no null that keeps both
// minds) or grouped (a column is then a channel's number within its group), how many heads there are, and
// what the first dimension of a stack of matrices stands for.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace seigh {

/// A parameter tensor by its name in state dictionaries and its shape.
struct NamedShape {
  std::string name;
  std::vector<int64_t> shape;
  int64_t parts = 1;        ///< layers in its rows; 1: guessed from its name
  bool transposed = false;  ///< a matrix or convolution [in, out, ...]
};

/// A tensor as a matrix of units whose cells hold `taps` entries each: the entry at index i, in C order, is
/// in row i / (columns taps) and column (i / taps) mod columns.
struct UnitLayout {
  int64_t rows = 1, columns = 1, taps = 1;
  bool rows_are_outputs = true;  ///< and columns inputs; or the other way round
  bool defined = true;           ///< false: no units are known, and all entries are in one cell
  bool eligible = true;          ///< whether masks may hold its parameters
  bool continues = false;        ///< a further part of the tensor that the one before is of
  int64_t numel() const { return rows * columns * taps; }
};

/// Of a matrix [out, in] and of a convolution [out, in, ...], whose taps belong together: rows are outputs.
/// Of an embedding [entries, width], leading dimensions of 1 left out: rows are inputs; it is one where the
/// module's name (or that of a tensor which is not called weight or bias) is "wte" or "wpe" or holds "embed",
/// "token" or "position", but not "unembed", in any case. Tensors of fewer dimensions (biases, scales of
/// norms): no units. Error on a negative size.
UnitLayout unit_layout(const NamedShape& tensor);
/// Of all, those of the parts of a tensor one after the other. A tensor that is not said to have parts has
/// three where its module is named as fused queries, keys and values are ("qkv", "c_attn", "in_proj",
/// "query_key_value") and it has three times as many rows, no fewer than columns. Error where parts do not
/// divide the rows.
std::vector<UnitLayout> unit_layouts(const std::vector<NamedShape>& tensors);
/// The number of the tensor that each is, or is a part of.
std::vector<size_t> tensors_of(const std::vector<UnitLayout>& layouts);
/// The sums over the parts of each tensor: [layouts, ...] to [tensors, ...].
at::Tensor by_tensor(const at::Tensor& by_layout, const std::vector<UnitLayout>& layouts);

/// Groups of parameters whose counts a null keeps.
enum class Grouping { uniform, layer, output_unit, input_unit };
/// "layer".
std::string_view grouping_name(Grouping grouping);

/// How many parameters masks may hold.
int64_t eligible_count(const std::vector<UnitLayout>& layouts);
/// Of every parameter of the flat vector: 1 where a mask may hold it, else 0.
std::vector<char> eligible_parameters(const std::vector<UnitLayout>& layouts);

/// What a tensor is, by its name and shape: "embedding", "weight" (a matrix or a convolution), "norm" (a
/// vector called weight, or scale, gamma), "bias" (any other vector).
std::string tensor_kind(const NamedShape& tensor);

}  // namespace seigh
