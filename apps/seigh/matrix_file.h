#pragma once

#include <memory>
#include <string>

#include "seigh/linop/matrix_operator.h"

namespace seigh::app {

/// The symmetric or Hermitian matrix in a .npy file, or in a data set of an .h5 file (none named: the only
/// one). Throws Error where there is none, or its entries' squares would overflow.
std::unique_ptr<MatrixOperator> read_matrix(const std::string& file, const std::string& dataset);

/// Throws Error when `out` is the file `matrix` itself.
void require_another_file(const std::string& out, const std::string& matrix);

}  // namespace seigh::app
