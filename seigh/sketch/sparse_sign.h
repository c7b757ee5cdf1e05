// Sparse random signs as a test matrix (Clarkson, Woodruff 2013; Martinsson, Tropp, "Randomized numerical
// linear algebra", Acta Numerica 2020, Sec. 9.2): every row of Omega in R^{D x s} has 8 entries +-1/sqrt(8)
// in distinct random columns. Complex vectors meet the same real entries.
//
// As good a range finder as SSRFT in practice, and far cheaper where D is large: a product with one column
// costs 8 D additions instead of two FFTs of length D. 32 D bytes.
#pragma once

#include <vector>

#include "seigh/sketch/test_matrix.h"

namespace seigh {

class SparseSign final : public TestMatrix {
 public:
  /// Throws Error unless 1 <= columns <= rows.
  SparseSign(int64_t rows, int64_t columns, uint64_t seed, Stream stream, at::ScalarType dtype);
  at::Tensor block(int64_t begin, int64_t count) const override;
  /// Summed in float64 (complex128), which it returns. The same for any number of threads.
  at::Tensor transposed_product(const at::Tensor& x) const override;

 private:
  at::Tensor real_transposed_product(const at::Tensor& x) const;
  int64_t rows_, columns_, entries_;  // entries of a row
  at::ScalarType dtype_, real_;       // of vectors, and of their parts
  double size_;                       // of an entry
  std::vector<uint32_t> places_;      // [entries, rows]: 2 column + (1 for a negative sign)
};

}  // namespace seigh
