// The hidden units of a network, said in the words of its layers (Model::hidden_units()).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "seigh/nn/model.h"

namespace seigh {

/// Builds the HiddenUnits of `count` units from names of layers. Throws Error on a name the model lacks, or
/// whose tensor does not fit.
class HiddenUnitsOf {
 public:
  HiddenUnitsOf(const std::vector<ParameterSpec>& parameters, int64_t count)
      : parameters_(parameters), units_{count, {}} {}
  /// Layer `name` makes the units: rows of its weight and its bias, if it has one; also a norm's scale and
  /// shift. `copies`: how many such sets of units follow each other in the rows (3 for queries, keys and
  /// values).
  HiddenUnitsOf& made_by(const std::string& name, int64_t copies = 1);
  /// Layer `name` reads them: columns of its weight, in which there are as many sets of units.
  HiddenUnitsOf& read_by(const std::string& name, int64_t copies = 1);
  /// The last dimension of tensor `name` is over them.
  HiddenUnitsOf& last_of(const std::string& name);
  HiddenUnits units() const { return units_; }

 private:
  const ParameterSpec* find(const std::string& name) const;
  HiddenUnitsOf& add(const std::string& name, int64_t outer);

  const std::vector<ParameterSpec>& parameters_;
  HiddenUnits units_;
};

/// What of a network files keep beside names and shapes: parts, transposed tensors and hidden units, as JSON;
/// empty where there is nothing to say.
std::string units_text(const Model& model);
/// The inverse: fills in `specs`, returns the hidden units. Throws Error on what does not fit them.
std::vector<HiddenUnits> read_units_text(const std::string& text, std::vector<ParameterSpec>& specs);

/// Of layers one after the other, weights and biases in turn, the first and last of whose widths are given.
std::vector<HiddenUnits> chain_of_units(const std::vector<ParameterSpec>& parameters);

}  // namespace seigh
